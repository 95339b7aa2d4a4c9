"""The local store: a directory of this machine as destination, for example an archive on a mount.

Terms
-----
root
    The directory in the configuration. Links in its own path are followed, links below it never.
temporary name
    The name of the bytes until they are proven, in the directory of the target. It is derived from the key, so the next
    upload of that key finds and removes what a killed run left.
proof
    The SHA-256 of the bytes that were read back through a new descriptor, after ``fsync`` and after the kernel was
    asked to drop its cached pages: always :attr:`~s3_uploader.core.model.Proof.CHECKSUM`.

A mount that hangs (NFS without its server) blocks its threads in the kernel, where neither a deadline nor a signal
reaches them. ``close`` leaves such threads behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence

from s3_uploader.core.errors import FAILING_DISK, ConflictError, Scope, StoreError
from s3_uploader.core.files import OUT_OF_DESCRIPTORS, sync_directory
from s3_uploader.core.findings import Finding
from s3_uploader.core.model import OnConflict, Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, Loop, PendingReceipt, PutOptions, Source, ignore
from s3_uploader.stores.keys import path_segments
from s3_uploader.stores.local.copying import FileCopy
from s3_uploader.stores.local.errors import code_of, name_of_another, origin_of, reason_of, translated
from s3_uploader.stores.local.files import is_found_only
from s3_uploader.stores.workers import UploadTask, Workers

_DESCRIPTOR_SECONDS = 5.0
"""How long a copy waits for a free descriptor."""
_LOOK_SECONDS = 0.05
_MOST_REMEMBERED = 10_000
"""Directories whose names need no second look."""


class LocalStore:
    """A directory as :class:`~s3_uploader.stores.base.Store`.

    Nothing is ever overwritten except with ``on_conflict: overwrite``: the finished file gets its name by ``link(2)``,
    which refuses a taken one. On file systems without hard links ``renameat2(RENAME_NOREPLACE)`` does the same. If that
    is missing too (some FUSE file systems), the store looks first and then renames.

    :param path: the root; it must exist when the store is opened.
    :param max_concurrency: the maximum number of concurrent copies.
    :param key_prefixes: what keys begin with; only :meth:`check` uses it.
    """

    loop: Loop | None = None
    keeps_writers_apart = False  # without hard links, on some FUSE file systems, it looks first

    def __init__(self, *, path: str, max_concurrency: int = 8, key_prefixes: Sequence[str] = ()) -> None:
        self._path = self.name = path
        self._max_concurrency = max_concurrency
        self._key_prefixes = key_prefixes
        self._root: int | None = None
        self._workers: Workers | None = None
        self._real_names: set[tuple[bool, tuple[str, ...]]] = set()
        self._short_of_descriptors = threading.Lock()

    def open(self) -> None:
        """Open the root.

        :raises StoreError: with scope ``DESTINATION`` if it is missing, not a directory, or not writable.
        """
        if self._root is not None:
            return
        try:
            root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            hint = "Create it, or mount the file system that belongs there." if error.errno == errno.ENOENT else ""
            raise StoreError(
                f"The directory {self._path} cannot be opened: {reason_of(error)}.",
                code=code_of(error),
                origin=origin_of(error),
                scope=Scope.DESTINATION,
                hint=hint,
            ) from error
        # Checks the effective user and read-only mounts, which mode bits alone do not show.
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
            os.close(root)
            raise StoreError(
                f"The directory {self._path} cannot be written.",
                code="EACCES",
                origin=Origin.DIRECTORY,
                scope=Scope.DESTINATION,
                hint="Give this program's user permission to write there, or mount it writable.",
            )
        self._root = root
        self._workers = Workers(name="local-store", count=self._max_concurrency)

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """Copy the bytes of ``source`` to ``key`` below the root; see :meth:`Store.put`.

        ``receipt.etag``, and so ``replaces``, is the hexadecimal SHA-256 of the content.
        """
        if self._workers is None:
            raise RuntimeError("the store is not open")
        return self._workers.submit(lambda task: self._put(task, key, source, options, replaces), deadline=deadline)

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """Open the file and read its last byte; see :meth:`Store.confirm`."""
        if self._workers is None:
            raise RuntimeError("the store is not open")
        return self._workers.submit(lambda task: self._confirm(receipt), deadline=deadline)

    def _confirm(self, receipt: Receipt) -> Receipt:
        from s3_uploader.stores.local.presence import confirm

        assert self._root is not None
        address = shown_name(self.address(receipt.key))
        try:
            return confirm(self._root, receipt, address=address)
        except OSError as error:
            raise translated(error, address) from error

    def cancel(self) -> None:
        """Cancel all copies in flight."""
        if self._workers is not None:
            self._workers.cancel()

    def address(self, key: str) -> str:
        """The path of the file."""
        return f"{self._path.rstrip('/')}/{key}"

    def close(self, *, timeout: float) -> None:
        """End the threads and close the root; see :meth:`Store.close`."""
        workers, self._workers = self._workers, None
        root, self._root = self._root, None
        # While a thread hangs in the kernel, the descriptor stays open: its number must not be reused for another file.
        if (workers is None or workers.close(timeout=timeout)) and root is not None:
            os.close(root)

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """Write, prove, refuse to overwrite and remove a test file; see :meth:`Store.check`."""
        from s3_uploader.stores.local.check import check_directory

        return check_directory(self._path, now=now, stored=stored, key_prefixes=self._key_prefixes)

    def _put(self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str) -> Receipt:
        try:
            try:
                return self._copy(task, key, source, options, replaces)
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
            return self._when_others_are_done(task, lambda: self._copy(task, key, source, options, replaces))
        except OSError as error:
            raise translated(error, self.address(shown_name(key))) from error

    def _when_others_are_done(self, task: UploadTask, copy: Callable[[], Receipt]) -> Receipt:
        """Copy a file for which there was no descriptor: one such file at a time, as soon as others have freed some."""
        while not self._short_of_descriptors.acquire(timeout=_LOOK_SECONDS):
            task.check()
        try:
            ends_at = time.monotonic() + _DESCRIPTOR_SECONDS
            while True:
                try:
                    return copy()
                except OSError as error:
                    if error.errno not in OUT_OF_DESCRIPTORS or time.monotonic() > ends_at:
                        raise
                task.check()
                time.sleep(_LOOK_SECONDS)
        finally:
            self._short_of_descriptors.release()

    def _copy(self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str) -> Receipt:
        segments = path_segments(key)
        with task.reading_source():
            replaces_any = options.on_conflict is OnConflict.OVERWRITE
            directory = self._open_directory(segments[:-1], key, replaces=replaces_any)
            try:
                return FileCopy(
                    task, directory, key, source, options, replaces, address=shown_name(self.address(key))
                ).run()
            finally:
                os.close(directory)

    def _refuse_another_root(self, root: int) -> None:
        """Refuse to go on if a mount or unmount has made the path another directory than the open one."""
        try:
            is_the_same = os.path.samestat(os.stat(self._path), os.fstat(root))
        except OSError as error:
            if error.errno == errno.EIO:
                raise StoreError(
                    f"The directory {shown_name(self._path)} cannot be examined: {reason_of(error)}.",
                    code="EIO",
                    origin=Origin.DIRECTORY,
                    scope=Scope.DESTINATION,
                    hint=FAILING_DISK,
                ) from error
            is_the_same = False
        if not is_the_same:
            raise StoreError(
                f"{shown_name(self._path)} is no longer the directory that it was when the run began. Something was "
                "mounted or unmounted there.",
                code="NotMounted",
                origin=Origin.DIRECTORY,
                scope=Scope.DESTINATION,
                hint="Mount the file system that belongs there.",
            )

    def _enter(self, directory: int, path: tuple[str, ...], key: str, *, replaces: bool) -> int:
        """Open the last directory of a path in the one before it."""
        name = path[-1]
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            below = os.open(name, flags, dir_fd=directory)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=directory)
            sync_directory(directory)
            below = os.open(name, flags, dir_fd=directory)
        if (replaces, path) not in self._real_names:
            try:
                if is_found_only(directory, name, accents=replaces):
                    raise name_of_another(shown_name(self.address(key)))
            except (OSError, StoreError):
                os.close(below)
                raise
            if len(self._real_names) < _MOST_REMEMBERED:
                self._real_names.add((replaces, path))
        return below

    def _open_directory(self, names: list[str], key: str, *, replaces: bool) -> int:
        """Open the directory below the root, without following a link. It is created if it is missing.

        :param replaces: a file with the key may be replaced, so it must not be one of another directory.
        """
        assert self._root is not None
        self._refuse_another_root(self._root)
        for _ in range(10):
            current = os.dup(self._root)
            try:
                for number in range(len(names)):
                    name = names[number]
                    below = self._enter(current, tuple(names[: number + 1]), key, replaces=replaces)
                    os.close(current)
                    current = below
            except FileNotFoundError:
                # Another program removed a directory between our mkdir and open: begin again.
                os.close(current)
                continue
            except OSError as error:
                os.close(current)
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise ConflictError(
                        f"{self.address(shown_name(key))} cannot be written: {shown_name(name)} on the way to it is a "
                        "file or a link, not a directory.",
                        hint="Links below the archive directory are never followed.",
                    ) from None
                raise
            except StoreError:
                os.close(current)
                raise
            return current
        raise StoreError(
            f"The directory of {self.address(shown_name(key))} is removed as soon as it is made.", code="ENOENT"
        )
