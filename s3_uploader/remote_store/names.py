"""Names of objects."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TypeAlias

import msgspec


class S3Name(msgspec.Struct, frozen=True):
    """The name of an object: a key, and a bucket unless it is the default one of the connection."""

    key: str
    bucket: str | None = None


RemoteName: TypeAlias = "str | S3Name | PurePosixPath"
"""A key, the pure path that a key can be written as, or a key with its bucket."""
