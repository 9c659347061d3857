// A plugin as its author sees it: manifest, settings, effects, state, failures.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Engine } from "../src/engine.js";
import { Harness } from "../src/harness.js";
import { within } from "../src/kafka.js";
import { derivedId, Later, partitionOf, plugin, publish } from "../src/index.js";

/** @type {import("../src/index.js").Definition} */
const definition = {
  name: "sample",
  version: "1",
  description: "A sample.",
  scope: "employee",
  eventTypes: ["pos.drawer.opened"],
  settingsSchema: { type: "object", properties: { mode: { type: "string" } }, additionalProperties: false },
  defaultSettings: { mode: "loud" },
};

const sample = plugin(definition, function* (/** @type {any} */ state, settings, event) {
  state.opened = (state.opened ?? 0) + 1;
  if (event.data.reason === "fail") throw new Error("as asked");
  if (event.data.reason === "later") throw new Later(1);
  if (event.data.reason === "forget") delete state.opened;
  yield publish("plugin.sample.opened", { mode: settings.mode });
  yield publish("plugin.sample.opened", { second: true });
});

/** @type {Harness} */ let harness;
beforeEach(() => {
  harness = new Harness(sample);
});
const opened = (reason = "change") => harness.feed("pos.drawer.opened", { employeeId: "E1", reason });

test("the manifest has every field of the protocol and no other", () => {
  const fields = ["defaultSettings", "description", "eventTypes", "name", "protocol", "scope", "settingsSchema", "version"];
  assert.deepEqual(Object.keys(sample.manifest()).sort(), fields);
});

test("settings hold from the next event on", async () => {
  assert.equal((await opened())[0].data.mode, "loud");
  harness.set({ mode: "quiet" });
  assert.equal((await opened())[0].data.mode, "quiet");
});

test("what is published names its cause and has an id of its own", async () => {
  const [first, second] = await opened();
  const source = "/stores/S001/terminals/T0001";
  assert.equal(first.id, derivedId(source, "T0001-000001", "sample", "employee", "E1", 0));
  assert.equal(second.id, derivedId(source, "T0001-000001", "sample", "employee", "E1", 1));
  assert.equal(first.causationid, `${source}#T0001-000001`);
  assert.deepEqual([first.subject, first.partitionkey, first.correlationid], [source, "T0001", first.causationid]);
});

test("an event that fails leaves no trace in the state", async () => {
  await opened();
  for (const reason of ["fail", "later"]) {
    assert.deepEqual(await opened(reason), []);
    assert.deepEqual(harness.state("E1"), { opened: 1 });
  }
  assert.deepEqual(harness.failures.map(({ name }) => name), ["Error", "Later"]);
  await opened("forget");
  assert.deepEqual(harness.state("E1"), {});
});

test("a handler may wait", async () => {
  const slow = plugin({ ...definition, name: "slow" }, async (/** @type {any} */ state, _settings, event) => {
    await new Promise(setImmediate);
    state.seen = event.id;
    if (event.data.reason === "fail") throw new Error("later than usual");
    return publish("plugin.slow.seen", {});
  });
  const shop = new Harness(slow);
  assert.equal((await shop.feed("pos.drawer.opened", { employeeId: "E1" })).length, 1);
  assert.equal((await shop.feed("pos.drawer.opened", { employeeId: "E1", reason: "fail" })).length, 0);
  assert.deepEqual(shop.state("E1"), { seen: "T0001-000001" });
});

test("an event or a state that no broker takes is a failure of its event alone", async () => {
  const large = plugin({ ...definition, name: "large", scope: "terminal" }, (/** @type {any} */ state, _settings, event) => {
    if (event.data.reason === "event") return publish("plugin.large.seen", { text: "ä".repeat(131_072) });
    if (event.data.reason === "state") state.text = "x".repeat(900_000);
  });
  const shop = new Harness(large);
  for (const reason of ["event", "state", "none"]) assert.deepEqual(await shop.feed("pos.drawer.opened", { reason }), []);
  assert.match(shop.failures[0].message, /at most 262144/);
  assert.match(shop.failures[1].message, /at most 900000/);
  assert.deepEqual([shop.failures.length, shop.state("T0001")], [2, {}]);
});

test("it makes no difference where batches end", () => {
  const forgetful = plugin({ ...definition, name: "forgetful", scope: "terminal" }, (/** @type {any} */ state) => {
    state.seen = [...(state.seen ?? []), new Date(0), undefined];
    return publish("plugin.forgetful.saw", { kinds: state.seen.map((/** @type {any} */ one) => typeof one) });
  });
  const run = (/** @type {boolean} */ commits) => {
    const engine = new Engine(/** @type {any} */ (forgetful));
    engine.load(0, new Map());
    const texts = [];
    for (const offset of [0, 1, 2]) {
      const event = { id: String(offset), source: "/stores/S001/terminals/T1", type: "pos.drawer.opened", time: "2026-01-05T08:00:00Z" };
      const record = { partition: 0, offset, key: Buffer.from("T1"), value: Buffer.from(JSON.stringify(event)), entity: "T1", revision: 1, late: false, deadLetter: null };
      assert.equal(engine.handle(record, {}, { signal: new AbortController().signal, attempt: 0 }), null);
      if (!commits && offset < 2) continue;
      texts.push(...engine.outputs().filter(({ topic }) => topic === "pos.events").map(({ value }) => String(value)));
      engine.committed();
    }
    return texts;
  };
  assert.deepEqual(run(true), run(false));
});

test("types that are not its own are refused", async () => {
  const thief = plugin({ ...definition, name: "thief" }, () => publish("pos.payment.completed", {}));
  const shop = new Harness(thief);
  await shop.feed("pos.drawer.opened", { employeeId: "E1" });
  assert.match(shop.failures[0].message, /pos\.payment\.completed/);
});

test("broken names are refused where they are written", () => {
  for (const name of ["A", "a", "void_counter", "1st", "x".repeat(41)]) {
    assert.throws(() => plugin({ ...definition, name }, () => {}), /name/);
  }
});

test("partitions are those of the Java client", () => {
  // Of Kafka's own tests: murmur2("21") is -973932308, murmur2("foobar") -790332482.
  assert.equal(partitionOf("21", 2 ** 31), -973932308 & 0x7fffffff);
  assert.equal(partitionOf("foobar", 2 ** 31), -790332482 & 0x7fffffff);
});

test("a call that never comes back is left behind", async () => {
  await assert.rejects(within(20, new Promise(() => {}), "the coordinator"), /the coordinator has not answered within 20 ms/);
  assert.equal(await within(60_000, Promise.resolve(7), "nobody"), 7);
  await assert.rejects(within(60_000, Promise.reject(new Error("as asked")), "nobody"), /as asked/);
});
