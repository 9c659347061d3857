"""Says when a till has voided a number of items in one basket. Run it beside Tillstream: python void_counter.py"""

from collections.abc import Iterator
from dataclasses import dataclass

from tillstream import Event, Publish, State, plugin, setting


@dataclass(frozen=True)
class Settings:
    limit: int = setting(3, "Voids", "From so many voids in one basket on the basket is reported", minimum=1)


@plugin(
    "void-counter",
    version="1.0.0",
    description="Reports a basket with many voided items, once.",
    scope="terminal",
    event_types=["pos.basket.started", "pos.basket.item_voided"],
    settings=Settings,
)
def void_counter(state: State, settings: Settings, event: Event) -> Iterator[Publish]:
    if event.type == "pos.basket.started":
        state.clear()
        return
    state["voids"] = state.get("voids", 0) + 1
    if state["voids"] == settings.limit:
        yield Publish("plugin.void-counter.many_voids", {"basketId": event.data["basketId"], "voids": state["voids"]})


if __name__ == "__main__":
    void_counter.run()
