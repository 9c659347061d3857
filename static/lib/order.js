// What the pages about orders share: the words and colours of their states, ages, and what a line costs.
import { duration } from './format.js';

/** The tone of a status. */
export const STATUS_TONE = { PENDING: 'info', SUCCESS: 'ok', FAILED: 'bad' };
/** A status in the words of people. */
export const STATUS_WORD = { PENDING: 'waiting', SUCCESS: 'delivered', FAILED: 'failed' };
/** An order that waits for longer than this is worth a look, in seconds. */
export const LATE_SECONDS = 60;

/** `0.8 s`, `12 s`, `5 min`: from milliseconds, finer where it is short. */
export function span(ms) {
  if (!Number.isFinite(ms)) return '–';
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  return ms < 10000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms / 1000);
}

/** Milliseconds from acceptance to delivery, or until now. */
export const ageMs = (order, now = Date.now()) => new Date(order.processedAt ?? now).getTime() - new Date(order.createdAt).getTime();

/** The end of an id, which is what tells orders of one minute apart. */
export const shortId = (id) => id.slice(-8);
