// The member's transactional producer: what a batch publishes and how far its input is done count together.
//
// librdkafka ends a transaction with a request that names the producer and its epoch, but not the transaction. It repeats that request by
// itself when the connection breaks or nobody answers, and says nothing of it. The first copy may then arrive late and end the next
// transaction: half of it is published, or its head is dropped while its offsets are committed. So a producer begins another transaction
// only if the one before ended beyond doubt. Otherwise a new one takes its place, whose start raises the epoch: brokers refuse what comes late.
import { setTimeout as sleep } from "node:timers/promises";
import { connected, disconnected, newProducer, promised, QUEUE_FULL, within } from "./kafka.js";

const CALL_MS = 30_000;
const COMMIT_TRIES = 5;
// librdkafka repeats a request no sooner than this, give or take a fifth, and offsets of a transaction after 500 ms. A step that was
// faster was not repeated.
const REPEAT_AFTER_MS = 200;
const CERTAIN_COMMIT_MS = 150;
const CERTAIN_OFFSETS_MS = 400;

/** How long a step takes that succeeds. @param {() => Promise<unknown>} step */
async function timed(step) {
  const began = performance.now();
  await step();
  return performance.now() - began;
}

/** One producer after the other, under the same transactional id. */
export class Transactions {
  /** @type {any} */ #producer = null;
  #complaints = 0;

  /** @param {import("./kafka.js").Settings} settings @param {string} group @param {string} member */
  constructor(settings, group, member) {
    this.settings = settings;
    this.config = {
      "client.id": member,
      "transactional.id": `${group}.${member}`,
      "transaction.timeout.ms": settings.transactionMs,
      "retry.backoff.ms": REPEAT_AFTER_MS,
      "retry.backoff.max.ms": 1000,
      "linger.ms": 5,
      "queue.buffering.max.messages": 1_000_000,
      "compression.type": settings.kafka["compression.type"] ?? "lz4",
    };
  }

  /** The producer; a new one fences its predecessor first, and with it whatever that one may still have under way. */
  async open() {
    if (this.#producer === null) {
      const producer = newProducer(this.settings, this.config);
      producer.on("event.error", () => (this.#complaints += 1));
      await connected(producer);
      this.#producer = producer;
      await promised((done) => producer.initTransactions(CALL_MS, done));
    }
    return this.#producer;
  }

  /** Ends the producer that is there. */
  async close() {
    const producer = this.#producer;
    this.#producer = null;
    if (producer !== null) await disconnected(producer);
  }

  /**
   * Publishes the outputs and commits the offsets of the consumer in one transaction. After an error the member must begin anew.
   * @param {Iterable<import("./engine.js").Output>} outputs @param {any[]} offsets @param {any} consumer
   */
  async commit(outputs, offsets, consumer) {
    const producer = await this.open();
    this.#complaints = 0;
    let certain = true;
    await promised((next) => producer.beginTransaction(next));
    try {
      for (const output of outputs) await this.#produce(producer, output);
      // Of all calls this one does not keep to its time-out if the group's coordinator goes away at the wrong moment (librdkafka issue
      // 5456). The next life's producer fences what is left behind here.
      const send = () => promised((next) => producer.sendOffsetsToTransaction(offsets, consumer, CALL_MS, next));
      certain &&= (await timed(() => within(CALL_MS + 5000, send(), "the group's coordinator"))) < CERTAIN_OFFSETS_MS;
      // The client takes the group's metadata as it is at this moment. If partitions were lost before, it may be that of nobody, which
      // the broker does not check; until the loss is told here, nothing may count.
      if (consumer.assignmentLost()) throw new Error("the group gave its partitions to others");
      await promised((next) => producer.flush(CALL_MS, next));
      certain = (await this.#ended(producer)) && certain;
    } catch (error) {
      await promised((next) => producer.abortTransaction(CALL_MS, next)).catch(() => {});
      throw error;
    }
    if (certain && this.#complaints === 0) return;
    await this.close();
  }

  /** Commits; whether it is certain that no request to do so is left under way. @param {any} producer */
  async #ended(producer) {
    for (let tries = 1; ; tries += 1) {
      try {
        const took = await timed(() => promised((next) => producer.commitTransaction(CALL_MS, next)));
        return tries === 1 && took < CERTAIN_COMMIT_MS;
      } catch (error) {
        if (tries === COMMIT_TRIES || !(/** @type {any} */ (error).isRetriable)) throw error;
      }
    }
  }

  /** @param {any} producer @param {import("./engine.js").Output} output */
  async #produce(producer, { topic, key, value, headers, partition }) {
    for (;;) {
      try {
        producer.produce(this.settings.topicPrefix + topic, partition, value, key, null, undefined, headers);
        return;
      } catch (error) {
        if (/** @type {any} */ (error).code !== QUEUE_FULL) throw error;
        producer.poll();
        await sleep(10);
      }
    }
  }
}
