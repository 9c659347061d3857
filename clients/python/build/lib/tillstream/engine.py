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
        # What is not committed yet: the state as an object, and its bytes as they would be written.
        self._changed: dict[tuple[int, str], tuple[State, bytes]] = {}
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
        return found[0] if found else _decode(self._stored.get(partition, {}).get(entity))

    def states(self) -> dict[str, State]:
        """All committed states, by entity."""
        return {entity: _decode(state) for states in self._stored.values() for entity, state in states.items()}

    def handle(self, record: Input, settings: Any) -> Exception | None:
        """Applies one record. Answers what the handler raised: then state is as before, and a dead letter is among the outputs.

        `Later` goes through, with the state as before.
        """
        place = (record.partition, record.entity)
        known = self._changed.get(place)
        if known is None:
            before = self._stored.get(record.partition, {}).get(record.entity, b"")
            state = _decode(before)
        else:
            state, before = known
        try:
            event = record.event()
            published = self._plugin.decide(state, settings, event)
            outputs = [self._event(event, index, effect.type, effect.data) for index, effect in enumerate(published)]
            after = _encode(state)
        except Later:
            self._changed[place] = (_decode(before), before)
            raise
        except Exception as error:
            self._changed[place] = (_decode(before), before)
            self._outputs.append(self._dead_letter(record, error))
            return error
        self._changed[place] = (state, after)
        self._outputs.extend(outputs)
        return None

    def outputs(self) -> list[Output]:
        """Everything to commit: events and dead letters, and the states that changed."""
        name = self._plugin.name
        states = [
            Output(f"pos.plugins.{name}.state", entity.encode(), after or None, partition=partition)
            for (partition, entity), (_, after) in self._changed.items()
            if after != self._stored.get(partition, {}).get(entity, b"")
        ]
        return self._outputs + states

    def committed(self) -> None:
        """What was decided is durable now."""
        for (partition, entity), (_, after) in self._changed.items():
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
        return Output("pos.events", terminal.encode(), _dumps(event), _CONTENT_TYPE)

    def _dead_letter(self, record: Input, error: Exception) -> Output:
        name = self._plugin.name
        message = f"{type(error).__name__}: {error}".encode()[:MESSAGE_BYTES_MAX].decode(errors="ignore").encode()
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


def _encode(state: State) -> bytes:
    return _dumps(state) if state else b""


def _decode(state: bytes | None) -> State:
    if not state:
        return {}
    decoded: State = json.loads(state)
    return decoded
