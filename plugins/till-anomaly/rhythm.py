"""Running statistics that a few odd values do not move far. All of them are plain numbers in a dict, so that they can be a state."""

import math
from typing import Any


def tail(count: int, expected: float) -> float:
    """How surprising so many occurrences are where so many are expected: -log10 of the Poisson probability of that many or more."""
    if count <= 0:
        return 0.0
    # Terms from `count` on fall quickly, since this is asked where count is above what is expected.
    log_term = count * math.log(max(expected, 1e-12)) - expected - math.lgamma(count + 1)
    total, term = 0.0, 1.0
    for more in range(1, 200):
        total += term
        term *= expected / (count + more)
        if term < 1e-9 * total:
            break
    return max(0.0, -(log_term + math.log(total)) / math.log(10))


def learn_high(known: dict[str, Any], value: float, share: float, memory: int) -> None:
    """Takes a value in: `high` moves towards the value that this share of all lies below, by a step that shrinks to 1/memory.

    Only whether a value lies above or below counts, not how far: one that is a hundred times too large moves it no further.
    """
    seen = known.get("seen", 0) + 1
    logarithm = math.log(value)
    if seen == 1:
        known.update(seen=1, high=logarithm)
        return
    step = 2 / min(seen, memory) ** 0.5
    known["high"] += step * (share if logarithm > known["high"] else share - 1)
    known["seen"] = min(seen, memory)


def times_high(known: dict[str, Any], value: float) -> float:
    """How many times the high value of before."""
    return float(value / math.exp(known["high"])) if known.get("seen") else 0.0
