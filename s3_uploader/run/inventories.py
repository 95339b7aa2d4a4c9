"""Builds from a configuration the inventory that lists its destination, for an audit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.destinations import LocalDestination, S3Destination
from s3_uploader.config.schema import Config

if TYPE_CHECKING:
    from s3_uploader.stores.listing import Inventory


def build_inventory(config: Config, *, notice: Callable[[str, str], None], until: float = math.inf) -> Inventory:
    """Build the inventory that lists the destination, with the connection, credentials and timeouts of uploads.

    :param until: the end of all questions, by the monotonic clock.
    """
    destination = config.destination
    seconds = longest_step(config)
    if isinstance(destination, S3Destination):
        from s3_uploader.run.assembly import limits_of, s3_store
        from s3_uploader.stores.s3.listing import S3Inventory

        bucket = msgspec.structs.replace(destination, max_concurrency=limits_of(config).max_in_flight)
        return S3Inventory(s3_store(config, bucket, notice=notice, memory=None), seconds=seconds, until=until)
    if isinstance(destination, LocalDestination):
        from s3_uploader.stores.local.listing import LocalInventory

        return LocalInventory(path=destination.path, max_concurrency=destination.max_concurrency, until=until)
    from s3_uploader.run.file_servers import server_inventory

    return server_inventory(config, destination, seconds=seconds, until=until)


def longest_step(config: Config) -> float:
    """The longest time for one step of a command that looks at the destination, in seconds."""
    budget = config.max_runtime_seconds
    return config.upload_timeout_seconds if budget is None else min(config.upload_timeout_seconds, budget)
