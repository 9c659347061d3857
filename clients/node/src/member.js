// A member of a plugin's group on Kafka: runs until it is told to stop; whatever fails on the way is logged and tried anew.
import { setTimeout as sleep } from "node:timers/promises";
import { Heartbeat } from "./heartbeat.js";
import { Life } from "./life.js";
import { Topics } from "./topics.js";

/** @param {import("./index.js").Options} options @returns {import("./kafka.js").Settings} */
function settingsOf(options) {
  const environment = process.env;
  /** @type {Record<string, any>} */ const kafka = {};
  for (const [name, value] of Object.entries(environment)) {
    if (name.startsWith("TILLSTREAM_KAFKA_")) kafka[name.slice("TILLSTREAM_KAFKA_".length).toLowerCase().replaceAll("_", ".")] = value;
  }
  return {
    brokers: options.brokers ?? environment.TILLSTREAM_BROKERS ?? environment.TILLSTREAM__BUS__BROKERS ?? "127.0.0.1:9092",
    topicPrefix: options.topicPrefix ?? environment.TILLSTREAM_TOPIC_PREFIX ?? environment.TILLSTREAM__BUS__TOPICPREFIX ?? "",
    kafka: { ...kafka, ...options.kafka },
    batchRecords: options.batchRecords ?? 5000,
    batchMs: options.batchMs ?? 100,
    heartbeatMs: options.heartbeatMs ?? 5000,
    sessionMs: options.sessionMs ?? 10_000,
    transactionMs: options.transactionMs ?? 10_000,
    log: options.log ?? ((line) => console.error(`${new Date().toISOString()} ${line}`)),
  };
}

/** @param {import("./plugin.js").Plugin} plugin @param {import("./index.js").Options & {signal?: AbortSignal}} options */
export async function runMember(plugin, options) {
  const settings = settingsOf(options);
  const name = plugin.definition.name;
  const topics = new Topics(name, settings);
  const heartbeat = new Heartbeat(plugin, topics, settings);
  const stop = new AbortController();
  const end = () => stop.abort();
  if (options.signal) options.signal.addEventListener("abort", end, { once: true });
  else for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, end);
  let pause = 200;
  while (!stop.signal.aborted) {
    const started = Date.now();
    try {
      await new Life(plugin, settings, topics, heartbeat, stop.signal).run();
    } catch (error) {
      const { message } = /** @type {Error} */ (error);
      settings.log(`${name} starts anew: ${message}`);
      heartbeat.failing(`starts anew: ${message}`);
    }
    pause = Date.now() - started > 30_000 ? 200 : Math.min(pause * 2, 10_000);
    await sleep(pause, undefined, { signal: stop.signal }).catch(() => {});
  }
  await heartbeat.close();
}
