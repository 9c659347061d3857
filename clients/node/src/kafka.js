// librdkafka's calls as promises, and the clients that a member needs.
import { setTimeout as sleep } from "node:timers/promises";
import Kafka from "@confluentinc/kafka-javascript";

/** @typedef {{brokers: string, topicPrefix: string, kafka: Record<string, any>, batchRecords: number, batchMs: number, heartbeatMs: number, sessionMs: number, transactionMs: number, log: (line: string) => void}} Settings */

export const END = -191; // ERR__PARTITION_EOF
export const ASSIGN = Kafka.CODES.ERRORS.ERR__ASSIGN_PARTITIONS;
/** The client has the bytes of a batch and cannot make records of them: damaged, or of a codec that it does not know. */
export const UNDECODABLE = new Set([-198, -199, -170]); // ERR__BAD_COMPRESSION, ERR__BAD_MSG, ERR__NOT_IMPLEMENTED
export const EXISTS = Kafka.CODES.ERRORS.ERR_TOPIC_ALREADY_EXISTS;
export const QUEUE_FULL = Kafka.CODES.ERRORS.ERR__QUEUE_FULL;

/**
 * @template T
 * @param {(done: (error: any, value?: T) => void) => void} call
 * @returns {Promise<T>}
 */
export const promised = (call) =>
  new Promise((resolve, reject) => call((error, value) => (error ? reject(error) : resolve(/** @type {T} */ (value)))));

/**
 * Waits for a call that may never come back: after so many milliseconds it is left behind.
 * @template T
 * @param {number} ms @param {Promise<T>} call @param {string} what
 * @returns {Promise<T>}
 */
export async function within(ms, call, what) {
  /** @type {NodeJS.Timeout | undefined} */ let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`${what} has not answered within ${ms} ms`)), ms)));
  try {
    return /** @type {T} */ (await Promise.race([call, late]));
  } finally {
    clearTimeout(timer);
  }
}

/** @param {any} client */
export async function connected(client) {
  client.on("event.error", () => {}); // what matters comes back from calls; librdkafka itself connects again
  await promised((done) => client.connect({ timeout: 30_000 }, done));
  return client;
}

/** Ends a client; one that does not end in time is left behind. @param {any} client @param {number} ms */
export async function disconnected(client, ms = 10_000) {
  /** @type {NodeJS.Timeout | undefined} */ let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, ms)));
  await Promise.race([promised((done) => client.disconnect(done)).catch(() => {}), late]);
  clearTimeout(timer);
}

/** @param {Settings} settings */
const common = (settings) => ({ ...settings.kafka, "bootstrap.servers": settings.brokers });

/** Records that are handed out as they come: waits for the first one only. @param {Settings} settings @param {Record<string, any>} more */
export function newConsumer(settings, more) {
  const consumer = new Kafka.KafkaConsumer(
    /** @type {any} */ ({
      ...common(settings),
      "group.id": "unused", // needed by the client; only a member of the group gives another and commits
      "enable.auto.commit": false,
      "isolation.level": "read_committed",
      "enable.partition.eof": true,
      "fetch.wait.max.ms": 50,
      ...more,
    }),
    { "auto.offset.reset": "earliest" },
  );
  consumer.setDefaultConsumeTimeout(50);
  /** @type {any} */ (consumer).setDefaultIsTimeoutOnlyForFirstMessage(true);
  return consumer;
}

/** @param {Settings} settings @param {Record<string, any>} more */
export function newProducer(settings, more) {
  const producer = new Kafka.Producer(/** @type {any} */ ({ ...common(settings), ...more }), { partitioner: /** @type {any} */ ("murmur2") });
  producer.setPollInterval(100);
  return producer;
}

/** @param {Settings} settings */
export const newAdmin = (settings) => Kafka.AdminClient.create(/** @type {any} */ (common(settings)));

/** What came, or nothing after a moment. @param {any} consumer @param {number} most @returns {Promise<any[]>} */
export const consume = (consumer, most) => promised((done) => consumer.consume(most, done));

/** First and last offset. @param {any} client @param {string} topic @param {number} partition @returns {Promise<{lowOffset: number, highOffset: number}>} */
export const edges = (client, topic, partition) =>
  promised((done) => client.queryWatermarkOffsets(topic, partition, 30_000, done));

/** The number of partitions of each topic. @param {any} client @returns {Promise<Map<string, number>>} */
export async function topicsOf(client) {
  /** @type {any} */ const metadata = await promised((done) => client.getMetadata({ timeout: 10_000 }, done));
  return new Map(metadata.topics.map((/** @type {any} */ topic) => [topic.name, topic.partitions.length]));
}

/**
 * The group's offsets of these partitions, once no transaction is open that moves them. The consumer reads committed only, so the broker
 * names an offset as unstable until the transaction of the owner before has ended and its offsets are in the group's memory
 * (KAFKA-17507); the client hands an error over instead of such a partition.
 * @param {any} consumer @param {any[]} partitions @param {Settings} settings @param {AbortSignal} stopping @returns {Promise<any[]>}
 */
export async function decidedOffsets(consumer, partitions, settings, stopping) {
  const deadline = Date.now() + 120_000 + settings.transactionMs;
  while (partitions.length > 0 && !stopping.aborted) {
    /** @type {any[]} */ const committed = await promised((done) => consumer.committed(partitions, 30_000, done));
    const undecided = committed.find((place) => place instanceof Error);
    if (undecided === undefined) return committed;
    if (Date.now() > deadline) throw new Error(`the group's offsets are not decided: ${undecided.message}`);
    await sleep(100, undefined, { signal: stopping }).catch(() => {});
  }
  return [];
}
