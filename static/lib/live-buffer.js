// The items of a live feed for a page: capped, drawn at most ten times a second and less often on a slow machine, and kept while paused.

const KEPT_MAX = 3000;
const WAITING_MAX = 20000;
const DRAW_MS_MIN = 100;
/** Drawing may take at most one part in so many of the time. */
const DRAW_SHARE = 4;

/** A buffer. `draw()` is called, in an animation frame, when there is something new to show. */
export class LiveBuffer {
  constructor(draw) {
    this.draw = draw;
    this.kept = [];
    this.waiting = [];
    this.overflow = 0;
    this.dropped = 0;
    this.received = 0;
    this.paused = false;
    this.rate = 0;
    this.scheduled = 0;
    this.closed = false;
    this.lastDraw = 0;
    this.drawCost = 0;
    this.marks = [];
  }

  /** Takes items of the feed, oldest first. */
  push(items) {
    this.received += items.length;
    this.marks.push([performance.now(), items.length]);
    const target = this.paused ? this.waiting : this.kept;
    for (const item of items) target.push(item);
    const max = this.paused ? WAITING_MAX : KEPT_MAX;
    if (target.length > max * 1.5) {
      const extra = target.length - max;
      target.splice(0, extra);
      if (this.paused) this.overflow += extra;
    }
    this.schedule();
  }

  /** Counts what the server dropped because this page was too slow or away. */
  gap(dropped) {
    this.dropped += dropped;
    this.schedule();
  }

  /** Pauses what is shown; everything that comes is kept for later. */
  pause() {
    this.paused = true;
    this.schedule();
  }

  /** Shows what came meanwhile. */
  resume() {
    this.paused = false;
    this.kept = this.kept.concat(this.waiting).slice(-KEPT_MAX);
    this.waiting = [];
    this.overflow = 0;
    this.schedule();
  }

  clear() {
    this.kept = [];
    this.waiting = [];
    this.overflow = 0;
    this.dropped = 0;
    this.schedule();
  }

  /** The newest items first, at most `max`. */
  shown(max, passes = () => true) {
    const out = [];
    for (let at = this.kept.length - 1; at >= 0 && out.length < max; at--) if (passes(this.kept[at])) out.push(this.kept[at]);
    return out;
  }

  /** Items per second over the last three seconds. */
  perSecond() {
    const now = performance.now();
    while (this.marks.length && this.marks[0][0] < now - 3000) this.marks.shift();
    return Math.round(this.marks.reduce((sum, [, n]) => sum + n, 0) / 3);
  }

  schedule() {
    if (this.scheduled || this.closed) return;
    const pause = Math.max(DRAW_MS_MIN, this.drawCost * DRAW_SHARE);
    const wait = Math.max(0, pause - (performance.now() - this.lastDraw));
    this.scheduled = setTimeout(() => requestAnimationFrame(() => {
      this.scheduled = 0;
      if (this.closed) return;
      const start = performance.now();
      this.draw();
      // Rendering and painting follow the call: what they cost is known one task later.
      setTimeout(() => {
        this.lastDraw = performance.now();
        this.drawCost = Math.min(500, this.lastDraw - start);
      });
    }), wait);
  }

  close() {
    this.closed = true;
    clearTimeout(this.scheduled);
  }
}
