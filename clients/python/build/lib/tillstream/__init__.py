"""Plugins for Tillstream in Python: a decorated function from (state, settings, event) to what follows.

    from tillstream import Event, Publish, State, plugin

    @plugin("void-counter", version="1.0.0", description="Counts voids.", scope="terminal",
            event_types=["pos.basket.item_voided"])
    def void_counter(state: State, settings: Settings, event: Event) -> Publish | None: ...

    if __name__ == "__main__":
        void_counter.run()

The protocol is docs/plugin-protocol.md; `Harness` tries a plugin without Kafka.
"""

from .effects import Later, Publish
from .event import Event, InvalidEvent
from .harness import Harness
from .ids import derived_id, murmur2, partition_of
from .plugin import Plugin, State, plugin
from .schema import setting

__all__ = [
    "Event",
    "Harness",
    "InvalidEvent",
    "Later",
    "Plugin",
    "Publish",
    "State",
    "derived_id",
    "murmur2",
    "partition_of",
    "plugin",
    "setting",
]
