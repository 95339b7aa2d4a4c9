"""Proof that a server has a sent file: by its hash, by its length, or by reading the bytes back."""

from __future__ import annotations

import time

from s3_uploader.core.errors import ProofError, Scope, StoreError
from s3_uploader.core.model import Proof
from s3_uploader.core.origins import Origin
from s3_uploader.stores.file_servers.base import FileSession, Refused
from s3_uploader.stores.file_servers.content import Content, proof_of
from s3_uploader.stores.workers import UploadTask

_PAUSES = (0.05, 0.15, 0.4, 0.8)
_LONGER_PAUSES = (1.5, 3.0)
_MOST_SECONDS = 60.0


def shows_nothing(fact: str) -> ProofError:
    """The error for a server that has shown no file so far, not even one that it has just accepted.

    Every file would meet it. If the server shows another one, this file was taken away.
    """
    error = ProofError(fact, hint="Give the user permission to list, or for a drop box set minimum_proof to none.")
    error.scope, error.origin = Scope.DESTINATION, Origin.SERVER
    return error


class Prover:
    """Proves one file, before and after its final rename.

    :param minimum: the upload fails with a weaker proof; with ``NONE`` the server's answer is trusted.
    :param address: the file's address in messages.
    """

    def __init__(self, task: UploadTask, content: Content, *, minimum: Proof, address: str) -> None:
        self._task = task
        self._content = content
        self._minimum = minimum
        self._address = address

    def prove(self, session: FileSession, path: str, *, was: int | None = None) -> tuple[Proof, str]:
        """The proof that the file at ``path`` is the source, and its checksum as a receipt spells it.

        :param was: the length of an earlier file that may still be there; the same length then proves nothing.
        :raises StoreError: if it is not the source.
        :raises ProofError: if that cannot be found out.
        """
        length = self._length(session, path)
        if length is None and self._minimum is Proof.NONE:
            return Proof.NONE, ""
        if length is None:
            raise self._missing(session)
        found = self._by_hash(session, path)
        if found is not None and found[0] >= self._minimum:
            return found
        if length != self._content.size:
            return self._despite_length(session, path, length)
        if self._minimum <= Proof.SIZE and was != length:
            return Proof.SIZE, ""
        return self._by_reading(session, path)

    def confirm(
        self, session: FileSession, path: str, proof: tuple[Proof, str], *, was: int | None
    ) -> tuple[Proof, str]:
        """Repeat the proof after the rename, for a file that was proven under its temporary name."""
        if proof[1].partition(":")[0] == session.algorithm and (found := self._by_hash(session, path)):
            return found
        length = self._length(session, path)
        if length is None and self._minimum is not Proof.NONE:
            raise StoreError(
                f"The {session.protocol} server reported the rename to {self._address}, but has no file under "
                "that name.",
                code="NameChanged",
                origin=Origin.OURS,
                hint="Find out whether the server changes names, and whether another program removes the files.",
            )
        if length not in (None, self._content.size) or (length is not None and length == was):
            # An earlier file has the same length, or the server reports lengths incorrectly.
            return self._by_reading(session, path)
        return proof

    def _by_hash(self, session: FileSession, path: str) -> tuple[Proof, str] | None:
        algorithm = session.algorithm
        theirs = session.digest(path, self._content.size)
        if not theirs:
            return None
        if theirs != self._content.digest(algorithm):
            raise StoreError(
                f"The {session.protocol} server has other bytes than those sent to {self._address}: its {algorithm} is "
                f"{theirs}.",
                code="BadDigest",
                retryable=True,
            )
        return proof_of(algorithm), f"{algorithm}:{theirs}"

    def _length(self, session: FileSession, path: str) -> int | None:
        """The length that the server reports. A wrong one is asked for again, because some servers write late."""
        ends_at = time.monotonic() + _MOST_SECONDS
        last: int | None = -1
        pauses = iter(_PAUSES)
        while True:
            length = session.size(path, thoroughly=True)
            if length == self._content.size:
                return length
            if length is not None and last is not None and 0 <= last < length:
                pauses = iter(_PAUSES)  # it still grows
            last = length
            pause = next(pauses, None)
            if pause is None or time.monotonic() > ends_at:
                break
            self._task.pause(pause)
        for pause in _LONGER_PAUSES if last is None else ():
            self._task.pause(pause)
            last = session.size(path, thoroughly=True)
            if last is not None:
                break
        return last

    def _despite_length(self, session: FileSession, path: str, length: int) -> tuple[Proof, str]:
        """Handle a wrong length. Only the report may be wrong, for example that of a text on another system."""
        other = session.other_size(path)
        if other == self._content.size and self._minimum <= Proof.SIZE:
            return Proof.SIZE, ""
        if other != length:
            try:
                return self._by_reading(session, path)
            except ProofError:
                pass
        raise StoreError(
            f"The {session.protocol} server has {length} bytes of the {self._content.size} bytes sent to "
            f"{self._address}.",
            code="Truncated",
            retryable=True,
        )

    def _missing(self, session: FileSession) -> StoreError:
        if session.learned.sees:
            return StoreError(
                f"The {session.protocol} server has none of the {self._content.size} bytes sent to {self._address}.",
                code="Truncated",
                retryable=True,
                origin=Origin.OURS,
            )
        session.learned.has_shown_files = False
        return shows_nothing(
            f"The {session.protocol} server accepted {self._address}, but does not report it, so nothing is proven."
        )

    def _by_reading(self, session: FileSession, path: str) -> tuple[Proof, str]:
        """Read everything back, if a hash is required and the server computes none."""
        try:
            theirs = self._content.read_back(session, path, most=self._content.size)
        except Refused as refused:
            raise ProofError(
                f"The {session.protocol} server computes no checksum of {self._address} and does not permit reading it "
                f"back: {refused.text}.",
                hint="Set minimum_proof to size if the length is proof enough.",
            ) from None
        if theirs != self._content.digest("sha256"):
            raise StoreError(
                f"The {session.protocol} server returned other bytes of {self._address} than were sent.",
                code="BadDigest",
                retryable=True,
            )
        return Proof.CHECKSUM, f"sha256:{theirs}"
