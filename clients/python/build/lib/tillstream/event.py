"""An event as a handler sees it, and the input record that it came in."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any


class InvalidEvent(ValueError):
    """An input record that holds no CloudEvent."""


class Event:
    """A CloudEvent. `raw` is all of it; the attributes that plugins use most have names."""

    __slots__ = ("raw", "late", "entity", "id", "source", "type", "time", "data")

    def __init__(self, raw: dict[str, Any], *, entity: str = "", late: bool = False) -> None:
        for name in ("id", "source", "type", "time"):
            if not isinstance(raw.get(name), str) or not raw[name]:
                raise InvalidEvent(f"{name}: a text is needed")
        data = raw.get("data")
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise InvalidEvent("data: an object is needed")
        self.raw = raw
        self.entity = entity
        """The terminal, employee, customer or card that keys the state."""
        self.late = late
        """Whether it came after later events of its till."""
        self.id: str = raw["id"]
        self.source: str = raw["source"]
        self.type: str = raw["type"]
        self.time: str = raw["time"]
        self.data: dict[str, Any] = data

    @property
    def at(self) -> datetime:
        """When it happened."""
        return datetime.fromisoformat(self.time)

    @property
    def name(self) -> str:
        """`source#id`, as `causationid` and `eventIds` name events."""
        return f"{self.source}#{self.id}"

    @property
    def terminal_source(self) -> str | None:
        """`/stores/S001/terminals/T0007` of the terminal that it is about."""
        for text in (self.source, self.raw.get("subject")):
            if isinstance(text, str) and _parts(text) is not None:
                return text
        return None

    @property
    def terminal(self) -> str | None:
        """Id of that terminal."""
        parts = _parts(self.terminal_source or "")
        return parts[1] if parts else None

    @property
    def store(self) -> str | None:
        """Id of its store."""
        parts = _parts(self.terminal_source or "")
        return parts[0] if parts else None

    @property
    def training(self) -> bool:
        """Whether the till was in training mode."""
        return self.raw.get("training") in (True, "true")

    def __repr__(self) -> str:
        return f"Event({self.type} {self.name})"


def _parts(source: str) -> tuple[str, str] | None:
    parts = source.split("/")
    if len(parts) == 5 and parts[0] == "" and parts[1] == "stores" and parts[3] == "terminals" and parts[2] and parts[4]:
        return parts[2], parts[4]
    return None


@dataclass(slots=True)
class Input:
    """A record of `pos.plugins.NAME.input`."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    entity: str
    revision: int
    late: bool
    dead_letter: bytes | None

    @classmethod
    def read(
        cls, partition: int, offset: int, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]
    ) -> "Input":
        """Never fails: what is wrong with the value shows when it is handled."""
        entity = (key or b"").decode(errors="replace")
        record = cls(partition, offset, key or b"", value or b"", entity, 0, False, None)
        for name, content in headers:
            if content is None or not name.startswith("tillstream-"):
                continue
            if name == "tillstream-entity":
                record.entity = content.decode(errors="replace")
            elif name == "tillstream-revision":
                record.revision = int(content) if content.isdigit() else 0
            elif name == "tillstream-late":
                record.late = content == b"true"
            elif name == "tillstream-dead-letter":
                record.dead_letter = content
        return record

    def event(self) -> Event:
        """The event in it."""
        try:
            raw = json.loads(self.value)
        except ValueError as error:
            raise InvalidEvent(f"not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise InvalidEvent("not a JSON object")
        return Event(raw, entity=self.entity, late=self.late)
