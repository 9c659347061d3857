"""What every member computes alike: ids of derived events, and the partition of a key."""

import hashlib

_MASK = 0xFFFFFFFF


def derived_id(source: str, id: str, plugin: str, scope: str, entity: str, index: int) -> str:
    """The id of the `index`-th output that the event (`source`, `id`) causes in a plugin for an entity.

    The first 16 bytes in hexadecimal of the SHA-256 of the parts, each preceded by its length as a 32-bit big-endian integer.
    """
    hasher = hashlib.sha256()
    for part in ("event", source, id, plugin, scope, entity, str(index)):
        encoded = part.encode()
        hasher.update(len(encoded).to_bytes(4, "big"))
        hasher.update(encoded)
    return hasher.hexdigest()[:32]


def murmur2(key: bytes) -> int:
    """The hash by which Java's producer chooses partitions."""
    m = 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & _MASK
    whole = len(key) - len(key) % 4
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & _MASK
        k = (k ^ k >> 24) * m & _MASK
        h = h * m & _MASK ^ k
    rest = key[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & _MASK
    h = (h ^ h >> 13) * m & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many, as Java's producer and Tillstream choose it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
