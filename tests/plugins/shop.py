"""`tillstream serve` on a real broker, with topics of its own, for plugins beside it; nothing outlives the test."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from bus import Bus, until

PARTITIONS = 8
ROOT = pathlib.Path(__file__).parents[2]


class Shop(Bus):
    """Tillstream with its topics; plugins are its members as in `Bus`."""

    def __init__(self, broker, binary, plugin):
        self.broker, self.plugin, self.partitions, self.members = broker, plugin, PARTITIONS, []
        self.prefix = f"shop-{uuid.uuid4().hex[:8]}."
        self.directory = tempfile.TemporaryDirectory()
        self.log = open(os.path.join(self.directory.name, "log"), "w+")
        settings = {
            "BUS__KIND": "kafka",
            "BUS__BROKERS": broker,
            "BUS__GROUP": f"{self.prefix}group",
            "BUS__TOPICPREFIX": self.prefix,
            "BUS__PARTITIONS": str(PARTITIONS),
            "STORE__URL": f"sqlite:{self.directory.name}/store.db",
            "HTTP__BIND": "127.0.0.1:0",
        }
        env = {name: value for name, value in os.environ.items() if not name.upper().startswith("TILLSTREAM__")}
        self.environment = env | {f"TILLSTREAM__{name}": value for name, value in settings.items()}
        self.binary = os.path.abspath(binary)
        self.serve()

    def serve(self):
        """Starts it, at an address of its own."""
        command = [self.binary, "serve"]
        self.process = subprocess.Popen(
            command, cwd=self.directory.name, env=self.environment, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url, f"it does not start: {self.text()[-2000:]}"

    def stop(self):
        """Ends it in good order."""
        self.process.terminate()
        assert self.process.wait(30) == 0, self.text()[-2000:]
        self.process.stdout.close()

    def check(self):
        """What `tillstream check` ends with and finds, by name."""
        command = [self.binary, "check", "--json"]
        ended = subprocess.run(command, cwd=self.directory.name, env=self.environment, stdout=subprocess.PIPE, stderr=self.log, text=True)
        return ended.returncode, {finding["name"]: finding for finding in json.loads(ended.stdout)["checks"]}

    def text(self):
        """What it logged."""
        with open(self.log.name, encoding="utf-8") as log:
            return log.read()

    def end(self):
        """No process outlives its test."""
        super().end()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()
        self.directory.cleanup()

    def call(self, method, path, body=None, content_type="application/json"):
        """An answer, or the status of a refusal."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            return {"status": error.code, "problem": error.read().decode()}

    def shown(self, name):
        """A plugin as the admin shows it; None while it is not known."""
        found = self.call("GET", f"/api/plugins/{name}")
        return None if "problem" in found else found

    def change(self, name, **patch):
        """A change by a manager; answers the new state."""
        changed = self.call("PATCH", f"/api/plugins/{name}", patch, "application/merge-patch+json")
        assert "problem" not in changed, changed
        return changed

    def post(self, events):
        """Events as a till sends them: taken once they are on the bus."""
        for start in range(0, len(events), 500):
            batch = events[start : start + 500]
            answer = self.call("POST", "/api/events", batch, "application/cloudevents-batch+json")
            assert answer.get("accepted") == len(batch), answer

    def has_read_all(self):
        """Whether every event is processed, and what follows from it is on the bus."""
        system = self.call("GET", "/api/system")
        return all(place["lag"] == 0 for place in system["partitions"] if place["topic"] == "pos.events") and not system["delivery"]["outboxRecords"]

    def publish(self, topic, key, value):
        """A record of a program that is not ours."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.broker})
        producer.produce(self.prefix + topic, value, key)
        assert producer.flush(30) == 0

    def published(self, name=None):
        """Everything that a plugin published."""
        source = f"/plugins/{name or self.plugin}"
        return [event for event in super().published() if event["source"] == source]

    def switched_on(self, name, **settings):
        """Waits until a plugin is known, and switches it on."""
        until(f"{name} is shown", lambda: self.shown(name))
        return self.change(name, active=True, **({"settings": settings} if settings else {}))
