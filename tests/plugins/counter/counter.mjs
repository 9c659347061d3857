// The smallest plugin with a state: counts, publishes every so many, fails when it is told to.
import { Later, plugin, publish } from "../../../clients/node/src/index.js";

const definition = {
  name: "counter",
  version: "1.0.0",
  description: "Counts the items of each till.",
  scope: "terminal",
  eventTypes: ["pos.basket.item_added"],
  settingsSchema: {
    type: "object",
    properties: { every: { type: "integer", minimum: 1, title: "Every" }, label: { type: "string", title: "Label" } },
    additionalProperties: false,
  },
  defaultSettings: { every: 1, label: "" },
};

await plugin(definition, (state, settings, event) => {
  state.count = (state.count ?? 0) + 1;
  if (event.data.productId === "FAIL" && settings.label !== "mended") throw new Error("told to fail");
  if (event.data.productId === "LATER" && settings.label !== "now") throw new Later(60, "told to wait");
  if (state.count % settings.every === 0) return publish("plugin.counter.counted", { count: state.count, label: settings.label });
}).run();
