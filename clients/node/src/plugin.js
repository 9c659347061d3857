// A handler with what Tillstream has to know of it, and the manifest that follows from it.

/** @typedef {import("./index.js").Definition} Definition */

// Types of `pos.*` that plugins may publish; everything else of theirs is `plugin.NAME.…`.
const PLUGIN_TYPES = new Set([
  "pos.employee.auto_logged_out",
  "pos.recommendation.made",
  "pos.customer.enriched",
  "pos.customer.lookup_failed",
  "pos.fraud.alert_raised",
  "pos.age.verification_required",
]);

const BUILT_IN = new Set([
  "employee-time-tracker",
  "purchase-recommender",
  "customer-lookup",
  "fraud-detection",
  "age-verification",
  "order-delivery",
]);

export class Later extends Error {
  name = "Later";
  /** @param {number} seconds @param {string} reason @param {{attempt?: number}} options */
  constructor(seconds, reason = "", { attempt } = {}) {
    super(reason);
    this.seconds = seconds;
    this.attempt = attempt;
  }
}

/** @param {string} type @param {Record<string, any>} data */
export const publish = (type, data = {}) => ({ type, data });

/** @param {boolean} holds @param {string} otherwise */
function need(holds, otherwise) {
  if (!holds) throw new TypeError(otherwise);
}

export class Plugin {
  /** @param {Definition} definition @param {import("./index.js").Handler<any, any>} handler */
  constructor(definition, handler) {
    const { name, version, description, scope, eventTypes } = definition;
    need(/^[a-z][a-z0-9-]{1,39}$/.test(name), `name ${name}: lower-case letters, digits and hyphens, 2 to 40, a letter first`);
    need(!BUILT_IN.has(name), `name ${name}: a built-in plugin has it`);
    need(Buffer.byteLength(version) >= 1 && Buffer.byteLength(version) <= 40, "version: 1 to 40 bytes");
    need(Buffer.byteLength(description) <= 500, "description: at most 500 bytes");
    need(["terminal", "employee", "customer", "card"].includes(scope), `scope ${scope}: terminal, employee, customer or card`);
    need(eventTypes.length >= 1 && eventTypes.length <= 64, "eventTypes: 1 to 64");
    this.definition = definition;
    this.handler = handler;
  }

  /** @returns {import("./index.js").Manifest} */
  manifest() {
    const { name, version, description, scope, eventTypes, settingsSchema, defaultSettings } = this.definition;
    return {
      protocol: 1,
      name,
      version,
      description,
      scope,
      eventTypes: [...eventTypes],
      settingsSchema: settingsSchema ?? { type: "object", properties: {}, additionalProperties: false },
      defaultSettings: defaultSettings ?? {},
    };
  }

  /** Settings as the handler gets them. @param {any} values */
  readSettings(values) {
    need(values === null || values === undefined || (typeof values === "object" && !Array.isArray(values)), "settings: an object is needed");
    return Object.freeze({ ...this.definition.defaultSettings, ...values });
  }

  /** What a handler returned, as a list. @param {any} outcome @returns {import("./index.js").Publish[]} */
  outcome(outcome) {
    const list = outcome === undefined || outcome === null ? [] : outcome[Symbol.iterator] ? [...outcome] : [outcome];
    for (const effect of list) {
      need(typeof effect?.type === "string" && typeof effect.data === "object", "a handler returns publish(type, data), or a list of these");
      const fits = PLUGIN_TYPES.has(effect.type) || effect.type.startsWith(`plugin.${this.definition.name}.`);
      need(fits, `type ${effect.type}: a plugin publishes plugin.${this.definition.name}.… or a pos type that is made for plugins`);
    }
    return list;
  }

  /** @param {import("./index.js").Options & {signal?: AbortSignal}} options */
  async run(options = {}) {
    // librdkafka is needed here alone, not by the harness.
    const { runMember } = await import("./member.js");
    await runMember(this, options);
  }
}

/** @param {Definition} definition @param {import("./index.js").Handler<any, any>} handler */
export const plugin = (definition, handler) => new Plugin(definition, handler);
