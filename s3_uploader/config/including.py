"""Merges a configuration file over the files with defaults that it includes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import SYNONYMS
from s3_uploader.core.errors import ConfigError

_INCLUDE = "$include"
_DEEPEST = 8

Read: TypeAlias = Callable[[str, tuple[str, ...], str, list[str] | None], tuple[Any, dict[str, str]]]
"""Reads a file: its path, the real paths of the files that include it, its name there, and where found files go."""


def with_included(
    raw: dict[str, Any], path: str, including: tuple[str, ...], found: list[str] | None, *, read: Read
) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of a file over that of the files that it includes, and for each of their keys the file it comes from.

    :param including: the real paths of the files that include this one, the outermost first.
    :param found: collects the paths of the included files.
    """
    names = raw.pop(_INCLUDE)
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise ConfigError(path, [f"{_INCLUDE}: must be the path of a file with defaults, or a list of such"])
    here = (*including, os.path.realpath(path))
    defaults: dict[str, Any] = {}
    places: dict[str, str] = {}
    for name in names:
        other = os.path.join(os.path.dirname(path), os.path.expanduser(name))
        if os.path.realpath(other) in here:
            raise ConfigError(path, [f"{_INCLUDE}: {name} includes itself"])
        if len(here) > _DEEPEST:
            raise ConfigError(path, [f"{_INCLUDE}: files can include files at most {_DEEPEST} levels deep"])
        if found is not None:
            found.append(other)
        values, their_places = read(other, here, name, found)
        if not isinstance(values, dict):
            raise ConfigError(other, ["must be a JSON object"])
        defaults = _laid_over(defaults, values)
        places |= dict.fromkeys(values, other) | their_places
    return _laid_over(defaults, raw), {key: place for key, place in places.items() if key not in raw}


def _laid_over(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Merge ``values`` over ``defaults``. Objects are merged key by key."""
    result = {name: value for name, value in defaults.items() if not _is_replaced(name, values)}
    for name, value in values.items():
        before: Any = result.get(name)
        both = isinstance(before, dict) and isinstance(value, dict)
        if both and value.get("type", before.get("type")) == before.get("type"):
            value = _laid_over(before, value)
        result[name] = value
    return result


def _is_replaced(name: str, values: Mapping[str, Any]) -> bool:
    """Whether the file itself has the same key in another form: a bucket has two forms, each with two spellings."""
    if any({name, *values} >= {synonym, other} and name in (synonym, other) for synonym, other in SYNONYMS.items()):
        return True
    if name == "destination":
        return any(key in values for key in ("bucket", *SYNONYMS))
    return "destination" in values and (name in SYNONYMS or name in S3Destination.__struct_fields__)
