"""Names of objects."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TypeAlias

import msgspec


class S3Name(msgspec.Struct, frozen=True):
    """The name of an object: a key, and a bucket if it is not the connection's default."""

    key: str
    bucket: str | None = None


RemoteName: TypeAlias = "str | S3Name | PurePosixPath"
"""A key, a pure path that stands for a key, or a key with its bucket."""
