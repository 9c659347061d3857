"""The decorator, and the manifest that follows from it."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from . import schema
from .effects import PLUGIN_TYPES, Publish
from .event import Event

State = dict[str, Any]
"""What a handler remembers about an entity: a JSON object, changed in place; an empty one is forgotten."""

Scope = Literal["terminal", "employee", "customer", "card"]
Outcome = Publish | Iterable[Publish] | None
Handler = Callable[[State, Any, Event], Outcome]

NAME = re.compile(r"[a-z][a-z0-9-]{1,39}")
BUILT_IN = frozenset(
    {"employee-time-tracker", "purchase-recommender", "customer-lookup", "fraud-detection", "age-verification", "order-delivery"}
)


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A handler with what Tillstream has to know of it."""

    name: str
    version: str
    description: str
    scope: Scope
    event_types: tuple[str, ...]
    handler: Handler
    settings_type: type[Any] | None
    settings_schema: Mapping[str, Any]
    default_settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r}: lower-case letters, digits and hyphens, 2 to 40, a letter first")
        if not 1 <= len(self.version.encode()) <= 40:
            raise ValueError("version: 1 to 40 bytes")
        if len(self.description.encode()) > 500:
            raise ValueError("description: at most 500 bytes")
        if self.scope not in ("terminal", "employee", "customer", "card"):
            raise ValueError(f"scope {self.scope!r}: terminal, employee, customer or card")
        if not 1 <= len(self.event_types) <= 64:
            raise ValueError("event_types: 1 to 64")
        if self.name in BUILT_IN:
            raise ValueError(f"name {self.name!r}: a built-in plugin has it")

    def __call__(self, state: State, settings: Any, event: Event) -> Outcome:
        return self.handler(state, settings, event)

    def manifest(self) -> dict[str, Any]:
        """What is published on `pos.plugins.manifests`."""
        return {
            "protocol": 1,
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "scope": self.scope,
            "eventTypes": list(self.event_types),
            "settingsSchema": dict(self.settings_schema),
            "defaultSettings": dict(self.default_settings),
        }

    def read_settings(self, values: Any) -> Any:
        """Settings as the handler gets them; raises TypeError if they are not of its dataclass."""
        if self.settings_type is None:
            return {**self.default_settings, **(values or {})}
        return schema.read(self.settings_type, values if values is not None else dict(self.default_settings))

    def decide(self, state: State, settings: Any, event: Event) -> list[Publish]:
        """What the handler asks for; `state` is changed in place."""
        outcome = self.handler(state, settings, event)
        published = [outcome] if isinstance(outcome, Publish) else list(outcome or ())
        for effect in published:
            if not isinstance(effect, Publish):
                raise TypeError(f"a handler returns Publish, not {type(effect).__name__}")
            if effect.type not in PLUGIN_TYPES and not effect.type.startswith(f"plugin.{self.name}."):
                raise ValueError(
                    f"type {effect.type}: a plugin publishes plugin.{self.name}.… or a pos type that is made for plugins"
                )
        return published

    def run(self, **options: Any) -> None:
        """Runs as a member of this plugin's group until SIGTERM or Ctrl-C; see `tillstream.member.Options` for the options."""
        from .member import Member, Options  # librdkafka is needed here alone, not by the harness

        Member(self, Options.from_environment(**options)).run()


def plugin(
    name: str,
    *,
    version: str,
    description: str,
    scope: Scope,
    event_types: Sequence[str],
    settings: type[Any] | None = None,
    settings_schema: Mapping[str, Any] | None = None,
    default_settings: Mapping[str, Any] | None = None,
) -> Callable[[Handler], Plugin]:
    """Makes a plugin of a function `(state, settings, event)`. Settings are a dataclass, or a JSON Schema with defaults."""
    if settings is not None and settings_schema is not None:
        raise ValueError("settings or settings_schema, not both")
    if settings is not None:
        settings_schema, default_settings = schema.schema_of(settings), schema.defaults_of(settings)
    nothing: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def decorate(handler: Handler) -> Plugin:
        types = tuple(event_types)
        found = settings_schema if settings_schema is not None else nothing
        return Plugin(name, version, description, scope, types, handler, settings, found, default_settings or {})

    return decorate
