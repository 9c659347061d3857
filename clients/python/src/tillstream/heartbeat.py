"""The manifest, and the signs of life that the admin shows."""

import json
import os
import pathlib
import secrets
import socket
import threading
from datetime import datetime, timezone
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from .engine import shortened
from .options import Options
from .plugin import Plugin

ERROR_BYTES_MAX = 500


class Heartbeat:
    """Publishes from a thread of its own, so that a slow handler is shown as slow and not as dead."""

    def __init__(self, plugin: Plugin, options: Options) -> None:
        self._plugin, self._options = plugin, options
        self.member = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._lock = threading.Lock()
        self._wake, self._closed = threading.Event(), False
        self._producer = Producer(options.kafka | {"bootstrap.servers": options.brokers, "partitioner": "murmur2", "linger.ms": 0})
        self._state, self._revision = "off", 0
        self._processed = self._errors = 0
        self._error: str | None = None
        # A client of its own: the member's waits inside a rebalance for callbacks, and these for the lock.
        self._edge = Consumer(
            options.kafka | {"bootstrap.servers": options.brokers, "group.id": "unused", "isolation.level": "read_committed"}
        )
        self._places: dict[int, int] = {}
        self._lag = 0
        self._thread: threading.Thread | None = None

    def announce(self) -> None:
        """Publishes the manifest, and begins to give signs of life."""
        manifest = json.dumps(self._plugin.manifest(), ensure_ascii=False).encode()
        self._producer.produce(f"{self._options.topic_prefix}pos.plugins.manifests", manifest, self._plugin.name.encode())
        if self._producer.flush(30) > 0:
            raise TimeoutError("the manifest could not be published")
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """The last sign of life."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)
        self._producer.flush(5)
        self._edge.close()

    def switched(self, state: str, revision: int, error: str | None) -> None:
        """A new state or revision; told at once."""
        with self._lock:
            self._state, self._revision = state, revision
            self._error = _short(error) if error else self._error
        self._wake.set()

    def failing(self, error: str) -> None:
        """Something outside the handler failed."""
        with self._lock:
            self._error = _short(error)
            self._state = "failing" if self._state != "off" else "off"
        self._wake.set()

    def handled(self, failure: Exception | None) -> None:
        """One event was handled, or could not be."""
        self._processed += 1
        if failure is None:
            if self._state == "failing":
                self._state = "running"
            return
        first = self._state != "failing"
        with self._lock:
            self._errors += 1
            self._error = _short(f"{type(failure).__name__}: {failure}")
            self._state = "failing"
        if first:
            self._wake.set()

    def waiting(self, reason: str) -> None:
        """The handler asked for patience."""
        if reason:
            self._error = _short(reason)

    def assigned(self, consumer: Consumer | None, partitions: list[TopicPartition]) -> None:
        """Other partitions are this member's now; without a consumer none are."""
        committed = consumer.committed(partitions, timeout=30) if consumer is not None and partitions else []
        self._places = {place.partition: max(place.offset, 0) for place in committed}

    def committed(self, done: dict[int, int]) -> None:
        """So far the input is done."""
        for number, offset in done.items():
            self._places[number] = max(self._places.get(number, 0), offset)

    def at_end(self, number: int, offset: int) -> None:
        """Where this member has nothing more to read; behind the last record stands the mark of its transaction."""
        if offset - self._places.get(number, 0) <= 1:
            self._places[number] = offset

    def _beat(self) -> None:
        while True:
            self._wake.wait(self._options.heartbeat_seconds)
            self._wake.clear()
            if alive := os.environ.get("TILLSTREAM_ALIVE_FILE"):
                pathlib.Path(alive).touch()
            value = json.dumps(self._snapshot(), ensure_ascii=False).encode()
            try:
                self._producer.produce(f"{self._options.topic_prefix}pos.plugins.heartbeats", value, self._plugin.name.encode())
                self._producer.poll(0)
            except (KafkaException, BufferError):
                pass  # the next one will tell
            if self._closed:
                return

    def _snapshot(self) -> dict[str, Any]:
        self._lag = self._measure()
        with self._lock:
            return {
                "name": self._plugin.name,
                "member": self.member,
                "version": self._plugin.version,
                "state": "off" if self._closed else self._state,
                "revision": self._revision,
                "lag": self._lag,
                "processed": self._processed,
                "errors": self._errors,
                "lastError": self._error,
                "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }

    def _measure(self) -> int:
        topic = f"{self._options.topic_prefix}pos.plugins.{self._plugin.name}.input"
        lag = 0
        try:
            for number, place in list(self._places.items()):
                _, high = self._edge.get_watermark_offsets(TopicPartition(topic, number), timeout=2)
                # One is the mark of the last transaction.
                lag += high - place if high - place > 1 else 0
        except (KafkaException, RuntimeError):
            return self._lag
        return lag


def _short(text: str) -> str:
    return shortened(text, ERROR_BYTES_MAX)
