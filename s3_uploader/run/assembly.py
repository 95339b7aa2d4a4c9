"""Builds from a configuration what ships its files: the store, the options of uploads, and what follows an upload."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from s3_uploader.config.destinations import FtpDestination, S3Destination, SftpDestination
from s3_uploader.config.schema import ALREADY_COMPRESSED, Compress, Config, Location, MoveTo
from s3_uploader.core.model import Candidate, OnConflict, Proof, Receipt
from s3_uploader.run.disposition import FailurePolicy, SuccessPolicy
from s3_uploader.run.place import move_directory
from s3_uploader.run.routing import Route, Routes
from s3_uploader.spool.layouts.base import Globs
from s3_uploader.stores.base import (
    USUAL_LIMITS,
    CheckLimits,
    Compression,
    Loop,
    Memory,
    PutOptions,
    Source,
    Store,
    ignore,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from s3_uploader.core.findings import Finding
    from s3_uploader.run.context import MakeStore
    from s3_uploader.stores.file_servers.holder import LockNotes
    from s3_uploader.stores.ftp.store import FtpStore
    from s3_uploader.stores.listing import Inventory
    from s3_uploader.stores.s3.store import S3Store
    from s3_uploader.stores.sftp.store import SftpStore

ENDPOINT_MEMORY = "endpoint:"
"""The prefix of names in the ledger for what a store learned about its endpoint."""
_COMPRESSION_DEFAULTS = {"gzip": (".gz", 6), "zstd": (".zst", 3)}


class LazyStore:
    """Stands for another store until it is opened.

    :param name: the name of the other store.
    :param make: makes it; called at most once.
    """

    def __init__(self, *, name: str, make: Callable[[], Store]) -> None:
        self.name = name
        self._make = make
        self._store: Store | None = None

    @property
    def loop(self) -> Loop | None:
        """See :class:`Store`."""
        return None if self._store is None else self._store.loop

    def open(self) -> None:
        """Make the store and open it."""
        self._made().open()

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> Future[Receipt]:
        """See :meth:`Store.put`."""
        store = self._store or self._made()
        return store.put(key, source, options=options, deadline=deadline, replaces=replaces)

    def confirm(self, receipt: Receipt, *, deadline: float) -> Future[Receipt]:
        """See :meth:`Store.confirm`."""
        return self._made().confirm(receipt, deadline=deadline)

    def cancel(self) -> None:
        """See :meth:`Store.cancel`."""
        if self._store is not None:
            self._store.cancel()

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """See :meth:`Store.check`."""
        return self._made().check(now=now, stored=stored, limits=limits)

    def address(self, key: str) -> str:
        """See :meth:`Store.address`."""
        return f"{self.name}/{key}" if self._store is None else self._store.address(key)

    def close(self, *, timeout: float) -> None:
        """Close the store if it was ever made."""
        if self._store is not None:
            self._store.close(timeout=timeout)

    def _made(self) -> Store:
        if self._store is None:
            self._store = self._make()
            self.name = self._store.name
        return self._store


def build_store(
    config: Config,
    *,
    notice: Callable[[str, str], None],
    memory: Memory | None,
    bytes_in_flight: int | None = None,
) -> Store:
    """Build the store that the configuration names; its libraries are imported when it is opened.

    :param bytes_in_flight: most bytes of files in memory; ``None`` for the store's default.
    """
    destination = config.destination

    def make() -> Store:
        if isinstance(destination, S3Destination):
            return _s3(config, destination, notice=notice, memory=memory, bytes_in_flight=bytes_in_flight)
        if isinstance(destination, FtpDestination):
            return _ftp(config, destination, notice=notice, memory=memory, **_lock_notes(config, destination))
        if isinstance(destination, SftpDestination):
            return _sftp(config, destination, notice=notice, memory=memory, **_lock_notes(config, destination))
        from s3_uploader.stores.local.store import LocalStore

        return LocalStore(path=destination.path, max_concurrency=destination.max_concurrency)

    return LazyStore(name=destination.name, make=make)


def build_inventory(config: Config, *, notice: Callable[[str, str], None], until: float = math.inf) -> Inventory:
    """Build the inventory that lists the destination, with the connection, credentials and timeouts of uploads.

    :param until: the end of all questions, by the monotonic clock.
    """
    destination = config.destination
    seconds = longest_step(config)
    if isinstance(destination, S3Destination):
        from s3_uploader.stores.s3.listing import S3Inventory

        return S3Inventory(_s3(config, destination, notice=notice, memory=None), seconds=seconds, until=until)
    if isinstance(destination, FtpDestination):
        return _ftp(config, destination).inventory(seconds=seconds, until=until)
    if isinstance(destination, SftpDestination):
        return _sftp(config, destination).inventory(seconds=seconds, until=until)
    from s3_uploader.stores.local.listing import LocalInventory

    return LocalInventory(path=destination.path, max_concurrency=destination.max_concurrency, until=until)


def longest_step(config: Config) -> float:
    """The longest time for one step of a command that looks at the destination, in seconds."""
    budget = config.max_runtime_seconds
    return config.upload_timeout_seconds if budget is None else min(config.upload_timeout_seconds, budget)


def _s3(
    config: Config,
    bucket: S3Destination,
    *,
    notice: Callable[[str, str], None],
    memory: Memory | None,
    bytes_in_flight: int | None = None,
) -> S3Store:
    from s3_uploader.stores.s3 import store as s3

    settings = msgspec.structs.asdict(bucket)
    for name in ("on_conflict", "minimum_proof"):
        del settings[name]
    return s3.create(
        **settings,
        # Permissions may be limited to the prefix: the probe of `check` goes there too.
        key_prefix=constant_prefix(config),
        variants=build_routes(config).options,
        bytes_in_flight=bytes_in_flight,
        notice=notice,
        memory=memory,
    )


def _ftp(config: Config, server: FtpDestination, **around: Any) -> FtpStore:
    from s3_uploader.stores.ftp import store as ftp

    return ftp.create(**_server_settings(config, server), **around)


def _sftp(config: Config, server: SftpDestination, **around: Any) -> SftpStore:
    from s3_uploader.stores.sftp import store as sftp

    return sftp.create(**_server_settings(config, server), **around)


def _lock_notes(config: Config, server: FtpDestination | SftpDestination) -> dict[str, LockNotes]:
    """The notes of the remote locks that the runs of a spool make, as an argument of the store."""
    if server.lock_file is None:
        return {}
    from s3_uploader.ledger.state_directory import own_state_directory
    from s3_uploader.stores.file_servers.holder import NOTES_NAME, LockNotes

    path = os.path.join(own_state_directory(config), NOTES_NAME)
    # The run that opens the store has the lock of its spool, or of its share, unless uploaders claim their files.
    return {"lock_notes": LockNotes(path, is_alone=config.claim_dir is None)}


def _server_settings(config: Config, server: FtpDestination | SftpDestination) -> dict[str, Any]:
    settings = msgspec.structs.asdict(server)
    del settings["on_conflict"]
    return {**settings, "identity": config.base_dir, "makes_directories": config.layout == "dated"}


def store_maker(simulated_failure_rate: float, *, bytes_in_flight: int | None = None) -> MakeStore:
    """Return :func:`build_store`, or with a rate a maker of stores with simulated failures, for a rehearsal."""
    if not simulated_failure_rate and bytes_in_flight is None:
        return build_store

    def make_one(config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
        return build_store(config, notice=notice, memory=memory, bytes_in_flight=bytes_in_flight)

    if not simulated_failure_rate:
        return make_one

    def make(config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
        from s3_uploader.stores.wrappers.simulated import UnreliableStore

        notice("warning", f"Rehearsal: {simulated_failure_rate:.0%} of the uploads are made to fail.")
        return UnreliableStore(make_one(config, notice=notice, memory=memory), rate=simulated_failure_rate)

    return make


def shipping_store(
    config: Config,
    *,
    make_store: MakeStore | None = None,
    notice: Callable[[str, str], None],
    memory: Memory | None,
    state_dir: str,
) -> Store:
    """Build the store of a run and of ``check``, with compression.

    :param make_store: makes the destination's own store, by default :func:`build_store`.
    :param state_dir: directory for large compressed files before they are sent.
    """
    store = (make_store or build_store)(config, notice=notice, memory=memory)
    formats = compression_formats(config)
    if not formats:
        return store
    from s3_uploader.stores.wrappers.compressing import CompressingStore

    return CompressingStore(store, directory=state_dir, formats=formats)


def build_routes(config: Config) -> Routes:
    """Build the routes of files: the general one, and those of the configuration's locations."""
    special = [
        (Globs(include=[pattern], exclude=[]), _rule(config, location))
        for pattern, location in config.locations.items()
    ]
    return Routes(
        _rule(config, Location()),
        [(functools.partial(globs.admits, ()), rule) for globs, rule in special],
    )


def _rule(config: Config, location: Location) -> Route:
    destination = config.destination
    tags = None
    if location.tags and isinstance(destination, S3Destination):
        tags = {**destination.tags, **location.tags}
    options = PutOptions(
        on_conflict=OnConflict(location.on_conflict or destination.on_conflict),
        minimum_proof=Proof.of_label(destination.minimum_proof),
        metadata=location.metadata,
        storage_class=location.storage_class,
        tags=tags,
    )
    prefix = _prefix(config.key_prefix if location.key_prefix is None else location.key_prefix, config.timezone)
    compress = _compress(location.compress or config.compress)
    if compress is None:
        return Route(prefix=prefix, options=options)
    globs = Globs(
        include=compress.include, exclude=list(ALREADY_COMPRESSED) if compress.exclude is None else compress.exclude
    )

    def is_compressed(key: str) -> bool:
        *directories, name = key.split("/")
        return globs.admits(tuple(directories), name)

    suffix, level = _COMPRESSION_DEFAULTS[compress.format]
    compression = Compression(
        compress.format,
        level if compress.level is None else compress.level,
        suffix if compress.key_suffix is None else compress.key_suffix,
    )
    compressed = msgspec.structs.replace(options, compression=compression)
    return Route(prefix=prefix, options=options, compressed=compressed, is_compressed=is_compressed)


def _compress(setting: str | Compress) -> Compress | None:
    if isinstance(setting, Compress):
        return setting
    return Compress(format=setting) if setting in ("gzip", "zstd") else None  # type: ignore[arg-type]


def compression_formats(config: Config) -> set[str]:
    """The compression formats that a configuration uses."""
    settings = [config.compress, *(each.compress for each in config.locations.values() if each.compress is not None)]
    return {compress.format for compress in map(_compress, settings) if compress is not None}


def _prefix(text: str, timezone: str) -> str | Callable[[Candidate], str]:
    if "{" not in text and "}" not in text:
        return text
    from s3_uploader.config import key_prefix

    return key_prefix.prefix_function(
        text, host=os.uname().nodename, time_in=functools.partial(key_prefix.time_in, timezone)
    )


def constant_prefix(config: Config) -> str:
    """The common prefix of all keys of a configuration."""
    return os.path.commonprefix(constant_prefixes(config))  # noqa: RUF071 - a prefix of keys is one of characters


def constant_prefixes(config: Config) -> list[str]:
    """What the keys of a configuration begin with: in general, and at the locations that have a prefix of their own."""
    prefixes = [
        config.key_prefix,
        *(each.key_prefix for each in config.locations.values() if each.key_prefix is not None),
    ]
    if any("{" in prefix or "}" in prefix for prefix in prefixes):
        from s3_uploader.config.key_prefix import constant_part

        prefixes = [constant_part(prefix) for prefix in prefixes]
    return prefixes


def success_policy(config: Config) -> SuccessPolicy:
    """Build the disposition of shipped files."""
    if isinstance(config.on_success, MoveTo):
        from s3_uploader.spool.move_target import MoveTarget

        return SuccessPolicy(move_to=MoveTarget(move_directory(config.on_success)))
    return SuccessPolicy(keep=config.on_success == "keep")


def failure_policy(config: Config) -> FailurePolicy:
    """Build the disposition of files that cannot be shipped."""
    if isinstance(config.on_failure, MoveTo):
        if os.path.realpath(move_directory(config.on_failure)) == os.path.realpath(config.base_dir):
            return FailurePolicy()  # resubmitted: it stays in the spool, or goes back there from its claim
        from s3_uploader.spool.move_target import MoveTarget

        return FailurePolicy(move_to=MoveTarget(move_directory(config.on_failure)), attempts=config.on_failure.attempts)
    return FailurePolicy(delete=config.on_failure == "delete")
