"""The bytes of one file: sent with their digests, and read back for comparison."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

from s3_uploader.core.model import Proof
from s3_uploader.stores.base import Source
from s3_uploader.stores.file_servers.base import CHUNK, FileSession
from s3_uploader.stores.workers import UploadTask

_READ = 1 << 18


class Content:
    """The content of a source."""

    def __init__(self, task: UploadTask, source: Source) -> None:
        self._task = task
        self._source = source
        self._digests: dict[str, str] = {}

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self._source.size

    def digest(self, algorithm: str) -> str:
        """Its hexadecimal digest, of the bytes that were sent, if any were."""
        if algorithm not in self._digests:
            for _ in self.chunks(algorithm):
                pass
        return self._digests[algorithm]

    def chunks(self, algorithm: str) -> Iterator[bytes]:
        """The bytes. Their digests are computed on the way.

        :raises SourceChanged: if the source has shrunk.
        """
        names = {"sha256", algorithm} - {""}
        digests = {name: _Crc32() if name == "crc32" else hashlib.new(name, usedforsecurity=False) for name in names}
        offset = 0
        while offset < self._source.size:
            self._task.check()
            block = self._source.read(offset, most=_READ)
            for digest in digests.values():
                digest.update(block)
            offset += len(block)
            # In small pieces, so that a cancelled upload over a slow line ends soon.
            for begin in range(0, len(block), CHUNK):
                self._task.check()
                yield block[begin : begin + CHUNK]
        self._digests = {name: digest.hexdigest() for name, digest in digests.items()}

    def beginning(self, size: int) -> str:
        """The SHA-256 of the first ``size`` bytes."""
        digest = hashlib.sha256()
        for chunk in Content(self._task, Source(self._source.descriptor, size)).chunks(""):
            digest.update(chunk)
        return digest.hexdigest()

    def read_back(self, session: FileSession, path: str, *, most: int) -> str:
        """The SHA-256 of the file at ``path`` as the server returns it; empty if it has more than ``most`` bytes."""
        digest = hashlib.sha256()

        def consume(chunk: bytes) -> None:
            self._task.check()
            digest.update(chunk)

        return digest.hexdigest() if session.retrieve(path, consume, most=most) else ""


class _Crc32:
    """CRC-32 with the methods of a :mod:`hashlib` object."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def proof_of(algorithm: str) -> Proof:
    """How strong a proof a matching digest is."""
    if not algorithm:
        return Proof.NONE
    return Proof.MD5 if algorithm == "md5" else Proof.CHECKSUM
