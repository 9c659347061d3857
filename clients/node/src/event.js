// An event as a handler sees it, and the input record that it came in.

/** An input record that holds no CloudEvent. */
export class InvalidEvent extends Error {
  name = "InvalidEvent";
}

/** @param {unknown} source @returns {[string, string] | null} store and terminal */
function parts(source) {
  if (typeof source !== "string") return null;
  const found = source.split("/");
  const fits = found.length === 5 && found[0] === "" && found[1] === "stores" && found[3] === "terminals" && found[2] && found[4];
  return fits ? [found[2], found[4]] : null;
}

/** A CloudEvent; `raw` is all of it. */
export class TillEvent {
  /** @param {Record<string, any>} raw @param {string} entity @param {boolean} late */
  constructor(raw, entity = "", late = false) {
    for (const name of ["id", "source", "type", "time"]) {
      if (typeof raw[name] !== "string" || raw[name] === "") throw new InvalidEvent(`${name}: a text is needed`);
    }
    const data = raw.data ?? {};
    if (typeof data !== "object" || Array.isArray(data)) throw new InvalidEvent("data: an object is needed");
    this.raw = raw;
    this.entity = entity;
    this.late = late;
    /** @type {string} */ this.id = raw.id;
    /** @type {string} */ this.source = raw.source;
    /** @type {string} */ this.type = raw.type;
    /** @type {string} */ this.time = raw.time;
    /** @type {Record<string, any>} */ this.data = data;
  }

  get name() {
    return `${this.source}#${this.id}`;
  }

  get terminalSource() {
    for (const text of [this.source, this.raw.subject]) if (parts(text)) return /** @type {string} */ (text);
    return null;
  }

  get terminal() {
    return parts(this.terminalSource)?.[1] ?? null;
  }

  get store() {
    return parts(this.terminalSource)?.[0] ?? null;
  }

  get training() {
    return this.raw.training === true || this.raw.training === "true";
  }
}

/**
 * A record of `pos.plugins.NAME.input`.
 * @typedef {{partition: number, offset: number, key: Buffer, value: Buffer, entity: string, revision: number, late: boolean, deadLetter: Buffer | null}} Input
 */

/** @param {unknown} content */
const text = (content) => (typeof content === "string" ? content : Buffer.from(/** @type {Buffer} */ (content)).toString());

/**
 * Never fails: what is wrong with the value shows when it is handled.
 * @param {number} partition @param {number} offset @param {Buffer | null | undefined} key @param {Buffer | null | undefined} value
 * @param {Record<string, any>[] | undefined} headers a list of objects with one key each
 * @returns {Input}
 */
export function readInput(partition, offset, key, value, headers) {
  const bytes = key ? Buffer.from(key) : Buffer.alloc(0);
  /** @type {Input} */
  const record = { partition, offset, key: bytes, value: value ?? Buffer.alloc(0), entity: "", revision: 0, late: false, deadLetter: null };
  let entity = null;
  for (const header of headers ?? []) {
    for (const name in header) {
      const content = header[name];
      if (content === null || content === undefined) continue;
      if (name === "tillstream-entity") entity = text(content);
      else if (name === "tillstream-revision") record.revision = Number.parseInt(text(content), 10) || 0;
      else if (name === "tillstream-late") record.late = text(content) === "true";
      else if (name === "tillstream-dead-letter") record.deadLetter = Buffer.from(content);
    }
  }
  record.entity = entity ?? bytes.toString();
  return record;
}

/** The event in a record. @param {Input} record */
export function eventOf(record) {
  let raw;
  try {
    raw = JSON.parse(record.value.toString());
  } catch (error) {
    throw new InvalidEvent(`not JSON: ${/** @type {Error} */ (error).message}`);
  }
  if (raw === null || typeof raw !== "object" || Array.isArray(raw)) throw new InvalidEvent("not a JSON object");
  return new TillEvent(raw, record.entity, record.late);
}
