"""Makes the store of a run that is not the usual one: with less memory than a whole run, or for a rehearsal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from s3_uploader.run.context import MakeStore

if TYPE_CHECKING:
    from s3_uploader.config.schema import Config
    from s3_uploader.stores.base import Memory, Store


def store_maker(simulated_failure_rate: float, *, bytes_in_flight: int | None = None) -> MakeStore:
    """Return what makes a store like :func:`~s3_uploader.run.assembly.build_store`.

    :param simulated_failure_rate: how many of the uploads are made to fail, from 0 to 1.
    :param bytes_in_flight: most bytes of files in memory; ``None`` for the store's default.
    """

    def make(config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
        from s3_uploader.run.assembly import build_store  # only if there is a file to ship

        store = build_store(config, notice=notice, memory=memory, bytes_in_flight=bytes_in_flight)
        if not simulated_failure_rate:
            return store
        from s3_uploader.stores.wrappers.simulated import UnreliableStore

        notice("warning", f"Rehearsal: {simulated_failure_rate:.0%} of the uploads are made to fail.")
        return UnreliableStore(store, rate=simulated_failure_rate)

    return make
