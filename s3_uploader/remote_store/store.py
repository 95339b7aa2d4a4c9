"""The object API. Its six oldest methods have the return values and the error rules of the package ``s3``."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from s3_uploader.core.errors import ConfigError, EngineUnavailable
from s3_uploader.core.extras import installing
from s3_uploader.core.text import quoted, shown_name, without_passwords
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.connection import S3Connection
from s3_uploader.remote_store.errors import ObjectNotFound, RemoteStoreError
from s3_uploader.remote_store.local_files import LocalName
from s3_uploader.remote_store.methods import Headers, ObjectMethods
from s3_uploader.remote_store.names import RemoteName

if TYPE_CHECKING:
    from s3_uploader.remote_store.reading import Progress

logger = logging.getLogger("s3_uploader.remote_store")

_NOT_THERE = frozenset((404,))


class RemoteStore(ObjectMethods):
    """Objects in S3.

    A name is a key, or an :class:`S3Name` if the bucket is not the default one. ``headers`` are sent with the request;
    those that begin with ``x-amz-meta-`` are the object's metadata. Many threads may use one store.

    A remote failure is a refusal by the server, or a missing connection. The six methods of the package ``s3``
    (:meth:`write`, :meth:`read`, :meth:`copy`, :meth:`update_metadata`, :meth:`delete`, :meth:`exists`) catch both, log
    them to ``s3_uploader.remote_store`` and return ``False``; only :meth:`exists` raises. :attr:`last_error` has the
    cause. All other methods raise failures, and with ``raise_errors`` these do too. Local errors are always raised:
    ``OSError`` for the local file, ``ValueError`` for a name without a bucket or a header that cannot be sent.

    :param connection: a bucket's name stands for a connection to it with the settings of the environment.
    :param multipart_threshold: size in bytes above which a file is written in parts of ``part_size`` bytes.
    :param copy_threshold: size in bytes above which an object is copied in parts of ``copy_part_size`` bytes; S3 copies
        at most 5 GiB in one request.
    :param raise_errors: raise every failure instead of returning it.
    """

    def __init__(
        self,
        connection: S3Connection | str,
        *,
        multipart_threshold: int = 16 * 2**20,
        part_size: int = 8 * 2**20,
        copy_threshold: int = 5 * 2**30,
        copy_part_size: int = 512 * 2**20,
        raise_errors: bool = False,
    ) -> None:
        if isinstance(connection, str):
            connection = S3Connection(default_bucket=connection)
        super().__init__(connection, multipart_threshold=multipart_threshold, part_size=part_size)
        self._copy_threshold = copy_threshold
        self._copy_part_size = copy_part_size
        self.raises_errors = raise_errors
        self._last = _Last()

    def __enter__(self) -> RemoteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A later request opens them again."""
        self.connection.close()

    @property
    def last_error(self) -> RemoteStoreError | None:
        """Why this thread's last call of the six methods returned ``False``; ``None`` if it did not."""
        return self._last.error

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], *, section: str = "s3") -> RemoteStore:
        """A store with the settings of a YAML file. Its ``section`` has the arguments of :class:`S3Connection`.

        :raises ConfigError: if the file cannot be read or has invalid settings.
        :raises EngineUnavailable: if PyYAML is not installed.
        """
        try:
            import yaml
        except ImportError:
            raise EngineUnavailable(
                "Settings in YAML need PyYAML, which is not installed.", hint=f"Install it: {installing('yaml')}."
            ) from None
        try:
            with open(path, "rb") as file:
                settings = yaml.safe_load(file)
        except OSError as error:
            raise ConfigError(os.fspath(path), [f"cannot be read: {error.strerror}"]) from None
        # An invalid date raises ValueError.
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(os.fspath(path), [f"is not valid YAML: {error}"]) from None
        settings = settings.get(section) if isinstance(settings, dict) else None
        if not isinstance(settings, dict):
            raise ConfigError(os.fspath(path), [f"has no section {section}"])
        try:
            return cls(S3Connection(**settings))
        except (TypeError, ValueError) as error:
            raise ConfigError(os.fspath(path), [str(error)]) from None

    def write(
        self,
        local_name: LocalName,
        remote_name: RemoteName,
        headers: Headers = None,
        *,
        progress: Progress | None = None,
    ) -> bool:
        """Upload a file, optionally with metadata. Returns ``True`` when the object is proven to have its bytes.

        :param progress: called on this thread with the number of bytes that the server has received, and the total.
        """
        from s3_uploader.remote_store.writing import sendable

        name, key = self.connection.resolve(remote_name)
        sent = header_rules.normalised(headers)
        with open(local_name, "rb", buffering=0) as file, sendable(file) as source:
            return self._succeeds("write", name, key, lambda: self._write_source(name, key, source, sent, progress))

    def read(
        self, remote_name: RemoteName, local_name: LocalName, *, progress: Progress | None = None
    ) -> tuple[bool, dict[str, str]]:
        """Download an object.

        The file gets its name only when it is complete; on failure an existing file is unchanged. Before the same
        connection deletes or replaces the object, the file is synced to the disk.

        :param progress: called on this thread with the number of bytes received, and the total.
        :returns: whether that succeeded, and the object's metadata: names in lower case, with ``x-amz-meta-``. On
            failure it is empty, and :attr:`last_error` has the cause.
        :raises RemoteStoreError: with ``raise_errors``, if the object does not exist, cannot be read, or does not match
            its ETag or checksum.
        :raises OSError: if the local file cannot be written.
        :raises ValueError: if the name has no bucket, and there is no default one.
        """
        from s3_uploader.remote_store.local_files import written_whole
        from s3_uploader.remote_store.reading import read_object

        name, key = self.connection.resolve(remote_name)
        metadata: dict[str, str] = {}

        def download() -> None:
            made = functools.partial(self.connection.downloads.note, name, key)
            with self.connection.bucket(name) as bucket, written_whole(local_name, made=made) as consume:
                metadata.update(header_rules.metadata_of(read_object(bucket, key, consume, progress=progress)))

        ok = self._succeeds("read", name, key, download)
        return ok, metadata if ok else {}

    def copy(
        self,
        remote_source: RemoteName,
        remote_destination: RemoteName,
        headers: Headers = None,
        *,
        progress: Progress | None = None,
    ) -> bool:
        """Copy an object. Without metadata in ``headers`` the copy has the metadata of the source.

        A copy onto itself updates the metadata and keeps storage class, encryption and ACL.

        :param progress: called on this thread with the number of bytes copied, and the total.
        """
        from s3_uploader.remote_store.copying import copy_object

        source = self.connection.resolve(remote_source)
        target = self.connection.resolve(remote_destination)
        sent = header_rules.normalised(headers)
        if target != source:
            self.connection.downloads.secure(*target)

        def copy() -> None:
            with self.connection.bucket(source[0]) as here, self.connection.bucket(target[0]) as there:
                copy_object(
                    (here, source[1]),
                    (there, target[1]),
                    sent,
                    threshold=self._copy_threshold,
                    part_size=self._copy_part_size,
                    progress=progress,
                )

        return self._succeeds("copy to", *target, copy)

    def update_metadata(self, remote_name: RemoteName, headers: Mapping[str, object]) -> bool:
        """Replace the metadata of an object by those in ``headers``; without any there, the object keeps its own.

        ``{"x-amz-metadata-directive": "REPLACE"}`` removes all, its content type and the like included.
        """
        return self.copy(remote_name, remote_name, headers)

    def delete(self, remote_name: RemoteName) -> bool:
        """Delete an object. Returns ``True`` also if it did not exist, because S3 does not say."""
        from s3_uploader.remote_store.reading import path_of
        from s3_uploader.stores.s3.meanings import MEANINGS
        from s3_uploader.stores.s3.requests import delete_object

        name, key = self.connection.resolve(remote_name)
        self.connection.downloads.secure(name, key)

        def delete() -> None:
            with self.connection.bucket(name) as bucket:
                answer = bucket.ask(delete_object(key, path_of(key)), expected=_NOT_THERE)
                if answer.status == 404 and answer.field("Code") == "NoSuchBucket":
                    hint = MEANINGS["NoSuchBucket"].hint
                    raise ObjectNotFound("The bucket does not exist.", hint=hint, status=404, code="NoSuchBucket")

        return self._succeeds("delete", name, key, delete)

    def exists(self, remote_name: RemoteName) -> tuple[bool, dict[str, str]]:
        """Whether the object exists, and its metadata.

        :raises RemoteStoreError: if the server does not say whether it exists. Without a connection it is a
            :class:`RemoteConnectionError`, which is also a ``botocore.exceptions.BotoCoreError``.
        """
        from s3_uploader.remote_store.reading import answer_about, path_of

        name, key = self.connection.resolve(remote_name)
        with self.connection.bucket(name) as bucket:
            answer = answer_about(bucket, key, path_of(key))
        return (True, header_rules.metadata_of(answer.headers)) if answer.status != 404 else (False, {})

    def _succeeds(self, action: str, bucket: str, key: str, work: Callable[[], object]) -> bool:
        """Do the work. Log remote failures, or raise them with ``raise_errors``."""
        self._last.error = None
        try:
            work()
        except RemoteStoreError as error:
            if self.raises_errors:
                raise
            # The traceback would keep alive the frames of this call, with files and bodies.
            self._last.error = error.with_traceback(None)
            said = quoted(without_passwords(str(error)))
            logger.error("Failed to %s %s: %s", action, shown_name(f"{bucket}/{key}"), said)
            return False
        return True


class _Last(threading.local):
    """For each thread, why its last call failed."""

    error: RemoteStoreError | None = None
