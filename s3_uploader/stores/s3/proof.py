"""Proof of an upload whose answer proves too little: by a HEAD, or else by reading the bytes back."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from s3_uploader.core.errors import ProofError
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.stores.s3.checksums import (
    Comparison,
    clean_etag,
    compare,
    is_encoded,
    length_differs,
)
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.errors import is_archived
from s3_uploader.stores.s3.refused import RefusableUpload

LOOKED = frozenset((403, 404))
_LOOKED = frozenset((400, 403, 404, 405, 501))
_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before further lookups of a new object that is not there: some servers show it a moment later."""


class ProvenUpload(RefusableUpload):
    """An upload that looks for a proof if the answer to the write is not one."""

    _lookups = 0
    """How often the new object was looked up and missing."""

    def conclude(self, receipt: Receipt) -> None:
        """Finish what remains after the object is stored, and succeed."""
        self.succeed(receipt)

    @property
    def etag_counts(self) -> bool:
        """Whether an ETag that looks like another MD5 than ours is significant."""
        return self.context.capabilities.etags_are_md5 and self.options.minimum_proof > Proof.SIZE

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
                self._missing(receipt)
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
                self._missing(receipt, doubt=doubt)
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

    def _missing(self, receipt: Receipt, *, doubt: str = "") -> None:
        """Look again later for the new object, a few times."""
        if self._lookups < len(_PAUSES):
            pause = _PAUSES[self._lookups]
            self._lookups += 1
            self.after(pause, lambda: self.look_for_proof(receipt, doubt=doubt))
        else:
            self.not_there()

    def not_there(self) -> None:
        """Fail, because the write succeeded but no object is under its key."""
        hint = (
            "The server may have stored it under another name, or show it late. The file is kept. If this repeats, "
            "rename it, and check endpoint_url: is this an S3 server?"
        )
        self.fail(ProofError(f"{self._address} was accepted, but there is no object under this key now.", hint=hint))

    def _not_proven(self, proof: Proof, call: PendingRequest, doubt: str) -> None:
        error = call.error
        if error is not None and error.retryable:
            self.fail(error)
            return
        given = {Proof.NONE: "nothing", Proof.SIZE: "only the length"}.get(proof, f"no more than {proof.label}")
        advice = "Grant s3:GetObject, so that the program can compare"
        if is_archived(call.answer):
            advice = "The object is archived. Use a storage_class that can be read at once"
        elif call.status in (200, 206, 412):
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
