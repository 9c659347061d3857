"""The vectors that every implementation of the protocol passes."""

import json
import pathlib
import unittest
from typing import Any

from tillstream import Event, Harness, Plugin, Publish, State, derived_id, partition_of, plugin
from tillstream.control import Control
from tillstream.event import Input, InvalidEvent

VECTORS = pathlib.Path(__file__).parents[2] / "vectors"


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())
    assert found
    return found


def value_of(case: dict[str, Any]) -> bytes | None:
    if "text" in case:
        return str(case["text"]).encode()
    return None if case["value"] is None else json.dumps(case["value"]).encode()


class Vectors(unittest.TestCase):
    def test_settings(self) -> None:
        for case in vectors("settings.json"):
            with self.subTest(case["name"]):
                control = Control(case["plugin"])
                for message in case["messages"]:
                    control.take(message["key"].encode(), value_of(message))
                self.assertEqual(control.effective(), case["effective"])

    def test_inputs(self) -> None:
        for case in vectors("inputs.json"):
            with self.subTest(case["name"]):
                headers = [(name, text.encode()) for name, text in case["headers"].items()]
                record = Input.read(0, 0, case["key"].encode(), value_of(case), headers)
                if "fails" in case:
                    with self.assertRaisesRegex(InvalidEvent, case["fails"]):
                        record.event()
                    continue
                event = record.event()
                seen = {name: getattr(event, name) for name in case["sees"] if name != "revision"}
                self.assertEqual({**seen, "revision": record.revision}, case["sees"])

    def test_events(self) -> None:
        for case in vectors("events.json"):
            with self.subTest(case["name"]):

                def publish(state: State, settings: Any, event: Event, asked: Any = case["publishes"]) -> list[Publish]:
                    return [Publish(one["type"], one["data"]) for one in asked]

                types = [case["cause"]["type"]]
                decorate = plugin(case["plugin"], version="1", description="", scope=case["scope"], event_types=types)
                harness = Harness(decorate(publish))
                self.assertEqual(harness.feed_event(case["cause"], entity=case["entity"]), case["events"])

    def test_derived_ids(self) -> None:
        for case in vectors("derived-ids.json"):
            cause = case["cause"]
            found = derived_id(cause["source"], cause["id"], case["plugin"], case["scope"], case["entity"], case["n"])
            self.assertEqual(found, case["id"], case)

    def test_partitions(self) -> None:
        for case in vectors("partitions.json"):
            self.assertEqual(partition_of(case["key"].encode(), case["partitions"]), case["partition"], case)

    def test_manifests(self) -> None:
        """Good ones come out as they went in; where the fault is one that a plugin can see itself, it is refused where it is written."""
        seen_here = ("name", "version", "description", "scope", "eventTypes")
        for case in vectors("manifests.json"):
            with self.subTest(case["name"]):
                manifest, fault = case["manifest"], case["fault"]
                if fault is None:
                    self.assertEqual(_plugin(manifest).manifest(), manifest)
                elif fault in seen_here and fault in manifest:
                    with self.assertRaisesRegex(ValueError, "event_types" if fault == "eventTypes" else fault):
                        _plugin(manifest)


def _plugin(manifest: dict[str, Any]) -> Plugin:
    decorate = plugin(
        manifest["name"],
        version=manifest["version"],
        description=manifest["description"],
        scope=manifest["scope"],
        event_types=manifest["eventTypes"],
        settings_schema=manifest["settingsSchema"],
        default_settings=manifest["defaultSettings"],
    )
    return decorate(lambda state, settings, event: None)


if __name__ == "__main__":
    unittest.main()
