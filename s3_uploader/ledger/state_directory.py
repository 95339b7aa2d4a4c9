"""Where the program keeps what it remembers between runs: one directory for each spool, with room for the ledger.

A file is removed only when its row is durable, and a row needs room. If spool and ledger share a full disk, no file
could ever be removed. So a small file, the reserve, is kept beside the ledger while there is room, and deleted for the
rows of the first files. Their removal makes room for the next ones, and for the reserve.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping

from s3_uploader.config.schema import Config
from s3_uploader.core.errors import DEAD_MOUNT, StateError, is_of_a_failing_disk
from s3_uploader.core.text import shown_name

LEDGER_NAME = "ledger.sqlite3"
COMPANIONS = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite makes beside a ledger."""
RESERVE_NAME = "reserve"
RESERVE_SIZE = 256 * 1024
"""Enough for a batch of rows, and its journal or write-ahead log with its index."""
_AMPLE = 8 * RESERVE_SIZE
"""With less free room than this, no reserve is made."""
_CHUNK = 64 * 1024
WHERE_IT_MAY_BE = (
    "Run this as the user that runs the uploads, with their state directory: with --set state_dir=DIRECTORY, or, where "
    "systemd runs them, with STATE_DIRECTORY=/var/lib/s3-uploader (or the unit's own name) in the environment."
)
"""What to do about a ledger that is not where it was looked for."""


def state_directory(*, config_state_dir: str | None, environ: Mapping[str, str], base_dir: str, uid: int) -> str:
    """The absolute path of the state directory of one spool. Creates nothing.

    The parent is the first that is given of: ``state_dir`` of the configuration, ``STATE_DIRECTORY`` (systemd sets it;
    of several the first), ``XDG_STATE_HOME``/s3-uploader, ``~/.local/state/s3-uploader``. In it, each spool has a
    directory of its own, so that several configurations can share the parent.

    :raises StateError: if none of them is given and ``uid`` has no home directory.
    """
    return os.path.join(_parent(config_state_dir, environ, uid), spool_name(base_dir))


def ledger_path(config: Config, *, environ: Mapping[str, str] = os.environ) -> str:
    """Where the ledger of a spool is, whether the spool exists or not. Those of shares lie in directories beside it."""
    state_dir = state_directory(
        config_state_dir=config.state_dir, environ=environ, base_dir=config.base_dir, uid=os.getuid()
    )
    return os.path.join(state_dir, LEDGER_NAME)


def own_state_directory(config: Config, *, environ: Mapping[str, str] = os.environ) -> str:
    """Where a run of the configuration keeps what it remembers: for each share it is a directory of its own."""
    common = os.path.dirname(ledger_path(config, environ=environ))
    if config.share is None:
        return common
    from s3_uploader.config.share import share_of

    share = share_of(config)
    return common if share is None else os.path.join(common, share.name)


def own_ledger_path(config: Config, *, environ: Mapping[str, str] = os.environ) -> str:
    """Where the ledger is that a run of the configuration writes."""
    return os.path.join(own_state_directory(config, environ=environ), LEDGER_NAME)


def spool_name(base_dir: str) -> str:
    """A name that is readable and belongs to the directory that ``base_dir`` really is, and to no other."""
    real = os.path.realpath(base_dir)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", os.path.basename(real)).strip("._")[:40] or "spool"
    return f"{readable}-{_fnv1a(os.fsencode(real)):016x}"


def create_state_directory(path: str) -> None:
    """Create the directory, for its owner alone, and its parents where they are missing.

    :raises StateError: if that is not possible, or it is there and this user cannot write to it.
    """
    if os.path.basename(path).startswith("share-"):
        create_state_directory(os.path.dirname(path))  # that of the spool, with the same mode
    try:
        try:
            _make_above(os.path.dirname(path), 0o700)
            os.mkdir(path, 0o700)
        except FileExistsError:
            # For mkdir() a dead mount exists, and isdir() does not say what is wrong with it.
            if not stat.S_ISDIR(os.stat(path).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        if not os.access(path, os.W_OK | os.X_OK):
            code = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code), path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        remedy = "Free space for it" if full else "Make it writable for this user"
        if error.errno == errno.EROFS:
            remedy = "Mount it writable (a disk with errors is made read-only: `dmesg` shows them)"
        elif is_of_a_failing_disk(error):
            remedy = DEAD_MOUNT
        raise StateError(
            f"The state directory {shown_name(path)} cannot be used: {error.strerror}.",
            hint=f"{remedy}, or name another one with state_dir; no file is deleted until then.",
            code="DiskFull" if full else "Denied" if denied else "",
        ) from error


def _make_above(path: str, mode: int) -> None:
    """Create a directory and those above it. Others may write to none of them, whatever the umask is."""
    if not path or os.path.isdir(path):
        return
    _make_above(os.path.dirname(path), 0o755)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):  # or another run has made it at this moment
            raise


def not_writable(state_dir: str) -> str:
    """The path in a state directory that this user may not write to; empty if a run of this user can use it.

    It is the ledger, the directory, or if that is missing, the nearest directory above it. A disk that is mounted
    read-only does not count.
    """
    place = state_dir
    while not os.path.isdir(place) and place not in ("/", ""):
        place = os.path.dirname(place)
    ledger = os.path.join(state_dir, LEDGER_NAME)
    try:
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return ""
    except OSError:
        return ""
    if not os.access(place, os.W_OK | os.X_OK):
        return place
    return ledger if os.path.exists(ledger) and not os.access(ledger, os.W_OK) else ""


def identity_of(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; ``None`` if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def directory_locked(directory: str, operation: int) -> Iterator[None]:
    """Lock the state directory, if possible. It matters only if several processes find the ledger damaged at once."""
    descriptor = -1
    with contextlib.suppress(OSError):
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, operation)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _parent(config_state_dir: str | None, environ: Mapping[str, str], uid: int) -> str:
    if config_state_dir is not None:
        if config_state_dir == "~" or config_state_dir.startswith("~/"):
            return os.path.join(_home(environ, uid), config_state_dir[2:])
        return os.path.abspath(os.path.expanduser(config_state_dir))
    from_systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if from_systemd:
        return from_systemd
    # The XDG specification says about its variables: a relative path is invalid and must be ignored.
    from_xdg = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(from_xdg):
        return os.path.join(from_xdg, "s3-uploader")
    return os.path.join(_home(environ, uid), ".local", "state", "s3-uploader")


def _home(environ: Mapping[str, str], uid: int) -> str:
    home = environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        raise StateError(
            f"There is no place for the ledger: user {uid} has no home directory.", hint="Name one with state_dir."
        ) from None


def _fnv1a(data: bytes) -> int:
    """64-bit FNV-1a. Tells a handful of paths apart without importing hashlib, which loads OpenSSL."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def keep_reserve(directory: str) -> bool:
    """Make the reserve if it is missing and there is ample room; a failure is ignored. Returns whether it was made."""
    path = os.path.join(directory, RESERVE_NAME)
    with contextlib.suppress(OSError):
        if os.path.exists(path):
            return False
        room = os.statvfs(directory)
        if room.f_bavail * room.f_frsize < _AMPLE:
            return False
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Written, not only allocated, and not with zeros: a compressing file system would reserve no room for them.
            for _ in range(RESERVE_SIZE // _CHUNK):
                os.write(descriptor, os.urandom(_CHUNK))
        except OSError:
            os.unlink(path)
            return False
        finally:
            os.close(descriptor)
        return True
    return False


def give_up_reserve(directory: str) -> bool:
    """Free the room; returns ``False`` if there is no reserve."""
    try:
        os.unlink(os.path.join(directory, RESERVE_NAME))
    except OSError:
        return False
    # Some file systems hand freed blocks out only once the removal is in their journal.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return True
