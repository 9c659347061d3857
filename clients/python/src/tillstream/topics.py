"""The topics around a plugin: waits for them, follows the settings, reads states back."""

import logging
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from .options import Options

log = logging.getLogger("tillstream")
# The client has the bytes of a batch and cannot make records of them: damaged, or of a codec that it does not know.
_UNDECODABLE = {KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED, KafkaError._BAD_MSG}


class Follower:
    """Reads one topic with a single partition from its beginning, and goes on with what is added."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer, self._topic = consumer, topic
        self._read: list[Message] = []
        self._skipped = 0
        consumer.assign([TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + 30
        while not self._poll(0.1):
            if time.monotonic() > deadline:
                consumer.close()
                raise TimeoutError(f"{topic} cannot be read")

    def read(self) -> list[Message]:
        """What came since the last time; never waits."""
        self._poll(0)
        read, self._read = self._read, []
        return read

    def wait(self, seconds: float) -> None:
        """Waits for more."""
        self._poll(seconds)

    def close(self) -> None:
        """Ends the connection."""
        self._consumer.close()

    def _poll(self, seconds: float) -> bool:
        """Whether the end was reached."""
        ended = False
        for message in self._consumer.consume(1000, seconds):
            error = message.error()
            if error is None:
                self._read.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended = True
            elif error.code() in _UNDECODABLE:
                self._pass_over(message.offset() or 0, error)
                return False
            elif error.fatal():
                raise KafkaException(error)
        return ended

    def _pass_over(self, offset: int, error: KafkaError) -> None:
        """One record that cannot be decoded must not keep every later one from being seen. How far a batch reaches only trying tells."""
        self._skipped = max(self._skipped + 1, offset + 1)
        log.warning("%s: what lies at offset %d cannot be decoded and is passed over: %s", self._topic, offset, error)
        self._consumer.seek(TopicPartition(self._topic, 0, self._skipped))


class Topics:
    """Names, existence and content of the topics of one plugin."""

    def __init__(self, plugin: str, options: Options) -> None:
        self._options = options
        prefix = options.topic_prefix
        self.group = f"{prefix}pos.plugins.{plugin}"
        self.input = f"{prefix}pos.plugins.{plugin}.input"
        self._state = f"{prefix}pos.plugins.{plugin}.state"
        self._common = [
            prefix + name
            for name in ("pos.plugins.manifests", "pos.plugins.heartbeats", "pos.plugins", "pos.events", "pos.deadletters")
        ]

    def await_common(self, stopping: threading.Event) -> None:
        """Waits until Tillstream has made the topics that do not depend on the plugin."""
        self._await(self._common, stopping)

    def await_own(self, stopping: threading.Event) -> None:
        """Waits until Tillstream has accepted the manifest and made the plugin's input; makes the topic for states."""
        admin = self._await([self.input], stopping)
        if not stopping.is_set():
            present = admin.list_topics(timeout=10).topics
            self._make_state(admin, len(present[self.input].partitions), self._state in present)

    def _await(self, topics: list[str], stopping: threading.Event) -> AdminClient:
        admin = AdminClient(self._options.kafka | {"bootstrap.servers": self._options.brokers})
        told = False
        while not stopping.is_set():
            try:
                present = admin.list_topics(timeout=10).topics
            except KafkaException as error:
                log.warning("Kafka at %s does not answer: %s", self._options.brokers, error)
                stopping.wait(1)
                continue
            missing = [name for name in topics if name not in present]
            if not missing:
                break
            if not told:
                log.info("waiting until Tillstream has made %s", ", ".join(missing))
                told = True
            stopping.wait(0.5)
        return admin

    def _make_state(self, admin: AdminClient, partitions: int, present: bool) -> None:
        if present:
            return
        config = {"cleanup.policy": "compact"}
        made = admin.create_topics([NewTopic(self._state, num_partitions=partitions, replication_factor=-1, config=config)])
        try:
            made[self._state].result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        deadline = time.monotonic() + 30
        while self._state not in admin.list_topics(timeout=10).topics:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._state} was made but does not show")
            time.sleep(0.1)

    def _reader(self, isolation: str = "read_committed") -> Consumer:
        return Consumer(
            self._options.kafka
            | {
                "bootstrap.servers": self._options.brokers,
                "group.id": self.group,  # needed by the client; nothing is ever committed here
                "enable.auto.commit": False,
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )

    def follow(self, topic: str) -> Follower:
        """Follows a topic with one partition; returns once it was read to its end."""
        return Follower(self._reader(), self._options.topic_prefix + topic)

    def read_states(self, numbers: list[int], stopping: threading.Event) -> dict[int, dict[str, bytes]]:
        """All committed states of these partitions.

        Reads to the end as it is for readers of everything: where a transaction of the owner before is still open, what is committed
        behind it shows only when the broker has ended it.
        """
        states: dict[int, dict[str, bytes]] = {number: {} for number in numbers}
        if not numbers:
            return states
        edge = self._reader("read_uncommitted")
        reader = self._reader()
        try:
            ends: dict[int, int] = {}
            for number in numbers:
                low, high = edge.get_watermark_offsets(TopicPartition(self._state, number), timeout=30)
                if high > low:
                    ends[number] = high
            reader.assign([TopicPartition(self._state, number, 0) for number in ends])
            deadline = time.monotonic() + 120 + self._options.transaction_ms / 1000
            while ends and not stopping.is_set():
                for message in reader.consume(10_000, 0.2):
                    self._take_state(message, states, ends)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"states of partitions {sorted(ends)} cannot be read to their end")
        finally:
            edge.close()
            reader.close()
        return states

    def _take_state(self, message: Message, states: dict[int, dict[str, bytes]], ends: dict[int, int]) -> None:
        number, offset, error = message.partition(), message.offset(), message.error()
        assert number is not None and offset is not None
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                if offset >= ends.get(number, 0):
                    ends.pop(number, None)
            elif error.fatal():
                raise KafkaException(error)
            return
        entity, state = (message.key() or b"").decode(), message.value()
        if state:
            states[number][entity] = state
        else:
            states[number].pop(entity, None)
        if offset + 1 >= ends.get(number, offset + 2):
            ends.pop(number, None)


def await_decided(consumer: Consumer, partitions: list[TopicPartition], options: Options, stopping: threading.Event) -> None:
    """Waits until no transaction is open that moves the group's offsets of these partitions. The consumer reads committed only, so
    the broker names an offset as unstable until the transaction of the owner before has ended and its offsets are in the group's
    memory (KAFKA-17507)."""
    deadline = time.monotonic() + 120 + options.transaction_ms / 1000
    while partitions and not stopping.is_set():
        committed = consumer.committed(partitions, timeout=30)
        unstable = [place.partition for place in committed if place.error is not None]
        if not unstable:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the offsets of partitions {sorted(unstable)} are not decided: {committed[0].error}")
        stopping.wait(0.1)
