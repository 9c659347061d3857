"""Input records to output records, with the state in between. No I/O: what it returns is to be committed, or rolled back."""

import json
from dataclasses import dataclass, field
from typing import Any

from .effects import Later
from .event import Event, Input
from .ids import derived_id
from .plugin import Plugin, State

CORRELATION_BYTES_MAX = 511
MESSAGE_BYTES_MAX = 2000
EVENT_BYTES_MAX = 256 * 1024
# What a broker and librdkafka take by default, with room for the key.
STATE_BYTES_MAX = 900_000
_CONTENT_TYPE = [("content-type", b"application/cloudevents+json")]


@dataclass(slots=True)
class Output:
    """A record to produce; `partition` is None where the key decides."""

    topic: str
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    partition: int | None = None


class Engine:
    """States of the partitions that a member owns, and what it decided since the last commit."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._stored: dict[int, dict[str, bytes]] = {}
        # What is not committed yet, as it would be written.
        self._changed: dict[tuple[int, str], bytes] = {}
        self._outputs: list[Output] = []

    def load(self, partition: int, states: dict[str, bytes]) -> None:
        """The states of a partition that was assigned, as they were committed."""
        self._stored[partition] = states

    def drop(self, partition: int) -> None:
        """A partition that went to somebody else."""
        self._stored.pop(partition, None)
        self._changed = {key: state for key, state in self._changed.items() if key[0] != partition}

    def state(self, partition: int, entity: str) -> State:
        """An entity's state as it stands."""
        found = self._changed.get((partition, entity))
        return _decode(self._stored.get(partition, {}).get(entity) if found is None else found)

    def states(self) -> dict[str, State]:
        """All committed states, by entity."""
        return {entity: _decode(state) for states in self._stored.values() for entity, state in states.items()}

    def handle(self, record: Input, settings: Any) -> Exception | None:
        """Applies one record. Answers what the handler raised: then state is as before, and a dead letter is among the outputs.

        `Later` goes through, with the state as before.
        """
        place = (record.partition, record.entity)
        before = self._changed.get(place)
        if before is None:
            before = self._stored.get(record.partition, {}).get(record.entity, b"")
        # As JSON gives it back, also within a batch: the result must not depend on where batches end.
        state = _decode(before)
        try:
            event = record.event()
            published = self._plugin.decide(state, settings, event)
            outputs = [self._event(event, index, effect.type, effect.data) for index, effect in enumerate(published)]
            after = _encode(state)
        except Later:
            raise
        except Exception as error:
            self._outputs.append(self._dead_letter(record, error))
            return error
        self._changed[place] = after
        self._outputs.extend(outputs)
        return None

    def outputs(self) -> list[Output]:
        """Everything to commit: events and dead letters, and the states that changed."""
        name = self._plugin.name
        states = [
            Output(f"pos.plugins.{name}.state", entity.encode(), after or None, partition=partition)
            for (partition, entity), after in self._changed.items()
            if after != self._stored.get(partition, {}).get(entity, b"")
        ]
        return self._outputs + states

    def committed(self) -> None:
        """What was decided is durable now."""
        for (partition, entity), after in self._changed.items():
            states = self._stored.setdefault(partition, {})
            if after:
                states[entity] = after
            else:
                states.pop(entity, None)
        self._changed = {}
        self._outputs = []

    def _event(self, cause: Event, index: int, type: str, data: Any) -> Output:
        name = self._plugin.name
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": derived_id(cause.source, cause.id, name, self._plugin.scope, cause.entity, index),
            "source": f"/plugins/{name}",
            "type": type,
            "time": cause.time,
        }
        terminal_source = cause.terminal_source
        terminal = terminal_source.rsplit("/", 1)[1] if terminal_source else cause.raw.get("partitionkey") or cause.entity
        if terminal_source:
            event["subject"] = terminal_source
        event["partitionkey"] = terminal
        event["causationid"] = cause.name
        correlation = cause.raw.get("correlationid")
        fits = isinstance(correlation, str) and len(correlation.encode()) <= CORRELATION_BYTES_MAX
        event["correlationid"] = correlation if fits else cause.name
        event["datacontenttype"] = "application/json"
        event["data"] = dict(data)
        value = _dumps(event)
        if len(value) > EVENT_BYTES_MAX:
            raise ValueError(f"{type}: an event of {len(value)} bytes, at most {EVENT_BYTES_MAX} are taken")
        return Output("pos.events", terminal.encode(), value, _CONTENT_TYPE)

    def _dead_letter(self, record: Input, error: Exception) -> Output:
        name = self._plugin.name
        message = shortened(f"{type(error).__name__}: {error}", MESSAGE_BYTES_MAX).encode()
        headers = [
            ("plugin", name.encode()),
            ("tillstream-plugin", name.encode()),
            ("reason", b"plugin_failed"),
            ("message", message),
            ("topic", f"pos.plugins.{name}.input".encode()),
            ("partition", str(record.partition).encode()),
            ("offset", str(record.offset).encode()),
            ("tillstream-scope", self._plugin.scope.encode()),
            ("tillstream-entity", record.entity.encode()),
        ]
        if record.dead_letter is not None:
            headers.append(("tillstream-dead-letter", record.dead_letter))
        return Output("pos.deadletters", record.key, record.value, headers)


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def shortened(text: str, bytes_max: int) -> str:
    """The text, or as much of its beginning as fits; what has no UTF-8 becomes a question mark."""
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def _encode(state: State) -> bytes:
    value = _dumps(state) if state else b""
    if len(value) > STATE_BYTES_MAX:
        raise ValueError(f"a state of {len(value)} bytes, at most {STATE_BYTES_MAX} can be kept")
    return value


def _decode(state: bytes | None) -> State:
    if not state:
        return {}
    decoded: State = json.loads(state)
    return decoded
