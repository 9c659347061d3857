"""The member's transactional producer: what a batch publishes and how far its input is done count together.

librdkafka ends a transaction with a request that names the producer and its epoch, but not the transaction. It repeats that request
by itself when the connection breaks or nobody answers, and says nothing of it. The first copy may then arrive late and end the next
transaction: half of it is published, or its head is dropped while its offsets are committed. So a producer begins another transaction
only if the one before ended beyond doubt. Otherwise a new one takes its place, whose start raises the epoch: brokers refuse what comes late.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from .engine import Output
from .options import Options

log = logging.getLogger("tillstream")
PATIENCE_SECONDS = 30.0
COMMIT_TRIES = 5
# librdkafka repeats a request no sooner than this, give or take a fifth, and offsets of a transaction after 500 ms. A step that was
# faster was not repeated.
REPEAT_AFTER_MS = 200
CERTAIN_COMMIT_SECONDS = 0.15
CERTAIN_OFFSETS_SECONDS = 0.4


class Transactions:
    """One producer after the other, under the same transactional id."""

    def __init__(self, options: Options, group: str, member: str) -> None:
        self._prefix = options.topic_prefix
        self._complaints = 0
        self._producer: Producer | None = None
        self._config: dict[str, Any] = options.kafka | {
            "bootstrap.servers": options.brokers,
            "client.id": member,
            "transactional.id": f"{group}.{member}",
            "transaction.timeout.ms": options.transaction_ms,
            "retry.backoff.ms": REPEAT_AFTER_MS,
            "retry.backoff.max.ms": 1000,
            "partitioner": "murmur2",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "compression.type": options.kafka.get("compression.type", "lz4"),
            "error_cb": self._complaint,
        }

    def open(self) -> Producer:
        """The producer; a new one fences its predecessor first, and with it whatever that one may still have under way."""
        if self._producer is None:
            producer = Producer(self._config)
            producer.init_transactions(PATIENCE_SECONDS)
            self._producer = producer
        return self._producer

    def commit(self, outputs: Iterable[Output], offsets: list[TopicPartition], group: object) -> None:
        """Publishes the outputs and commits the offsets in one transaction. After an error the member must begin anew."""
        producer = self.open()
        producer.poll(0)
        self._complaints = 0
        # Whatever happens from here on, this producer goes on only if the end is reached without a doubt.
        self._producer = None
        producer.begin_transaction()
        try:
            for output in outputs:
                self._produce(producer, output)
            # Of all calls this one does not keep to its time-out if the group's coordinator goes away at the wrong moment
            # (librdkafka issue 5456). The next life's producer fences what is left behind here.
            began = time.monotonic()
            within(
                PATIENCE_SECONDS + 5,
                lambda: producer.send_offsets_to_transaction(offsets, group, PATIENCE_SECONDS),
                "the group's coordinator",
            )
            certain = time.monotonic() - began < CERTAIN_OFFSETS_SECONDS
            producer.flush(PATIENCE_SECONDS)
            certain &= _ended(producer)
        except KafkaException as error:
            if error.args[0].txn_requires_abort():
                producer.abort_transaction(PATIENCE_SECONDS)
            raise
        producer.poll(0)
        if certain and self._complaints == 0:
            self._producer = producer
        else:
            log.debug("a transaction was committed, but a request of it may still be under way; a new producer takes over")

    def _produce(self, producer: Producer, output: Output) -> None:
        topic = self._prefix + output.topic
        number = -1 if output.partition is None else output.partition
        while True:
            try:
                producer.produce(topic, output.value, output.key, number, headers=list(output.headers))
                return
            except BufferError:
                producer.poll(0.1)

    def _complaint(self, error: KafkaError) -> None:
        """librdkafka tells of lost connections and requests without an answer."""
        self._complaints += 1
        log.debug("Kafka client: %s", error)


def _ended(producer: Producer) -> bool:
    """Commits; whether it is certain that no request to do so is left under way."""
    for tries in range(COMMIT_TRIES):
        began = time.monotonic()
        try:
            producer.commit_transaction(PATIENCE_SECONDS)
            return tries == 0 and time.monotonic() - began < CERTAIN_COMMIT_SECONDS
        except KafkaException as error:
            if tries == COMMIT_TRIES - 1 or not error.args[0].retriable():
                raise
    return False


def within(seconds: float, call: Callable[[], object], what: str) -> None:
    """Waits for a call that may never come back: after that many seconds it is left behind on its thread, with `TimeoutError`."""
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        error = ended.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"{what} has not answered within {seconds:g} s") from None
    if error is not None:
        raise error
