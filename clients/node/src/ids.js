// What every member computes alike: ids of derived events, and the partition of a key.
import { createHash } from "node:crypto";

/**
 * The id of the `index`-th output that the event (source, id) causes in a plugin for an entity: the first 16 bytes in
 * hexadecimal of the SHA-256 of the parts, each preceded by its length as a 32-bit big-endian integer.
 * @param {string} source @param {string} id @param {string} plugin @param {string} scope @param {string} entity @param {number} index
 * @returns {string}
 */
export function derivedId(source, id, plugin, scope, entity, index) {
  const hash = createHash("sha256");
  for (const part of ["event", source, id, plugin, scope, entity, String(index)]) {
    const bytes = Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    hash.update(length).update(bytes);
  }
  return hash.digest("hex").slice(0, 32);
}

/** The hash by which Java's producer chooses partitions. @param {Uint8Array} key @returns {number} unsigned */
export function murmur2(key) {
  const m = 0x5bd1e995;
  let h = 0x9747b28c ^ key.length;
  const whole = key.length - (key.length % 4);
  for (let at = 0; at < whole; at += 4) {
    let k = key[at] | (key[at + 1] << 8) | (key[at + 2] << 16) | (key[at + 3] << 24);
    k = Math.imul(k, m);
    k = Math.imul(k ^ (k >>> 24), m);
    h = Math.imul(h, m) ^ k;
  }
  let rest = 0;
  for (let at = key.length - 1; at >= whole; at -= 1) rest = (rest << 8) | key[at];
  if (whole < key.length) h = Math.imul(h ^ rest, m);
  h = Math.imul(h ^ (h >>> 13), m);
  return (h ^ (h >>> 15)) >>> 0;
}

/** The partition of a key among so many, as Java's producer and Tillstream choose it. @param {string | Uint8Array} key @param {number} partitions */
export function partitionOf(key, partitions) {
  return (murmur2(typeof key === "string" ? Buffer.from(key) : key) & 0x7fffffff) % partitions;
}
