"""Describes the types of keys in words, for problems and for the reference page."""

from __future__ import annotations

import json
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

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
        return "{" + ", ".join(f"{json.dumps(name)}: …" for name in required) + "}"
    return _PLAIN[kind]


def choices(kind: Any) -> list[str]:
    """The strings that a key of the type ``kind`` allows."""
    if get_origin(kind) is Annotated:
        return choices(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return [choice for choice in get_args(kind) if isinstance(choice, str)]
    if get_origin(kind) in (Union, types.UnionType):
        return [choice for member in get_args(kind) for choice in choices(member)]
    return []


def _alternatives(kind: Any) -> list[str]:
    """The members of a union, choices one by one, without ``None``: leaving the key out means the same."""
    if get_origin(kind) is Literal:
        return [json.dumps(choice) for choice in get_args(kind)]
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
