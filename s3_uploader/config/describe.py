"""How the type of a key is said in words, for problems and for the reference page."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from s3_uploader.config.schema import Config

_PLAIN = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def expected(kind: Any) -> str:
    """What a key of the type ``kind`` takes, as the object of a sentence: ``a number of at least 0``."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *annotations = get_args(kind)
        limits = [_limit(meta) for meta in annotations if isinstance(meta, Meta)]
        return " ".join([expected(inner), *filter(None, limits)])
    if origin in (Literal, Union, types.UnionType):
        alternatives = _alternatives(kind)
        return " or ".join([", ".join(alternatives[:-1]), alternatives[-1]] if len(alternatives) > 1 else alternatives)
    if origin is list:
        return "a list of strings"
    if origin is dict:
        if get_args(kind)[1] is not str:
            return "an object whose values are objects"
        return "an object whose values are strings"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        required = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
        return "{" + ", ".join(f"{_as_json(name)}: …" for name in required) + "}"
    return _PLAIN[kind]


def choices(kind: Any) -> list[str]:
    """The words among which a key of the type ``kind`` lets choose."""
    if get_origin(kind) is Annotated:
        return choices(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return [choice for choice in get_args(kind) if isinstance(choice, str)]
    if get_origin(kind) in (Union, types.UnionType):
        return [choice for member in get_args(kind) for choice in choices(member)]
    return []


def shown(value: Any) -> str:
    """A value of the configuration as JSON, cut where it is long."""
    try:
        text = _as_json(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _alternatives(kind: Any) -> list[str]:
    """The members of a union, choices one by one; ``None`` is not said: it is the same as leaving the key out."""
    if get_origin(kind) is Literal:
        return [_as_json(choice) for choice in get_args(kind)]
    if get_origin(kind) in (Union, types.UnionType):
        return [part for member in get_args(kind) if member is not type(None) for part in _alternatives(member)]
    return [expected(kind)]


def _limit(meta: Meta) -> str:
    limits = []
    if meta.ge is not None:
        limits.append(f"of at least {_number(meta.ge)}")
    if meta.gt is not None:
        limits.append(f"above {_number(meta.gt)}")
    if meta.le is not None:
        limits.append(f"of at most {_number(meta.le)}" if meta.ge is None else f"and at most {_number(meta.le)}")
    if meta.min_length == 1:
        limits.append("that is not empty")
    if meta.pattern is not None:
        limits.append(f"that matches {meta.pattern}")
    return " ".join(limits)


def _number(value: float) -> str:
    return f"{value:,}"


def _as_json(value: Any) -> str:
    # Only a problem needs it, and a run without problems need not wait for its import.
    import json

    return json.dumps(value)


_BUCKET = "bucket"
_SYNONYM = "s3_bucket"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, short form of the destination included.

    It holds what the types say: names, types, choices, ranges, and which keys go together. That a time zone exists,
    for example, only :func:`~s3_uploader.config.load` finds out.
    """
    (schema,), definitions = msgspec.json.schema_components([Config], ref_template="#/$defs/{name}")
    long_form = definitions["S3Destination"]
    short_form = {name: value for name, value in long_form["properties"].items() if name != "type"}
    short_form[_SYNONYM] = short_form[_BUCKET]
    long_form["properties"][_SYNONYM] = short_form[_BUCKET]
    long_form["required"] = ["type"]
    long_form["oneOf"] = [{"required": [name]} for name in (_BUCKET, _SYNONYM)]
    config = definitions["Config"]
    config["properties"] |= short_form
    config["required"].remove("destination")
    config["oneOf"] = [{"required": [name]} for name in (_BUCKET, _SYNONYM, "destination")]
    # The keys of the short form stand beside base_dir only where there is no long form.
    for definition in definitions.values():
        _allow_units(definition.get("properties", {}))
    config["properties"] |= {
        "$schema": {"type": "string", "description": "Where this schema is, for editors."},
        "$include": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "Files with defaults, over which this file lies. Their paths are relative to it.",
        },
    }
    config["dependentSchemas"] = {"destination": {"properties": dict.fromkeys(short_form, False)}}
    schema["allowTrailingCommas"] = True  # Visual Studio Code then takes them for no mistake
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def _allow_units(properties: dict[str, Any]) -> None:
    """Let durations and sizes be written with their units too."""
    from s3_uploader.config.units import DURATION, SIZE, is_duration, is_size

    for name, schema in properties.items():
        pattern = DURATION if is_duration(name) else SIZE if is_size(name) else None
        if pattern is not None:
            about = {key: value for key, value in schema.items() if key in ("description", "default")}
            plain = {key: value for key, value in schema.items() if key not in about}
            properties[name] = {"anyOf": [plain, {"type": "string", "pattern": pattern}], **about}
