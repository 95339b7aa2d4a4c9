"""Remembers over several runs how long files have been unchanged whose writers may be on other hosts.

On FUSE and network file systems a lease shows only writers on this host. So a file is shipped when an earlier look, at
least ``settle_seconds`` ago, saw it as it is now. A file that has been unchanged for much longer by the file system's
own clock needs no earlier look.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

import msgspec

from s3_uploader.core.model import Fingerprint
from s3_uploader.core.procfs import Mount, file_system_at, is_local, mount_of
from s3_uploader.spool.root import SpoolRoot

LONG_AGO_SECONDS = 60.0
"""Seconds beyond ``settle_seconds`` after which an unchanged file is shipped at the first look."""
UNKNOWN = "a file system of unknown type"
_MOST = 5000
_LAYERS = ("upperdir", "lowerdir")

_Seen = tuple[list[int], float]


def foreign_file_system(descriptor: int) -> str:
    """The type of the file system of an open file if other hosts may write there unseen, else empty.

    If ``/proc`` does not show it, the worst is assumed.
    """
    found = file_system_at(descriptor) or UNKNOWN
    if found == "overlay":
        mount = mount_of(descriptor)
        return UNKNOWN if mount is None else _foreign_layer(mount)
    return "" if is_local(found) else found


def _foreign_layer(mount: Mount) -> str:
    """The type of a layer of an overlay that is not a disk of this host; empty if unknown."""
    for option in mount.options.split(","):
        name, _, value = option.partition("=")
        for path in value.split(":") if name in _LAYERS else ():
            with contextlib.suppress(OSError):
                layer = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    found = file_system_at(layer)
                finally:
                    os.close(layer)
                if found and not is_local(found):
                    return f"overlay of {found}"
    return ""


class Sightings:
    """What was seen of the files of a spool whose writers may be on other hosts.

    :param known: what earlier runs have seen (:meth:`dump`).
    :ivar unseen: reasons why writers of ready files cannot be seen, each with the first such path.
    """

    def __init__(self, root: SpoolRoot, *, settle_seconds: float, known: str | None = None) -> None:
        self._root = root
        self._settle_seconds = settle_seconds
        self._before = _load(known)
        self._now: dict[str, _Seen] = {}
        self._types: dict[int, str] = {}
        self._behind: float | None = None
        self.unseen: dict[str, str] = {}

    def file_system(self, device: int, descriptor: int) -> str:
        """See :func:`foreign_file_system`; each device is examined once."""
        found = self._types.get(device)
        if found is None:
            found = self._types[device] = foreign_file_system(descriptor)
        return found

    def why_wait(self, path: str, fingerprint: Fingerprint, descriptor: int, *, now: float) -> str:
        """Say why a file that looks ready has to be seen once more; empty if it has not."""
        found = self.file_system(fingerprint.device, descriptor)
        if not found:
            return ""
        state = [fingerprint.inode, fingerprint.size, fingerprint.mtime_ns, fingerprint.ctime_ns]
        # As text that JSON can hold, whatever bytes the name has.
        path = os.fsencode(path).decode("latin-1")
        before = self._now.get(path) or self._before.get(path)
        if before is not None and before[0] == state and now - before[1] >= 0 and self._is_over(now - before[1]):
            return ""
        # Every write sets it, by that clock; a program that sets it back has written all that it wanted to.
        written_at = fingerprint.mtime_ns / 1e9
        if now - self._clock_behind(now) - written_at >= self._settle_seconds + LONG_AGO_SECONDS:
            return ""
        since = before[1] if before is not None and before[0] == state and before[1] <= now else now
        if len(self._now) < _MOST:
            self._now[path] = state, since
        return (
            f"{found} does not show writers on other hosts: the file has to be seen unchanged for "
            f"{self._settle_seconds:g} s, by one run and by another"
        )

    def absorb(self, dumped: str, unseen: Mapping[str, str]) -> None:
        """Add what another process has seen in the same run."""
        self._now.update(_load(dumped))
        for reason, path in unseen.items():
            self.unseen.setdefault(reason, path)

    def dump(self) -> str:
        """Serialise for the next run what was seen and is not shipped yet."""
        return msgspec.json.encode(self._now).decode() if self._now or self._before else ""

    def _is_over(self, seconds: float) -> bool:
        return seconds >= self._settle_seconds and seconds > 0

    def _clock_behind(self, now: float) -> float:
        """The seconds by which the clock of the file system, perhaps another host's, is behind ours."""
        if self._behind is None:
            self._behind = 0.0
            name = f"s3-uploader-clock-{os.urandom(6).hex()}.tmp"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with contextlib.suppress(OSError):
                descriptor = os.open(name, flags, 0o600, dir_fd=self._root.descriptor)
                try:
                    self._behind = max(0.0, now - os.fstat(descriptor).st_ctime)
                finally:
                    os.close(descriptor)
                    os.unlink(name, dir_fd=self._root.descriptor)
        return self._behind


def unseen_in_words(reason: str, path: str) -> str:
    """The warning about files that are shipped although their writers cannot be seen.

    :param reason: the type of the file system, or empty if this user lacks the right to see them.
    """
    if reason:
        return (
            f"The spool lies on {reason}, where open files of other hosts cannot be seen. Files wait until two runs "
            "have seen them unchanged. If a producer pauses longer within a file, it is shipped too early. Let it "
            "write elsewhere and rename into the spool."
        )
    return (
        f"Whether somebody writes to files of other users, such as {path}, cannot be seen by this user. Run as the "
        "user that writes them, or give the service CAP_LEASE; until then settle_seconds has to be longer than the "
        "longest pause of a writer."
    )


def _load(text: str | None) -> dict[str, _Seen]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, _Seen])
    except msgspec.DecodeError:
        return {}  # a note of another version
