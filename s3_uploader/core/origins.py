"""What an error comes from; what that means for a spool is said in :mod:`s3_uploader.core.meanings`.

Whoever makes an error says where it comes from. From there it is carried: through the run's report and the ledger to
``status``, the metrics and the alerts. Nothing on the way asks for the error's code, which is only shown.
"""

from __future__ import annotations

import enum


class Origin(enum.Enum):
    """Where an error comes from; the values stand in the ledger and in JSON, and stay as they are."""

    CREDENTIALS = "credentials"
    """They are wrong, have expired, or lack a right that every file needs."""
    CREDENTIAL_SOURCE = "credential_source"
    """What gives this machine its credentials gives none."""
    PRIVATE_KEY = "private_key"
    """The key of this user cannot be read or used."""
    CLOCK = "clock"
    """This machine's clock and the server's differ too much."""
    FULL = "full"
    """There is no room at the destination."""
    UNREACHABLE = "unreachable"
    """The network, or the server, does not answer as it should; that may be over in a moment."""
    PROXY = "proxy"
    """The proxy on the way does not let it through."""
    BUCKET = "bucket"
    """Bucket, region and endpoint do not fit together."""
    DIRECTORY = "directory"
    """The directory that the destination names is not there, or not for this user."""
    SETTING = "setting"
    """The destination does not take a setting of the configuration."""
    CERTIFICATE = "certificate"
    """TLS does not come about."""
    HOST_KEY = "host_key"
    """The server is not known, or is another one than before."""
    SERVER = "server"
    """It is another kind of server, or lacks what is needed."""
    FILE = "file"
    """This file, its name or its size."""
    FILE_RIGHT = "file_right"
    """A right is missing where this file goes, while others go elsewhere."""
    CONFLICT = "conflict"
    """The key is taken by other content."""
    NOT_REMOVED = "not_removed"
    """The file is shipped, and this user may not remove it."""
    NOT_MOVED = "not_moved"
    """The file is shipped, and finds no place where it should be moved to."""
    NO_ROOM_HERE = "no_room_here"
    """This machine has no room for what is made of the file before it is sent."""
    OURS = "ours"
    """This program or machine, not the file."""


def of_every_file(origin: Origin) -> Origin:
    """What an error that seemed to be of one file means where every file meets it."""
    return Origin.UNREACHABLE if origin in (Origin.FILE, Origin.OURS) else origin


def recalled(text: str, otherwise: Origin) -> Origin:
    """The origin that a record names; ``otherwise`` where it is of a version that has none, or other ones."""
    try:
        return Origin(text)
    except ValueError:
        return otherwise
