// Customer notifier: enriched customers and recommendations to a webhook or a receipt printer's endpoint.
import { Later, plugin, publish } from "tillstream";
import { messageOf } from "./message.js";
import { quietFor } from "./quiet-hours.js";
import { Throttle } from "./throttle.js";

const DELIVERED = "plugin.customer-notifier.delivered";
const EXPIRED = "plugin.customer-notifier.expired";
const CLOCK = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

/** @type {import("tillstream").Definition} */
const definition = {
  name: "customer-notifier",
  version: "1.0.0",
  description: "Sends enriched customers and recommendations to a webhook or a receipt printer, with retries, a limit per second and quiet hours.",
  scope: "terminal",
  eventTypes: ["pos.customer.enriched", "pos.recommendation.made"],
  settingsSchema: {
    type: "object",
    properties: {
      url: { type: "string", title: "Address", description: "Where to POST to; empty: nothing is sent", maxLength: 2000, pattern: "^(https?://.*)?$" },
      format: { type: "string", enum: ["webhook", "receipt"], title: "Format", description: "JSON for a webhook, lines of text for a receipt printer" },
      width: { type: "integer", minimum: 16, maximum: 120, title: "Width", description: "Characters in a line of the receipt" },
      customers: { type: "boolean", title: "Customers", description: "Send customers who were looked up" },
      recommendations: { type: "boolean", title: "Recommendations", description: "Send what is recommended" },
      timeoutMs: { type: "integer", minimum: 100, maximum: 30000, title: "Time-out", description: "Milliseconds for one attempt" },
      attempts: { type: "integer", minimum: 1, maximum: 20, title: "Attempts", description: "Then the message is a dead letter" },
      backoffMs: { type: "integer", minimum: 10, maximum: 60000, title: "Pause", description: "Before the second attempt; it doubles up to a minute, with jitter" },
      ratePerSecond: { type: "number", exclusiveMinimum: 0, maximum: 10000, title: "Rate", description: "Messages a second at most, of each process" },
      expireSeconds: { type: "integer", minimum: 0, title: "Expiry", description: "Older messages are not sent any more; 0: never too old" },
      quietFrom: { type: "string", pattern: CLOCK, title: "Quiet from", description: "Same as the end: no quiet hours" },
      quietTo: { type: "string", pattern: CLOCK, title: "Quiet to" },
      timeZone: { type: "string", title: "Time zone", description: "Of the quiet hours, e.g. Europe/Berlin" },
    },
    required: ["url", "format", "attempts", "backoffMs", "timeoutMs", "ratePerSecond", "quietFrom", "quietTo", "timeZone"],
    additionalProperties: false,
  },
  defaultSettings: {
    url: "",
    format: "webhook",
    width: 42,
    customers: true,
    recommendations: true,
    timeoutMs: 3000,
    attempts: 6,
    backoffMs: 500,
    ratePerSecond: 20,
    expireSeconds: 0,
    quietFrom: "22:00",
    quietTo: "22:00",
    timeZone: "Europe/Berlin",
  },
};

/** How long to wait before the next attempt: at random within a pause that doubles, and never before the receiver says. @param {number} attempt @param {number} backoffMs @param {number} afterMs @param {number} chance */
export const pauseMs = (attempt, backoffMs, afterMs, chance) => Math.max(afterMs, Math.min(60_000, backoffMs * 2 ** attempt) * (0.5 + chance / 2));

/** Worth another attempt? @param {number} status */
const passing = (status) => status === 408 || status === 425 || status === 429 || status >= 500;

/**
 * The plugin with the clock, the chance and the network that it is to use.
 * @param {{now?: () => Date, random?: () => number, fetch?: typeof fetch}} [outside]
 */
export function notifier({ now = () => new Date(), random = Math.random, fetch: send = fetch } = {}) {
  const throttle = new Throttle();
  return plugin(definition, async (_state, settings, event, { attempt, signal }) => {
    if (settings.url === "") return null;
    const message = messageOf(event, settings);
    if (message === null) return null;
    const report = { event: event.name, basketId: event.data.basketId };
    const age = (now().getTime() - Date.parse(event.time)) / 1000;
    if (settings.expireSeconds > 0 && age > settings.expireSeconds) return publish(EXPIRED, { ...report, ageSeconds: Math.round(age) });
    const quiet = quietFor({ from: settings.quietFrom, to: settings.quietTo, timeZone: settings.timeZone }, now());
    // Not an attempt: quiet hours and the limit put off what has not been tried yet, and a wait for them costs none.
    if (quiet > 0) throw new Later(quiet, `quiet hours for another ${quiet} s`, { attempt });
    const wait = throttle.take(settings.ratePerSecond, now().getTime());
    if (wait > 0) throw new Later(wait, "", { attempt });
    const outcome = await post(settings, event, message, signal, send);
    if (outcome.status >= 200 && outcome.status < 300) return publish(DELIVERED, { ...report, attempts: attempt + 1, httpStatus: outcome.status });
    const error = outcome.error ?? `HTTP ${outcome.status}`;
    // A dead letter, so that a person can have it sent again.
    if (attempt + 1 >= settings.attempts) throw new Error(`given up after ${attempt + 1} attempts: ${error}`);
    if (!outcome.error && !passing(outcome.status)) throw new Error(`refused: ${error}`);
    throw new Later(pauseMs(attempt, settings.backoffMs, outcome.afterMs, random()) / 1000, `attempt ${attempt + 1}: ${error}`);
  });
}

/**
 * One attempt. The key is the event's id: a call that is repeated, after a time-out or a crash, carries the same.
 * @param {any} settings @param {any} event @param {{contentType: string, body: string}} message @param {AbortSignal} signal @param {typeof fetch} send
 * @returns {Promise<{status: number, error?: string, afterMs: number}>}
 */
async function post(settings, event, { contentType, body }, signal, send) {
  const headers = { "Content-Type": contentType, "Idempotency-Key": `"${event.id}"` };
  try {
    const within = AbortSignal.any([signal, AbortSignal.timeout(settings.timeoutMs)]);
    const response = await send(settings.url, { method: "POST", headers, body, signal: within, redirect: "error" });
    await response.arrayBuffer();
    const after = Number(response.headers.get("retry-after"));
    return { status: response.status, afterMs: Number.isFinite(after) ? Math.min(after, 3600) * 1000 : 0 };
  } catch (error) {
    signal.throwIfAborted(); // switched off, or other settings: not the receiver's fault
    const { name, cause, message } = /** @type {any} */ (error);
    return { status: 0, error: name === "TimeoutError" ? "timed out" : (cause?.code ?? message), afterMs: 0 };
  }
}
