"""A member of a plugin's group on Kafka: consumes, decides, commits, obeys the switch and says how it is.

One batch at a time: its events, dead letters, states and offsets are one transaction, so a reader of what is committed sees each
exactly once. A member that lost its partitions cannot commit any more: it forgets everything and starts anew.
"""

import logging
import signal
import threading
import time
from collections import deque

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from .control import Control
from .effects import Later
from .engine import Engine
from .event import Input
from .heartbeat import Heartbeat
from .options import Options
from .plugin import Plugin
from .topics import Topics, await_decided
from .transactions import Transactions

__all__ = ["Member", "Options"]

log = logging.getLogger("tillstream")
REVISION_PATIENCE_SECONDS = 10.0
LOOK_SECONDS = 0.05


class _Stop(Exception):
    """The member is to end."""


class Member:
    """Runs until it is told to stop; whatever fails on the way is logged and tried anew."""

    def __init__(self, plugin: Plugin, options: Options) -> None:
        self._plugin = plugin
        self._options = options
        self._stopping = threading.Event()
        self._topics = Topics(plugin.name, options)
        self._heartbeat = Heartbeat(plugin, options)

    def stop(self) -> None:
        """Ends `run` after the batch that is under way; may be called from a signal handler or another thread."""
        self._stopping.set()

    def run(self) -> None:
        """Works until SIGTERM, Ctrl-C or `stop`."""
        if threading.current_thread() is threading.main_thread():
            if not log.handlers and not logging.getLogger().handlers:
                logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stop())
        pause = 0.2
        try:
            while not self._stopping.is_set():
                started = time.monotonic()
                try:
                    _Life(self._plugin, self._options, self._topics, self._heartbeat, self._stopping).run()
                except _Stop:
                    break
                except (KafkaException, TimeoutError) as error:
                    log.warning("%s starts anew: %s", self._plugin.name, error)
                    self._heartbeat.failing(f"starts anew: {error}")
                pause = 0.2 if time.monotonic() - started > 30 else min(pause * 2, 10)
                self._stopping.wait(pause)
        finally:
            self._heartbeat.close()


class _Life:
    """From joining the group to leaving it, or to being thrown out."""

    def __init__(self, plugin: Plugin, options: Options, topics: Topics, heartbeat: Heartbeat, stopping: threading.Event) -> None:
        self._plugin, self._options, self._topics, self._heartbeat, self._stopping = plugin, options, topics, heartbeat, stopping
        self._control = Control(plugin.name)
        self._engine = Engine(plugin)
        self._settings: object = None
        self._unusable: str | None = None
        self._waiting: dict[int, deque[Input]] = {}
        self._held: dict[int, float] = {}
        self._next: dict[int, int] = {}
        self._paused: set[int] = set()
        self._looked = 0.0
        self._turns = 0
        self._group: object = None

    def run(self) -> None:
        self._topics.await_common(self._stopping)
        if not self._stopping.is_set():
            self._heartbeat.announce()
            self._topics.await_own(self._stopping)
        if self._stopping.is_set():
            raise _Stop
        self._settings_reader = self._topics.follow("pos.plugins")
        self._consumer = Consumer(
            self._options.kafka
            | {
                "bootstrap.servers": self._options.brokers,
                "group.id": self._topics.group,
                "client.id": self._heartbeat.member,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "session.timeout.ms": self._options.session_ms,
                "heartbeat.interval.ms": max(500, self._options.session_ms // 5),
                "partition.assignment.strategy": "roundrobin",
                "fetch.wait.max.ms": 100,
            }
        )
        self._transactions = Transactions(self._options, self._topics.group, self._heartbeat.member)
        try:
            self._transactions.open()
            self._look()
            input_topic = self._topics.input
            self._consumer.subscribe([input_topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
            while not self._stopping.is_set():
                self._turn()
        finally:
            self._heartbeat.assigned(None, [])
            # Leaves the group, so that its partitions go to others at once.
            self._consumer.close()
            self._settings_reader.close()

    # The group's decisions

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [place.partition for place in partitions]
        began = time.monotonic()
        # States of a transaction that the owner before had under way show once it is decided; a new one is refused by the group.
        await_decided(consumer, partitions, self._options, self._stopping)
        for number, states in self._topics.read_states(numbers, self._stopping).items():
            self._engine.load(number, states)
            self._waiting[number] = deque()
        consumer.assign(partitions)
        # What the group knows of this member now: a commit after partitions were lost is refused by it.
        self._group = consumer.consumer_group_metadata()
        self._heartbeat.assigned(consumer, partitions)
        log.info("%s: partitions %s, states read in %.1f s", self._plugin.name, sorted(numbers), time.monotonic() - began)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            self._engine.drop(place.partition)
            self._waiting.pop(place.partition, None)
            self._held.pop(place.partition, None)
            self._next.pop(place.partition, None)
        self._paused.clear()
        self._heartbeat.assigned(None, [])

    # The switch and the settings

    def _look(self) -> None:
        """Takes what `pos.plugins` says by now."""
        self._looked = time.monotonic()
        changed = False
        for record in self._settings_reader.read():
            changed |= self._control.take(record.key(), record.value())
        if changed:
            self._held.clear()
            try:
                self._settings, self._unusable = self._plugin.read_settings(self._control.settings), None
            except TypeError as error:
                self._unusable = f"settings of revision {self._control.revision} cannot be used: {error}"
                log.error("%s", self._unusable)
            state = "off" if not self._control.active else "failing" if self._unusable else "running"
            self._heartbeat.switched(state, self._control.revision, self._unusable)
            log.info("%s: %s, revision %d", self._plugin.name, state, self._control.revision)

    def _working(self) -> bool:
        return self._control.active and self._unusable is None

    def _await_revision(self, revision: int) -> None:
        """An event may be here before the settings that let it through are."""
        deadline = time.monotonic() + REVISION_PATIENCE_SECONDS
        while self._control.revision < revision and time.monotonic() < deadline and not self._stopping.is_set():
            self._settings_reader.wait(LOOK_SECONDS)
            self._look()
        if self._control.revision < revision:
            log.warning("revision %d of the settings is not on pos.plugins; going on with %d", revision, self._control.revision)

    # A turn

    def _turn(self) -> None:
        self._look()
        self._pause()
        room = self._options.batch_records - sum(map(len, self._waiting.values()))
        busy = self._working() and any(queue and number not in self._held for number, queue in self._waiting.items())
        for message in self._consumer.consume(max(1, room), 0.0 if busy else LOOK_SECONDS):
            self._take(message)
        if self._working():
            self._batch()

    def _pause(self) -> None:
        now = time.monotonic()
        for number in [number for number, until in self._held.items() if until <= now]:
            del self._held[number]
        wanted = set(self._held) & set(self._waiting) if self._working() else set(self._waiting)
        topic = self._topics.input
        if wanted - self._paused:
            self._consumer.pause([TopicPartition(topic, number) for number in wanted - self._paused])
        if self._paused - wanted:
            self._consumer.resume([TopicPartition(topic, number) for number in self._paused - wanted])
        self._paused = wanted

    def _take(self, message: Message) -> None:
        number, offset, error = message.partition(), message.offset(), message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._heartbeat.at_end(number or 0, offset or 0)
            elif error.fatal() or not error.retriable():
                raise KafkaException(error)
            return
        assert number is not None and offset is not None
        # What was fetched before a rebalance belongs to somebody else now.
        if number not in self._waiting or offset < self._next.get(number, 0):
            return
        self._next[number] = offset + 1
        self._waiting[number].append(Input.read(number, offset, message.key(), message.value(), _headers(message)))

    def _batch(self) -> None:
        """Works on what waits, for a while, and commits it."""
        until = time.monotonic() + self._options.batch_seconds
        done: dict[int, int] = {}
        # Another partition begins each time, so that nobody who is slow keeps the others away.
        self._turns += 1
        numbers = sorted(self._waiting)
        for number in numbers[self._turns % len(numbers) :] + numbers[: self._turns % len(numbers)] if numbers else []:
            queue = self._waiting[number]
            while queue and number not in self._held:
                record = queue[0]
                if record.revision > self._control.revision:
                    self._await_revision(record.revision)
                now = time.monotonic()
                if now > until or self._stopping.is_set():
                    break
                if now - self._looked > LOOK_SECONDS:
                    self._look()
                if not self._working():
                    break
                if record.revision >= self._control.skip_before:
                    try:
                        failure = self._engine.handle(record, self._settings)
                    except Later as later:
                        self._held[number] = time.monotonic() + later.seconds
                        self._heartbeat.waiting(later.reason)
                        break
                    if failure is not None:
                        log.warning("%s cannot handle %s/%d: %r", self._plugin.name, number, record.offset, failure)
                    self._heartbeat.handled(failure)
                queue.popleft()
                done[number] = record.offset + 1
        if done:
            self._commit(done)

    def _commit(self, done: dict[int, int]) -> None:
        offsets = [TopicPartition(self._topics.input, number, offset) for number, offset in done.items()]
        self._transactions.commit(self._engine.outputs(), offsets, self._group)
        self._engine.committed()
        self._heartbeat.committed(done)


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    headers = message.headers() or []
    assert isinstance(headers, list)
    return [(name, content.encode() if isinstance(content, str) else content) for name, content in headers]
