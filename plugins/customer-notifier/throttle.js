// At most so many a second: a bucket that fills with time.

export class Throttle {
  #tokens = 1;
  #at = 0;

  /** Takes one, or answers after how many seconds there will be one. @param {number} perSecond @param {number} nowMs */
  take(perSecond, nowMs) {
    const most = Math.max(1, perSecond);
    this.#tokens = Math.min(most, this.#tokens + (Math.max(0, nowMs - this.#at) / 1000) * perSecond);
    this.#at = nowMs;
    if (this.#tokens >= 1) {
      this.#tokens -= 1;
      return 0;
    }
    return (1 - this.#tokens) / perSecond;
  }
}
