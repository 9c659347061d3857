"""Events by Python's confluent-kafka and by the CloudEvents SDK, against a real broker and `tillstream serve`.

librdkafka, which confluent-kafka wraps, chooses partitions by CRC32 where Java clients and Tillstream use murmur2: most records land
on the wrong partition, and have to be found, appended again to the right one, and applied exactly once there.

Needs TILLSTREAM_TEST_KAFKA (address of a broker) and TILLSTREAM_BIN (the binary); `scripts/test` sets both.
"""

import json
import os
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

BROKER = os.environ["TILLSTREAM_TEST_KAFKA"]
BINARY = os.environ["TILLSTREAM_BIN"]
PARTITIONS = 4
TERMINALS = 24
OPENING = datetime(2026, 1, 5, 8, tzinfo=timezone.utc)
SHIFT = timedelta(minutes=5)
PATIENCE_SECONDS = 90


def murmur2(key: bytes) -> int:
    """Kafka's own hash, written from the Java client's."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    whole = len(key) - len(key) % 4
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    rest = key[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def right_partition(key: bytes) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % PARTITIONS


def until(what, look):
    """Waits until `look` returns something true, and returns it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"after {PATIENCE_SECONDS} s still not: {what}")
        time.sleep(0.1)


class Tillstream:
    """`tillstream serve` on topics of its own; the process does not outlive the test."""

    def __init__(self, directory):
        self.prefix = f"producers-{uuid.uuid4().hex[:8]}."
        self.log = open(os.path.join(directory, "log"), "wb")
        settings = {
            "BUS__KIND": "kafka",
            "BUS__BROKERS": BROKER,
            "BUS__GROUP": f"{self.prefix}group",
            "BUS__TOPICPREFIX": self.prefix,
            "BUS__PARTITIONS": str(PARTITIONS),
            "STORE__URL": f"sqlite:{directory}/store.db",
            "HTTP__BIND": "127.0.0.1:0",
        }
        env = {name: value for name, value in os.environ.items() if not name.upper().startswith("TILLSTREAM__")}
        env.update({f"TILLSTREAM__{name}": value for name, value in settings.items()})
        self.process = subprocess.Popen(
            [os.path.abspath(BINARY), "serve"], cwd=directory, env=env, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            self.stop()
            with open(self.log.name, encoding="utf-8") as log:
                raise AssertionError(f"it does not start: {log.read()[-2000:]}")

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return {"status": error.code}

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def event(terminal, kind, sequence, at, employee):
    attributes = {
        "id": f"{terminal}-{sequence}",
        "source": f"/stores/S001/terminals/{terminal}",
        "type": kind,
        "time": at,
        "datacontenttype": "application/json",
        "sequence": str(sequence),
    }
    return CloudEvent(attributes, {"employeeId": employee})


def by_hand(made):
    """A structured event without any SDK, as a till's own program would write it."""
    attributes = {**made.get_attributes(), "specversion": "1.0", "data": made.get_data()}
    attributes["time"] = attributes["time"].isoformat().replace("+00:00", "Z")
    return KafkaMessage({"content-type": b"application/cloudevents+json"}, None, json.dumps(attributes).encode())


def structured(made):
    return to_structured_event(made)


def binary(made):
    return to_binary_event(made)


def understood(record):
    """A record as the SDK reads it."""
    return from_kafka_event(KafkaMessage(dict(record.headers() or []), record.key(), record.value()))


class Producers(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.tillstream = Tillstream(directory.name)
        self.addCleanup(self.tillstream.stop)
        self.topic = f"{self.tillstream.prefix}pos.events"

    def produce(self, events):
        """Sends events, the ways of writing them in turn; returns the partition that each id was put on."""
        places, faults = {}, []
        producer = Producer({"bootstrap.servers": BROKER})
        ways = [by_hand, structured, binary]
        for terminal, made in events:
            message = ways[int(terminal[1:]) % len(ways)](made)
            id_ = made.get_id()

            def noted(error, record, id_=id_):
                if error is None:
                    places[id_] = record.partition()
                else:
                    faults.append(error)

            headers = list(message.headers.items())
            producer.produce(self.topic, message.value, terminal.encode(), headers=headers, on_delivery=noted)
        self.assertEqual(producer.flush(30), 0, "not everything was delivered")
        self.assertEqual(faults, [])
        return places

    def consume(self):
        """Everything that is on `pos.events`, as any consumer that reads what is committed gets it."""
        settings = {"group.id": "unused", "isolation.level": "read_committed", "enable.auto.commit": False}
        consumer = Consumer({"bootstrap.servers": BROKER, **settings})
        records = []
        try:
            for number in range(PARTITIONS):
                low, high = consumer.get_watermark_offsets(TopicPartition(self.topic, number), timeout=10)
                consumer.assign([TopicPartition(self.topic, number, low)])
                while consumer.position([TopicPartition(self.topic, number)])[0].offset < high:
                    record = consumer.poll(1)
                    if record is None:
                        # Only the marks of transactions are left before the end.
                        break
                    self.assertIsNone(record.error())
                    records.append(record)
        finally:
            consumer.close()
        return records

    def lag(self):
        """What Kafka's own tools would show for the group; None while it has no offsets."""
        group = f"{self.tillstream.prefix}group"
        admin = AdminClient({"bootstrap.servers": BROKER})
        offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result()
        committed = {place.partition: place.offset for place in offsets.topic_partitions if place.topic == self.topic}
        if len(committed) < PARTITIONS or min(committed.values()) < 0:
            return None
        consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "unused"})
        try:
            ends = {n: consumer.get_watermark_offsets(TopicPartition(self.topic, n), timeout=10)[1] for n in committed}
        finally:
            consumer.close()
        return sum(ends[number] - offset for number, offset in committed.items())

    def test_events_of_other_clients_are_understood_and_applied_once_on_the_right_partition(self):
        events = []
        for number in range(TERMINALS):
            terminal, employee = f"T{number:04}", f"E{number:04}"
            events.append((terminal, event(terminal, "pos.employee.logged_in", 1, OPENING, employee)))
            events.append((terminal, event(terminal, "pos.employee.logged_out", 2, OPENING + SHIFT, employee)))
        # Logs in at two tills: a plugin closes the first session and says so on the bus.
        for terminal, minutes in [("T0100", 0), ("T0101", 10)]:
            at = OPENING + timedelta(minutes=minutes)
            events.append((terminal, event(terminal, "pos.employee.logged_in", 1, at, "E9999")))
        places = self.produce(events)
        right = {made.get_id(): right_partition(terminal.encode()) for terminal, made in events}
        misplaced = {id_ for id_, partition in places.items() if partition != right[id_]}
        self.assertGreater(len(misplaced), len(events) / 4, "the partitioners agree, so nothing is shown here")

        def totals():
            return self.tillstream.get("/api/system")["totals"]

        until("all events are applied", lambda: totals()["events"] >= len(events))

        def sessions():
            items = self.tillstream.get("/api/timesheets?from=2026-01-05&to=2026-01-06&limit=1000")["items"]
            closed = {one["employeeId"]: one for one in items if one.get("logoutAt")}
            return closed if len(closed) > TERMINALS else None

        closed = until("every session is closed", sessions)
        for number in range(TERMINALS):
            one = closed[f"E{number:04}"]
            self.assertEqual((one["terminalId"], one["seconds"], one["cause"]), (f"T{number:04}", SHIFT.total_seconds(), "logout"))
        self.assertEqual((closed["E9999"]["terminalId"], closed["E9999"]["cause"]), ("T0100", "login_elsewhere"))
        seen = totals()
        self.assertEqual((seen["events"], seen["duplicates"], seen["deadLetters"]), (len(events), 0, 0))

        def published():
            records = self.consume()
            parsed = [(record, understood(record)) for record in records]
            derived = [made for _, made in parsed if made.get_type() == "pos.employee.auto_logged_out"]
            return parsed if derived else None

        parsed = until("what the plugin published is on the bus", published)
        stands_on = {}
        for record, made in parsed:
            stands_on.setdefault(made.get_id(), []).append(record.partition())
        for id_, partition in right.items():
            expected = sorted([places[id_], partition] if id_ in misplaced else [partition])
            self.assertEqual(sorted(stands_on[id_]), expected, id_)
        derived = [made for _, made in parsed if made.get_type() == "pos.employee.auto_logged_out"]
        self.assertEqual([made.get_data()["employeeId"] for made in derived], ["E9999"])
        self.assertEqual(derived[0].get_source(), "/plugins/employee-time-tracker")
        until("Kafka's own tools show no lag", lambda: self.lag() == 0)


if __name__ == "__main__":
    unittest.main()
