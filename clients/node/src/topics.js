// The topics around a plugin: waits for them, follows the settings, reads states back.
import { setTimeout as sleep } from "node:timers/promises";
import { connected, consume, disconnected, edges, EXISTS, newAdmin, newConsumer, promised, topicsOf, UNDECODABLE } from "./kafka.js";

const COMMON = ["pos.plugins.manifests", "pos.plugins.heartbeats", "pos.plugins", "pos.events", "pos.deadletters"];

export class Topics {
  /** @param {string} plugin @param {import("./kafka.js").Settings} settings */
  constructor(plugin, settings) {
    this.settings = settings;
    const prefix = settings.topicPrefix;
    this.group = `${prefix}pos.plugins.${plugin}`;
    this.input = `${prefix}pos.plugins.${plugin}.input`;
    this.state = `${prefix}pos.plugins.${plugin}.state`;
  }

  /** Waits until Tillstream has made the topics that do not depend on the plugin. @param {any} client @param {AbortSignal} stopping */
  async awaitCommon(client, stopping) {
    await this.#await(client, COMMON.map((name) => this.settings.topicPrefix + name), stopping);
  }

  /** Waits until Tillstream has accepted the manifest and made the plugin's input; makes the topic for states. @param {any} client @param {AbortSignal} stopping */
  async awaitOwn(client, stopping) {
    const present = await this.#await(client, [this.input], stopping);
    if (stopping.aborted || present.has(this.state)) return;
    const admin = newAdmin(this.settings);
    const topic = { topic: this.state, num_partitions: present.get(this.input) ?? 1, replication_factor: -1, config: { "cleanup.policy": "compact" } };
    try {
      await promised((done) => admin.createTopic(/** @type {any} */ (topic), 30_000, done));
    } catch (error) {
      if (/** @type {any} */ (error).code !== EXISTS) throw error;
    } finally {
      admin.disconnect();
    }
    await this.#await(client, [this.state], stopping);
  }

  /** @param {any} client @param {string[]} topics @param {AbortSignal} stopping @returns {Promise<Map<string, number>>} */
  async #await(client, topics, stopping) {
    for (let told = false; !stopping.aborted; ) {
      const present = await topicsOf(client);
      const missing = topics.filter((topic) => !present.has(topic));
      if (missing.length === 0) return present;
      if (!told) this.settings.log(`waiting until Tillstream has made ${missing.join(", ")}`);
      told = true;
      await sleep(500, undefined, { signal: stopping }).catch(() => {});
    }
    return new Map();
  }

  /** Hands over every record of a topic with one partition, from its beginning on. Answers at its end; stop it with the function that it answers.
   * @param {string} topic @param {(record: any) => void} take @param {(error: any) => void} failed */
  async follow(topic, take, failed) {
    const consumer = await connected(newConsumer(this.settings, {}));
    const atEnd = new Promise((resolve) => consumer.once("partition.eof", resolve));
    consumer.assign([{ topic: this.settings.topicPrefix + topic, partition: 0, offset: 0 }]);
    let stopped = false;
    let next = 0;
    const reading = (async () => {
      while (!stopped) {
        try {
          for (const record of await consume(consumer, 1000)) {
            next = record.offset + 1;
            take(record);
          }
        } catch (error) {
          if (!UNDECODABLE.has(/** @type {any} */ (error).code)) throw error;
          // One record that cannot be decoded must not keep every later one from being seen. How far a batch reaches only trying tells.
          this.settings.log(`${topic}: what lies at offset ${next} cannot be decoded and is passed over: ${/** @type {Error} */ (error).message}`);
          next += 1;
          const place = { topic: this.settings.topicPrefix + topic, partition: 0, offset: next };
          await promised((done) => consumer.seek(place, 10_000, done));
        }
      }
    })().catch(failed);
    await Promise.race([atEnd, reading]);
    return async () => {
      stopped = true;
      await reading;
      await disconnected(consumer);
    };
  }

  /**
   * All committed states of these partitions. Reads to the end as it is for readers of everything: where a transaction of the owner
   * before is still open, what is committed behind it shows only when the broker has ended it.
   * @param {number[]} numbers @param {AbortSignal} stopping @returns {Promise<Map<number, Map<string, string>>>}
   */
  async readStates(numbers, stopping) {
    /** @type {Map<number, Map<string, string>>} */ const states = new Map(numbers.map((number) => [number, new Map()]));
    /** @type {Map<number, number>} */ const ends = new Map();
    const edge = await connected(newConsumer(this.settings, { "isolation.level": "read_uncommitted" }));
    try {
      for (const number of numbers) {
        const { lowOffset, highOffset } = await edges(edge, this.state, number);
        if (highOffset > lowOffset) ends.set(number, highOffset);
      }
    } finally {
      await disconnected(edge);
    }
    if (ends.size === 0) return states;
    const reader = await connected(newConsumer(this.settings, {}));
    const passed = (/** @type {number} */ number, /** @type {number} */ offset) => {
      if (offset >= (ends.get(number) ?? 0)) ends.delete(number);
    };
    reader.on("partition.eof", (/** @type {any} */ at) => passed(at.partition, at.offset));
    const deadline = Date.now() + 120_000 + this.settings.transactionMs;
    try {
      reader.assign([...ends.keys()].map((partition) => ({ topic: this.state, partition, offset: 0 })));
      while (ends.size > 0 && !stopping.aborted) {
        for (const { partition, offset, key, value } of await consume(reader, 10_000)) {
          const entity = Buffer.from(key ?? "").toString();
          if (value && value.length > 0) states.get(partition)?.set(entity, value.toString());
          else states.get(partition)?.delete(entity);
          passed(partition, offset + 1);
        }
        if (Date.now() > deadline) throw new Error(`states of partitions ${[...ends.keys()]} cannot be read to their end`);
      }
    } finally {
      await disconnected(reader);
    }
    return states;
  }
}
