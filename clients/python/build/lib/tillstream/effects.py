"""What a handler asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Types of `pos.*` that plugins may publish; everything else of theirs is `plugin.NAME.…`.
PLUGIN_TYPES = frozenset(
    {
        "pos.employee.auto_logged_out",
        "pos.recommendation.made",
        "pos.customer.enriched",
        "pos.customer.lookup_failed",
        "pos.fraud.alert_raised",
        "pos.age.verification_required",
    }
)


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish an event on `pos.events`; id, time, causation and terminal follow from the event that caused it."""

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Later(Exception):
    """Raised by a handler that cannot take this event yet: it stays in the input, and with it what follows on its partition.

    It is handed over again after `seconds`, or as soon as the settings change. It is neither an error nor lost.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason
