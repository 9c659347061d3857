"""Plugins in other languages beside the built-in ones: Tillstream itself, a real broker, both plugins of `plugins/`.

Needs TILLSTREAM_TEST_KAFKA and TILLSTREAM_BIN; PLUGIN_PYTHON and PLUGIN_NODE run a plugin's file (`scripts/test` sets all of them).
"""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "plugins" / "till-anomaly"))
from bus import item, until
from confluent_kafka.admin import AdminClient, NewTopic
from shop import ROOT, Shop
from tillstream import derived_id

BROKER = os.environ["TILLSTREAM_TEST_KAFKA"]
BINARY = os.environ["TILLSTREAM_BIN"]
PYTHON = os.environ["PLUGIN_PYTHON"].split()
NODE = os.environ.get("PLUGIN_NODE", "node").split()
HERE = pathlib.Path(__file__).parent


class Receiver(http.server.BaseHTTPRequestHandler):
    """A webhook that remembers the keys of what it got."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Idempotency-Key"].strip('"'))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def rig(seed, events, *more):
    """Events of tills at work, in the order in which they are sent."""
    command = [BINARY, "rig", "--stores", "2", "--terminals", "8", "--seed", str(seed), "--events", str(events), *more]
    lines = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


class WithTillstream(unittest.TestCase):
    def shop(self, plugin):
        shop = Shop(BROKER, BINARY, plugin)
        self.addCleanup(shop.end)
        self.members_log = open(os.path.join(shop.directory.name, "members"), "w+")
        self.addCleanup(self.members_log.close)
        return shop

    def start(self, shop, command, **environment):
        return shop.start([str(part) for part in command], self.members_log, **environment)

    def counter(self, shop, language, name="counter"):
        files = {"python": [*PYTHON, HERE / "counter" / "counter.py"], "node": [*NODE, HERE / "counter" / "counter.mjs"]}
        return self.start(shop, files[language], COUNTER_NAME=name)

    def test_a_switch_and_settings_are_obeyed_by_the_next_event_in_both_languages(self):
        for language in ("python", "node"):
            with self.subTest(language):
                shop = self.shop("counter")
                self.counter(shop, language)
                shop.switched_on("counter", every=1, label="a")
                shop.post([item("T0001", 1)])
                until("the event is counted", lambda shop=shop: len(shop.published()) == 1)
                shop.change("counter", settings={"label": "b"})
                shop.post([item("T0001", 2)])
                until("the next one too", lambda shop=shop: len(shop.published()) == 2)
                # While it is off nothing is let through, and it says within a second that it obeys.
                began = time.monotonic()
                off = shop.change("counter", active=False)
                until("it is off", lambda shop=shop: any(b["state"] == "off" and b["revision"] == off["revision"] for b in shop.heartbeats()))
                self.assertLess(time.monotonic() - began, 2, "asking for heartbeats takes a part of that")
                shop.post([item("T0001", 3)])
                shop.change("counter", active=True, settings={"label": "c"}, eligibility={"terminals": ["T0001"]})
                shop.post([item("T0002", 1), item("T0001", 4)])
                until("it goes on", lambda shop=shop: len(shop.published()) == 3)
                found = [(event["causationid"].rsplit("#")[1], event["data"]) for event in shop.published()]
                self.assertEqual(found, [
                    ("T0001-000001", {"count": 1, "label": "a"}),
                    ("T0001-000002", {"count": 2, "label": "b"}),
                    ("T0001-000004", {"count": 3, "label": "c"}),
                ])  # fmt: skip
                alive = [member for member in shop.shown("counter")["members"] if member["alive"]]
                self.assertEqual([member["version"] for member in alive], ["1.0.0"])

    def test_slow_plugins_hold_up_nobody_and_consume_nothing_within_a_second_of_being_switched_off(self):
        tills = [f"T{number:04}" for number in range(1, 21)]
        events = [item(till, number) for number in range(1, 21) for till in tills]
        slow = {"slow-python": "python", "slow-node": "node"}
        shop = self.shop("counter")
        self.counter(shop, "python")
        for name, language in slow.items():
            self.counter(shop, language, name)
            shop.switched_on(name, delayMs=50)
        shop.switched_on("counter")
        shop.post(events)
        until("the quick one has all", lambda: len(shop.published()) == len(events))
        until("the slow ones are at work", lambda: all(shop.done(name) for name in slow))
        for name in slow:
            self.assertLess(len(shop.published(name)), len(events) // 2, "20 s of work cannot be done yet")
        until("their lag is shown", lambda: all(any(m["lag"] > 0 for m in shop.shown(name)["members"]) for name in slow))
        for name in slow:
            shop.change(name, active=False)
        time.sleep(1)
        left_at = [shop.done(name) for name in slow]
        time.sleep(1.5)
        self.assertEqual([shop.done(name) for name in slow], left_at, "a second after they were switched off they still consume")
        for name in slow:
            self.assertLess(len(shop.published(name)), len(events))
            shop.change(name, active=True, settings={"delayMs": 0})
        for name in slow:
            until("it goes on", lambda name=name: len(shop.published(name)) == len(events))
            counts = {}
            for event in shop.published(name):
                counts.setdefault(event["partitionkey"], []).append(event["data"]["count"])
            self.assertEqual(counts, {till: list(range(1, 21)) for till in tills})

    def test_what_a_plugin_cannot_handle_is_a_dead_letter_that_can_be_replayed(self):
        for language in ("python", "node"):
            with self.subTest(language):
                shop = self.shop("counter")
                self.counter(shop, language)
                shop.switched_on("counter")
                shop.post([item("T0001", 1), item("T0001", 2, "FAIL"), item("T0001", 3)])
                until("the others are counted", lambda shop=shop: len(shop.published()) == 2)
                (letter,) = until("it is shown", lambda shop=shop: shop.call("GET", "/api/deadletters")["items"])
                self.assertEqual((letter["plugin"], letter["status"]), ("counter", "open"))
                self.assertIn("told to fail", letter["message"])
                shop.change("counter", settings={"label": "mended"})
                shop.call("POST", f"/api/deadletters/{letter['id']}/replay")
                until("it is counted after all", lambda shop=shop: len(shop.published()) == 3)
                self.assertEqual(shop.published()[-1]["data"], {"count": 3, "label": "mended"})

    def test_a_broken_manifest_and_one_with_the_name_of_a_built_in_are_refused_visibly(self):
        shop = self.shop("counter")
        manifest = {"protocol": 1, "version": "1", "description": "", "scope": "terminal", "eventTypes": ["pos.drawer.opened"],
                    "settingsSchema": {"type": "object"}, "defaultSettings": {}}  # fmt: skip
        shop.publish("pos.plugins.manifests", "fraud-detection", json.dumps({**manifest, "name": "fraud-detection"}))
        shop.publish("pos.plugins.manifests", "broken", json.dumps({**manifest, "name": "broken", "scope": "store"}))
        letters = until("both are dead letters", lambda: len(found := shop.call("GET", "/api/deadletters")["items"]) == 2 and found)
        self.assertEqual({letter["field"] for letter in letters}, {"name", "scope"})
        self.assertIn("scope", shop.shown("broken")["refused"])
        self.assertNotEqual(shop.shown("fraud-detection").get("kind"), "external")

    def test_kills_and_a_second_member_under_load_change_nothing_of_what_is_reported(self):
        from till_anomaly import till_anomaly
        from tillstream import Harness

        events = rig(7, 30_000, "--anomalies", "0.05")
        calm = Harness(till_anomaly)
        for event in events:
            if not event.get("training"):
                calm.feed_event(event)
        self.assertGreater(len(calm.published), 10)
        shop = self.shop("till-anomaly")
        command = [*PYTHON, ROOT / "plugins" / "till-anomaly" / "till_anomaly.py"]
        first = self.start(shop, command)
        shop.switched_on("till-anomaly")
        quarter = len(events) // 4
        shop.post(events[:quarter])
        until("it is at work", lambda: shop.states())
        self.start(shop, command)
        shop.post(events[quarter : 2 * quarter])
        first.kill()
        first.wait()
        shop.post(events[2 * quarter : 3 * quarter])
        self.start(shop, command)
        shop.post(events[3 * quarter :])
        wanted = {event["id"]: event["data"] for event in calm.published}
        until("everything is reported", lambda: len(shop.published()) >= len(wanted), 120)
        until("nothing is left to do", lambda: all(m["lag"] < 2 for m in shop.shown("till-anomaly")["members"] if m["alive"]))
        published = shop.published()
        self.assertEqual(len(published), len({event["id"] for event in published}), "each exactly once")
        self.assertEqual({event["id"]: event["data"] for event in published}, wanted)

    def test_the_webhook_gets_every_recommendation_whatever_is_killed_and_each_is_reported_once(self):
        receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        receiver.keys = []
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        self.addCleanup(receiver.server_close)
        self.addCleanup(receiver.shutdown)
        shop = self.shop("customer-notifier")
        command = [*NODE, ROOT / "plugins" / "customer-notifier" / "index.js"]
        first = self.start(shop, command)
        shop.switched_on("customer-notifier", url=f"http://127.0.0.1:{receiver.server_port}/hook", ratePerSecond=1000)
        events = rig(3, 6_000)
        third = len(events) // 3
        shop.post(events[:third])
        until("it is at work", lambda: receiver.keys)
        self.start(shop, command)
        shop.post(events[third : 2 * third])
        first.kill()
        first.wait()
        self.start(shop, command)
        shop.post(events[2 * third :])
        # What one member that nobody disturbs reports: of each recommendation that it was taken, at the first attempt.
        until("all is recommended", shop.has_read_all)

        def wanted():
            causes = shop.published("purchase-recommender")
            return {
                derived_id(cause["source"], cause["id"], "customer-notifier", "terminal", cause["partitionkey"], 0):
                {"event": f"{cause['source']}#{cause['id']}", "basketId": cause["data"]["basketId"], "attempts": 1, "httpStatus": 204}
                for cause in causes
            }  # fmt: skip

        until("all is delivered", lambda: len(shop.published()) >= len(wanted()) > 0, 120)
        published = shop.published()
        self.assertEqual(len(published), len({event["id"] for event in published}), "each exactly once")
        self.assertEqual({event["id"]: event["data"] for event in published}, wanted())
        self.assertEqual(set(receiver.keys), {event["data"]["event"].rsplit("#")[1] for event in published})

    def test_the_input_is_made_again_if_somebody_deletes_it_and_check_names_it(self):
        shop = self.shop("counter")
        member = self.counter(shop, "python")
        shop.switched_on("counter")
        member.kill()
        shop.stop()
        name = f"{shop.prefix}pos.plugins.counter.input"
        admin = AdminClient({"bootstrap.servers": BROKER})

        def there():
            return name in admin.list_topics(timeout=30).topics

        admin.delete_topics([name])[name].result(30)
        until("it is gone", lambda: not there())
        code, said = shop.check()
        self.assertEqual(code, 0, said)
        self.assertIn("and the topics of counter", said["bus"]["message"])
        until("it is there again", there)
        admin.delete_topics([name])[name].result(30)
        until("it is gone", lambda: not there())
        admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=1)])[name].result(30)
        until("it is there with another count", there)
        code, said = shop.check()
        self.assertEqual((code, said["bus"]["ok"]), (1, False))
        self.assertIn(f"{name} has 3 partitions", said["bus"]["message"])
        admin.delete_topics([name])[name].result(30)
        until("it is gone", lambda: not there())
        shop.serve()
        until("it is there again", there)
        shop.post([item("T0001", 1)])
        until("the event is in it", lambda: len(shop.read("pos.plugins.counter.input")) == 1)


if __name__ == "__main__":
    unittest.main()
