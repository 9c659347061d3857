// The smallest plugin with a state: counts, publishes every so many, fails or takes its time when it is told to.
import { Later, plugin, publish } from "../../../clients/node/src/index.js";

const name = process.env.COUNTER_NAME ?? "counter";
const definition = {
  name,
  version: "1.0.0",
  description: "Counts the items of each till.",
  scope: "terminal",
  eventTypes: ["pos.basket.item_added"],
  settingsSchema: {
    type: "object",
    properties: {
      every: { type: "integer", minimum: 1, title: "Every", description: "So many events make one report" },
      label: { type: "string", title: "Label" },
      delayMs: { type: "integer", minimum: 0, title: "Delay", description: "Milliseconds that each event takes" },
    },
    additionalProperties: false,
  },
  defaultSettings: { every: 1, label: "", delayMs: 0 },
};

const never = new Int32Array(new SharedArrayBuffer(4));

await plugin(definition, (state, settings, event) => {
  if (settings.delayMs > 0) Atomics.wait(never, 0, 0, settings.delayMs);
  state.count = (state.count ?? 0) + 1;
  if (event.data.productId === "FAIL" && settings.label !== "mended") throw new Error("told to fail");
  if (event.data.productId === "LATER" && settings.label !== "now") throw new Later(60, "told to wait");
  if (state.count % settings.every === 0) return publish(`plugin.${name}.counted`, { count: state.count, label: settings.label });
}).run();
