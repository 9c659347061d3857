// The vectors that every implementation of the protocol passes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Control } from "../src/control.js";
import { eventOf, readInput } from "../src/event.js";
import { Harness } from "../src/harness.js";
import { derivedId, partitionOf, plugin, publish } from "../src/index.js";

/** @param {string} name @returns {any[]} */
const vectors = (name) => JSON.parse(readFileSync(new URL(`../../vectors/${name}`, import.meta.url), "utf8"));
/** @param {any} item */
const valueOf = ({ text, value }) => (text !== undefined ? Buffer.from(text) : value === null ? null : Buffer.from(JSON.stringify(value)));

for (const { name, plugin, messages, effective } of vectors("settings.json")) {
  test(`settings: ${name}`, () => {
    const control = new Control(plugin);
    for (const message of messages) control.take(message.key, valueOf(message));
    assert.deepEqual(control.effective(), effective);
  });
}

for (const item of vectors("inputs.json")) {
  test(`inputs: ${item.name}`, () => {
    const headers = Object.entries(item.headers).map(([name, text]) => ({ [name]: Buffer.from(/** @type {string} */ (text)) }));
    const record = readInput(0, 0, Buffer.from(item.key), valueOf(item), headers);
    if (item.fails) {
      assert.throws(() => eventOf(record), { name: "InvalidEvent", message: new RegExp(item.fails) });
      return;
    }
    /** @type {any} */ const event = eventOf(record);
    const seen = Object.fromEntries(Object.keys(item.sees).map((name) => [name, event[name]]));
    assert.deepEqual({ ...seen, revision: record.revision }, item.sees);
  });
}

for (const { name, plugin: by, scope, entity, cause, publishes, events } of vectors("events.json")) {
  test(`events: ${name}`, async () => {
    const definition = { name: by, version: "1", description: "", scope, eventTypes: [cause.type] };
    const shop = new Harness(plugin(definition, () => publishes.map((/** @type {any} */ { type, data }) => publish(type, data))));
    assert.deepEqual(await shop.feedEvent(cause, { entity }), events);
  });
}

test("derived ids", () => {
  for (const { cause, plugin: name, scope, entity, n, id } of vectors("derived-ids.json")) {
    assert.equal(derivedId(cause.source, cause.id, name, scope, entity, n), id);
  }
});

test("partitions", () => {
  for (const { key, partitions, partition } of vectors("partitions.json")) assert.equal(partitionOf(key, partitions), partition, key);
});

// Good ones come out as they went in; where the fault is one that a plugin can see itself, it is refused where it is written.
for (const { name, manifest, fault } of vectors("manifests.json")) {
  const seenHere = ["name", "version", "description", "scope", "eventTypes"].includes(fault) && fault in manifest;
  if (fault !== null && !seenHere) continue;
  test(`manifests: ${name}`, () => {
    const { protocol: _, ...definition } = manifest;
    if (fault === null) assert.deepEqual(plugin(definition, () => {}).manifest(), manifest);
    else assert.throws(() => plugin(definition, () => {}), new RegExp(fault));
  });
}
