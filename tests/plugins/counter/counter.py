"""The smallest plugin with a state: counts, publishes every so many, fails or takes its time when it is told to."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tillstream import Event, Later, Publish, State, plugin, setting


@dataclass(frozen=True)
class Settings:
    every: int = setting(1, "Every", "So many events make one report", minimum=1)
    label: str = setting("", "Label")
    delayMs: int = setting(0, "Delay", "Milliseconds that each event takes", minimum=0)


@plugin(
    os.environ.get("COUNTER_NAME", "counter"),
    version="1.0.0",
    description="Counts the items of each till.",
    scope="terminal",
    event_types=["pos.basket.item_added"],
    settings=Settings,
)
def counter(state: State, settings: Settings, event: Event) -> Iterator[Publish]:
    if settings.delayMs > 0:
        time.sleep(settings.delayMs / 1000)
    state["count"] = state.get("count", 0) + 1
    if event.data.get("productId") == "FAIL" and settings.label != "mended":
        raise ValueError("told to fail")
    if event.data.get("productId") == "LATER" and settings.label != "now":
        raise Later(60, "told to wait")
    if state["count"] % settings.every == 0:
        yield Publish(f"plugin.{counter.name}.counted", {"count": state["count"], "label": settings.label})


if __name__ == "__main__":
    counter.run()
