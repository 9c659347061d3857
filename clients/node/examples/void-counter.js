// Says when a till has voided a number of items in one basket. Run it beside Tillstream: node void-counter.js
import { plugin, publish } from "tillstream";

export const voidCounter = plugin(
  {
    name: "void-counter",
    version: "1.0.0",
    description: "Reports a basket with many voided items, once.",
    scope: "terminal",
    eventTypes: ["pos.basket.started", "pos.basket.item_voided"],
    settingsSchema: {
      type: "object",
      properties: { limit: { type: "integer", minimum: 1, title: "Voids", description: "From so many voids in one basket on it is reported" } },
      required: ["limit"],
      additionalProperties: false,
    },
    defaultSettings: { limit: 3 },
  },
  (state, settings, event) => {
    if (event.type === "pos.basket.started") {
      delete state.voids;
      return;
    }
    state.voids = (state.voids ?? 0) + 1;
    if (state.voids === settings.limit) {
      return publish("plugin.void-counter.many_voids", { basketId: event.data.basketId, voids: state.voids });
    }
  },
);

if (import.meta.filename === process.argv[1]) await voidCounter.run();
