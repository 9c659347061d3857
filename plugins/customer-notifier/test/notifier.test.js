// The notifier against a real HTTP server, with a clock of its own.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { Harness } from "tillstream/harness";
import { notifier, pauseMs } from "../notifier.js";
import { quietFor } from "../quiet-hours.js";
import { Throttle } from "../throttle.js";

/** @type {any[]} */ let received = [];
/** @type {(request: any, response: any) => void} */ let answer;
/** @type {string} */ let url;
let now = new Date("2026-01-05T11:00:00Z");

const server = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  received.push({ key: request.headers["idempotency-key"], type: request.headers["content-type"], body });
  answer(request, response);
});
before(async () => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  url = `http://127.0.0.1:${/** @type {any} */ (server.address()).port}/hook`;
});
after(() => server.close());
beforeEach(() => {
  received = [];
  answer = (_, response) => response.end();
  now = new Date("2026-01-05T11:00:00Z");
});

const till = (settings = {}) => new Harness(notifier({ now: () => now, random: () => 0 }), { url, ...settings });
const customer = { basketId: "B1", customerId: "C1", customer: { name: "Ada", tier: "gold" } };
const enriched = (/** @type {Harness} */ shop, options = {}) => shop.feed("pos.customer.enriched", customer, { time: "2026-01-05T10:59:59.000Z", ...options });

test("a customer is sent as JSON, under the event's id", async () => {
  const [report] = await enriched(till(), { id: "e1" });
  assert.equal(report.type, "plugin.customer-notifier.delivered");
  assert.equal(report.data.httpStatus, 200);
  assert.equal(received[0].key, '"e1"');
  const { customerId, customer: found, terminalId } = JSON.parse(received[0].body);
  assert.deepEqual([customerId, found.name, terminalId], ["C1", "Ada", "T0001"]);
});

test("a receipt is text as wide as the printer", async () => {
  const shop = till({ format: "receipt", width: 16 });
  await enriched(shop);
  now = new Date(now.getTime() + 1000);
  await shop.feed("pos.recommendation.made", { basketId: "B1", productId: "P1", recommended: [{ productId: "P2", reason: "often bought together" }] });
  assert.match(received[0].type, /^text\/plain/);
  assert.equal(received[0].body, "Welcome, Ada\nYour level: gold\n");
  assert.equal(received[1].body, "Goes well with i\n- P2 often bough\n");
});

test("what is switched off in the settings, and an empty address, send nothing", async () => {
  await enriched(till({ customers: false }));
  await enriched(till({ url: "" }));
  assert.deepEqual(received, []);
});

test("a failure that may pass is tried again with the same key, later and later, then it is a dead letter", async () => {
  answer = (_, response) => response.writeHead(503).end();
  const shop = till({ attempts: 3, backoffMs: 100 });
  for (const attempt of [0, 1, 2]) {
    now = new Date(now.getTime() + 1000);
    await enriched(shop, { id: "e1", attempt });
  }
  const [first, second, last] = /** @type {any[]} */ (shop.failures);
  assert.deepEqual([first.name, first.seconds, second.name, second.seconds], ["Later", 0.05, "Later", 0.1]);
  assert.equal(last.message, "given up after 3 attempts: HTTP 503");
  assert.deepEqual(received.map(({ key }) => key), ['"e1"', '"e1"', '"e1"']);
});

test("a refusal is not repeated, and a receiver that asks for patience gets it", async () => {
  answer = (_, response) => response.writeHead(422).end();
  const refused = till();
  await enriched(refused);
  assert.equal(refused.failures[0].message, "refused: HTTP 422");
  answer = (_, response) => response.writeHead(429, { "Retry-After": "7" }).end();
  const busy = till();
  await enriched(busy);
  assert.equal(/** @type {any} */ (busy.failures[0]).seconds, 7);
});

test("a receiver that does not answer is given up in time", async () => {
  answer = (_, response) => setTimeout(() => response.end(), 300);
  const shop = till({ timeoutMs: 100 });
  await enriched(shop);
  assert.match(shop.failures[0].message, /attempt 1: timed out/);
});

test("in quiet hours a message waits until they end, without an attempt", async () => {
  const shop = till({ quietFrom: "21:00", quietTo: "07:30", timeZone: "Europe/Berlin" });
  now = new Date("2026-01-05T20:00:00Z"); // 21:00 in Berlin
  await enriched(shop);
  const [later] = /** @type {any[]} */ (shop.failures);
  assert.deepEqual([later.name, later.seconds, later.attempt], ["Later", 10.5 * 3600, 0]);
  assert.deepEqual(received, []);
  now = new Date("2026-01-06T06:30:00Z");
  assert.equal((await enriched(shop)).length, 1);
});

test("quiet hours within a day, over midnight, and none", () => {
  const at = (/** @type {string} */ time) => new Date(`2026-07-01T${time}Z`);
  const noon = { from: "12:00", to: "13:00", timeZone: "UTC" };
  assert.deepEqual([quietFor(noon, at("11:59:59")), quietFor(noon, at("12:00:00")), quietFor(noon, at("13:00:00"))], [0, 3600, 0]);
  const night = { from: "22:00", to: "06:00", timeZone: "UTC" };
  assert.deepEqual([quietFor(night, at("23:00:00")), quietFor(night, at("05:59:00")), quietFor(night, at("06:00:00"))], [7 * 3600, 60, 0]);
  assert.equal(quietFor({ from: "22:00", to: "22:00", timeZone: "UTC" }, at("22:00:00")), 0);
});

test("no more are sent than the rate allows", () => {
  const throttle = new Throttle();
  const waits = [0, 100, 200, 300].map((at) => throttle.take(2, 1_000_000 + at));
  assert.deepEqual(waits.map((wait) => wait === 0), [true, true, false, false]);
  assert.equal(throttle.take(2, 1_000_600), 0);
});

test("what is too old to be of use is not sent but reported", async () => {
  const [report] = await enriched(till({ expireSeconds: 60 }), { time: "2026-01-05T10:58:00.000Z" });
  assert.deepEqual([report.type, report.data.ageSeconds], ["plugin.customer-notifier.expired", 120]);
  assert.deepEqual(received, []);
});

test("pauses double up to a minute, with jitter, and never end before the receiver says", () => {
  assert.deepEqual([0, 1, 2].map((attempt) => pauseMs(attempt, 500, 0, 1)), [500, 1000, 2000]);
  assert.deepEqual([pauseMs(0, 500, 0, 0), pauseMs(30, 500, 0, 1), pauseMs(0, 500, 9000, 1)], [250, 60000, 9000]);
});
