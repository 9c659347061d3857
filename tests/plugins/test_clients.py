"""The clients alone against a real broker, the same tests for each language.

Needs TILLSTREAM_TEST_KAFKA; PLUGIN_PYTHON and PLUGIN_NODE are the commands that run a plugin's file (`scripts/test` sets them).
"""

import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from bus import Bus, Proxy, item, until

BROKER = os.environ["TILLSTREAM_TEST_KAFKA"]
HERE = pathlib.Path(__file__).parent
# `AddOffsetsToTxn`: by then what a batch publishes is on the broker, and the offsets of its input are not.
BEFORE_THE_OFFSETS = 25
# Kafka's codes for a producer of an epoch that is over.
FENCED = {"47", "90"}


class Common:
    """What holds for a client in any language."""

    command: list

    def setUp(self):
        self.bus = Bus(BROKER, "counter")
        self.addCleanup(self.bus.end)
        self.log = open(os.path.join(tempfile.gettempdir(), f"{self.id()}.log"), "w+")
        self.addCleanup(self.log.close)

    def member(self):
        return self.bus.start(self.command, self.log)

    def until(self, what, look):
        """Waits for that; a member that ended by itself ends the wait."""

        def checked():
            ended = [member.returncode for member in self.bus.members if member.poll() not in (None, -signal.SIGKILL)]
            self.assertEqual(ended, [], f"a member ended by itself; see {self.log.name}")
            return look()

        return until(what, checked)

    def everything(self, count):
        """Waits for so many published events and returns them; more than that would be a fault."""
        self.until(f"{count} events are published", lambda: self.bus.count() >= count)
        published = self.bus.published()
        self.assertEqual(len(published), count)
        self.assertEqual(len({event["id"] for event in published}), count)
        return published

    def beat(self, what, holds):
        """Waits for a heartbeat of which that holds."""
        return self.until(what, lambda: next((beat for beat in self.bus.heartbeats() if holds(beat)), None))

    def test_the_switch_and_the_settings_are_obeyed_by_the_next_event(self):
        self.member()
        self.beat("it says that it is off", lambda beat: beat["state"] == "off")
        (manifest,) = self.bus.read("pos.plugins.manifests")
        self.assertEqual(json.loads(manifest.value())["name"], "counter")
        self.bus.switch(True, {"every": 1, "label": "a"})
        self.bus.feed([("T0001", item("T0001", 1))])
        (first,) = self.everything(1)
        self.assertEqual(first["data"], {"count": 1, "label": "a"})
        self.assertEqual(first["source"], "/plugins/counter")
        self.assertEqual(first["subject"], "/stores/S001/terminals/T0001")
        self.assertEqual(first["partitionkey"], "T0001")
        self.assertEqual(first["causationid"], "/stores/S001/terminals/T0001#T0001-000001")
        self.bus.switch(True, {"every": 1, "label": "b"})
        self.bus.feed([("T0001", item("T0001", 2))])
        self.assertIn({"count": 2, "label": "b"}, [event["data"] for event in self.everything(2)])
        self.bus.switch(False, {"every": 1, "label": "c"})
        self.beat("it says that it obeys", lambda beat: beat["state"] == "off" and beat["revision"] == 3)
        self.bus.feed([("T0001", item("T0001", number)) for number in (3, 4)])
        self.beat("it says what waits", lambda beat: beat["state"] == "off" and beat["lag"] == 2)
        self.assertEqual(self.bus.count(), 2)
        self.bus.switch(True, {"every": 1, "label": "d"})
        self.assertEqual([event["data"]["count"] for event in self.everything(4)], [1, 2, 3, 4])
        self.assertEqual(self.bus.states(), {"T0001": {"count": 4}})

    def test_it_touches_a_file_as_long_as_it_lives_and_ends_well_when_it_is_told_to(self):
        with tempfile.TemporaryDirectory() as folder:
            alive = pathlib.Path(folder, "alive")
            member = self.bus.start(self.command, self.log, TILLSTREAM_ALIVE_FILE=str(alive))
            self.until("the file is there", alive.exists)
            member.terminate()
            self.assertEqual(member.wait(15), 0)

    def test_what_lies_below_the_revision_to_skip_to_is_passed_over(self):
        self.bus.switch(False)
        self.bus.feed([("T0001", item("T0001", number)) for number in (1, 2)])
        self.bus.switch(True, {"every": 1, "label": ""}, whileOff="skip", skipBefore=2)
        self.bus.feed([("T0001", item("T0001", 3))])
        self.member()
        (only,) = self.everything(1)
        self.assertTrue(only["causationid"].endswith("T0001-000003"), only)
        self.assertEqual(only["data"]["count"], 1)

    def test_an_event_waits_for_the_settings_that_let_it_through(self):
        self.bus.switch(True, {"every": 1, "label": "old"})
        self.member()
        self.bus.feed([("T0001", item("T0001", 1))])
        self.everything(1)
        self.bus.feed([("T0001", item("T0001", 2))], revision=2)
        self.bus.switch(True, {"every": 1, "label": "new"})
        self.assertIn({"count": 2, "label": "new"}, [event["data"] for event in self.everything(2)])

    def test_what_it_cannot_handle_becomes_a_dead_letter_and_holds_up_nothing(self):
        self.bus.switch(True, {"every": 1, "label": ""})
        self.member()
        self.bus.feed([("T0001", item("T0001", 1)), ("T0001", item("T0001", 2, "FAIL")), ("T0001", b"no event")])
        self.bus.feed([("T0001", item("T0001", 3, "FAIL"))], tillstream_dead_letter="D7")
        self.bus.feed([("T0001", item("T0001", 4))])
        self.assertEqual([event["data"]["count"] for event in self.everything(2)], [1, 2])
        letters = self.bus.read("pos.deadletters")
        self.assertEqual([letter.key() for letter in letters], [b"T0001"] * 3)
        self.assertEqual(json.loads(letters[0].value()), item("T0001", 2, "FAIL"))
        self.assertEqual(letters[1].value(), b"no event")
        headers = dict(letters[0].headers())
        self.assertIn(b"told to fail", headers.pop("message"))
        partition = str(next(r.partition() for r in self.bus.read("pos.plugins.counter.input"))).encode()
        self.assertEqual(headers, {
            "plugin": b"counter", "tillstream-plugin": b"counter", "reason": b"plugin_failed", "topic": b"pos.plugins.counter.input",
            "partition": partition, "offset": b"1", "tillstream-scope": b"terminal", "tillstream-entity": b"T0001",
        })  # fmt: skip
        self.assertEqual(dict(letters[2].headers())["tillstream-dead-letter"], b"D7")
        beat = self.beat("it counts what failed", lambda beat: beat["errors"] == 3 and beat["processed"] == 5 and beat["lag"] == 0)
        self.assertEqual(beat["state"], "running")

    def test_what_it_puts_off_waits_for_other_settings_and_only_its_partition_with_it(self):
        self.bus.switch(True, {"every": 1, "label": ""})
        self.member()
        others = [f"T{number:04}" for number in range(2, 20)]
        self.bus.feed([("T0001", item("T0001", 1, "LATER")), ("T0001", item("T0001", 2))])
        self.bus.feed([(till, item(till, 1)) for till in others])
        self.until("other partitions go on", lambda: self.bus.count() >= 10)
        self.assertNotIn("T0001", {event["partitionkey"] for event in self.bus.published()})
        self.bus.switch(True, {"every": 1, "label": "now"})
        published = self.everything(20)
        self.assertEqual([event["data"]["count"] for event in published if event["partitionkey"] == "T0001"], [1, 2])

    def behind_a_proxy(self):
        """A member that reaches the broker through a proxy, and has settled."""
        proxy = Proxy(BROKER)
        self.addCleanup(proxy.end)
        self.bus.switch(True, {"every": 1, "label": ""})
        self.bus.start(self.command, self.log, TILLSTREAM_BROKERS=proxy.address)
        self.bus.feed([("T0001", item("T0001", 1))])
        self.everything(1)
        return proxy

    def goes_on_unharmed(self, proxy, kind, count):
        """The end of a transaction that was kept arrives in the middle of the next one, and nothing comes of it."""
        proxy.does(f"release-before {BEFORE_THE_OFFSETS}")
        self.bus.feed([("T0001", item("T0001", count))])
        self.assertIn(proxy.hears(f"released {kind} "), FENCED, "a new epoch protects the member")
        published = self.everything(count)
        self.assertEqual([event["data"]["count"] for event in published], list(range(1, count + 1)))
        self.until("the states tell the same", lambda: self.bus.states() == {"T0001": {"count": count}})

    def test_a_late_commit_does_not_reach_the_next_transaction(self):
        proxy = self.behind_a_proxy()
        proxy.does("hold commit")
        self.bus.feed([("T0001", item("T0001", 2))])
        proxy.hears("held commit ")
        self.everything(2)
        self.goes_on_unharmed(proxy, "commit", 3)

    def test_a_late_abort_does_not_reach_the_next_transaction(self):
        proxy = self.behind_a_proxy()
        proxy.does("hold abort")
        self.bus.limit("pos.events", 100)
        self.bus.feed([("T0001", item("T0001", 2))])
        proxy.hears("held abort ")
        self.bus.limit("pos.events", 1_000_000)
        self.until("the member has begun anew", lambda: self.bus.count() == 2)
        self.goes_on_unharmed(proxy, "abort", 3)

    def test_settings_that_cannot_be_decoded_keep_no_later_ones_from_being_seen(self):
        proxy = Proxy(BROKER)
        self.addCleanup(proxy.end)
        proxy.does("spoil settings")
        self.bus.compressed("pos.plugins", "gzip", "again and again " * 50, 3)
        self.bus.start(self.command, self.log, TILLSTREAM_BROKERS=proxy.address)
        self.bus.switch(True, {"every": 1, "label": ""})
        self.beat("it runs", lambda beat: beat["state"] == "running")

    def test_killed_paused_and_joined_in_the_middle_of_load_the_result_is_that_of_a_calm_run(self):
        tills = [f"T{number:04}" for number in range(1, 41)]
        events = [(till, item(till, number)) for number in range(1, 251) for till in tills]
        self.bus.switch(True, {"every": 1, "label": ""})
        first = self.member()
        self.beat("it runs", lambda beat: beat["state"] == "running")
        quarter = len(events) // 4
        self.bus.feed(events[:quarter])
        self.until("it is at work", lambda: self.bus.count() > 0)
        second = self.member()
        self.bus.feed(events[quarter : 2 * quarter])
        first.kill()
        first.wait()
        third = self.member()
        self.bus.feed(events[2 * quarter : 3 * quarter])
        self.until("the others go on", lambda: self.bus.count() > 2 * quarter)
        # Longer than the group waits: its partitions go to others, and what it still holds must not count any more.
        third.send_signal(signal.SIGSTOP)
        self.bus.feed(events[3 * quarter :])
        time.sleep(12)
        third.send_signal(signal.SIGCONT)
        published = self.everything(len(events))
        counts = {}
        for event in published:
            counts.setdefault(event["partitionkey"], []).append(event["data"]["count"])
        self.assertEqual(counts, {till: list(range(1, 251)) for till in tills})
        self.assertEqual(self.bus.states(), {till: {"count": 250} for till in tills})
        for member in (second, third):
            member.terminate()
            self.assertEqual(member.wait(15), 0)


class Python(Common, unittest.TestCase):
    command = [*os.environ.get("PLUGIN_PYTHON", "").split(), str(HERE / "counter" / "counter.py")]


if os.environ.get("PLUGIN_NODE"):

    class Node(Common, unittest.TestCase):
        command = [*os.environ["PLUGIN_NODE"].split(), str(HERE / "counter" / "counter.mjs")]


if __name__ == "__main__":
    unittest.main()
