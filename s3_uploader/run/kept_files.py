"""Kept files are shipped again when they go to another place.

The ledger knows by the destination's name where a kept file was shipped, and a bucket or a server keeps its name when
the endpoint, the directory, the user or the prefix of the keys changes. So the ledger also remembers a digest of those.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Protocol

import msgspec

from s3_uploader.config.destinations import LocalDestination, S3Destination
from s3_uploader.config.schema import Config
from s3_uploader.core.events import Emit, Notice
from s3_uploader.core.text import counted
from s3_uploader.ledger import Ledger

_NAME = "kept:"
"""Before the destination's name: the digest of the place to which its kept files were shipped."""


class Memory(Protocol):
    """A ledger, also one that is only read."""

    def recall(self, name: str, *, now: float, max_age: float) -> str | None:
        """The text under a name."""


def forget_those_of_another_place(
    config: Config, ledger: Ledger, *, environ: Mapping[str, str], now: float, emit: Emit
) -> None:
    """Forget which files were shipped if the destination of that name is in another place now."""
    known, place = _known(config, ledger, now), _place(config, environ)
    if known == place:
        return
    forgotten = 0 if known is None else ledger.forget_kept(config.destination.name)
    ledger.remember(_NAME + config.destination.name, place, now=now)
    if forgotten:
        emit(
            Notice("info", f"The destination has changed, so {counted(forgotten, 'kept file')} will be uploaded again.")
        )


def were_shipped_elsewhere(config: Config, ledger: Memory, *, environ: Mapping[str, str], now: float) -> bool:
    """Whether the next run will forget which files were shipped."""
    return _known(config, ledger, now) not in (None, _place(config, environ))


def _known(config: Config, ledger: Memory, now: float) -> str | None:
    return ledger.recall(_NAME + config.destination.name, now=now, max_age=float("inf"))


def _place(config: Config, environ: Mapping[str, str]) -> str:
    destination = config.destination
    if isinstance(destination, S3Destination):
        where = destination.endpoint_url or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""
    elif isinstance(destination, LocalDestination):
        where = destination.path
    else:
        # A file server often shows each user a directory of their own, under the same path.
        where = f"{destination.user}@{destination.path}"
    prefixes = {name: location.key_prefix for name, location in config.locations.items()}
    return f"{zlib.crc32(msgspec.json.encode((where, config.key_prefix, prefixes))):08x}"
