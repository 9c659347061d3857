// Input records to output records, with the state in between. No I/O but the handler's own: what it returns is to be committed, or
// forgotten with the engine.
import { eventOf } from "./event.js";
import { derivedId } from "./ids.js";
import { Later } from "./plugin.js";

/** @typedef {import("./event.js").Input} Input */
/** @typedef {{topic: string, key: Buffer, value: Buffer | null, headers: Record<string, string | Buffer>[], partition: number | null}} Output */

const CORRELATION_BYTES_MAX = 511;
const MESSAGE_BYTES_MAX = 2000;
const EVENT_BYTES_MAX = 256 * 1024;
// What a broker and librdkafka take by default, with room for the key.
const STATE_BYTES_MAX = 900_000;
const CONTENT_TYPE = [{ "content-type": "application/cloudevents+json" }];

/** @param {string} text @param {number} bytes */
export function short(text, bytes) {
  let cut = text.slice(0, bytes);
  while (Buffer.byteLength(cut) > bytes) cut = cut.slice(0, -1);
  return cut;
}

/** @param {any} state */
function encode(state) {
  for (const _ in state) {
    const text = JSON.stringify(state);
    // A character has at most three bytes of UTF-8.
    if (text.length * 3 > STATE_BYTES_MAX && Buffer.byteLength(text) > STATE_BYTES_MAX) {
      throw new RangeError(`a state of ${Buffer.byteLength(text)} bytes, at most ${STATE_BYTES_MAX} can be kept`);
    }
    return text;
  }
  return "";
}
/** @param {string | undefined} state @returns {any} */
const decode = (state) => (state ? JSON.parse(state) : {});

/** States of the partitions that a member owns, and what it decided since the last commit. */
export class Engine {
  /** @type {Map<number, Map<string, string>>} */ #stored = new Map();
  // What is not committed yet, as it would be written.
  /** @type {Map<number, Map<string, string>>} */ #changed = new Map();
  /** @type {Output[]} */ #outputs = [];

  /** @param {import("./plugin.js").Plugin} plugin */
  constructor(plugin) {
    this.plugin = plugin;
    this.name = plugin.definition.name;
    this.scope = plugin.definition.scope;
  }

  /** The states of a partition that was assigned, as they were committed. @param {number} partition @param {Map<string, string>} states */
  load(partition, states) {
    this.#stored.set(partition, states);
    this.#changed.set(partition, new Map());
  }

  /** Partitions went to somebody else. */
  dropAll() {
    this.#stored.clear();
    this.#changed.clear();
    this.#outputs = [];
  }

  /** An entity's state as it stands. @param {number} partition @param {string} entity */
  state(partition, entity) {
    return decode(this.#changed.get(partition)?.get(entity) ?? this.#stored.get(partition)?.get(entity));
  }

  /**
   * Applies one record. Answers what the handler threw: then the state is as before, and a dead letter is among the outputs. `Later`
   * goes through, with the state as before. A promise only where the handler gives one: a plain function costs no turn of the loop.
   * @param {Input} record @param {any} settings @param {import("./index.js").Context} context
   * @returns {Error | null | Promise<Error | null>}
   */
  handle(record, settings, context) {
    const before = this.#changed.get(record.partition)?.get(record.entity) ?? this.#stored.get(record.partition)?.get(record.entity);
    // As JSON gives it back, also within a batch: the result must not depend on where batches end.
    const state = decode(before);
    let event;
    try {
      event = eventOf(record);
      const outcome = this.plugin.handler(state, settings, event, context);
      if (outcome && typeof (/** @type {any} */ (outcome).then) === "function") {
        const cause = event;
        return /** @type {Promise<any>} */ (outcome).then(
          (result) => {
            try {
              return this.#accept(record, state, cause, result);
            } catch (error) {
              return this.#reject(record, error, context);
            }
          },
          (error) => this.#reject(record, error, context),
        );
      }
      return this.#accept(record, state, event, outcome);
    } catch (error) {
      return this.#reject(record, error, context);
    }
  }

  /** @param {Input} record @param {any} state @param {import("./event.js").TillEvent} event @param {any} outcome */
  #accept(record, state, event, outcome) {
    const effects = this.plugin.outcome(outcome);
    const outputs = effects.map((effect, index) => this.#event(event, index, effect));
    const text = encode(state);
    this.#changed.get(record.partition)?.set(record.entity, text);
    for (const output of outputs) this.#outputs.push(output);
    return null;
  }

  /** @param {Input} record @param {any} error @param {import("./index.js").Context} context */
  #reject(record, error, context) {
    if (error instanceof Later) throw error;
    if (context.signal.aborted) throw new Later(0, "", { attempt: context.attempt });
    const failure = error instanceof Error ? error : new Error(String(error));
    this.#outputs.push(this.#deadLetter(record, failure));
    return failure;
  }

  /** Everything to commit: events and dead letters, and the states that changed. @returns {Output[]} */
  outputs() {
    const outputs = [...this.#outputs];
    for (const [partition, entries] of this.#changed) {
      const stored = this.#stored.get(partition);
      for (const [entity, text] of entries) {
        if (text === (stored?.get(entity) ?? "")) continue;
        const value = text ? Buffer.from(text) : null;
        outputs.push({ topic: `pos.plugins.${this.name}.state`, key: Buffer.from(entity), value, headers: [], partition });
      }
    }
    return outputs;
  }

  /** What was decided is durable now. */
  committed() {
    for (const [partition, entries] of this.#changed) {
      const stored = /** @type {Map<string, string>} */ (this.#stored.get(partition));
      for (const [entity, text] of entries) {
        if (text) stored.set(entity, text);
        else stored.delete(entity);
      }
      entries.clear();
    }
    this.#outputs = [];
  }

  /** @param {import("./event.js").TillEvent} cause @param {number} index @param {import("./index.js").Publish} effect @returns {Output} */
  #event(cause, index, effect) {
    const { raw, terminalSource } = cause;
    const terminal = terminalSource?.slice(terminalSource.lastIndexOf("/") + 1) ?? raw.partitionkey ?? cause.entity;
    const fits = typeof raw.correlationid === "string" && Buffer.byteLength(raw.correlationid) <= CORRELATION_BYTES_MAX;
    const event = {
      specversion: "1.0",
      id: derivedId(cause.source, cause.id, this.name, this.scope, cause.entity, index),
      source: `/plugins/${this.name}`,
      type: effect.type,
      time: cause.time,
      ...(terminalSource === null ? {} : { subject: terminalSource }),
      partitionkey: terminal,
      causationid: cause.name,
      correlationid: fits ? raw.correlationid : cause.name,
      datacontenttype: "application/json",
      data: effect.data,
    };
    const value = Buffer.from(JSON.stringify(event));
    if (value.length > EVENT_BYTES_MAX) {
      throw new RangeError(`${effect.type}: an event of ${value.length} bytes, at most ${EVENT_BYTES_MAX} are taken`);
    }
    return { topic: "pos.events", key: Buffer.from(terminal), value, headers: CONTENT_TYPE, partition: null };
  }

  /** @param {Input} record @param {Error} failure @returns {Output} */
  #deadLetter(record, failure) {
    const headers = [
      { plugin: this.name },
      { "tillstream-plugin": this.name },
      { reason: "plugin_failed" },
      { message: short(`${failure.name}: ${failure.message}`, MESSAGE_BYTES_MAX) },
      { topic: `pos.plugins.${this.name}.input` },
      { partition: String(record.partition) },
      { offset: String(record.offset) },
      { "tillstream-scope": this.scope },
      { "tillstream-entity": record.entity },
    ];
    if (record.deadLetter) headers.push(/** @type {any} */ ({ "tillstream-dead-letter": record.deadLetter }));
    return { topic: "pos.deadletters", key: record.key, value: record.value, headers: /** @type {any} */ (headers), partition: null };
  }
}
