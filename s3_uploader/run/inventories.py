"""The inventory of the destination that a configuration names: what ``audit`` reads it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from s3_uploader.config.schema import Config, FtpDestination, LocalDestination, S3Destination
from s3_uploader.stores.listing import Inventory


def build_inventory(config: Config, *, notice: Callable[[str, str], None]) -> Inventory:
    """What reads the destination; it is reached as uploads reach it, with the same credentials."""
    destination = config.destination
    if isinstance(destination, S3Destination):
        from s3_uploader.stores.s3 import listing

        return listing.create(**_settings(destination), notice=notice)
    if isinstance(destination, FtpDestination):
        from s3_uploader.stores.ftp import store as ftp

        return ftp.create(**_settings(destination), identity=config.base_dir).inventory()
    from s3_uploader.stores.local.listing import LocalInventory

    return LocalInventory(path=destination.path, max_concurrency=destination.max_concurrency)


def _settings(destination: S3Destination | FtpDestination | LocalDestination) -> dict[str, Any]:
    settings = msgspec.structs.asdict(destination)
    for name in ("on_conflict", "minimum_proof"):
        del settings[name]
    return settings
