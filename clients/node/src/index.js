// Plugins for Tillstream in JavaScript: a function from (state, settings, event) to what follows. The protocol is
// docs/plugin-protocol.md; `tillstream/harness` tries a plugin without Kafka.
export { InvalidEvent } from "./event.js";
export { Later, plugin, publish } from "./plugin.js";
export { derivedId, murmur2, partitionOf } from "./ids.js";
