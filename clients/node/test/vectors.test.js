// The vectors that every implementation of the protocol passes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Control } from "../src/control.js";
import { eventOf, readInput } from "../src/event.js";

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
