"""The bus as Tillstream keeps it for plugins, for tests of the clients alone: topics, settings, input, and what came of it."""

import json
import pathlib
import queue
import subprocess
import sys
import threading
import time
import uuid

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

PATIENCE_SECONDS = 60


def until(what, look, seconds=PATIENCE_SECONDS):
    """Waits until `look` returns something true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.05)


def item(terminal, number, product="P0001", store="S001"):
    """An item added at a till."""
    return {
        "specversion": "1.0",
        "id": f"{terminal}-{number:06}",
        "source": f"/stores/{store}/terminals/{terminal}",
        "type": "pos.basket.item_added",
        "time": f"2026-01-05T08:{number // 60 % 60:02}:{number % 60:02}.000Z",
        "datacontenttype": "application/json",
        "sequence": number,
        "data": {"basketId": f"{terminal}-B1", "employeeId": "E0001", "line": number, "productId": product, "category": "food",
                 "quantity": 1, "unitPrice": 199, "currency": "EUR"},
    }  # fmt: skip


class Bus:
    """Topics of their own for one plugin."""

    def __init__(self, broker, plugin, partitions=8):
        self.broker, self.plugin, self.partitions = broker, plugin, partitions
        self.prefix = f"plugins-{uuid.uuid4().hex[:8]}."
        self.revision = 0
        self.members = []
        admin = AdminClient({"bootstrap.servers": broker})
        compacted = {"cleanup.policy": "compact"}
        topics = [
            self._new("pos.plugins", 1, compacted),
            self._new("pos.plugins.manifests", 1, compacted),
            self._new("pos.plugins.heartbeats", 1, {}),
            self._new(f"pos.plugins.{plugin}.input", partitions, {}),
            self._new(f"pos.plugins.{plugin}.state", partitions, compacted),
            self._new("pos.events", partitions, {}),
            self._new("pos.deadletters", partitions, {}),
        ]
        for made in admin.create_topics(topics).values():
            made.result(30)
        self._producer = Producer(
            {"bootstrap.servers": broker, "partitioner": "murmur2", "linger.ms": 5, "queue.buffering.max.messages": 2_000_000}
        )

    def _new(self, name, partitions, config):
        return NewTopic(self.prefix + name, num_partitions=partitions, replication_factor=1, config=config)

    def switch(self, active, settings=None, **more):
        """A message on `pos.plugins`."""
        self.revision += 1
        data = {"name": self.plugin, "revision": self.revision, "active": active, "eligibility": {}, "settings": settings or {}, **more}
        event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "/tillstream", "type": "tillstream.plugin.changed", "data": data}
        self._producer.produce(f"{self.prefix}pos.plugins", json.dumps(event), self.plugin)
        assert self._producer.flush(30) == 0

    def feed(self, events, revision=None, **headers):
        """Input records; each event is given with its entity."""
        shared = {"content-type": b"application/cloudevents+json", "tillstream-plugin": self.plugin.encode(), "tillstream-scope": b"terminal"}
        shared["tillstream-revision"] = str(self.revision if revision is None else revision).encode()
        shared.update({name.replace("_", "-"): value.encode() for name, value in headers.items()})
        for entity, event in events:
            value = event if isinstance(event, bytes) else json.dumps(event).encode()
            all_headers = {**shared, "tillstream-entity": entity.encode()}
            while True:
                try:
                    self._producer.produce(f"{self.prefix}pos.plugins.{self.plugin}.input", value, entity, headers=all_headers)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        assert self._producer.flush(60) == 0

    def compressed(self, topic, codec, value, count):
        """Records of one batch that is compressed for sure."""
        producer = Producer({"bootstrap.servers": self.broker, "compression.type": codec, "linger.ms": 500})
        for _ in range(count):
            producer.produce(self.prefix + topic, value, "key")
        assert producer.flush(30) == 0

    def limit(self, topic, record_bytes):
        """The largest batch that the broker takes on a topic."""
        entry = ConfigEntry("max.message.bytes", str(record_bytes), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.prefix + topic, incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": self.broker})
        for changed in admin.incremental_alter_configs([resource]).values():
            changed.result(30)

    def start(self, command, log, **environment):
        """A member of the plugin's group."""
        import os

        env = {**os.environ, "TILLSTREAM_BROKERS": self.broker, "TILLSTREAM_TOPIC_PREFIX": self.prefix, **environment}
        member = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        self.members.append(member)
        return member

    def end(self):
        """No member outlives its test."""
        for member in self.members:
            if member.poll() is None:
                member.kill()
            member.wait()

    def read(self, topic, isolation="read_committed"):
        """Everything on a topic, as any consumer of committed records gets it."""
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": "unused", "isolation.level": isolation,
                             "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"})  # fmt: skip
        name = self.prefix + topic
        records, open_ = [], set()
        try:
            open_ = set(consumer.list_topics(name, timeout=30).topics[name].partitions)
            consumer.assign([TopicPartition(name, number, 0) for number in open_])
            while open_:
                for record in consumer.consume(5000, 1):
                    if record.error() is None:
                        records.append(record)
                    elif record.error().code() == KafkaError._PARTITION_EOF:
                        open_.discard(record.partition())
        finally:
            consumer.close()
        return records

    def count(self, topic="pos.events"):
        """How many committed records there are."""
        return len(self.read(topic))

    def published(self):
        """Every event that the plugin published, in the order of its partition."""
        return [json.loads(record.value()) for record in self.read("pos.events")]

    def states(self):
        """The newest state of each entity."""
        states = {}
        for record in self.read(f"pos.plugins.{self.plugin}.state"):
            states[record.key().decode()] = json.loads(record.value()) if record.value() else None
        return {entity: state for entity, state in states.items() if state is not None}

    def done(self, plugin=None):
        """How far the plugin's group has committed its input, over all partitions."""
        plugin = plugin or self.plugin
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": f"{self.prefix}pos.plugins.{plugin}"})
        places = [TopicPartition(f"{self.prefix}pos.plugins.{plugin}.input", number) for number in range(self.partitions)]
        try:
            return sum(max(place.offset, 0) for place in consumer.committed(places, timeout=30))
        finally:
            consumer.close()

    def heartbeats(self):
        """All signs of life."""
        return [json.loads(record.value()) for record in self.read("pos.plugins.heartbeats")]


class Proxy:
    """`tests/kafka/proxy.py` before the broker: it forwards, and disturbs what it is told to."""

    def __init__(self, broker):
        script = pathlib.Path(__file__).parents[1] / "kafka" / "proxy.py"
        self._process = subprocess.Popen([sys.executable, str(script), broker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._news = queue.Queue()
        threading.Thread(target=lambda: [self._news.put(line.rstrip()) for line in self._process.stdout], daemon=True).start()
        self.address = f"127.0.0.1:{self.hears('listening ')}"

    def does(self, command):
        """Gives a command and waits until it is carried out."""
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self.hears(f"done {command}")

    def hears(self, beginning):
        """Waits for news that begin so, and returns the rest of the line. Other news in between are passed over."""
        while True:
            line = self._news.get(timeout=PATIENCE_SECONDS)
            if line.startswith(beginning):
                return line.removeprefix(beginning)

    def end(self):
        """It does not outlive its test."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
