// Tries a plugin without Kafka: feeds events, shows what it publishes, remembers and fails on.
import { Engine } from "./engine.js";
import { TillEvent } from "./event.js";

const KEYS = /** @type {Record<string, string>} */ ({ employee: "employeeId", customer: "customerId", card: "cardToken" });

/** One member that owns everything. */
export class Harness {
  /** @type {Record<string, any>[]} */ published = [];
  /** @type {Error[]} */ failures = [];
  #offset = 0;

  /** @param {any} plugin @param {Record<string, any>} [settings] */
  constructor(plugin, settings) {
    this.plugin = plugin;
    this.engine = new Engine(plugin);
    this.engine.load(0, new Map());
    this.set(settings);
  }

  /** @param {Record<string, any>} [settings] */
  set(settings = {}) {
    this.settings = this.plugin.readSettings(settings);
  }

  /** @param {string} type @param {Record<string, any>} [data] @param {import("./harness.d.ts").Feed} [options] */
  async feed(type, data = {}, options = {}) {
    const { terminal = "T0001", store = "S001", time = "2026-01-05T08:00:00.000Z" } = options;
    const id = options.id ?? `${terminal}-${String(this.#offset + 1).padStart(6, "0")}`;
    const event = { specversion: "1.0", id, source: `/stores/${store}/terminals/${terminal}`, type, time, data };
    return this.feedEvent(event, options);
  }

  /** Types that the plugin did not ask for are passed over, as Tillstream does. @param {Record<string, any>} event @param {{entity?: string, late?: boolean, attempt?: number}} [options] */
  async feedEvent(event, { entity, late = false, attempt = 0 } = {}) {
    if (!this.plugin.definition.eventTypes.includes(event.type)) return [];
    const seen = new TillEvent(event);
    const key = KEYS[this.plugin.definition.scope];
    const whose = entity ?? (key ? seen.data[key] : seen.terminal);
    if (typeof whose !== "string") return [];
    const value = Buffer.from(JSON.stringify(event));
    const record = { partition: 0, offset: this.#offset, key: Buffer.from(whose), value, entity: whose, revision: 1, late, deadLetter: null };
    this.#offset += 1;
    try {
      const failure = await this.engine.handle(record, this.settings, { signal: new AbortController().signal, attempt });
      if (failure) this.failures.push(failure);
    } catch (later) {
      this.failures.push(/** @type {Error} */ (later));
      return [];
    }
    const outputs = this.engine.outputs().filter((output) => output.topic === "pos.events");
    this.engine.committed();
    const events = outputs.map((output) => JSON.parse(String(output.value)));
    this.published.push(...events);
    return events;
  }

  /** @param {string} entity */
  state(entity) {
    return this.engine.state(0, entity);
  }
}
