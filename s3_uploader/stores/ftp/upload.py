"""One file's way to an FTP server: look, send under a temporary name, prove, rename.

FTP has no conditional rename: RNTO replaces what is there on most servers, without a word. So the upload looks right
before it renames, and a second writer that comes between the two loses its file. That is what
``conditional_put=False`` of the store says.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterator

import msgspec

from s3_uploader.core.errors import ConflictError, ProofError, SourceChanged, StoreError
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.ftp.session import CHUNK, Session
from s3_uploader.stores.keys import derived_key
from s3_uploader.stores.workers import UploadTask

_READ = 1 << 18


class KnownDirectories:
    """The directories that are known to exist on the server, shared by all uploads of a store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = {"/"}

    def ensure(self, session: Session, path: str) -> bool:
        """Make ``path`` with all its parents; ``False`` if it was known already, so that nothing was asked."""
        with self._lock:
            if path in self._known or path == session.base:
                return False
        if not session.is_directory(path):
            self.ensure(session, path.rpartition("/")[0] or "/")
            try:
                session.make_directory(path)
            except Refused:
                # Another session of ours, or somebody else, may have made it meanwhile; servers say 550 or 521 to that.
                if not session.is_directory(path):
                    raise
        with self._lock:
            # Bounded: a spool of many years has a directory for every hour.
            if len(self._known) > 10_000:
                self._known = {"/"}
            self._known.add(path)
        return True

    def forget(self, path: str) -> None:
        """``path``, and perhaps its parents, have gone, it seems."""
        with self._lock:
            self._known = {known for known in self._known if known == "/" or not f"{path}/".startswith(f"{known}/")}


class Existing(msgspec.Struct, frozen=True):
    """What is at a path already, held against the source.

    :param same: whether the content is the source's; ``None`` if it could not be examined.
    :param proof: how we know, if it is.
    :param checksum: as a receipt spells it.
    :param etag: ``sha256:…`` of what is there, empty if that is not known.
    """

    same: bool | None
    proof: Proof = Proof.NONE
    checksum: str = ""
    etag: str = ""


class Renaming(msgspec.Struct, frozen=True):
    """A rename whose answer was lost with the connection; a retry may find it done."""

    path: str
    receipt: Receipt


class FtpUpload:
    """The upload of one file; :meth:`run` is called again for every retry, each time with a session that works.

    :param temporary: the name under which the bytes are sent, in the directory of the target.
    :param address: writes a key for a message.
    """

    def __init__(
        self,
        task: UploadTask,
        key: str,
        source: Source,
        options: PutOptions,
        replaces: str,
        *,
        temporary: str,
        directories: KnownDirectories,
        address: Callable[[str], str],
    ) -> None:
        self.temporary_path = ""
        """Where bytes of ours may lie that are not the finished file; empty if there is none."""
        self.probe_path = ""
        """Where a byte can be written to see whether there is room; empty before the directory is known."""
        self._task = task
        self._key = key
        self._source = source
        self._options = options
        self._replaces = replaces
        self._temporary = temporary
        self._directories = directories
        self._address = address
        self._digests: dict[str, str] = {}
        self._renaming: Renaming | None = None

    def run(self, session: Session) -> Receipt:
        """Upload the file, or find out that it is there already.

        :raises Refused: if the server says no.
        :raises Lost: if the connection is lost.
        :raises StoreError: if the content, a conflict or the proof is in the way.
        """
        if self._renaming is not None and self._was_renamed(session, self._renaming):
            return self._renaming.receipt
        decision = self._decide(session)
        if isinstance(decision, Receipt):
            return decision
        if self.temporary_path:
            # The partial file of the attempt before. Removed, not written over: its server process may still be
            # emptying the old connection's buffers into it.
            session.delete(self.temporary_path)
        directory = self._path(session, self._key).rpartition("/")[0]
        temporary = f"{directory}/{self._temporary}"
        self._send(session, directory or "/", temporary)
        proof, checksum = self._prove(session, temporary)
        self._task.check()
        # One more look, so that the moment in which a second writer can slip in is short.
        decision = self._decide(session)
        if isinstance(decision, Receipt):
            return decision
        return self._name_it(session, temporary, decision, proof, checksum)

    def _path(self, session: Session, key: str) -> str:
        return f"{session.base.rstrip('/')}/{key}"

    def _decide(self, session: Session) -> Receipt | str:
        """The key to store under, or the receipt of what is there already.

        :raises ConflictError: if other content is in the way.
        """
        on_conflict = self._options.on_conflict
        for key in self._keys():
            path = self._path(session, key)
            size = session.size(path)
            if size is None:
                return key
            existing = self._examine(session, path, size)
            if existing.same:
                return self._receipt(key, existing.proof, existing.checksum, already_there=True)
            if on_conflict is OnConflict.OVERWRITE or (self._replaces and existing.etag == self._replaces):
                return key
        fact = "exists already with other content" if existing.same is False else "exists already and cannot be read"
        raise ConflictError(
            f"{self._address(key)} {fact}.",
            hint="Look at both; on_conflict: keep-both or overwrite lets this file through.",
            existing=existing.etag,
        )

    def _keys(self) -> Iterator[str]:
        yield self._key
        if self._options.on_conflict is OnConflict.KEEP_BOTH:
            yield derived_key(self._key, self._source_digest("sha256"))

    def _examine(self, session: Session, path: str, size: int) -> Existing:
        """Compare what is at ``path`` with the source: by the server's hash, else by reading it."""
        algorithm = session.features.algorithm
        strong_enough = _proof_of(algorithm) >= self._options.minimum_proof
        if size == self._source.size and algorithm and strong_enough:
            theirs = session.digest(path, size)
            if theirs:
                etag = f"sha256:{theirs}" if algorithm == "sha256" else ""
                if theirs == self._source_digest(algorithm):
                    return Existing(True, _proof_of(algorithm), f"{algorithm}:{theirs}", etag)
                if etag or not self._replaces:
                    return Existing(False, etag=etag)
        if size != self._source.size and not self._replaces:
            return Existing(False)
        try:
            theirs = self._read_back(session, path)
        except Refused:
            # A server that lets us write but not read: there is no telling.
            return Existing(False if size != self._source.size else None)
        etag = f"sha256:{theirs}"
        if size == self._source.size and theirs == self._source_digest("sha256"):
            return Existing(True, Proof.CHECKSUM, etag, etag)
        return Existing(False, etag=etag)

    def _send(self, session: Session, directory: str, temporary: str) -> None:
        made = self._directories.ensure(session, directory)
        self.temporary_path = self.probe_path = temporary
        try:
            session.store(temporary, self._chunks(session.features.algorithm))
        except Refused as refused:
            if made or refused.code not in (450, 550, 551, 553):
                raise
            # Somebody may have tidied up: the directory was there in an earlier upload.
            self._directories.forget(directory)
            self._directories.ensure(session, directory)
            session.store(temporary, self._chunks(session.features.algorithm))

    def _prove(self, session: Session, path: str) -> tuple[Proof, str]:
        """Ask the server what it has; a connection cut in mid-file ends with a 226 on some servers (pyftpdlib)."""
        size = session.size(path)
        if size != self._source.size:
            there = "nothing" if size is None else f"{size} bytes"
            raise StoreError(
                f"The FTP server has {there} of the {self._source.size} bytes sent to {self._address(self._key)}.",
                code="Truncated",
                retryable=True,
            )
        algorithm = session.features.algorithm
        theirs = session.digest(path, size)
        if theirs:
            if theirs != self._source_digest(algorithm):
                raise StoreError(
                    f"The FTP server has other bytes than those sent to {self._address(self._key)}: "
                    f"its {algorithm} is {theirs}.",
                    code="BadDigest",
                    retryable=True,
                )
            if _proof_of(algorithm) >= self._options.minimum_proof:
                return _proof_of(algorithm), f"{algorithm}:{theirs}"
        if self._options.minimum_proof <= Proof.SIZE:
            return Proof.SIZE, ""
        return self._prove_by_reading(session, path)

    def _prove_by_reading(self, session: Session, path: str) -> tuple[Proof, str]:
        """Where the server computes no hash but one is asked for, read everything back."""
        try:
            theirs = self._read_back(session, path)
        except Refused as refused:
            raise ProofError(
                f"The FTP server computes no checksum of {self._address(self._key)} and does not let us read it back: "
                f"{refused.text}.",
                hint="Set minimum_proof to size if the length is proof enough.",
            ) from None
        if theirs != self._source_digest("sha256"):
            raise StoreError(
                f"What the FTP server gives back of {self._address(self._key)} is not what was sent.",
                code="BadDigest",
                retryable=True,
            )
        return Proof.CHECKSUM, f"sha256:{theirs}"

    def _name_it(self, session: Session, temporary: str, key: str, proof: Proof, checksum: str) -> Receipt:
        """Give the finished file its name."""
        path = self._path(session, key)
        receipt = self._receipt(key, proof, checksum)
        self._renaming = Renaming(path, receipt)
        try:
            session.rename(temporary, path)
        except Refused:
            self._renaming = None
            if session.size(path) is None:
                raise
            # IIS and FileZilla Server do not replace. If we are not to either, somebody was quicker after our look.
            decision = self._decide(session)
            if isinstance(decision, Receipt):
                return decision
            if decision == key:
                session.delete(path)
            key = decision
            session.rename(temporary, self._path(session, key))
            receipt = self._receipt(key, proof, checksum)
        self._renaming = None
        self.temporary_path = ""
        return receipt

    def _was_renamed(self, session: Session, renaming: Renaming) -> bool:
        if session.size(self.temporary_path) is None and session.size(renaming.path) == self._source.size:
            self.temporary_path = ""
            return True
        self._renaming = None
        return False

    def _receipt(self, key: str, proof: Proof, checksum: str, *, already_there: bool = False) -> Receipt:
        return Receipt(
            key=key,
            size=self._source.size,
            proof=proof,
            checksum=checksum,
            etag=f"sha256:{self._source_digest('sha256')}",
            already_there=already_there,
        )

    def _read_back(self, session: Session, path: str) -> str:
        digest = hashlib.sha256()

        def consume(chunk: bytes) -> None:
            self._task.check()
            digest.update(chunk)

        session.retrieve(path, consume)
        return digest.hexdigest()

    def _source_digest(self, algorithm: str) -> str:
        if algorithm not in self._digests:
            for _ in self._chunks(algorithm):
                pass
        return self._digests[algorithm]

    def _chunks(self, algorithm: str) -> Iterator[bytes]:
        """The bytes of the source, with their digests taken on the way."""
        names = {"sha256", algorithm} - {""}
        digests = {name: _Crc32() if name == "crc32" else hashlib.new(name, usedforsecurity=False) for name in names}
        offset = 0
        while offset < self._source.size:
            self._task.check()
            try:
                block = os.pread(self._source.descriptor, min(_READ, self._source.size - offset), offset)
            except OSError as error:
                raise SourceChanged(f"The source cannot be read at byte {offset}: {error.strerror}.") from error
            if not block:
                raise SourceChanged(f"The source ends at byte {offset}, not {self._source.size}.")
            for digest in digests.values():
                digest.update(block)
            offset += len(block)
            # In small pieces, so that a cancelled upload over a slow line ends soon.
            for begin in range(0, len(block), CHUNK):
                self._task.check()
                yield block[begin : begin + CHUNK]
        self._digests = {name: digest.hexdigest() for name, digest in digests.items()}


class _Crc32:
    """CRC-32 with the methods of a :mod:`hashlib` object."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _proof_of(algorithm: str) -> Proof:
    if not algorithm:
        return Proof.NONE
    return Proof.MD5 if algorithm == "md5" else Proof.CHECKSUM
