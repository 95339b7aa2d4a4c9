"""The end of an upload in parts: the parts are joined, and the answer is compared with the whole file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable

from s3_uploader.core.errors import ConflictError, StoreError
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.s3 import multipart_requests
from s3_uploader.stores.s3.capabilities import PartChecksums, fewer_part_checksums
from s3_uploader.stores.s3.checksums import crc32_text, evidence, read_exactly, strong_etag
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.conflict import DENIED
from s3_uploader.stores.s3.engines.base import Answer, Request
from s3_uploader.stores.s3.meanings import Kind, kind_of
from s3_uploader.stores.s3.multipart_states import COMPLETING, NOTHING
from s3_uploader.stores.s3.parts import PartsUpload
from s3_uploader.stores.s3.proof import LOOKED
from s3_uploader.stores.s3.refusals import Blame, blame, said
from s3_uploader.stores.s3.requests import UNCONDITIONAL, UNLESS_THERE

_MAXIMUM_LOOKS = 7
_LAST_LOOK_SECONDS = 32.0
"""Seconds before the last lookup; each earlier pause is half of the next one."""
_MAXIMUM_JOINS = 3
_JOIN_AGAIN_SECONDS = 2.0
_GATEWAY_GAVE_UP = frozenset((502, 504))
"""Statuses of a proxy that did not get the server's answer. The server may still be joining the parts."""
_MAY_BE_JOINING = frozenset((Kind.BAD_PART, Kind.BUSY))
"""Answers to a second completion while the first one is still running, or when it has just ended."""


class CompletingUpload(PartsUpload):
    """An upload in parts that joins them. A subclass begins it."""

    in_parts = True
    _strong_etags = True
    _joins = 0
    """How often a completion was answered with a success that does not name the object."""

    def complete(self) -> None:
        """Join the parts. Look at the key again first, if only that prevents an object from being overwritten."""
        if self.context.capabilities.trusted or self.condition is not UNLESS_THERE:
            self._join()
        else:
            # Older servers ignore a condition here, and since the first look all parts were sent.
            self.head(self._looked_before_completing, LOOKED)

    def rewrite(self) -> None:
        """Join the parts under another condition, or begin if there are none yet."""
        if self._stage is COMPLETING:
            self._join()
        else:
            self.write()

    def _looked_before_completing(self, call: PendingRequest) -> None:
        if self.over:
            return
        if call.error is not None:
            self.refuse(call, call.error)
        elif call.status == 200:
            self._examine(call, ours=False)
        elif call.status == DENIED and self.options.on_conflict is not OnConflict.OVERWRITE:
            self.write_unseen(self._join)
        else:
            self._join()

    def _join(self) -> None:
        """Make an object of the parts."""
        if self.over:
            return
        digest = self.digest()
        all_echoed = all(part.echoed for part in self._parts)
        capabilities = self.context.capabilities
        if capabilities.conditional == "refused" or not (
            capabilities.completes_conditionally or capabilities.tries_condition_at_completion()
        ):
            self.condition = UNCONDITIONAL
        checksums = self._checksums_in_use if all_echoed else "none"
        request = multipart_requests.complete_multipart_upload(
            self.key,
            self.path,
            upload_id=self._upload_id,
            etags=[strong_etag(part.etag) if self._strong_etags else part.etag for part in self._parts],
            checksums=[crc32_text(part.crc32) for part in self._parts] if checksums != "none" else (),
            whole_crc32=digest.crc32 if checksums == "full" else "",
            size=digest.size,
            condition=self.condition,
        )
        look = self.head_request if self.looks_for_lost else None
        self.call(request, self._completed, self.condition.failed, look=look)

    def _completed(self, call: PendingRequest) -> None:
        if self.over:
            return
        if call.error is not None:
            self._refused_to_complete(call, call.error)
            return
        if call.was_found:
            self.found_after_all(call)
            return
        if call.status in self.condition.failed:
            self.condition_failed(call)
            return
        with self._lock:
            if self.over:
                return
            if call.body.field("ETag") or call.body.headers.get("etag"):
                self.enter(NOTHING)
            else:
                self._joins += 1  # a success that says nothing: the parts may still be there
        capabilities = self.context.capabilities
        if sighting := self.take_sighting():
            capabilities.completes_with_condition(False, sighting)
        elif self.condition is UNLESS_THERE:
            capabilities.completes_with_condition(True)
        if self._form_in_use != "md5":
            capabilities.takes_part_checksums(self._checksums_in_use, self._because, named=self._named)
        self._judge_whole(call.body)

    def _refused_to_complete(self, call: PendingRequest, error: StoreError) -> None:
        kind = kind_of(error)
        # An earlier request without an answer may still be running.
        is_repeated = call.attempts > 1 or self._joins > 0
        if kind is Kind.NO_UPLOAD:
            with self._lock:
                if self.over:
                    return
                self.enter(NOTHING)
            self._look_whether_completed(looks=_MAXIMUM_LOOKS if is_repeated else 1, missing=self.write)
        elif kind is Kind.BAD_PART and self._strong_etags and any("W/" in part.etag for part in self._parts):
            # Mostly a proxy made the ETags weak, and the server does not know its mark. Or the server itself made them
            # weak.
            self._strong_etags = False
            self._join()
        elif is_repeated and (kind in _MAY_BE_JOINING or call.status in _GATEWAY_GAVE_UP):
            self._look_whether_completed(looks=_MAXIMUM_LOOKS, missing=lambda: self.refuse(call, error))
        elif not self.ask_for_fewer_checksums(call) and not self.condition_refused(call):
            self.refuse(call, error)

    def not_there(self) -> None:
        """Handle an object that is missing after the completion. If no ETag confirmed it, join the parts again."""
        if self._stage is COMPLETING and self._joins < _MAXIMUM_JOINS:
            self.after(_JOIN_AGAIN_SECONDS, self._join)
        else:
            super().not_there()

    def _judge_whole(self, answer: Answer) -> None:
        """Judge what the answer proves about the object."""
        # The document of this answer has the fields that other answers have in their headers.
        headers = {
            **self._encryption,
            **answer.headers,
            "etag": answer.field("ETag") or answer.headers.get("etag", ""),
            "x-amz-checksum-crc32": answer.field("ChecksumCRC32"),
        }
        digest = self.digest()
        found = evidence(headers, digest, etag_counts=self.etag_counts)
        if found.contradiction:
            self.contradicted(found.contradiction)
            return
        proof = found.proof
        if proof is Proof.MD5 and all(part.echoed for part in self._parts):
            # The parts were proven by checksum, and the ETag says that the object is made of these parts.
            proof = Proof.CHECKSUM
        receipt = Receipt(
            key=self.key,
            size=digest.size,
            proof=proof,
            checksum=f"crc32:{digest.crc32}",
            etag=found.etag,
            version_id=answer.headers.get("x-amz-version-id", ""),
        )
        # Except for Amazon's the object is looked up. What the answer says is made of what it says of the parts: only
        # the length shows that all of them were joined. And some servers use another ETag later (rclone: the MD5 of the
        # whole), and only by that one the object can be recognised as ours.
        is_enough = bool(receipt.etag) and self.context.capabilities.trusted
        if proof < self.options.minimum_proof or proof is Proof.NONE or found.doubt or not is_enough:
            self.look_for_proof(receipt, doubt=found.doubt)
        else:
            self.succeed(receipt)

    def ask_for_fewer_checksums(self, call: PendingRequest) -> bool:
        """Begin or complete again with a checksum of the parts' checksums instead of the whole, or with none."""
        reason = blame(call.refusal, call.request.headers)
        asked = _asked_for(call.request)
        fewer = fewer_part_checksums(asked)
        # Each part arrived as sent, so this server misunderstands the checksum of the whole (MiniStack).
        is_misread = asked == "full" and call.error is not None and kind_of(call.error) is Kind.BAD_DIGEST
        if fewer is None or call.refusal is None or not (is_misread or reason in (Blame.CHECKSUM, Blame.UNNAMED)):
            return False
        if call.request.operation == "CompleteMultipartUpload" and not all(part.echoed for part in self._parts):
            return False  # none was sent
        self._because, self._named = said(call.refusal), is_misread or reason is not Blame.UNNAMED
        self._checksums = fewer
        self.rewrite()
        return True

    def _look_whether_completed(self, *, looks: int, missing: Callable[[], None]) -> None:
        """Find out whether an attempt without an answer has completed the upload.

        :param looks: how often to look, at growing intervals.
        :param missing: called if there is no object after that.
        """

        def looked(call: PendingRequest) -> None:
            if self.over:
                return
            if call.error is not None:
                self.refuse(call, call.error)
            elif call.status == 200:
                self._examine(call, ours=True)
            elif call.status == 403:
                self.fail(
                    ConflictError(
                        f"It is unknown whether {self._address} was stored, because looking it up is not permitted.",
                        hint="Grant s3:GetObject so that the program can find out. The next run tries again.",
                    )
                )
            elif looks > 1:
                again = functools.partial(self._look_whether_completed, looks=looks - 1, missing=missing)
                self.after(_LAST_LOOK_SECONDS / 2.0 ** (looks - 2), again)
            else:
                missing()

        if not self.over:
            self.head(looked, LOOKED)

    # For conflicts.

    def _examine(self, call: PendingRequest, *, ours: bool) -> None:
        """Compare an existing object, which needs a digest of the whole file; the file may have to be read for it."""

        def examine() -> None:
            if self._digest is None:
                if not self.start_reading():
                    return
                try:
                    self.digest()
                except StoreError as error:
                    self.fail(error)
                    return
                finally:
                    self.stop_reading()
            super(CompletingUpload, self)._examine(call, ours=ours)

        self.on_crew(examine)

    def read_again(self, first: int, last: int) -> bytes:
        """Read bytes of the file."""
        return read_exactly(self.source.descriptor, first, last - first + 1)

    def content_sha256(self) -> str:
        """SHA-256 of the file, read again."""
        digest = hashlib.sha256()
        for first in range(0, self.source.size, self.context.part_size):
            count = min(self.context.part_size, self.source.size - first)
            digest.update(read_exactly(self.source.descriptor, first, count))
        return digest.hexdigest()


def _asked_for(request: Request) -> PartChecksums:
    """The kind of checksums in a request that begins or completes an upload in parts."""
    if "x-amz-checksum-type" in request.headers:
        return "full"
    has_parts = bool(request.parts) and bool(request.parts[0][2])
    return "composite" if has_parts or "x-amz-checksum-algorithm" in request.headers else "none"
