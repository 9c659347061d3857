// From joining the group to leaving it, or to being thrown out. One batch at a time: its events, dead letters, states and offsets are
// one transaction, so a reader of what is committed sees each exactly once.
import { setTimeout as sleep } from "node:timers/promises";
import { Control } from "./control.js";
import { Engine } from "./engine.js";
import { readInput } from "./event.js";
import { ASSIGN, connected, consume, decidedOffsets, disconnected, newConsumer } from "./kafka.js";
import { Later } from "./plugin.js";
import { Transactions } from "./transactions.js";

const REVISION_PATIENCE_MS = 10_000;

/** Records of one partition that wait, taken from the front. */
class Queue {
  /** @type {import("./event.js").Input[]} */ #records = [];
  #first = 0;
  next = 0;
  /** The record that was put off last, and how often. */
  putOff = { offset: -1, times: 0 };
  get length() {
    return this.#records.length - this.#first;
  }
  get head() {
    return this.#records[this.#first];
  }
  /** @param {import("./event.js").Input} record */
  push(record) {
    this.#records.push(record);
  }
  shift() {
    this.#first += 1;
    if (this.#first === this.#records.length) {
      this.#records = [];
      this.#first = 0;
    }
  }
}

export class Life {
  /** @type {Map<number, Queue>} */ #waiting = new Map();
  /** @type {Map<number, number>} */ #held = new Map();
  /** @type {Set<number>} */ #paused = new Set();
  /** @type {Promise<void>} */ #rebalancing = Promise.resolve();
  /** The batch that is under way. @type {Promise<void>} */ #busy = Promise.resolve();
  /** @type {any} */ #fault = null;
  /** @type {any} */ #settings = null;
  /** @type {string | undefined} */ #unusable;
  #interruption = new AbortController();
  #turns = 0;

  /** @param {import("./plugin.js").Plugin} plugin @param {import("./kafka.js").Settings} options @param {import("./topics.js").Topics} topics
   * @param {import("./heartbeat.js").Heartbeat} heartbeat @param {AbortSignal} stopping */
  constructor(plugin, options, topics, heartbeat, stopping) {
    this.plugin = plugin;
    this.options = options;
    this.topics = topics;
    this.heartbeat = heartbeat;
    this.stopping = stopping;
    this.control = new Control(plugin.definition.name);
    this.engine = new Engine(plugin);
    /** @type {any} */
    this.consumer = newConsumer(options, {
      "group.id": topics.group,
      "client.id": heartbeat.member,
      "session.timeout.ms": options.sessionMs,
      "heartbeat.interval.ms": Math.max(500, Math.floor(options.sessionMs / 5)),
      "partition.assignment.strategy": "roundrobin",
      rebalance_cb: (/** @type {any} */ event, /** @type {any[]} */ partitions) => {
        // Behind the batch that is under way: the group waits for the answer, and what is decided already still counts.
        const before = Promise.allSettled([this.#rebalancing, this.#busy]);
        this.#rebalancing = before.then(() => this.#rebalanced(event, partitions)).catch((error) => (this.#fault ??= error));
      },
    });
    this.transactions = new Transactions(options, topics.group, heartbeat.member);
  }

  async run() {
    const { options, topics, stopping, heartbeat } = this;
    const client = await heartbeat.open();
    await topics.awaitCommon(client, stopping);
    if (!stopping.aborted) await heartbeat.announce();
    if (!stopping.aborted) await topics.awaitOwn(client, stopping);
    if (stopping.aborted) return;
    const interrupt = () => this.#interruption.abort();
    stopping.addEventListener("abort", interrupt);
    const failed = (/** @type {any} */ error) => (this.#fault ??= error);
    const unfollow = await topics.follow("pos.plugins", (record) => this.#told(record), failed);
    this.consumer.on("partition.eof", (/** @type {any} */ at) => heartbeat.atEnd(at.partition, at.offset));
    try {
      await this.transactions.open();
      await connected(this.consumer);
      this.consumer.subscribe([topics.input]);
      while (!stopping.aborted) await this.#turn();
    } finally {
      stopping.removeEventListener("abort", interrupt);
      heartbeat.places.clear();
      // Leaves the group, so that its partitions go to others at once.
      await disconnected(this.consumer);
      await this.transactions.close();
      await unfollow();
    }
  }

  /** What the group decided. @param {any} event @param {any[]} partitions */
  async #rebalanced(event, partitions) {
    const { consumer, heartbeat } = this;
    this.engine.dropAll();
    this.#waiting.clear();
    this.#held.clear();
    this.#paused.clear();
    heartbeat.places.clear();
    if (event.code !== ASSIGN) {
      consumer.unassign();
      return;
    }
    const began = Date.now();
    const numbers = partitions.map(({ partition }) => partition);
    // States of a transaction that the owner before had under way show once it is decided; a new one is refused by the group.
    const committed = await decidedOffsets(consumer, partitions, this.options, this.stopping);
    for (const [number, states] of await this.topics.readStates(numbers, this.stopping)) {
      this.engine.load(number, states);
      this.#waiting.set(number, new Queue());
    }
    consumer.assign(partitions);
    for (const { partition, offset } of committed) heartbeat.places.set(partition, Math.max(offset ?? 0, 0));
    this.options.log(`${this.control.name}: partitions ${numbers.sort((a, b) => a - b)}, states read in ${Date.now() - began} ms`);
  }

  /** A record of `pos.plugins`. @param {any} record */
  #told({ key, value }) {
    if (!this.control.take(key === null || key === undefined ? null : Buffer.from(key).toString(), value ?? null)) return;
    this.#held.clear();
    this.#interruption.abort();
    this.#interruption = new AbortController();
    if (this.stopping.aborted) this.#interruption.abort();
    const { active, revision } = this.control;
    try {
      this.#settings = this.plugin.readSettings(this.control.settings);
      this.#unusable = undefined;
    } catch (error) {
      this.#unusable = `settings of revision ${revision} cannot be used: ${/** @type {Error} */ (error).message}`;
    }
    const state = !active ? "off" : this.#unusable ? "failing" : "running";
    this.heartbeat.switched(state, revision, this.#unusable);
    this.options.log(`${this.control.name}: ${state}, revision ${revision}${this.#unusable ? `; ${this.#unusable}` : ""}`);
  }

  get #working() {
    return this.control.active && this.#unusable === undefined && !this.stopping.aborted;
  }

  /** An event may be here before the settings that let it through are. @param {number} revision */
  async #awaitRevision(revision) {
    const deadline = Date.now() + REVISION_PATIENCE_MS;
    while (this.control.revision < revision && Date.now() < deadline && !this.stopping.aborted) await sleep(5);
    if (this.control.revision < revision) {
      this.options.log(`revision ${revision} of the settings is not on pos.plugins; going on with ${this.control.revision}`);
    }
  }

  async #turn() {
    await this.#rebalancing;
    if (this.#fault) throw this.#fault;
    this.#pause();
    let room = this.options.batchRecords;
    let busy = false;
    for (const [number, queue] of this.#waiting) {
      room -= queue.length;
      busy ||= queue.length > 0 && !this.#held.has(number);
    }
    this.consumer.setDefaultConsumeTimeout(busy && this.#working ? 0 : 50);
    for (const message of await consume(this.consumer, Math.max(1, room))) this.#take(message);
    await this.#rebalancing;
    if (!this.#working) return;
    this.#busy = this.#batch();
    await this.#busy;
  }

  #pause() {
    const now = Date.now();
    for (const [number, until] of this.#held) if (until <= now) this.#held.delete(number);
    const wanted = new Set(this.#working ? this.#held.keys() : this.#waiting.keys());
    const places = (/** @type {Iterable<number>} */ numbers) => [...numbers].map((partition) => ({ topic: this.topics.input, partition }));
    const pause = places([...wanted].filter((number) => !this.#paused.has(number)));
    const resume = places([...this.#paused].filter((number) => !wanted.has(number)));
    if (pause.length > 0) this.consumer.pause(pause);
    if (resume.length > 0) this.consumer.resume(resume);
    this.#paused = wanted;
  }

  /** @param {any} message */
  #take({ partition, offset, key, value, headers }) {
    const queue = this.#waiting.get(partition);
    // What was fetched before a rebalance belongs to somebody else now.
    if (queue === undefined || offset < queue.next) return;
    queue.next = offset + 1;
    queue.push(readInput(partition, offset, key, value, headers));
  }

  /** Works on what waits, for a while, each partition in its order, and commits it. */
  async #batch() {
    const until = performance.now() + this.options.batchMs;
    /** @type {Map<number, number>} */ const done = new Map();
    const queues = [...this.#waiting].filter(([number, queue]) => queue.length > 0 && !this.#held.has(number));
    // Another one begins each time, so that nobody who is slow keeps the others away.
    this.#turns += 1;
    const ordered = queues.map((_, place) => queues[(place + this.#turns) % queues.length]);
    await Promise.all(ordered.map(([number, queue]) => this.#work(number, queue, until, done)));
    if (done.size > 0) await this.#commit(done);
  }

  /** @param {number} number @param {Queue} queue @param {number} until @param {Map<number, number>} done */
  async #work(number, queue, until, done) {
    while (queue.length > 0 && this.#working && performance.now() <= until) {
      const record = queue.head;
      if (record.revision > this.control.revision) {
        await this.#awaitRevision(record.revision);
        if (!this.#working) return;
      }
      if (record.revision >= this.control.skipBefore) {
        const attempt = queue.putOff.offset === record.offset ? queue.putOff.times : 0;
        const { signal } = this.#interruption;
        try {
          const handled = this.engine.handle(record, this.#settings, { signal, attempt });
          const failure = handled instanceof Promise ? await handled : handled;
          this.heartbeat.handled(failure);
          if (failure) this.options.log(`${this.control.name} cannot handle ${number}/${record.offset}: ${failure.message}`);
        } catch (error) {
          if (!(error instanceof Later)) throw error;
          queue.putOff = { offset: record.offset, times: error.attempt ?? attempt + 1 };
          if (!signal.aborted) this.#held.set(number, Date.now() + error.seconds * 1000);
          if (error.message) this.heartbeat.lastError = error.message.slice(0, 500);
          return;
        }
      }
      queue.shift();
      done.set(number, record.offset + 1);
    }
  }

  /** @param {Map<number, number>} done */
  async #commit(done) {
    const offsets = [...done].map(([partition, offset]) => ({ topic: this.topics.input, partition, offset }));
    await this.transactions.commit(this.engine.outputs(), offsets, this.consumer);
    this.engine.committed();
    for (const [number, offset] of done) this.heartbeat.places.set(number, offset);
  }
}
