"""Each value by itself, as its key takes it: its type, and its unit."""

from __future__ import annotations

import functools
import os
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from s3_uploader.config.schema import MoveTo

_PATHS = {"base_dir", "claim_dir", "metrics_file", "password_file", "ca_file", "client_certificate_file"}


def convert_fields(
    kind: Any, given: dict[str, Any], prefix: str, problems: list[str], skip: str | None = None
) -> dict[str, Any]:
    """Convert every key by itself, so that one wrong value does not hide the next."""
    values: dict[str, Any] = {}
    hints = hints_of(kind)
    fields = {field.name: field for field in _fields_of(kind) if field.name != skip}
    for name, value in given.items():
        if name not in fields:
            from s3_uploader.config.problems import unknown

            problems.append(f"{prefix}{name}: {unknown(name, list(fields), whole=not prefix)}")
            continue
        inner = _struct_of_values(hints[name])
        if inner is not None and isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
            parts = {
                key: convert_fields(inner, each, f"{prefix}{name}.{key}.", problems) for key, each in value.items()
            }
            values[name] = {key: inner(**fields) for key, fields in parts.items()}
            continue
        try:
            values[name] = _expanded(name, msgspec.convert(_measured(name, value), type=hints[name]), kind)
        except (msgspec.ValidationError, UnicodeError):
            from s3_uploader.config.problems import wrong

            problems.append(f"{prefix}{name}: {wrong(name, value, hints[name])}")
    problems += [
        f"{prefix}{name}: is missing" for name, field in fields.items() if field.required and name not in given
    ]
    return values


@functools.cache
def hints_of(kind: Any) -> dict[str, Any]:
    """The type of each key of a struct, with its limits."""
    return get_type_hints(kind, include_extras=True)


@functools.cache
def _fields_of(kind: Any) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _struct_of_values(hint: Any) -> Any:
    """The struct of the values of an object with free names; ``None`` for every other type."""
    for kind in get_args(hint):
        if get_origin(kind) is dict and issubclass(get_args(kind)[1], msgspec.Struct):
            return get_args(kind)[1]
    return None


def _measured(name: str, value: Any) -> Any:
    """Convert a value with a unit to a number."""
    if not isinstance(value, str) or not value[:1].isdigit():
        return value
    from s3_uploader.config.units import number

    found = number(name, value)
    return value if found is None else found


def _expanded(name: str, value: Any, kind: Any) -> Any:
    """Expand ``~`` in a local path."""
    if isinstance(value, MoveTo):
        return msgspec.structs.replace(value, move_to=os.path.expanduser(value.move_to))
    is_path = name in _PATHS or (name == "path" and kind.__struct_config__.tag == "local")
    return os.path.expanduser(value) if is_path and isinstance(value, str) else value
