"""Builds the store and the inventory of a configuration whose destination is an FTP or SFTP server."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from s3_uploader.config.destinations import FtpDestination, SftpDestination
from s3_uploader.config.schema import Config
from s3_uploader.run.routing import constant_prefixes
from s3_uploader.stores.base import Memory, Store

if TYPE_CHECKING:
    from s3_uploader.stores.file_servers.holder import LockNotes
    from s3_uploader.stores.ftp.store import FtpStore
    from s3_uploader.stores.listing import Inventory
    from s3_uploader.stores.sftp.store import SftpStore


def server_store(
    config: Config,
    server: FtpDestination | SftpDestination,
    *,
    notice: Callable[[str, str], None],
    memory: Memory | None,
) -> Store:
    """Build the store of a server; see :func:`~s3_uploader.run.assembly.build_store`."""
    return _store(config, server, notice=notice, memory=memory, **_lock_notes(config, server))


def server_inventory(
    config: Config, server: FtpDestination | SftpDestination, *, seconds: float, until: float
) -> Inventory:
    """Build the inventory of a server; see :func:`~s3_uploader.run.inventories.build_inventory`."""
    return _store(config, server).inventory(seconds=seconds, until=until)


def _store(config: Config, server: FtpDestination | SftpDestination, **around: Any) -> FtpStore | SftpStore:
    settings = msgspec.structs.asdict(server)
    del settings["on_conflict"]
    settings |= {"identity": config.base_dir, "makes_directories": config.layout == "dated"}
    settings["key_prefixes"] = constant_prefixes(config)
    if isinstance(server, FtpDestination):
        from s3_uploader.stores.ftp import store as ftp

        return ftp.create(**settings, **around)
    from s3_uploader.stores.sftp import store as sftp

    return sftp.create(**settings, **around)


def _lock_notes(config: Config, server: FtpDestination | SftpDestination) -> dict[str, LockNotes]:
    """The notes of the remote locks that the runs of a spool make, as an argument of the store."""
    if server.lock_file is None:
        return {}
    from s3_uploader.ledger.state_directory import own_state_directory
    from s3_uploader.stores.file_servers.holder import NOTES_NAME, LockNotes

    path = os.path.join(own_state_directory(config), NOTES_NAME)
    # The run that opens the store has the lock of its spool, or of its share, unless uploaders claim their files.
    return {"lock_notes": LockNotes(path, is_alone=config.claim_dir is None)}
