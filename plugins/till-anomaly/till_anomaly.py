"""Till anomaly: learns the rhythm of each till and of the cashiers at it, and reports what deviates, with the figures."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import rhythm
from tillstream import Event, Publish, State, plugin, setting

DEVIATION = "plugin.till-anomaly.deviation"
# What is counted for a cashier, against how many of what, and how often it happens where nothing is known yet.
COUNTED = {
    "voids": ("items", 0.012),
    "drawerOpenings": ("baskets", 0.006),
    "refunds": ("baskets", 0.008),
    "manualDiscounts": ("baskets", 0.02),
}
PRIOR_EXPOSURE = {"items": 400.0, "baskets": 40.0}
OCCURRENCES_MAX = 40


@dataclass(frozen=True)
class Settings:
    warmupBaskets: int = setting(
        10, "Warm-up", "So many baskets at a till are learned from before anything is reported", minimum=0, maximum=10000
    )
    surprise: float = setting(
        4.0,
        "Surprise",
        "Counts (voids, drawer openings, refunds, manual discounts) are reported from odds of 1 to 10 to this power on",
        minimum=1,
        maximum=50,
    )
    basketTimes: float = setting(
        3.0,
        "Basket value",
        "A basket is reported from so many times the value that 98 of 100 baskets of the till stay below",
        minimum=1,
    )
    pauseTimes: float = setting(
        20.0, "Pauses", "A pause between two items is reported from so many times what 98 of 100 at the till stay below", minimum=1
    )
    windowSeconds: int = setting(1800, "Window", "Counts look back so many seconds", minimum=60, maximum=86400)
    cooldownSeconds: int = setting(
        1800, "Cool-down", "The same cashier is reported for the same measure once in so many seconds", minimum=0
    )
    memoryBaskets: int = setting(
        1000, "Memory", "What is older than about so many baskets is forgotten", minimum=50, maximum=100000
    )


@plugin(
    "till-anomaly",
    version="1.0.0",
    description="Learns the rhythm of each till and of the cashiers at it (voids, drawer openings, refunds, discounts, basket values, pauses) "
    "and reports what deviates, with the figures that made it think so.",
    scope="terminal",
    event_types=[
        "pos.age.checked",
        "pos.basket.started",
        "pos.basket.suspended",
        "pos.basket.resumed",
        "pos.basket.item_added",
        "pos.basket.item_voided",
        "pos.basket.subtotal_finalized",
        "pos.discount.applied",
        "pos.refund.completed",
        "pos.drawer.opened",
    ],
    settings=Settings,
)
def till_anomaly(state: State, settings: Settings, event: Event) -> Iterator[Publish]:
    now = event.at.timestamp()
    employee = str(event.data.get("employeeId", ""))
    cashiers = state.setdefault("cashiers", {})
    cashier = cashiers.setdefault(employee, {"windows": {}, "exposure": []})
    cashier["at"] = now
    for name in [name for name, other in cashiers.items() if now - other["at"] > 8 * 3600]:
        del cashiers[name]
    match event.type:
        case "pos.basket.started":
            _expose(state, cashier, now, "baskets", settings)
            state["lastItem"] = None
        case "pos.basket.suspended" | "pos.basket.resumed" | "pos.age.checked":
            state["lastItem"] = None  # what comes now is no pause in scanning
        case "pos.basket.item_added":
            _expose(state, cashier, now, "items", settings)
            yield from _pause(state, settings, event, employee, now)
        case "pos.basket.subtotal_finalized":
            yield from _basket(state, settings, event, employee, now)
        case "pos.basket.item_voided":
            yield from _count(state, settings, event, employee, cashier, "voids", now)
        case "pos.refund.completed":
            yield from _count(state, settings, event, employee, cashier, "refunds", now)
        case "pos.drawer.opened":
            yield from _count(state, settings, event, employee, cashier, "drawerOpenings", now)
        case "pos.discount.applied" if event.data.get("manual"):
            yield from _count(state, settings, event, employee, cashier, "manualDiscounts", now)


def _expose(state: State, cashier: dict[str, Any], now: float, of: str, settings: Settings) -> None:
    """One more basket or item in which something may happen; minutes are precise enough for the window."""
    minute = int(now // 60)
    exposure = cashier["exposure"]
    if not exposure or exposure[-1][0] != minute:
        exposure.append([minute, 0, 0])
        while exposure[0][0] < minute - settings.windowSeconds // 60:
            exposure.pop(0)
    exposure[-1][1 if of == "baskets" else 2] += 1
    learned = state.setdefault("learned", {})
    if of == "baskets":
        state["baskets"] = state.get("baskets", 0) + 1
        # What was counted before fades as baskets go by.
        fade = 1 - 1 / settings.memoryBaskets
        for key in learned:
            learned[key] *= fade
    learned[of] = learned.get(of, 0.0) + 1


def _warm(state: State, settings: Settings) -> bool:
    return bool(state.get("baskets", 0) >= settings.warmupBaskets)


def _count(
    state: State, settings: Settings, event: Event, employee: str, cashier: dict[str, Any], measure: str, now: float
) -> Iterator[Publish]:
    """One more of what is counted: how surprising is the number in the window, by what the till is used to?"""
    of, before = COUNTED[measure]
    window = cashier["windows"].setdefault(measure, [])
    learned = state.setdefault("learned", {})
    while window and (now - window[0][0] > settings.windowSeconds or len(window) > OCCURRENCES_MAX):
        window.pop(0)
    prior = PRIOR_EXPOSURE[of]
    exposure = sum(minute[1 if of == "baskets" else 2] for minute in cashier["exposure"])
    # What is usual is told by what was before this window.
    past = max(0.0, learned.get(measure, 0.0) - sum(weight for _, _, weight in window))
    usual = (past + before * prior) / (max(0.0, learned.get(of, 0.0) - exposure) + prior)
    expected = usual * max(exposure, 1)
    observed = len(window) + 1
    surprise = rhythm.tail(observed, expected) if observed > expected else 0.0
    # What surprises counts less: one bad hour does not become a habit, a habit does.
    weight = 1.0 if surprise < settings.surprise else 0.7
    window.append([now, event.name, weight])
    learned[measure] = learned.get(measure, 0.0) + weight
    quiet = cashier.setdefault("quiet", {})
    if surprise >= settings.surprise and _warm(state, settings) and now >= quiet.get(measure, 0):
        quiet[measure] = now + settings.cooldownSeconds
        yield Publish(
            DEVIATION,
            {
                "measure": measure,
                "employeeId": employee,
                "terminalId": event.terminal,
                "observed": observed,
                "expected": round(expected, 2),
                "among": {of: exposure},
                "surprise": round(surprise, 1),
                "windowSeconds": settings.windowSeconds,
                "learnedFromBaskets": state.get("baskets", 0),
                "eventIds": [name for _, name, _ in window],
                "message": f"{observed} {measure} among {exposure} {of}, where {expected:.1f} are usual: odds of 1 to 10^{surprise:.0f}",
            },
        )


def _basket(state: State, settings: Settings, event: Event, employee: str, now: float) -> Iterator[Publish]:
    """A basket's value among those of this till."""
    total = event.data.get("total")
    if not isinstance(total, (int, float)) or total <= 0:
        return
    yield from _value(state, settings, event, employee, "basketValue", float(total), settings.basketTimes, now)


def _pause(state: State, settings: Settings, event: Event, employee: str, now: float) -> Iterator[Publish]:
    """The pause since the item before in the same basket."""
    last, state["lastItem"] = state.get("lastItem"), now
    if last is not None and now > last:
        yield from _value(state, settings, event, employee, "pauseSeconds", now - last, settings.pauseTimes, now)


def _value(
    state: State, settings: Settings, event: Event, employee: str, measure: str, value: float, limit: float, now: float
) -> Iterator[Publish]:
    known = state.setdefault(measure, {})
    times = rhythm.times_high(known, value)
    if times >= limit and _warm(state, settings):
        high = math.exp(known["high"])
        yield Publish(
            DEVIATION,
            {
                "measure": measure,
                "employeeId": employee,
                "terminalId": event.terminal,
                "observed": round(value, 1),
                "expected": round(high, 1),
                "times": round(times, 1),
                "learnedFromBaskets": state.get("baskets", 0),
                "eventIds": [event.name],
                "message": f"{measure} {value:.0f}, where 98 of 100 stay below {high:.0f}: {times:.1f} times as much",
            },
        )
    rhythm.learn_high(known, value, 0.98, settings.memoryBaskets if measure == "basketValue" else settings.memoryBaskets * 10)


if __name__ == "__main__":
    till_anomaly.run()
