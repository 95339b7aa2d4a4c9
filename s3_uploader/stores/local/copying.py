"""One copy to the archive directory: copy, sync, read back, and rename without overwriting."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator

from s3_uploader.core.errors import ConflictError, KeyRefused, ProofError, StoreError
from s3_uploader.core.files import sync_directory, write_all
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.keys import derived_key, is_directory
from s3_uploader.stores.local import files
from s3_uploader.stores.local.errors import name_of_another
from s3_uploader.stores.workers import UploadTask

_CHUNK = 1 << 20


class FileCopy:
    """The copy of one file."""

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
        """Store the file, or find that it is there already."""
        if self._taken(self._name):
            self._refuse_another_name()
            # Checked before copying, because this is the normal case after a crash between upload and removal.
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
            if not files.is_named(descriptor, self._directory, self._temporary):
                # On a file system without locks another uploader takes our copy for one that was left.
                raise StoreError(
                    f"The unfinished copy to {self._address} was removed or replaced by another uploader.",
                    code="CopyReplaced",
                    origin=Origin.OURS,
                    hint="The file is kept and tried again. Let one uploader at a time copy to that directory.",
                )
            return self._name_it(digest)

    def _name_it(self, digest: str) -> Receipt:
        """Give the finished file its name, according to the conflict policy."""
        if self._move_to(self._name):
            try:
                self._refuse_another_name()
            except KeyRefused:
                files.move_without_replacing(self._directory, self._name, self._temporary)
                raise
            return self._stored(self._key, digest)
        existing = self._digest_at(self._name)
        if existing == digest:
            return self._already_there(self._key, digest)
        if self._may_replace(existing):
            if files.has_another_name(self._directory, self._name, temporary=self._temporary):
                raise name_of_another(self._address)
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

    def _refuse_another_name(self) -> None:
        """Refuse a name that the file system has not kept, so that another file may have it too."""
        if ("~" in self._name or self._name[-1] in ". ") and files.is_found_only(self._directory, self._name):
            raise name_of_another(self._address)

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
        """The receipt of an existing file. Sync it first: its writer may have been killed before it was durable."""
        name = key.rpartition("/")[2]
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            _sync(descriptor)
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
        if self._options.on_conflict is OnConflict.FAIL and existing is None and self._is_directory():
            return is_directory(self._address)
        fact = "exists already and cannot be read" if existing is None else "exists already with other content"
        return ConflictError(
            f"{address} {fact}.",
            hint="Remove or rename one of the two, or set on_conflict to keep-both or overwrite.",
            existing=existing or "",
        )

    def _is_directory(self) -> bool:
        with contextlib.suppress(OSError):
            return stat.S_ISDIR(os.stat(self._name, dir_fd=self._directory, follow_symlinks=False).st_mode)
        return False

    def _taken(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _digest_at(self, name: str) -> str | None:
        """SHA-256 of the regular file ``name``; ``None`` if it does not exist or cannot be read."""
        try:
            # Without O_NONBLOCK the open of a FIFO would wait for a writer.
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
        """Copy the source, sync it and read it back. Returns the SHA-256 of both."""
        sent = hashlib.sha256()
        for chunk in self._source_chunks():
            sent.update(chunk)
            write_all(descriptor, chunk)
        # The copy keeps the file's time, if the file system supports that.
        with contextlib.suppress(OSError):
            status = os.fstat(self._source.descriptor)
            os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
        _sync(descriptor)
        # The pages are clean now and can be dropped, so that the bytes read back come from the disk or the server, if
        # the file system follows the advice.
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        fresh = os.open(self._temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            # One byte more than expected, to see that there are no more.
            stored = self._digest_of(fresh, self._source.size + 1)
        finally:
            os.close(fresh)
        if stored != sent.hexdigest():
            raise ProofError(f"The bytes read back of {self._address} are not those written.")
        return stored

    def _source_digest(self) -> str:
        digest = hashlib.sha256()
        for chunk in self._source_chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def _source_chunks(self) -> Iterator[bytes]:
        offset = 0
        while offset < self._source.size:
            self._task.check()
            chunk = self._source.read(offset, most=_CHUNK)
            yield chunk
            offset += len(chunk)

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


def _sync(descriptor: int) -> None:
    """``fsync``. On a file system without it, the error is not the one of an invalid name (``EINVAL``).

    :raises OSError: if the content is not on the disk.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise OSError(errno.EOPNOTSUPP, "the file system cannot say when a file is on the disk (fsync)") from error
        raise
