"""The vectors that every implementation of the protocol passes."""

import json
import pathlib
import unittest
from typing import Any

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


if __name__ == "__main__":
    unittest.main()
