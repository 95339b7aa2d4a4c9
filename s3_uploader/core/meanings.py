"""The meaning of an error's origin: the cause that ``status`` names, whether it passes, and what a person can do.

A run without errors does not load this module.
"""

from __future__ import annotations

import msgspec

from s3_uploader.core.errors import FAILING_DISK, StoreError
from s3_uploader.core.events import Notice
from s3_uploader.core.findings import Cause
from s3_uploader.core.model import RunEnd
from s3_uploader.core.origins import Origin, of_every_file


class Meaning(msgspec.Struct, frozen=True):
    """What an origin means for a spool.

    :param passes: it may pass by itself in a moment, like a router that restarts.
    :param remedy: what a person can do; empty for the general remedy of the cause.
    :param blames_file: the file itself may be at fault, so that ``on_failure`` applies.
    """

    cause: Cause
    passes: bool = False
    remedy: str = ""
    blames_file: bool = True


_CHECK = "`check` tries each step."
_MEANINGS = {
    Origin.CREDENTIALS: Meaning(Cause.CREDENTIALS),
    Origin.CREDENTIAL_SOURCE: Meaning(
        Cause.CREDENTIALS, remedy=f"Repair the source of this machine's credentials, as the message says; {_CHECK}"
    ),
    Origin.PRIVATE_KEY: Meaning(
        Cause.CREDENTIALS, remedy=f"Correct private_key_file, or the passphrase in the environment; {_CHECK}"
    ),
    Origin.CLOCK: Meaning(Cause.CLOCK),
    Origin.FULL: Meaning(
        Cause.DISK_FULL,
        remedy="Make room at the destination; then `run --retry` retries the waiting files at once.",
        blames_file=False,
    ),
    Origin.UNREACHABLE: Meaning(Cause.DESTINATION, passes=True),
    Origin.PROXY: Meaning(
        Cause.DESTINATION, passes=True, remedy="Correct HTTP_PROXY, HTTPS_PROXY or NO_PROXY, or start the proxy."
    ),
    Origin.BUCKET: Meaning(
        Cause.DESTINATION, remedy=f"Correct bucket, region or endpoint_url: they do not fit together. {_CHECK}"
    ),
    Origin.DIRECTORY: Meaning(
        Cause.DESTINATION,
        remedy=f"Correct path, create the directory it names, or give the user permissions there; {_CHECK}",
    ),
    Origin.SETTING: Meaning(Cause.DESTINATION, remedy=f"Correct the setting that the message names; {_CHECK}"),
    Origin.CERTIFICATE: Meaning(
        Cause.DESTINATION,
        remedy="Correct what does not fit: the server's certificate, the authorities to trust (AWS_CA_BUNDLE, "
        "ca_file), the scheme of the URL, or this machine's clock.",
    ),
    Origin.HOST_KEY: Meaning(
        Cause.DESTINATION,
        remedy="Ask who runs the server for the fingerprint of its host key; see known_hosts_file and "
        f"host_key_fingerprints. {_CHECK}",
    ),
    Origin.SERVER: Meaning(
        Cause.DESTINATION,
        remedy=f"Do what the message says, or correct the address if the server is not the right one; {_CHECK}",
    ),
    Origin.FILE: Meaning(Cause.FAILING_FILE),
    Origin.FILE_RIGHT: Meaning(
        Cause.CREDENTIALS,
        remedy="Allow the user, or the credentials, to store this file; `check` names the missing permission.",
    ),
    Origin.CONFLICT: Meaning(Cause.CONFLICT),
    Origin.NOT_REMOVED: Meaning(Cause.UNREADABLE, blames_file=False),
    Origin.NOT_MOVED: Meaning(
        Cause.UNREADABLE,
        remedy="Correct move_to, or let the user that runs this program write there and in the file's directory.",
        blames_file=False,
    ),
    Origin.NO_ROOM_TO_MOVE: Meaning(Cause.DISK_FULL, blames_file=False),
    Origin.NO_ROOM_HERE: Meaning(Cause.DISK_FULL, blames_file=False),
    Origin.SOURCE: Meaning(Cause.UNREADABLE, remedy=FAILING_DISK, blames_file=False),
    Origin.MACHINE: Meaning(
        Cause.DESTINATION,
        passes=True,
        remedy="Raise the limit that the message names, or end what uses it up.",
        blames_file=False,
    ),
    Origin.OURS: Meaning(Cause.FAILING_FILE, blames_file=False),
}


def meaning_of(origin: Origin) -> Meaning:
    """The meaning of an origin for a spool."""
    return _MEANINGS[origin]


def of_one_file(origin: Origin) -> Origin:
    """The meaning of the same refusal for one file, while others are accepted."""
    if origin in (Origin.CREDENTIALS, Origin.DIRECTORY):
        return Origin.FILE_RIGHT
    is_of_all = meaning_of(origin).cause in (Cause.CREDENTIALS, Cause.DESTINATION, Cause.CLOCK)
    if origin is Origin.MACHINE:
        return Origin.OURS
    return Origin.FILE if is_of_all and origin is not Origin.FILE_RIGHT else origin


def notice_of_end(reason: RunEnd, error: Exception) -> Notice:
    """What to say of the error that ended a run.

    An error that may pass by itself is one problem, whatever the network says each time. Each other one is its own.
    """
    about = reason.value
    if isinstance(error, StoreError) and not meaning_of(of_every_file(error.origin)).passes:
        about += f" {error.code}"
    said = str(error)
    if reason is RunEnd.DESTINATION:
        said = f"The run was abandoned, all files are kept: {error}"
    elif reason is RunEnd.STATE:
        said = f"The run was ended, because shipped files cannot be recorded. Files are kept: {error}"
    return Notice("info" if reason is RunEnd.DESTINATION_BUSY else "error", said, about=about)
