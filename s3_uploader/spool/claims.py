"""Claims: taking a file out of the spool by an atomic rename, so that one of several uploaders has it.

``claim_dir`` holds one directory for each uploader at work::

    claim_dir/HOST.PID.RANDOM/lock          locked with flock(2) as long as the uploader lives
    claim_dir/HOST.PID.RANDOM/files/...     what it has taken, under the paths that the files had in the spool

``rename(2)`` lets exactly one uploader have a file; the others get ``ENOENT``. The kernel releases the lock when its
holder dies, however it dies, so the next run on any host can tell a claim that was left behind from one that is in use,
and puts its files back into the spool. Over NFS the lock lives on the server: a host that vanished keeps its claims
until the server has given up its lease.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time

from s3_uploader.errors import SpoolError
from s3_uploader.model import Candidate
from s3_uploader.spool.disposition import rename_without_replacing
from s3_uploader.spool.layout import taken_name
from s3_uploader.spool.root import Names, SpoolRoot

_LOCK = "lock"
_FILES = "files"
_UNFINISHED = "."
"""A claim whose name begins so is just being made, and not locked yet."""
_UNFINISHED_SECONDS = 3600.0


class Claims:
    """The claims of one run. Belongs to the thread that owns the spool.

    :param spool: where files are taken from and given back to.
    :param claim_dir: made if it is missing; on the file system of the spool.
    :raises SpoolError: if it cannot be used.
    """

    def __init__(self, spool: SpoolRoot, claim_dir: str) -> None:
        self._spool = spool
        self._claim_dir = claim_dir
        try:
            os.makedirs(claim_dir, exist_ok=True)
            if os.stat(claim_dir).st_dev != os.fstat(spool.descriptor).st_dev:
                raise SpoolError(
                    f"claim_dir {claim_dir} and base_dir {spool.base_dir} are on different file systems: "
                    "no file can be claimed by a rename.",
                    hint="Put claim_dir beside the spool.",
                )
            self._name = f"{os.uname().nodename}.{os.getpid()}.{secrets.token_hex(4)}"
            self._lock = self._make()
        except OSError as error:
            raise SpoolError(
                f"claim_dir {claim_dir} cannot be used: {error.strerror}.",
                hint="Let the user that runs this program write to it.",
            ) from None
        self.root = SpoolRoot(os.path.join(claim_dir, self._name, _FILES))

    def _make(self) -> int:
        """Make this run's claim, which appears under its name only when it is locked."""
        unfinished = os.path.join(self._claim_dir, _UNFINISHED + self._name)
        os.mkdir(unfinished, 0o700)
        os.mkdir(os.path.join(unfinished, _FILES), 0o700)
        lock = os.open(os.path.join(unfinished, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(unfinished, os.path.join(self._claim_dir, self._name))
        except OSError:
            os.close(lock)
            raise
        return lock

    def take(self, candidate: Candidate) -> bool:
        """Claim a candidate; ``False`` if somebody else has it, or an earlier file of its name is still under way here.

        :raises OSError: if it can be neither taken nor seen to be gone.
        """
        make_directories(self.root, candidate.directory)
        here = self.root.directory(candidate.directory)
        with contextlib.suppress(FileNotFoundError):
            os.stat(candidate.name, dir_fd=here, follow_symlinks=False)
            return False
        try:
            # Nobody else writes into this claim, so this rename cannot replace anything.
            os.rename(
                candidate.name,
                candidate.name,
                src_dir_fd=self._spool.directory(candidate.directory),
                dst_dir_fd=here,
            )
        except FileNotFoundError:
            return False
        return True

    def give_back(self, candidate: Candidate) -> None:
        """Put a claimed file, if it is still there, back into the spool; never over a newer file of its name.

        Where that fails it stays in the claim, and a later run puts it back.
        """
        _put_back(self.root, candidate.directory, candidate.name, self._spool)

    def recover(self) -> int:
        """Put the files of claims that were left behind back into the spool; returns how many."""
        recovered = 0
        for name in sorted(os.listdir(self._claim_dir)):
            if name == self._name:
                continue
            with contextlib.suppress(OSError):
                recovered += self._recover(os.path.join(self._claim_dir, name))
        return recovered

    def _recover(self, claim: str) -> int:
        try:
            lock = os.open(os.path.join(claim, _LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            # Killed before the lock was made or after it was removed: there are no files.
            if os.stat(claim).st_mtime < time.time() - _UNFINISHED_SECONDS:
                os.rmdir(claim)
            return 0
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_young(claim):
                return 0
            # While the lock was asked for, another run may have dissolved the claim.
            if os.fstat(lock).st_nlink == 0:
                return 0
            left = SpoolRoot(os.path.join(claim, _FILES))
            try:
                recovered = _put_all_back(left, self._spool)
            finally:
                left.close()
            _dissolve(claim)
            return recovered
        except BlockingIOError:
            return 0
        finally:
            os.close(lock)

    def close(self) -> None:
        """Give up the claim. What could not be given back is left for the next run to recover."""
        with contextlib.suppress(OSError):
            _put_all_back(self.root, self._spool)
        self.root.close()
        with contextlib.suppress(OSError):
            _dissolve(os.path.join(self._claim_dir, self._name))
        os.close(self._lock)


def make_directories(root: SpoolRoot, names: Names) -> None:
    """Make a directory below a root, with those above it, through descriptors."""
    try:
        root.directory(names)
    except FileNotFoundError:
        make_directories(root, names[:-1])
        with contextlib.suppress(FileExistsError):
            os.mkdir(names[-1], 0o777, dir_fd=root.directory(names[:-1]))


def _put_all_back(claim: SpoolRoot, spool: SpoolRoot) -> int:
    """Put every file of a claim back into the spool and remove the directories that are empty then."""
    recovered = 0
    waiting: list[Names] = [()]
    seen: list[Names] = []
    while waiting:
        names = waiting.pop()
        seen.append(names)
        for entry in list(claim.entries(names)):
            if entry.is_dir(follow_symlinks=False):
                waiting.append((*names, entry.name))
            else:
                recovered += _put_back(claim, names, entry.name, spool)
    for names in reversed(seen[1:]):
        claim.forget(names)
        with contextlib.suppress(OSError):
            os.rmdir(names[-1], dir_fd=claim.directory(names[:-1]))
    return recovered


def _put_back(claim: SpoolRoot, names: Names, name: str, spool: SpoolRoot) -> bool:
    for wanted in (name, taken_name(name)):
        if wanted is None:
            continue
        try:
            make_directories(spool, names)
            rename_without_replacing(claim.directory(names), name, spool.directory(names), wanted)
        except FileExistsError:
            # Its producer has made a new file of this name: both are candidates, this one under its private name.
            continue
        except OSError as error:
            return error.errno == errno.ENOENT
        return True
    return False


def _dissolve(claim: str) -> None:
    """Remove a claim that holds no files any more.

    The lock goes last but one: as long as it is there, a claim that still holds files can be recovered.

    :raises OSError: ``ENOTEMPTY`` if it does hold files.
    """
    os.rmdir(os.path.join(claim, _FILES))
    os.unlink(os.path.join(claim, _LOCK))
    os.rmdir(claim)


def _is_young(claim: str) -> bool:
    """Whether a claim may be one that is just being made, by a process that is between two steps."""
    name = os.path.basename(claim)
    return name.startswith(_UNFINISHED) and os.stat(claim).st_mtime > time.time() - _UNFINISHED_SECONDS
