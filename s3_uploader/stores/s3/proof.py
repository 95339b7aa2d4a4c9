"""Proof of an upload whose answer proves too little: by a HEAD, or else by reading the bytes back."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from s3_uploader.core.errors import ProofError, StoreError
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import Comparison, clean_etag, compare, strong_etag
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.engines.base import Answer, Request
from s3_uploader.stores.s3.refused import RefusableUpload

LOOKED = frozenset((403, 404))
_LOOKED = frozenset((400, 403, 404, 405, 501))
_KNOWS_NO_RANGE = frozenset((400, 405, 416, 501))
"""Statuses of a GET that may be caused by its range."""
_READ = LOOKED | _KNOWS_NO_RANGE | {412}
_KNOWS_NO_MODE = frozenset((400, 501))
"""Statuses of a HEAD that may be caused by its request for a checksum, because no document gives the reason."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class ProvenUpload(RefusableUpload):
    """An upload that can look at the object under its key."""

    def conclude(self, receipt: Receipt) -> None:
        """Finish what remains after the object is stored, and succeed."""
        self.succeed(receipt)

    def room_to_compare(self, count: int) -> int:
        """Bytes of memory to reserve for the comparison of ``count`` bytes."""
        return 2 * count

    @property
    def etag_counts(self) -> bool:
        """Whether an ETag that looks like another MD5 than ours is significant."""
        return self.context.capabilities.etags_are_md5 and self.options.minimum_proof > Proof.SIZE

    def head(self, finished: Callable[[PendingRequest], None], expected: frozenset[int]) -> None:
        """Look at the object under the key. A server may not support checksums; then look again without them."""
        request = self.head_request()
        if "x-amz-checksum-mode" not in request.headers:
            self.call(request, finished, expected)
            return

        def answered(call: PendingRequest) -> None:
            if call.error is None and call.status in _KNOWS_NO_MODE and not self.over:
                self.call(self.head_request(checksums=False), answered_plainly, expected)
            else:
                finished(call)

        def answered_plainly(call: PendingRequest) -> None:
            if call.error is None and call.status not in _KNOWS_NO_MODE:
                self.context.capabilities.asks_for_checksums = False
            finished(call)

        self.call(request, answered, expected | _KNOWS_NO_MODE)

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
        etag = clean_etag(headers.get("etag", ""))
        has_length = headers.get("content-length") == str(self.source.size)
        comparison = ByteComparison(
            self, etag=etag, has_length=has_length, same=same, other=other, unreadable=unreadable
        )
        self.on_crew(lambda: comparison.go_on(0))

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
            advice = "What is read is not what is stored, or changes while it is read: look at what is on the way"
        self.fail(
            ProofError(
                f"The server accepted {self._address}, but its answer proves {given} of the bytes, and they cannot be "
                f"read back.{f' {doubt}' if doubt else ''}",
                hint=f"{advice}; minimum_proof is {self.options.minimum_proof.label}.",
            )
        )


class ByteComparison:
    """Compares an object with our bytes: by ranges, or as a whole if the server does not support ranges.

    :param etag: the object's, empty if unknown yet; all ranges must be of this object.
    :param has_length: the object is known to be as long as our file.
    """

    __slots__ = ("_etag", "_has_length", "_other", "_same", "_unreadable", "_upload", "_whole")

    def __init__(
        self,
        upload: ProvenUpload,
        *,
        etag: str,
        has_length: bool,
        same: Callable[[str], None],
        other: Callable[[str], None],
        unreadable: Callable[[PendingRequest], None],
    ) -> None:
        self._upload = upload
        self._etag = etag
        self._has_length = has_length
        self._same = same
        self._other = other
        self._unreadable = unreadable
        self._whole = False

    def go_on(self, first: int) -> None:
        """Compare the bytes from this offset on."""
        upload = self._upload
        size = upload.source.size
        if first >= size and self._has_length:
            self._same(self._etag)
            return
        end = size if self._whole else min(first + upload.context.part_size, size)
        # One byte more than ours shows whether there are more.
        last = end - 1 if self._has_length or end < size else end
        room = upload.room_to_compare(last - first + 1)
        request = requests.get_object(
            upload.key,
            upload.path,
            first=first,
            last=last,
            etag="" if self._whole else self._etag,
            encoding=upload.options.content_encoding,
            size=size,
            ranged=not self._whole,
        )
        # Also if the upload is over by then: the call is cancelled at once, and releases the memory at its end.
        upload.context.budget.acquire(
            room, lambda: upload.call(request, lambda call: self._got(call, first, end, room), _READ)
        )

    def _got(self, call: PendingRequest, first: int, end: int, room: int) -> None:
        upload = self._upload
        is_answer = call.error is None and call.status in (200, 206)
        if not is_answer or upload.over:
            upload.context.budget.release(room)
        if upload.over:
            return
        if is_answer:
            upload.on_crew(lambda: self._compare(call, first, end, room))
        elif call.error is not None and call.error.retryable:
            upload.fail(call.error)
        elif call.status == 416 and not upload.source.size and not first:
            self._same(self._etag)
        elif not self._whole and (call.status == 412 or (call.status in _KNOWS_NO_RANGE and not first)):
            self._read_whole()
        else:
            self._unreadable(call)

    def _read_whole(self) -> None:
        """One answer with all bytes is of one object, however the server names or divides it."""
        self._whole = True
        self.go_on(0)

    def _compare(self, call: PendingRequest, first: int, end: int, room: int) -> None:
        upload = self._upload
        upload.context.budget.release(room)
        answer = call.body
        etag = clean_etag(answer.headers.get("etag", ""))
        is_renamed = bool(self._etag and etag and strong_etag(etag) != strong_etag(self._etag))
        if is_renamed and not self._whole:
            # It was replaced while it was read, or the server gives it a new ETag each time.
            self._read_whole()
            return
        self._etag = self._etag or etag
        if not upload.start_reading():
            return
        try:
            read = self._equal_up_to(answer, first, end)
        except StoreError as error:
            upload.fail(error)
            return
        finally:
            upload.stop_reading()
        if read is not None:
            self.go_on(read)
        elif is_renamed or _is_encoded(answer, upload.options.content_encoding):
            self._unreadable(call)
        else:
            self._other(self._etag)

    def _equal_up_to(self, answer: Answer, first: int, end: int) -> int | None:
        """The offset up to which the object equals our file, ``None`` if it differs."""
        upload, theirs, size = self._upload, answer.body, self._upload.source.size
        # rclone answers a range with status 200.
        is_piece = "content-range" in answer.headers or len(theirs) == end - first
        if answer.status == 200 and not is_piece:
            if len(theirs) != size:
                return None
            step = upload.context.part_size
            view = memoryview(theirs)
            for begin in range(0, size, step):
                stop = min(begin + step, size)
                if upload.read_again(begin, stop - 1) != view[begin:stop]:
                    return None
            self._has_length = True
            return size
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        # rclone gives a wrong total, which is not needed if a HEAD has given the length.
        if not self._has_length and found is not None and (int(found[1]) != first or found[3] not in ("*", str(size))):
            return None
        count = min(len(theirs), end - first)
        mine = upload.read_again(first, first + count - 1) if count else b""
        if mine != theirs or (not count and first < size):
            return None
        if first + count == size:
            self._has_length = True  # one byte more was requested, or it was known
        return first + count


def _is_encoded(answer: Answer, own: str) -> bool:
    """Whether the bytes were received in another encoding than stored, so that they prove nothing."""
    encodings = {part.strip().lower() for part in answer.headers.get("content-encoding", "").split(",")}
    return bool(encodings - {"", "identity", "aws-chunked", own})
