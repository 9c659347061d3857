"""The plugin's switch and settings, from the messages on `pos.plugins`. No I/O."""

import json
from typing import Any


class Control:
    """The newest message about one plugin. Before there is one, the plugin waits, inactive."""

    __slots__ = ("name", "active", "revision", "settings", "skip_before")

    def __init__(self, name: str) -> None:
        self.name = name
        self.active = False
        self.revision = 0
        self.settings: Any = None
        self.skip_before = 0

    def take(self, key: bytes | None, value: bytes | None) -> bool:
        """Takes a record of the topic; answers whether it changed anything. Other plugins' records and lower revisions do not."""
        if key != self.name.encode():
            return False
        if value is None:  # the plugin was removed
            known = self.revision > 0
            self.__init__(self.name)  # type: ignore[misc]
            return known
        try:
            message = json.loads(value)
            data = message["data"]
            revision, active = data["revision"], data["active"]
            settings, skip_before = data["settings"], data.get("skipBefore", 0)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        if data.get("name", self.name) != self.name or not isinstance(revision, int) or revision <= self.revision:
            return False
        self.active, self.revision = active is True, revision
        self.settings, self.skip_before = settings, skip_before if isinstance(skip_before, int) else 0
        return True

    def effective(self) -> dict[str, Any]:
        """As the shared vectors show it."""
        return {
            "active": self.active,
            "revision": self.revision,
            "settings": self.settings,
            "skipBefore": self.skip_before,
        }
