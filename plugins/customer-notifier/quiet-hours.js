// Hours in which nothing is sent, in the time zone of whoever is to be left alone.

/** @param {string} text HH:MM @returns {number} minutes since midnight */
const minutes = (text) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3, 5));

/** Minutes since midnight in a time zone, with the seconds as a fraction. @param {Date} now @param {string} timeZone */
function clock(now, timeZone) {
  const format = new Intl.DateTimeFormat("en-GB", { timeZone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const parts = Object.fromEntries(format.formatToParts(now).map(({ type, value }) => [type, Number(value)]));
  return parts.hour * 60 + parts.minute + parts.second / 60;
}

/**
 * Seconds until the quiet hours end; 0 outside of them. On a day when clocks change it may be an hour wrong once, and is asked again then.
 * @param {{from: string, to: string, timeZone: string}} hours equal ends: no quiet hours
 * @param {Date} now
 */
export function quietFor({ from, to, timeZone }, now) {
  const begins = minutes(from);
  const ends = minutes(to);
  if (begins === ends) return 0;
  const at = clock(now, timeZone);
  const quiet = begins < ends ? at >= begins && at < ends : at >= begins || at < ends;
  return quiet ? Math.max(1, Math.ceil(((ends - at + 1440) % 1440) * 60)) : 0;
}
