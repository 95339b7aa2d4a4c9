"""The local store: a directory of this machine as destination, an archive on a mount for example.

Terms
-----
root
    The directory that the configuration names. Links on the way to it are followed, links below it never.
temporary name
    Where the bytes lie until they are proven, in the same directory as the target. It is derived from the key, so that
    what a killed run left there is found and removed by the next upload of that key.
proof
    The SHA-256 of what was read back through a new descriptor, after ``fsync`` and after the kernel was asked to drop
    its cached pages: always :attr:`~s3_uploader.core.model.Proof.CHECKSUM`.

A mount that hangs (NFS with the server gone) blocks its threads in the kernel, where neither a deadline nor a signal
reaches them; ``close`` leaves such threads behind.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import Future

from s3_uploader.core.errors import ConflictError, KeyRefused, ProofError, Scope, SourceChanged, StoreError
from s3_uploader.core.files import sync_directory, write_all
from s3_uploader.core.model import Finding, OnConflict, Proof, Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import Loop, PutOptions, Source, StoreProperties, ignore
from s3_uploader.stores.keys import derived_key, path_segments
from s3_uploader.stores.local import files
from s3_uploader.stores.workers import UploadTask, Workers

_CHUNK = 1 << 20


class LocalStore:
    """A directory as :class:`~s3_uploader.stores.base.Store`.

    Nothing is ever replaced but with ``on_conflict: overwrite``: the finished file gets its name by ``link(2)``, which
    refuses a taken one. On file systems without hard links ``renameat2(RENAME_NOREPLACE)`` does the same, and where
    that is missing too (some FUSE file systems) the store looks first and then renames.

    :param path: the root; it must exist when the store is opened.
    :param max_concurrency: most copies at once.
    """

    loop: Loop | None = None

    def __init__(self, *, path: str, max_concurrency: int = 8) -> None:
        self._path = path
        self._max_concurrency = max_concurrency
        self._root: int | None = None
        self._workers: Workers | None = None

    @property
    def properties(self) -> StoreProperties:
        """What a directory can do."""
        return StoreProperties(
            name=self._path,
            scheme="file",
            strongest_proof=Proof.CHECKSUM,
            conditional_put=True,
            maximum_key_bytes=None,
            maximum_size=None,
        )

    def open(self) -> None:
        """Open the root.

        :raises StoreError: with scope ``DESTINATION`` if it is missing, no directory, or cannot be written.
        """
        if self._root is not None:
            return
        try:
            root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            hint = "Create it, or mount what belongs there." if error.errno == errno.ENOENT else ""
            raise StoreError(
                f"The directory {self._path} cannot be opened: {reason_of(error)}.",
                code=code_of(error),
                scope=Scope.DESTINATION,
                hint=hint,
            ) from error
        # Asks for the effective user, and knows of read-only mounts; mode bits alone would not tell.
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
            os.close(root)
            raise StoreError(
                f"The directory {self._path} cannot be written.",
                code="EACCES",
                scope=Scope.DESTINATION,
                hint="Give the user of this program the right to write there, or mount it writable.",
            )
        self._root = root
        self._workers = Workers(name="local-store", count=self._max_concurrency)

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> Future[Receipt]:
        """Copy the bytes of ``source`` to ``key`` below the root; see :meth:`Store.put`.

        ``receipt.etag``, and so ``replaces``, is the hexadecimal SHA-256 of the content.
        """
        if self._workers is None:
            raise RuntimeError("the store is not open")
        return self._workers.submit(lambda task: self._put(task, key, source, options, replaces), deadline=deadline)

    def confirm(self, receipt: Receipt, *, deadline: float) -> Future[Receipt]:
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
        """Give up all copies in flight."""
        if self._workers is not None:
            self._workers.cancel()

    def address(self, key: str) -> str:
        """The path of the file."""
        return f"{self._path.rstrip('/')}/{key}"

    def close(self, *, timeout: float) -> None:
        """End the threads and close the root; see :meth:`Store.close`."""
        workers, self._workers = self._workers, None
        root, self._root = self._root, None
        # With a thread still stuck in the kernel the descriptor stays open: its number must not become another file's.
        if (workers is None or workers.close(timeout=timeout)) and root is not None:
            os.close(root)

    def check(self, *, now: float, stored: Callable[[str], None] = ignore) -> list[Finding]:
        """Write, prove, refuse to replace and remove a small file of our own; see :meth:`Store.check`."""
        from s3_uploader.stores.local.check import check_directory

        return check_directory(self._path, now=now, stored=stored)

    def _put(self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str) -> Receipt:
        segments = path_segments(key)
        with task.reading_source():
            try:
                directory = self._open_directory(segments[:-1], key)
                try:
                    return FileCopy(
                        task, directory, key, source, options, replaces, address=shown_name(self.address(key))
                    ).run()
                finally:
                    os.close(directory)
            except OSError as error:
                raise translated(error, self.address(shown_name(key))) from error

    def _refuse_another_root(self, root: int) -> None:
        """What is mounted or unmounted there meanwhile makes the path another directory than the one that is open."""
        try:
            is_the_same = os.path.samestat(os.stat(self._path), os.fstat(root))
        except OSError:
            is_the_same = False
        if not is_the_same:
            raise StoreError(
                f"{shown_name(self._path)} is not the directory any more that it was when the run began: something was "
                "mounted or unmounted there.",
                code="NotMounted",
                scope=Scope.DESTINATION,
                hint="Mount what belongs there.",
            )

    def _open_directory(self, names: list[str], key: str) -> int:
        """A descriptor of the directory below the root, made as needed, reached without following a link."""
        assert self._root is not None
        self._refuse_another_root(self._root)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(10):
            current = os.dup(self._root)
            try:
                for name in names:
                    try:
                        below = os.open(name, flags, dir_fd=current)
                    except FileNotFoundError:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(name, dir_fd=current)
                        sync_directory(current)
                        below = os.open(name, flags, dir_fd=current)
                    os.close(current)
                    current = below
            except FileNotFoundError:
                # Somebody tidies up and removed a directory between our mkdir and open: begin again.
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
            return current
        raise StoreError(
            f"The directory of {self.address(shown_name(key))} vanishes as soon as it is made.", code="ENOENT"
        )


class FileCopy:
    """One file's way into its directory."""

    def __init__(
        self,
        task: UploadTask,
        directory: int,
        key: str,
        source: Source,
        options: PutOptions,
        replaces: str,
        *,
        address: str,
    ) -> None:
        self._task = task
        self._directory = directory
        self._key = key
        self._name = key.rpartition("/")[2]
        self._source = source
        self._options = options
        self._replaces = replaces
        self._address = address
        self._temporary = f".{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}.s3-uploader-part"

    def run(self) -> Receipt:
        """Store the file, or find out that it is there already."""
        if self._taken(self._name):
            # Worth a look before copying: after a crash between upload and removal this is the normal case.
            digest = self._source_digest()
            existing = self._digest_at(self._name)
            if existing == digest:
                return self._already_there(self._key, digest)
            if not self._may_replace(existing):
                if self._options.on_conflict is OnConflict.FAIL:
                    raise self._conflict(self._address, existing)
                derived = derived_key(self._key, digest)
                if self._digest_at(derived.rpartition("/")[2]) == digest:
                    return self._already_there(derived, digest)
        with files.exclusive_file(self._directory, self._temporary, pause=self._task.pause) as descriptor:
            digest = self._copy(descriptor)
            self._task.check()
            return self._name_it(digest)

    def _name_it(self, digest: str) -> Receipt:
        """Give the finished file its name, as the conflict policy says."""
        if self._move_to(self._name):
            return self._stored(self._key, digest)
        existing = self._digest_at(self._name)
        if existing == digest:
            return self._already_there(self._key, digest)
        if self._may_replace(existing):
            os.rename(self._temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            return self._stored(self._key, digest)
        if self._options.on_conflict is OnConflict.FAIL:
            raise self._conflict(self._address, existing)
        derived = derived_key(self._key, digest)
        name = derived.rpartition("/")[2]
        if self._move_to(name):
            return self._stored(derived, digest)
        if self._digest_at(name) == digest:
            return self._already_there(derived, digest)
        raise self._conflict(f"{self._address} and {shown_name(name)} beside it", existing)

    def _may_replace(self, existing: str | None) -> bool:
        return self._options.on_conflict is OnConflict.OVERWRITE or (
            self._replaces != "" and existing == self._replaces
        )

    def _move_to(self, name: str) -> bool:
        return files.move_without_replacing(self._directory, self._temporary, name)

    def _stored(self, key: str, digest: str) -> Receipt:
        sync_directory(self._directory)
        size = self._source.size
        return Receipt(key=key, size=size, proof=Proof.CHECKSUM, checksum=f"sha256:{digest}", etag=digest)

    def _already_there(self, key: str, digest: str) -> Receipt:
        """Whoever put it there may have been killed before it was safe on the disk, so make it safe now."""
        name = key.rpartition("/")[2]
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        files.remove_abandoned(self._directory, self._temporary)
        sync_directory(self._directory)
        return Receipt(
            key=key,
            size=self._source.size,
            proof=Proof.CHECKSUM,
            checksum=f"sha256:{digest}",
            etag=digest,
            already_there=True,
        )

    def _conflict(self, address: str, existing: str | None) -> ConflictError:
        return ConflictError(
            f"{address} exists already with other content.",
            hint="Look at both; on_conflict: keep-both or overwrite lets this file through.",
            existing=existing or "",
        )

    def _taken(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _digest_at(self, name: str) -> str | None:
        """SHA-256 of the regular file ``name``; ``None`` if there is none or it cannot be read."""
        try:
            # Without O_NONBLOCK a FIFO of that name would keep us waiting for a writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=self._directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
                return None
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            return self._digest_of(descriptor, status.st_size)
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int) -> str:
        """Copy the source, make it durable and read it back; returns the SHA-256 of both."""
        sent = hashlib.sha256()
        offset = 0
        while offset < self._source.size:
            self._task.check()
            chunk = self._read_source(offset)
            sent.update(chunk)
            write_all(descriptor, chunk)
            offset += len(chunk)
        # As a copy for the archive the file keeps its time, where the file system has one.
        with contextlib.suppress(OSError):
            status = os.fstat(self._source.descriptor)
            os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(descriptor)
        # Now clean, the pages can go, so that what is read back comes from the disk or the server, where the file
        # system heeds the advice.
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        fresh = os.open(self._temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            # One byte more than there should be, to see that there are no more.
            stored = self._digest_of(fresh, self._source.size + 1)
        finally:
            os.close(fresh)
        if stored != sent.hexdigest():
            raise ProofError(f"What was read back of {self._address} is not what was written.")
        return stored

    def _source_digest(self) -> str:
        digest = hashlib.sha256()
        offset = 0
        while offset < self._source.size:
            self._task.check()
            chunk = self._read_source(offset)
            digest.update(chunk)
            offset += len(chunk)
        return digest.hexdigest()

    def _read_source(self, offset: int) -> bytes:
        try:
            chunk = os.pread(self._source.descriptor, min(_CHUNK, self._source.size - offset), offset)
        except OSError as error:
            raise SourceChanged(f"The source cannot be read at byte {offset}: {reason_of(error)}.") from error
        if not chunk:
            raise SourceChanged(f"The source ends at byte {offset}, not {self._source.size}.")
        return chunk

    def _digest_of(self, descriptor: int, size: int) -> str:
        digest = hashlib.sha256()
        offset = 0
        while offset < size:
            self._task.check()
            chunk = os.pread(descriptor, min(_CHUNK, size - offset), offset)
            if not chunk:
                break
            digest.update(chunk)
            offset += len(chunk)
        return digest.hexdigest()


_DESTINATION_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENOTCONN}
_KEY_ERRORS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


def translated(error: OSError, address: str) -> StoreError:
    """The error of an operation below the root, in the words of the program."""
    message = f"{address} cannot be written: {reason_of(error)}."
    if error.errno in _KEY_ERRORS:
        # vfat and CIFS mounts refuse names that hold a colon, say, with EINVAL.
        return KeyRefused(f"{address} is no name that this file system takes: {reason_of(error)}.")
    if error.errno == errno.EISDIR:
        return ConflictError(f"{address} is a directory.")
    hint = "Make room there." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    scope = Scope.DESTINATION if error.errno in _DESTINATION_ERRORS else Scope.FILE
    return StoreError(message, code=code_of(error), scope=scope, hint=hint)


def code_of(error: OSError) -> str:
    """The kernel's name of an error, ``ENOSPC`` for example."""
    return errno.errorcode.get(error.errno or 0, "OSError")


def reason_of(error: OSError) -> str:
    """The kernel's words for an error, as the end of a sentence."""
    return (error.strerror or str(error)).lower()
