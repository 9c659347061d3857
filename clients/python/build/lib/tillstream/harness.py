"""Tries a plugin without Kafka: feeds events, shows what it publishes, remembers and fails on."""

import json
from collections.abc import Mapping
from typing import Any

from .effects import Later
from .engine import Engine
from .event import Event, Input
from .plugin import Plugin, State


class Harness:
    """One member that owns everything.

    shop = Harness(void_counter, settings={"limit": 3})
    published = shop.feed("pos.basket.item_voided", {"line": 1}, terminal="T0001")
    """

    def __init__(self, plugin: Plugin, settings: Mapping[str, Any] | None = None) -> None:
        self.plugin = plugin
        self.settings: Any = None
        self.published: list[dict[str, Any]] = []
        """Every event published so far, as it stands on the bus."""
        self.failures: list[Exception] = []
        """What the handler raised; each of these events would be a dead letter."""
        self._engine = Engine(plugin)
        self._engine.load(0, {})
        self._offset = 0
        self.set(settings)

    def set(self, settings: Mapping[str, Any] | None) -> None:
        """Other settings, from the next event on; what is left out takes its default."""
        self.settings = self.plugin.read_settings({**self.plugin.default_settings, **(settings or {})})

    def feed(
        self,
        type: str,
        data: Mapping[str, Any] | None = None,
        *,
        terminal: str = "T0001",
        store: str = "S001",
        time: str = "2026-01-05T08:00:00.000Z",
        id: str | None = None,
        entity: str | None = None,
        late: bool = False,
    ) -> list[dict[str, Any]]:
        """Feeds an event of a till and returns what was published for it."""
        event = {
            "specversion": "1.0",
            "id": id or f"{terminal}-{self._offset + 1:06}",
            "source": f"/stores/{store}/terminals/{terminal}",
            "type": type,
            "time": time,
            "data": dict(data or {}),
        }
        return self.feed_event(event, entity=entity, late=late)

    def feed_event(self, event: Mapping[str, Any], *, entity: str | None = None, late: bool = False) -> list[dict[str, Any]]:
        """Feeds a CloudEvent as it stands and returns what was published for it. Types that the plugin did not ask for are
        passed over, as Tillstream does."""
        if event.get("type") not in self.plugin.event_types:
            return []
        whose = entity if entity is not None else self._entity(Event(dict(event)))
        if whose is None:
            return []
        record = Input(0, self._offset, whose.encode(), json.dumps(event).encode(), whose, 1, late, None)
        self._offset += 1
        try:
            failure = self._engine.handle(record, self.settings)
        except Later as later:
            self.failures.append(later)
            return []
        if failure is not None:
            self.failures.append(failure)
        outputs = [output.value for output in self._engine.outputs() if output.topic == "pos.events"]
        self._engine.committed()
        events = [json.loads(value) for value in outputs if value is not None]
        self.published.extend(events)
        return events

    def state(self, entity: str) -> State:
        """What the plugin remembers about an entity."""
        return self._engine.state(0, entity)

    def _entity(self, event: Event) -> str | None:
        """As Tillstream keys events by scope."""
        key = {"employee": "employeeId", "customer": "customerId", "card": "cardToken"}.get(self.plugin.scope)
        found = event.terminal if key is None else event.data.get(key)
        return found if isinstance(found, str) else None
