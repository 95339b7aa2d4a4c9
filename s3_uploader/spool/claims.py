"""Claims: an uploader takes a file out of the spool by an atomic rename, so that only one of several has it.

``claim_dir`` has one directory for each uploader at work::

    claim_dir/HOST.SPOOL.PID.RANDOM/lock        locked with flock(2) as long as the uploader lives
    claim_dir/HOST.SPOOL.PID.RANDOM/files/...   the taken files, under their paths in the spool

``rename(2)`` lets exactly one uploader have a file; the others get ``ENOENT``. The kernel releases the lock when its
holder dies, however it dies, so the next run on any host recognises an abandoned claim, and puts its files back into
the spool. Over NFS the lock lives on the server: a host that vanished keeps its claims until the server has given up
its lease.

Several spools may have the same ``claim_dir``. What was taken from one of them is never put into another, whose
destination is another one. Other entries of ``claim_dir`` are only reported (:mod:`s3_uploader.spool.claim_dir`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Callable
from typing import TypeAlias

from s3_uploader.core.control import begins_anew_after_fork
from s3_uploader.core.errors import SpoolError
from s3_uploader.core.files import OUT_OF_DESCRIPTORS, close_quietly
from s3_uploader.core.model import Candidate, Left
from s3_uploader.core.renaming import rename_without_replacing
from s3_uploader.spool.claim_dir import FILES, LOCK, UNFINISHED, claims_in, claims_with, mark_of
from s3_uploader.spool.directories import make_directories
from s3_uploader.spool.open_file import OpenFile, is_being_written
from s3_uploader.spool.root import Names, SpoolRoot, original_name, taken_name, taken_names

_TRIES = 10
_CACHED_DIRECTORIES = 16
"""Fewer than of a spool alone: the directories of both trees stay open beside the files."""

Stuck: TypeAlias = Callable[[str, OSError], None]
"""Called with the path of each file of an abandoned claim that cannot be put back, and why."""


class Claims:
    """The claims of one run. Belongs to the thread that owns the spool, except :meth:`give_back`.

    :param spool: the spool that files are taken from and given back to.
    :param claim_dir: created if it is missing; must be on the file system of the spool.
    :raises SpoolError: if it cannot be used.
    """

    def __init__(self, spool: SpoolRoot, claim_dir: str) -> None:
        self._spool = spool
        self._claim_dir = claim_dir
        self._owner = threading.get_ident()
        self._guard = threading.Lock()
        self._held: dict[tuple[Names, str], tuple[int, ...]] = {}
        self._closed = False
        try:
            os.makedirs(claim_dir, exist_ok=True)
            if os.stat(claim_dir).st_dev != os.fstat(spool.descriptor).st_dev:
                raise SpoolError(
                    f"claim_dir {claim_dir} and base_dir {spool.base_dir} are on different file systems: "
                    "no file can be claimed by a rename.",
                    hint="Put claim_dir beside the spool.",
                )
            self._mark = mark_of(claim_dir, spool)
            self._name, self._lock = _make(claim_dir, self._mark)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise SpoolError(
                f"claim_dir {claim_dir} cannot be used: {error.strerror or error}.",
                hint="Free some space there: a claim needs two small directories."
                if is_full
                else "Let the user that runs this program write to it.",
            ) from None
        self._path = os.path.join(claim_dir, self._name)
        begins_anew_after_fork(self, Claims.forked)
        try:
            self.root = SpoolRoot(os.path.join(self._path, FILES))
        except BaseException:
            os.close(self._lock)
            raise
        spool.most_cached = self.root.most_cached = _CACHED_DIRECTORIES

    def take(self, candidate: Candidate) -> bool:
        """Claim a candidate.

        Returns ``False`` if another uploader has it, or an earlier file of its name is still in flight here.

        :raises OSError: if it cannot be taken although it may still be there.
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
        with self._guard:
            self._held[candidate.directory, candidate.name] = ()
        return True

    def take_open(self, file: OpenFile, *, may_replace: bool = False) -> tuple[Left, str] | None:
        """Claim an open file; returns why it cannot be claimed.

        It is opened first, so that a file that is not ready is left alone: a producer that looks for it by name must
        find it, and a rename there and back would wake every uploader that watches the spool.

        :param may_replace: its upload may replace an object. Then it waits for the files of its name that are claimed.
            They are older, because they had left the spool when it was opened.
        :raises OSError: if this process has too many files open, which says nothing about this one.
        """
        candidate, inode = file.candidate, (file.fingerprint.device, file.fingerprint.inode)
        with self._guard:
            # To rename one hard link changes the ctime of all: they would count as changed, run after run.
            if inode in self._held.values():
                return Left.POSTPONED, "it is being uploaded under another name"
        if may_replace and self._has_any(candidate):
            return Left.POSTPONED, "an older one of its name is claimed"
        try:
            if not self.take(candidate):
                return Left.VANISHED, "another uploader has it"
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                raise
            # EBUSY: see why_not_opened.
            left = Left.BUSY if error.errno == errno.EBUSY else Left.UNREADABLE
            return left, f"it cannot be claimed: {error.strerror or error}"
        with self._guard:
            self._held[candidate.directory, candidate.name] = inode
        file.home = self.root
        file.on_close = lambda: self.give_back(candidate)
        try:
            status = self.root.stat(candidate.directory, candidate.name)
            before = file.fingerprint
            if (status.st_dev, status.st_ino) != (before.device, before.inode):
                return Left.FRESH, "it has just been replaced"
            if is_being_written(file.descriptor):
                return Left.BUSY, "a writer has it open"
            # The rename has changed the ctime. What is to be compared from now on is the file as it was claimed.
            file.look_again()
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                raise
            return Left.UNREADABLE, error.strerror or str(error)
        return None if file.fingerprint.same_content_as(before) else (Left.FRESH, "it is being changed")

    def _has_any(self, candidate: Candidate) -> bool:
        """Whether any uploader, alive or not, has a file of the same name.

        A file whose name is too long for a private one does not wait: an abandoned one could not be put back beside it.

        :raises OSError: if this process has too many files open.
        """
        original = original_name(candidate.name)
        if taken_name(original) is None:
            return False
        for claim in claims_with(self._claim_dir, self._mark):
            try:
                names = os.listdir(os.path.join(self._claim_dir, claim, FILES, *candidate.directory))
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    raise
                continue  # it has no such directory, or is another user's
            if any(original_name(name) == original for name in names):
                return True
        return False

    def give_back(self, candidate: Candidate) -> None:
        """Put a claimed file back into the spool if it still exists; never overwrites a newer file of its name.

        If that fails, it stays in the claim and a later run puts it back. A thread of a store may call this too, when
        an upload that did not react to its cancellation has ended at last.
        """
        with self._guard:
            self._held.pop((candidate.directory, candidate.name), None)
            is_last = self._closed and not self._held
        if is_last and self._lock >= 0:
            self._finish()
        elif not self._closed and threading.get_ident() == self._owner:
            with contextlib.suppress(OSError):
                _put_back(self.root, candidate.directory, candidate.name, self._spool)

    def recover(self, stuck: Stuck = lambda path, error: None) -> int:
        """Put the files of abandoned claims back into the spool; returns their number."""
        return recover(self._claim_dir, self._spool, stuck, own=self._name)

    def close(self) -> None:
        """Release the claim. May be called twice.

        Files that could not be given back are left for a later run. A file whose upload may still be in flight stays
        claimed until the upload ends: no other uploader may ship it meanwhile.
        """
        self.root.close()
        with self._guard:
            is_over = self._closed or bool(self._held)
            self._closed = True
        if not is_over:
            self._finish()

    def forked(self) -> None:
        """Close the lock in a forked child, which would keep the claim when its parent is killed."""
        lock, self._lock, self._closed = self._lock, -1, True
        close_quietly(lock)

    def _finish(self) -> None:
        # Roots of its own: this may be another thread, long after the run.
        with contextlib.suppress(OSError, SpoolError):
            spool = SpoolRoot(self._spool.base_dir)
            try:
                _empty(self._path, spool)
            finally:
                spool.close()
        _dissolve(self._path, self._lock)


def recover(claim_dir: str, spool: SpoolRoot, stuck: Stuck = lambda path, error: None, *, own: str = "") -> int:
    """Put the files of abandoned claims back into a spool; returns their number.

    :param own: the name of a claim that is left alone.
    """
    recovered = 0
    for name in claims_in(claim_dir, spool):
        if name != own:
            with contextlib.suppress(OSError, SpoolError):
                recovered += _recover(os.path.join(claim_dir, name), spool, stuck)
    return recovered


# -------------------------------------------------------------------------------------------------- making


def _make(claim_dir: str, mark: str) -> tuple[str, int]:
    """Make a claim, which gets its name only when it is locked; returns name and lock.

    Another run may take an unfinished claim for an abandoned one, and remove it.

    :raises OSError: if it cannot be made.
    """
    for attempt in range(_TRIES):
        name = f"{os.uname().nodename}.{mark}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            return name, _make_one(claim_dir, name)
        except (FileNotFoundError, BlockingIOError):
            if attempt + 1 == _TRIES:
                raise
    raise AssertionError("unreachable")


def _make_one(claim_dir: str, name: str) -> int:
    unfinished, finished = os.path.join(claim_dir, UNFINISHED + name), os.path.join(claim_dir, name)
    os.mkdir(unfinished, 0o700)
    lock = -1
    try:
        os.mkdir(os.path.join(unfinished, FILES), 0o700)
        lock = os.open(os.path.join(unfinished, LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unfinished, finished)
        # From now on it counts as finished. But another run may have begun to remove it just before.
        os.stat(os.path.join(finished, FILES))
        os.stat(os.path.join(finished, LOCK))
    except BaseException:
        _dissolve(unfinished, lock)
        _dissolve(finished, -1)
        raise
    return lock


# -------------------------------------------------------------------------------------------------- taking apart


def _recover(claim: str, spool: SpoolRoot, stuck: Stuck) -> int:
    """Put the files of a claim back if its uploader has died; returns their number.

    :raises OSError: if its uploader lives (``EWOULDBLOCK``), or it cannot be taken apart now.
    """
    try:
        lock = os.open(os.path.join(claim, LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        # Killed before the lock was made or after it was removed: there are no files, unless somebody has deleted it.
        _dissolve(claim, -1)
        if os.path.isdir(os.path.join(claim, FILES)) and not os.path.basename(claim).startswith(UNFINISHED):
            stuck(claim, OSError(errno.ENOENT, "somebody has deleted its lock file. Create an empty file lock in it"))
        return 0
    recovered = 0
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Meanwhile another run may have removed the claim, or its maker may have finished it.
        if not _is_at(lock, os.path.join(claim, LOCK)):
            return 0
        with contextlib.suppress(SpoolError):
            # Without its directory for files there are none: that directory is removed first.
            recovered = _empty(claim, spool, stuck)
    except BaseException:
        os.close(lock)
        raise
    _dissolve(claim, lock)
    return recovered


def _is_at(descriptor: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _empty(claim: str, spool: SpoolRoot, stuck: Stuck = lambda path, error: None) -> int:
    """Put every file of a claim back into the spool and remove the directories that become empty.

    :raises SpoolError: if the claim has no directory for files.
    """
    files = SpoolRoot(os.path.join(claim, FILES))
    recovered = 0
    waiting: list[Names] = [()]
    seen: list[Names] = []
    try:
        while waiting:
            names = waiting.pop()
            seen.append(names)
            # An entry can be examined only until the next one is read.
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in files.entries(names)]
            for name, is_directory in entries:
                if is_directory:
                    waiting.append((*names, name))
                else:
                    try:
                        recovered += _put_back(files, names, name, spool)
                    except OSError as error:
                        stuck(files.shown(names, name), error)
        for names in reversed(seen[1:]):
            files.forget(names)
            with contextlib.suppress(OSError):
                os.rmdir(names[-1], dir_fd=files.directory(names[:-1]))
    finally:
        files.close()
    return recovered


def _put_back(claim: SpoolRoot, names: Names, name: str, spool: SpoolRoot) -> bool:
    """Put a file back, under a private name if its producer has made a new one; returns whether it was still there.

    :raises OSError: if it cannot be put back.
    """
    for attempt in range(_TRIES):
        try:
            os.stat(name, dir_fd=claim.directory(names), follow_symlinks=False)
        except FileNotFoundError:
            return False
        # Since the last look any uploader may have pruned the directory, and its producer may have made it again.
        spool.refresh()
        try:
            _rename_back(claim, names, name, spool)
        except FileNotFoundError:
            if attempt + 1 == _TRIES:
                raise
        else:
            return True
    raise AssertionError("unreachable")


def _rename_back(claim: SpoolRoot, names: Names, name: str, spool: SpoolRoot) -> None:
    for wanted in (name, *taken_names(original_name(name))):
        # Where a name is taken, both files are candidates, this one under a private name.
        with contextlib.suppress(FileExistsError):
            make_directories(spool, names)
            rename_without_replacing(claim.directory(names), name, spool.directory(names), wanted)
            return
    raise FileExistsError(errno.EEXIST, "a newer file has its name")


def _dissolve(claim: str, lock: int) -> None:
    """Remove a claim that has no files left, and release its lock (-1 if there is none).

    A claim with files can be recovered only while its lock file exists, so the lock file is deleted after the files.
    """
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(os.path.join(claim, FILES))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(claim, LOCK))
    if lock >= 0:
        # Over NFS an open file that was deleted keeps a hidden name, so its directory would not be empty.
        os.close(lock)
    with contextlib.suppress(OSError):
        os.rmdir(claim)
