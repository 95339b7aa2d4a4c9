"""The origins of errors. Their meaning for a spool is in :mod:`s3_uploader.core.meanings`.

The origin is set where the error is made. It is carried through the run's report and the ledger to ``status``, the
metrics and the alerts. The error's code is only shown and never compared.
"""

from __future__ import annotations

import enum


class Origin(enum.Enum):
    """Where an error comes from. The values are identifiers in the ledger and in JSON, and stay the same."""

    CREDENTIALS = "credentials"
    """They are wrong, have expired, or lack a permission that every file needs."""
    CREDENTIAL_SOURCE = "credential_source"
    """The source of this machine's credentials provides none."""
    PRIVATE_KEY = "private_key"
    """The key of this user cannot be read or used."""
    CLOCK = "clock"
    """This machine's clock and the server's differ too much."""
    FULL = "full"
    """There is no room at the destination."""
    UNREACHABLE = "unreachable"
    """The network or the server does not answer as it should; that may pass in a moment."""
    PROXY = "proxy"
    """The proxy refuses the connection."""
    BUCKET = "bucket"
    """Bucket, region and endpoint do not fit together."""
    DIRECTORY = "directory"
    """The destination's directory does not exist, or this user may not use it."""
    SETTING = "setting"
    """The destination does not accept a setting of the configuration."""
    CERTIFICATE = "certificate"
    """The TLS handshake fails."""
    HOST_KEY = "host_key"
    """The server's host key is unknown, or has changed."""
    SERVER = "server"
    """The server is of another kind, or lacks a needed feature."""
    FILE = "file"
    """This file: its name or its size."""
    FILE_RIGHT = "file_right"
    """A permission is missing for this file's key, while other keys work."""
    CONFLICT = "conflict"
    """The key is taken by other content."""
    NOT_REMOVED = "not_removed"
    """The file is shipped, but this user may not remove it."""
    NOT_MOVED = "not_moved"
    """The file is shipped, but may not be moved to its target."""
    NO_ROOM_TO_MOVE = "no_room_to_move"
    """The file is shipped, but the disk of its target is full or read-only."""
    NO_ROOM_HERE = "no_room_here"
    """This machine has no room for the compressed file."""
    SOURCE = "source"
    """The local file cannot be read, as on a disk that fails."""
    MACHINE = "machine"
    """This machine has no room for an upload: no descriptors, threads or memory."""
    OURS = "ours"
    """This program or machine is at fault, not the file."""


def of_every_file(origin: Origin) -> Origin:
    """The origin of an error that every file meets, although it seemed to be about one file."""
    return Origin.UNREACHABLE if origin in (Origin.FILE, Origin.OURS) else origin


def recalled(text: str, otherwise: Origin) -> Origin:
    """Parse the origin in a record.

    ``otherwise`` if a version without it, or with other origins, has written the record.
    """
    try:
        return Origin(text)
    except ValueError:
        return otherwise
