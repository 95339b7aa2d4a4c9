"""Proof of an upload whose answer proves too little: by a HEAD, or else by reading the bytes back."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from s3_uploader.core.errors import ProofError
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import (
    Comparison,
    clean_etag,
    compare,
    is_encoded,
    length_differs,
)
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.engines.base import CONTENT_RANGE, Answer, Request
from s3_uploader.stores.s3.refused import RefusableUpload

LOOKED = frozenset((403, 404))
_LOOKED = frozenset((400, 403, 404, 405, 501))
_KNOWS_NO_MODE = frozenset((400, 501))
"""Statuses of a HEAD that may be caused by its request for a checksum, because no document gives the reason."""
_KNOWS_NO_HEAD = frozenset((405, 501))
"""Statuses of a HEAD that may be caused by its method. Then a GET of one byte is sent instead."""
_GOT = frozenset((404, 416))


class ProvenUpload(RefusableUpload):
    """An upload that can look at the object under its key."""

    def conclude(self, receipt: Receipt) -> None:
        """Finish what remains after the object is stored, and succeed."""
        self.succeed(receipt)

    @property
    def etag_counts(self) -> bool:
        """Whether an ETag that looks like another MD5 than ours is significant."""
        return self.context.capabilities.etags_are_md5 and self.options.minimum_proof > Proof.SIZE

    def head(self, finished: Callable[[PendingRequest], None], expected: frozenset[int]) -> None:
        """Look at the object under the key. A server may not support checksums; then look again without them."""
        known = self.context.capabilities
        if not known.answers_head:
            self._look_by_get(finished, expected)
            return
        request = self.head_request()
        asks_for_checksums = "x-amz-checksum-mode" in request.headers

        def answered(call: PendingRequest) -> None:
            if call.error is not None or self.over:
                finished(call)
            elif asks_for_checksums and call.status in _KNOWS_NO_MODE:
                self.call(self.head_request(checksums=False), answered_plainly, expected | _KNOWS_NO_HEAD)
            elif call.status in _KNOWS_NO_HEAD:
                self._look_by_get(finished, expected)
            else:
                finished(call)

        def answered_plainly(call: PendingRequest) -> None:
            if call.error is None and call.status in _KNOWS_NO_HEAD and not self.over:
                self._look_by_get(finished, expected)
                return
            if call.error is None and call.status not in _KNOWS_NO_MODE:
                known.asks_for_checksums = False
            finished(call)

        more = _KNOWS_NO_HEAD | _KNOWS_NO_MODE if asks_for_checksums else _KNOWS_NO_HEAD
        self.call(request, answered, expected | more)

    def _look_by_get(self, finished: Callable[[PendingRequest], None], expected: frozenset[int]) -> None:
        """Look at the object with a GET of its first byte, whose answer is passed on as that to a HEAD."""

        def got(call: PendingRequest) -> None:
            if call.error is None and (call.status in (200, 206) or call.status in _GOT):
                self.context.capabilities.answers_head = False
                if call.status != 404:
                    call.answer = _as_head(call.body)
                    call.status = call.answer.status
            finished(call)

        own = self.options.content_encoding
        request = requests.get_object(
            self.key, self.path, first=0, last=0, etag="", encoding=own, size=self.source.size
        )
        self.call(request, got, expected | _GOT)

    def head_request(self, *, checksums: bool = True) -> Request:
        """The request that looks at the object under the key, with its checksum if the server supports that."""
        known = self.context.capabilities
        return requests.head_object(
            self.key,
            self.path,
            encoding=self.options.content_encoding,
            checksums=checksums and known.form != "md5" and known.asks_for_checksums,
        )

    def look_for_proof(self, receipt: Receipt, *, doubt: str = "") -> None:
        """Look for a proof by HEAD, because the answer to the write proves too little or has no lasting ETag.

        :param doubt: a sentence, if the answer says that other bytes were stored.
        """
        if doubt or self.context.capabilities.only_reading_proves:
            self._read_back(receipt, {}, doubt)
        else:
            self.head(lambda call: self._looked_for_proof(call, receipt), _LOOKED)

    def _looked_for_proof(self, call: PendingRequest, receipt: Receipt) -> None:
        if self.over:
            return
        if call.error is not None or call.status != 200:
            if self._is_proven(receipt):
                self.conclude(receipt)
            elif call.error is not None:
                self.refuse(call, call.error)
            elif call.status == 404:
                self.not_there()
            else:
                self._read_back(receipt, {}, "")
            return
        headers = call.body.headers
        suspicious = not self.context.capabilities.etags_are_other
        comparison, proof = compare(headers, self.digest(), etag_counts=suspicious, just_written=True)
        if comparison is Comparison.DIFFERENT:
            if length_differs(headers, self.digest()):
                # Something on the way may have compressed or decompressed it.
                self._read_back(msgspec.structs.replace(receipt, proof=Proof.NONE), {}, "")
            else:
                self._is_other()
            return
        if comparison is Comparison.UNKNOWN and headers.get("content-length") == str(self.source.size):
            proof = Proof.SIZE
        receipt = msgspec.structs.replace(
            receipt,
            proof=max(proof, receipt.proof),
            etag=clean_etag(headers.get("etag", "")) or receipt.etag,
            version_id=receipt.version_id or headers.get("x-amz-version-id", ""),
        )
        if self._is_proven(receipt):
            self.conclude(receipt)
        else:
            self._read_back(receipt, headers, "")

    def _is_proven(self, receipt: Receipt) -> bool:
        return receipt.proof is not Proof.NONE and receipt.proof >= self.options.minimum_proof

    def _read_back(self, receipt: Receipt, headers: dict[str, str], doubt: str) -> None:
        """Read the object back and compare it. The result is decisive, whatever an ETag says."""
        capabilities = self.context.capabilities

        def same(etag: str) -> None:
            if doubt:
                capabilities.saw_other_etag()
            elif receipt.proof < Proof.MD5:
                capabilities.only_reading_proves = True
            self.conclude(msgspec.structs.replace(receipt, proof=Proof.CHECKSUM, etag=etag or receipt.etag))

        def unreadable(call: PendingRequest) -> None:
            if self._is_proven(receipt):
                self.conclude(receipt)
            elif call.status == 404:
                self.not_there()
            else:
                self._not_proven(receipt.proof, call, doubt)

        self.compare_bytes(headers, same=same, other=lambda etag: self._is_other(doubt), unreadable=unreadable)

    def compare_bytes(
        self,
        headers: dict[str, str],
        *,
        same: Callable[[str], None],
        other: Callable[[str], None],
        unreadable: Callable[[PendingRequest], None],
    ) -> None:
        """Read the object and compare it, piece by piece.

        :param headers: of the answer to a HEAD, if there was one.
        :param same: called with the ETag if the bytes are ours, ``other`` if they are not.
        """
        from s3_uploader.stores.s3.byte_comparison import ByteComparison

        etag = clean_etag(headers.get("etag", ""))
        has_length = headers.get("content-length") == str(self.source.size)
        comparison = ByteComparison(
            self, etag=etag, has_length=has_length, same=same, other=other, unreadable=unreadable
        )
        self.on_crew(lambda: comparison.go_on(0))

    def may_be_recoded(self, headers: dict[str, str]) -> bool:
        """Whether an object of another length may be ours, compressed or decompressed by something on the way."""
        if not length_differs(headers, self.digest()):
            return False
        from s3_uploader.stores.s3.byte_comparison import is_gzip

        return is_encoded(headers, self.options.content_encoding) or is_gzip(self)

    def _is_other(self, doubt: str = "") -> None:
        fact = f" {doubt}" if doubt else ""
        self.fail(
            ProofError(
                f"{self._address} was accepted, but the object now differs from what was sent.{fact}",
                hint="Another writer may use the same key, or something on the way changes contents. Inspect the "
                "object. The file is kept.",
            )
        )

    def contradicted(self, contradiction: str) -> None:
        """Fail, because the answer to the write says that other bytes were stored."""
        self.fail(
            ProofError(
                f"{self._address} was accepted, but not stored as sent. {contradiction}",
                hint="Do not trust the object under this key. The file is kept.",
            )
        )

    def not_there(self) -> None:
        """Fail, because the write succeeded but no object is under its key."""
        self.fail(
            ProofError(
                f"{self._address} was accepted, but there is no object under this key now.",
                hint="The server may have stored it under another name. Rename the file. It is kept.",
            )
        )

    def _not_proven(self, proof: Proof, call: PendingRequest, doubt: str) -> None:
        error = call.error
        if error is not None and error.retryable:
            self.fail(error)
            return
        given = {Proof.NONE: "nothing", Proof.SIZE: "only the length"}.get(proof, f"no more than {proof.label}")
        advice = "Grant s3:GetObject, so that the program can compare"
        if call.status in (200, 206, 412):
            advice = (
                "What is read is not what is stored, or changes on the way: reach the server without proxies and caches"
            )
        self.fail(
            ProofError(
                f"The server accepted {self._address}, but its answer proves {given} of the bytes, and they cannot be "
                f"read back.{f' {doubt}' if doubt else ''}",
                hint=f"{advice}; minimum_proof is {self.options.minimum_proof.label}.",
            )
        )


def _as_head(answer: Answer) -> Answer:
    """The answer to a HEAD, made of that to a GET of the first byte. Its length is left out if it is unknown."""
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    found = CONTENT_RANGE.fullmatch(headers.pop("content-range", ""))
    if answer.status == 200:
        headers["content-length"] = str(len(answer.body))
    elif found is not None and found[3] != "*":
        headers["content-length"] = found[3]
    return Answer(status=200, headers=headers)
