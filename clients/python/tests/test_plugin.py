"""A plugin as its author sees it: manifest, settings, effects, state, failures."""

import json
import threading
import unittest
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import jsonschema
from tillstream import Event, Harness, Later, Publish, State, derived_id, partition_of, plugin, setting
from tillstream.engine import Engine
from tillstream.event import Input
from tillstream.transactions import within


@dataclass(frozen=True)
class Pause:
    minutes: int = setting(5, minimum=0)


@dataclass(frozen=True)
class Settings:
    share: float = setting(0.5, "Share", "Of all", minimum=0, maximum=1)
    mode: Literal["loud", "quiet"] = "loud"
    tills: list[str] = setting([], "Tills")
    pause: Pause = field(default_factory=Pause)


@plugin("sample", version="1", description="A sample.", scope="employee", event_types=["pos.drawer.opened"], settings=Settings)
def sample(state: State, settings: Settings, event: Event) -> Iterator[Publish]:
    state["opened"] = state.get("opened", 0) + 1
    if event.data.get("reason") == "fail":
        raise ValueError("as asked")
    if event.data.get("reason") == "later":
        raise Later(1)
    if event.data.get("reason") == "forget":
        state.clear()
    yield Publish("plugin.sample.opened", {"mode": settings.mode, "pause": settings.pause.minutes})
    yield Publish("plugin.sample.opened", {"second": True})


class Sample(unittest.TestCase):
    def setUp(self) -> None:
        self.harness = Harness(sample)

    def opened(self, reason: str = "change") -> list[dict[str, object]]:
        return self.harness.feed("pos.drawer.opened", {"employeeId": "E1", "reason": reason})

    def test_the_manifest_follows_from_the_decorator_and_its_defaults_satisfy_its_schema(self) -> None:
        manifest = sample.manifest()
        self.assertEqual(
            sorted(manifest),
            ["defaultSettings", "description", "eventTypes", "name", "protocol", "scope", "settingsSchema", "version"],
        )
        jsonschema.Draft202012Validator.check_schema(manifest["settingsSchema"])
        jsonschema.validate(manifest["defaultSettings"], manifest["settingsSchema"])
        properties = manifest["settingsSchema"]["properties"]
        self.assertEqual(
            properties["share"],
            {"type": "number", "title": "Share", "description": "Of all", "minimum": 0, "maximum": 1, "default": 0.5},
        )
        self.assertEqual(properties["mode"]["enum"], ["loud", "quiet"])
        self.assertEqual(manifest["defaultSettings"]["pause"], {"minutes": 5})

    def test_settings_come_as_the_dataclass_and_hold_from_the_next_event_on(self) -> None:
        self.assertEqual(self.opened()[0]["data"], {"mode": "loud", "pause": 5})
        self.harness.set({"mode": "quiet", "pause": {"minutes": 1}})
        self.assertEqual(self.opened()[0]["data"], {"mode": "quiet", "pause": 1})
        with self.assertRaisesRegex(TypeError, "settings.mode"):
            self.harness.set({"mode": "silent"})

    def test_what_is_published_names_its_cause_and_has_an_id_of_its_own(self) -> None:
        first, second = self.opened()
        source = "/stores/S001/terminals/T0001"
        self.assertEqual(first["id"], derived_id(source, "T0001-000001", "sample", "employee", "E1", 0))
        self.assertEqual(second["id"], derived_id(source, "T0001-000001", "sample", "employee", "E1", 1))
        self.assertEqual(first["causationid"], f"{source}#T0001-000001")
        self.assertEqual(first["correlationid"], first["causationid"])
        self.assertEqual((first["subject"], first["partitionkey"]), (source, "T0001"))

    def test_an_event_that_fails_leaves_no_trace_in_the_state(self) -> None:
        self.opened()
        for reason in ("fail", "later"):
            self.assertEqual(self.opened(reason), [])
            self.assertEqual(self.harness.state("E1"), {"opened": 1})
        self.assertEqual([type(failure) for failure in self.harness.failures], [ValueError, Later])
        self.opened("forget")
        self.assertEqual(self.harness.state("E1"), {})

    def test_an_event_or_a_state_that_no_broker_takes_is_a_failure_of_its_event_alone(self) -> None:
        @plugin("large", version="1", description="", scope="terminal", event_types=["pos.drawer.opened"])
        def large(state: State, settings: object, event: Event) -> Publish | None:
            match event.data["reason"]:
                case "event":
                    return Publish("plugin.large.seen", {"text": "ä" * 131_072})
                case "state":
                    state["text"] = "x" * 900_000
                case "number":
                    return Publish("plugin.large.seen", {"number": float("nan")})
                case "words":
                    raise ValueError("no UTF-8: \ud800")
            return None

        harness = Harness(large)
        for reason in ("event", "state", "number", "words", "none"):
            self.assertEqual(harness.feed("pos.drawer.opened", {"reason": reason}), [])
        self.assertEqual([type(failure) for failure in harness.failures], [ValueError] * 4)
        self.assertIn("at most 262144", str(harness.failures[0]))
        self.assertIn("at most 900000", str(harness.failures[1]))
        self.assertEqual(harness.state("T0001"), {})

    def test_it_makes_no_difference_where_batches_end(self) -> None:
        @plugin("forgetful", version="1", description="", scope="terminal", event_types=["pos.drawer.opened"])
        def forgetful(state: State, settings: object, event: Event) -> Publish:
            state["seen"] = [*state.get("seen", []), (1, 2)]
            state.setdefault(7, 0)  # type: ignore[call-overload]  # a key that JSON makes a text of
            return Publish("plugin.forgetful.saw", {"kinds": [type(pair).__name__ for pair in state["seen"]], "keys": len(state)})

        def run(commits: bool) -> list[bytes | None]:
            engine = Engine(forgetful)
            engine.load(0, {})
            values: list[bytes | None] = []
            for number in range(3):
                event = {"id": f"{number}", "source": "/stores/S001/terminals/T1", "type": "pos.drawer.opened", "time": "2026-01-05T08:00:00Z"}
                record = Input(0, number, b"T1", json.dumps(event).encode(), "T1", 1, False, None)
                self.assertIsNone(engine.handle(record, None))
                if commits or number == 2:
                    values += [output.value for output in engine.outputs() if output.topic == "pos.events"]
                    engine.committed()
            return values

        self.assertEqual(run(commits=True), run(commits=False))

    def test_types_that_are_not_its_own_are_refused(self) -> None:
        @plugin("thief", version="1", description="", scope="terminal", event_types=["pos.drawer.opened"])
        def thief(state: State, settings: object, event: Event) -> Publish:
            return Publish("pos.payment.completed", {})

        harness = Harness(thief)
        self.assertEqual(harness.feed("pos.drawer.opened"), [])
        self.assertIn("pos.payment.completed", str(harness.failures[0]))

    def test_broken_names_are_refused_where_they_are_written(self) -> None:
        for name in ("A", "a", "void_counter", "1st", "x" * 41):
            with self.assertRaises(ValueError):
                plugin(name, version="1", description="", scope="terminal", event_types=["pos.drawer.opened"])(lambda *_: None)

    def test_partitions_are_those_of_the_java_client(self) -> None:
        # Of Kafka's own tests: murmur2("21") is -973932308, murmur2("foobar") -790332482.
        self.assertEqual(partition_of(b"21", 2**31), -973932308 & 0x7FFFFFFF)
        self.assertEqual(partition_of(b"foobar", 2**31), -790332482 & 0x7FFFFFFF)

    def test_a_call_that_never_comes_back_is_left_behind(self) -> None:
        ended = threading.Event()
        with self.assertRaisesRegex(TimeoutError, "the coordinator has not answered within 0.05 s"):
            within(0.05, ended.wait, "the coordinator")
        ended.set()
        done: list[int] = []
        within(60, lambda: done.append(1), "nobody")
        self.assertEqual(done, [1])
        with self.assertRaises(ZeroDivisionError):
            within(60, lambda: 1 // 0, "nobody")


if __name__ == "__main__":
    unittest.main()
