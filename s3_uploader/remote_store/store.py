"""The six methods of the object API, with the return values and the error rules of the package ``s3``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from s3_uploader.core.errors import ConfigError, EngineUnavailable
from s3_uploader.core.text import quoted, quoted_code, shown_name, without_passwords
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.connection import RemoteName, RemoteStoreError, S3Connection

logger = logging.getLogger("s3_uploader.remote_store")

_Result = TypeVar("_Result")


class RemoteStore:
    """Objects in S3.

    A name is a key, or an :class:`S3Name` where the bucket is not the default one. ``headers`` are sent along; those
    that begin with ``x-amz-meta-`` are the object's metadata.

    There are two kinds of failure: the server says no, or there is no connection. Every method but :meth:`exists`
    catches both, logs them to ``s3_uploader.remote_store`` and returns ``False``. What is wrong on this side is raised
    as always: ``OSError`` for the local file, ``ValueError`` for a name without a bucket or a header that cannot be
    sent.

    :param multipart_threshold: size in bytes above which a file is written in parts of ``part_size`` bytes.
    :param copy_threshold: size in bytes above which an object is copied in parts of ``copy_part_size`` bytes; S3 copies
        at most 5 GiB at once.
    """

    def __init__(
        self,
        connection: S3Connection,
        *,
        multipart_threshold: int = 64 * 2**20,
        part_size: int = 16 * 2**20,
        copy_threshold: int = 5 * 2**30,
        copy_part_size: int = 512 * 2**20,
    ) -> None:
        self.connection = connection
        self._multipart_threshold = multipart_threshold
        self._part_size = part_size
        self._copy_threshold = copy_threshold
        self._copy_part_size = copy_part_size

    @classmethod
    def from_yaml(cls, path: str, *, section: str = "s3") -> RemoteStore:
        """A store with the settings of a YAML file, whose ``section`` holds the arguments of :class:`S3Connection`.

        :raises ConfigError: if the file cannot be read or does not fit.
        :raises EngineUnavailable: if PyYAML is not installed.
        """
        try:
            import yaml
        except ImportError:
            raise EngineUnavailable(
                "Settings in YAML need PyYAML, which is not installed.", hint="pip install 's3_uploader[yaml]'"
            ) from None
        try:
            with open(path, "rb") as file:
                settings = yaml.safe_load(file)
        except OSError as error:
            raise ConfigError(path, [f"cannot be read: {error.strerror}"]) from None
        except yaml.YAMLError as error:
            raise ConfigError(path, [f"is no valid YAML: {error}"]) from None
        settings = settings.get(section) if isinstance(settings, dict) else None
        if not isinstance(settings, dict):
            raise ConfigError(path, [f"has no section {section}"])
        try:
            return cls(S3Connection(**settings))
        except (TypeError, ValueError) as error:
            raise ConfigError(path, [str(error)]) from None

    def write(self, local_name: str, remote_name: RemoteName, headers: Mapping[str, object] | None = None) -> bool:
        """Upload a file, and possibly set its metadata; ``True`` when the object is proven to hold its bytes."""
        from s3_uploader.remote_store.writing import write_object

        bucket, key = self.connection.resolve(remote_name)
        sent = header_rules.normalised(headers)
        with open(local_name, "rb") as file:
            return self._succeeds(
                "write",
                bucket,
                key,
                lambda: write_object(
                    self.connection,
                    bucket,
                    key,
                    file,
                    sent,
                    multipart_threshold=self._multipart_threshold,
                    part_size=self._part_size,
                ),
            )

    def read(self, remote_name: RemoteName, local_name: str) -> tuple[bool, dict[str, str]]:
        """Download an object; returns whether that worked, and the object's metadata.

        The file appears under its name only when it is complete; on failure what was there before is untouched.
        """
        from s3_uploader.remote_store.reading import read_object, written_whole

        bucket, key = self.connection.resolve(remote_name)
        metadata: dict[str, str] = {}

        def download() -> None:
            with written_whole(local_name) as consume:
                metadata.update(read_object(self.connection, bucket, key, consume))

        ok = self._succeeds("read", bucket, key, download)
        return ok, metadata if ok else {}

    def copy(
        self,
        remote_source: RemoteName,
        remote_destination: RemoteName,
        headers: Mapping[str, object] | None = None,
    ) -> bool:
        """Copy an object. Without metadata in ``headers`` the copy has the metadata of the source.

        A copy onto itself updates the metadata; it keeps storage class, encryption and rights.
        """
        from s3_uploader.remote_store.copying import copy_object

        source = self.connection.resolve(remote_source)
        destination = self.connection.resolve(remote_destination)
        sent = header_rules.normalised(headers)
        return self._succeeds(
            "copy to",
            *destination,
            lambda: copy_object(
                self.connection,
                source,
                destination,
                sent,
                threshold=self._copy_threshold,
                part_size=self._copy_part_size,
            ),
        )

    def update_metadata(self, remote_name: RemoteName, headers: Mapping[str, object]) -> bool:
        """Replace the metadata of an object by those in ``headers``."""
        return self.copy(remote_name, remote_name, headers)

    def delete(self, remote_name: RemoteName) -> bool:
        """Delete an object; ``True`` also if there was none, as S3 makes no difference."""
        bucket, key = self.connection.resolve(remote_name)
        return self._succeeds(
            "delete", bucket, key, lambda: self.connection.client.delete_object(Bucket=bucket, Key=key)
        )

    def exists(self, remote_name: RemoteName) -> tuple[bool, dict[str, str]]:
        """Whether there is such an object, and its metadata.

        :raises RemoteStoreError: if the server says neither yes nor no.
        :raises botocore.exceptions.BotoCoreError: if there is no connection.
        """
        from botocore.exceptions import ClientError

        bucket, key = self.connection.resolve(remote_name)
        try:
            answer = self.connection.client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                return False, {}
            code = error.response["Error"]["Code"]
            raise RemoteStoreError(
                f"{shown_name(f'{bucket}/{key}')} cannot be examined: {_in_words(error)}",
                status=status,
                code=quoted_code(code),
            ) from error
        return True, header_rules.metadata_of(answer["ResponseMetadata"]["HTTPHeaders"])

    def _succeeds(self, action: str, bucket: str, key: str, work: Callable[[], _Result]) -> bool:
        """Do the work; failures of the remote side are logged."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            work()
        except (BotoCoreError, ClientError, RemoteStoreError, HTTPError) as error:
            logger.error("Failed to %s %s: %s", action, shown_name(f"{bucket}/{key}"), _in_words(error))
            return False
        return True


def _in_words(error: Exception) -> str:
    """What a server or a library said, as it may stand in a log."""
    return quoted(without_passwords(str(error)))
