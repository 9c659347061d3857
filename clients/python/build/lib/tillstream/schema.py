"""Settings: a dataclass gives the JSON Schema of the form in the admin, and the values come back as that dataclass."""

import dataclasses
import types
import typing
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")
_SIMPLE: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def setting(default: Any, title: str = "", description: str = "", **schema: Any) -> Any:
    """A field of a settings dataclass with what the form should say about it and the limits of JSON Schema.

    share: float = setting(0.1, "Share", "Voids among items", minimum=0, maximum=1)
    """
    words = {"title": title, "description": description}
    metadata = {"schema": {**{word: text for word, text in words.items() if text}, **schema}}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def schema_of(settings: type[Any]) -> dict[str, Any]:
    """The JSON Schema 2020-12 of a dataclass."""
    hints = typing.get_type_hints(settings)
    properties = {}
    required = []
    for field in dataclasses.fields(settings):
        properties[field.name] = {**_type_schema(hints[field.name], field.name), **field.metadata.get("schema", {})}
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        else:
            properties[field.name]["default"] = _plain(_default(field))
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    return schema


def defaults_of(settings: type[Any]) -> dict[str, Any]:
    """The default settings; every field needs a default, since a new plugin starts with them."""
    missing = [
        field.name
        for field in dataclasses.fields(settings)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise TypeError(f"settings need defaults: {', '.join(missing)}")
    return {field.name: _plain(_default(field)) for field in dataclasses.fields(settings)}


def read(settings: type[T], values: Any) -> T:
    """Values as they stand on `pos.plugins`, as that dataclass. Missing keys take their defaults, unknown ones are left out."""
    result = _read(settings, values, "settings")
    assert isinstance(result, settings)
    return result


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _type_schema(hint: Any, name: str) -> dict[str, Any]:
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin is list:
        return {"type": "array", "items": _type_schema(args[0], name)}
    if origin is dict and args[0] is str:
        return {"type": "object", "additionalProperties": _type_schema(args[1], name)}
    if origin in (Union, types.UnionType) and len(args) == 2 and type(None) in args:
        inner = _type_schema(next(arg for arg in args if arg is not type(None)), name)
        return {"anyOf": [inner, {"type": "null"}]}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return schema_of(hint)
    raise TypeError(f"setting {name}: {hint} has no JSON Schema here; give settings_schema and default_settings instead")


def _read(hint: Any, value: Any, path: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise TypeError(f"{path}: an object is needed")
        hints = typing.get_type_hints(hint)
        known = [field.name for field in dataclasses.fields(hint) if field.name in value]
        return hint(**{name: _read(hints[name], value[name], f"{path}.{name}") for name in known})
    if origin is list:
        if not isinstance(value, list):
            raise TypeError(f"{path}: a list is needed")
        return [_read(args[0], item, f"{path}[{place}]") for place, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise TypeError(f"{path}: an object is needed")
        return {key: _read(args[1], item, f"{path}.{key}") for key, item in value.items()}
    if origin in (Union, types.UnionType):
        return None if value is None else _read(next(arg for arg in args if arg is not type(None)), value, path)
    if origin is Literal:
        if value not in args:
            raise TypeError(f"{path}: one of {', '.join(map(str, args))} is needed")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"{path}: {_SIMPLE.get(hint, hint)} is needed")
    return value
