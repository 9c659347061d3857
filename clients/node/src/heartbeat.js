// The manifest, and the signs of life that the admin shows.
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { short } from "./engine.js";
import { connected, disconnected, edges, newConsumer, newProducer, promised } from "./kafka.js";

const ERROR_BYTES_MAX = 500;

export class Heartbeat {
  member = `${hostname()}-${process.pid}-${randomBytes(3).toString("hex")}`;
  state = "off";
  revision = 0;
  processed = 0;
  errors = 0;
  /** @type {string | null} */ lastError = null;
  /** How far each partition of this member is done. @type {Map<number, number>} */ places = new Map();
  #lag = 0;
  /** @type {NodeJS.Timeout | undefined} */ #timer;
  /** @type {any} */ #producer;
  /** @type {any} */ #edge;

  /** @param {import("./plugin.js").Plugin} plugin @param {import("./topics.js").Topics} topics @param {import("./kafka.js").Settings} settings */
  constructor(plugin, topics, settings) {
    this.plugin = plugin;
    this.topics = topics;
    this.settings = settings;
  }

  /** Connects; answers a client that can be asked for topics. */
  async open() {
    this.#producer ??= await connected(newProducer(this.settings, { "linger.ms": 0 }));
    this.#edge ??= await connected(newConsumer(this.settings, {}));
    return this.#producer;
  }

  /** Publishes the manifest, and begins to give signs of life. */
  async announce() {
    this.#send("pos.plugins.manifests", this.plugin.manifest());
    await promised((done) => this.#producer.flush(30_000, done));
    this.#timer ??= setInterval(() => void this.beat(), this.settings.heartbeatMs);
  }

  /** The last sign of life. */
  async close() {
    clearInterval(this.#timer);
    if (!this.#producer) return;
    this.state = "off";
    this.places.clear();
    await this.beat();
    await promised((done) => this.#producer.flush(5_000, done)).catch(() => {});
    await Promise.all([disconnected(this.#producer), disconnected(this.#edge)]);
  }

  /** A new state or revision; told at once. @param {string} state @param {number} revision @param {string} [error] */
  switched(state, revision, error) {
    this.state = state;
    this.revision = revision;
    if (error) this.lastError = short(error, ERROR_BYTES_MAX);
    void this.beat();
  }

  /** @param {Error | null} failure */
  handled(failure) {
    this.processed += 1;
    if (failure === null) {
      if (this.state === "failing") this.state = "running";
      return;
    }
    this.errors += 1;
    this.failing(`${failure.name}: ${failure.message}`);
  }

  /** @param {string} error */
  failing(error) {
    const first = this.state === "running";
    this.lastError = short(error, ERROR_BYTES_MAX);
    if (first) {
      this.state = "failing";
      void this.beat();
    }
  }

  /** Where this member has nothing more to read; behind the last record stands the mark of its transaction. @param {number} number @param {number} offset */
  atEnd(number, offset) {
    const place = this.places.get(number);
    if (place !== undefined && offset - place <= 1) this.places.set(number, offset);
  }

  async beat() {
    if (!this.#timer) return;
    const { state, revision } = this;
    const alive = process.env.TILLSTREAM_ALIVE_FILE;
    if (alive) await writeFile(alive, "");
    await this.#measure();
    const { name, version } = this.plugin.definition;
    const { member, processed, errors, lastError } = this;
    const at = new Date().toISOString();
    this.#send("pos.plugins.heartbeats", { name, member, version, state, revision, lag: this.#lag, processed, errors, lastError, at });
  }

  async #measure() {
    let lag = 0;
    try {
      for (const number of this.places.keys()) {
        const { highOffset } = await edges(this.#edge, this.topics.input, number);
        // One is the mark of the last transaction.
        const behind = highOffset - (this.places.get(number) ?? highOffset);
        lag += behind > 1 ? behind : 0;
      }
      this.#lag = lag;
    } catch {
      // As before; the next one will tell.
    }
  }

  /** @param {string} topic @param {any} value */
  #send(topic, value) {
    try {
      this.#producer.produce(this.settings.topicPrefix + topic, null, Buffer.from(JSON.stringify(value)), this.plugin.definition.name);
    } catch (error) {
      this.settings.log(`${topic}: ${/** @type {Error} */ (error).message}`);
    }
  }
}
