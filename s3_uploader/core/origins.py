"""What an error comes from: the cause that ``status`` names, whether it passes by itself, and what a person can do.

Whoever makes an error says where it comes from. From there it is carried: through the run's report and the ledger to
``status``, the metrics and the alerts. Nothing on the way asks for the error's code, which is only shown.
"""

from __future__ import annotations

import enum

import msgspec

from s3_uploader.core.model import Cause


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

    @property
    def meaning(self) -> Meaning:
        """What it means for a spool."""
        return _MEANINGS[self]


class Meaning(msgspec.Struct, frozen=True):
    """What an origin means for a spool.

    :param passes: it may be over in a moment without anybody's doing, like a router that restarts.
    :param remedy: what a person can do; empty for that of the cause in general.
    :param blames_file: the file itself may be at fault, so that ``on_failure`` holds for it.
    """

    cause: Cause
    passes: bool = False
    remedy: str = ""
    blames_file: bool = True


_CHECK = "`check` tries each step."
_MEANINGS = {
    Origin.CREDENTIALS: Meaning(Cause.CREDENTIALS),
    Origin.CREDENTIAL_SOURCE: Meaning(
        Cause.CREDENTIALS, remedy=f"Look at what gives this machine its credentials, as the message says; {_CHECK}"
    ),
    Origin.PRIVATE_KEY: Meaning(
        Cause.CREDENTIALS, remedy=f"Look at private_key_file, and at the passphrase in the environment; {_CHECK}"
    ),
    Origin.CLOCK: Meaning(Cause.CLOCK),
    Origin.FULL: Meaning(Cause.DISK_FULL),
    Origin.UNREACHABLE: Meaning(Cause.DESTINATION, passes=True),
    Origin.PROXY: Meaning(Cause.DESTINATION, passes=True, remedy="Look at HTTP_PROXY, HTTPS_PROXY and NO_PROXY."),
    Origin.BUCKET: Meaning(
        Cause.DESTINATION, remedy=f"Look at bucket, region and endpoint_url: they do not fit together. {_CHECK}"
    ),
    Origin.DIRECTORY: Meaning(
        Cause.DESTINATION, remedy=f"Look at path, at the directory it names and at the user's rights there; {_CHECK}"
    ),
    Origin.SETTING: Meaning(Cause.DESTINATION, remedy=f"Correct the setting that the message names; {_CHECK}"),
    Origin.CERTIFICATE: Meaning(
        Cause.DESTINATION,
        remedy="Look at the server's certificate, at the authorities to trust (AWS_CA_BUNDLE, ca_file), at the scheme "
        "of the URL and at this machine's clock.",
    ),
    Origin.HOST_KEY: Meaning(
        Cause.DESTINATION,
        remedy="Ask who runs the server for the fingerprint of its host key; see known_hosts_file and "
        f"host_key_fingerprints. {_CHECK}",
    ),
    Origin.SERVER: Meaning(
        Cause.DESTINATION, remedy=f"Look at the server that is named, and whether it is the right one; {_CHECK}"
    ),
    Origin.FILE: Meaning(Cause.FAILING_FILE),
    Origin.FILE_RIGHT: Meaning(
        Cause.CREDENTIALS,
        remedy="Let the user, or the credentials, write where this file goes; `check` tells which right is missing.",
    ),
    Origin.CONFLICT: Meaning(Cause.CONFLICT),
    Origin.NOT_REMOVED: Meaning(Cause.UNREADABLE, blames_file=False),
    Origin.NOT_MOVED: Meaning(Cause.DISK_FULL, blames_file=False),
    Origin.NO_ROOM_HERE: Meaning(Cause.DISK_FULL, blames_file=False),
    Origin.OURS: Meaning(Cause.FAILING_FILE, blames_file=False),
}


def of_one_file(origin: Origin) -> Origin:
    """What the same refusal means of one file, while others are taken."""
    if origin in (Origin.CREDENTIALS, Origin.DIRECTORY):
        return Origin.FILE_RIGHT
    is_of_all = origin.meaning.cause in (Cause.CREDENTIALS, Cause.DESTINATION, Cause.CLOCK)
    return Origin.FILE if is_of_all and origin is not Origin.FILE_RIGHT else origin


def of_every_file(origin: Origin) -> Origin:
    """What an error that seemed to be of one file means where every file meets it."""
    return Origin.UNREACHABLE if origin in (Origin.FILE, Origin.OURS) else origin


def recalled(text: str, otherwise: Origin) -> Origin:
    """The origin that a record names; ``otherwise`` where it is of a version that has none, or other ones."""
    try:
        return Origin(text)
    except ValueError:
        return otherwise
