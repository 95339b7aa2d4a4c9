"""Makes the local paths of a configuration absolute, for a program that may change its working directory meanwhile."""

from __future__ import annotations

import os
from typing import TypeVar

import msgspec

from s3_uploader.config.destinations import LocalDestination
from s3_uploader.config.loading import LOCAL_PATHS
from s3_uploader.config.schema import Config, MoveTo

_OTHER_PATHS = {"state_dir", "private_key_file", "known_hosts_file"}
"""In these ``~`` is expanded only where they are used."""

_T = TypeVar("_T", bound=msgspec.Struct)


def anchored(config: Config) -> Config:
    """The configuration with absolute paths; as it is if the working directory was removed."""
    try:
        return _anchored(config)
    except FileNotFoundError:
        return config


def _anchored(values: _T) -> _T:
    changes: dict[str, object] = {}
    for name in values.__struct_fields__:
        value = getattr(values, name)
        is_path = (
            name in LOCAL_PATHS or name in _OTHER_PATHS or (name == "path" and isinstance(values, LocalDestination))
        )
        if isinstance(value, MoveTo):
            changes[name] = msgspec.structs.replace(value, move_to=_absolute(value.move_to))
        elif isinstance(value, msgspec.Struct):
            changes[name] = _anchored(value)
        elif is_path and isinstance(value, str):
            changes[name] = _absolute(value)
    return msgspec.structs.replace(values, **changes)


def _absolute(path: str) -> str:
    if path.startswith(("/", "~")):
        return path
    # With links ".." leads elsewhere than its text says.
    return os.path.join(os.getcwd(), path) if ".." in path.split("/") else os.path.abspath(path)
