"""An upload in parts: each part proven by itself, the whole by one checksum, and nothing left behind if it fails."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import Future

from s3_uploader.core.errors import ConflictError, ProofError, StoreError, UploadCancelled
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import ChecksumForm, PartChecksums, fewer_part_checksums
from s3_uploader.stores.s3.checksums import (
    Digest,
    Part,
    clean_etag,
    crc32_text,
    digest_of_parts,
    etag_is_md5,
    evidence,
    plan_parts,
    read_digested,
    read_exactly,
    strong_etag,
)
from s3_uploader.stores.s3.client import NOTHING_EXPECTED, PendingRequest
from s3_uploader.stores.s3.conflict import ContestedUpload
from s3_uploader.stores.s3.engines.base import UNSIGNED_PAYLOAD, Request
from s3_uploader.stores.s3.proof import LOOKED
from s3_uploader.stores.s3.refusals import Blame, blame
from s3_uploader.stores.s3.requests import UNCONDITIONAL, UNLESS_THERE
from s3_uploader.stores.s3.single import form_of, other_form
from s3_uploader.stores.s3.upload import Context

_PARTS_AT_ONCE = 8
_ABORT_SECONDS = 10.0
_GRACE_SECONDS = 3.0
"""So long a cancelled upload waits for the name of what it has just begun."""
_MAXIMUM_STARTS = 3
_MAXIMUM_LOOKS = 7
_LAST_LOOK_SECONDS = 32.0
"""The last look comes so long after the one before, which came half as long after the one before it."""


class MultipartUpload(ContestedUpload):
    """CreateMultipartUpload, UploadPart for each part, CompleteMultipartUpload; AbortMultipartUpload if it fails.

    Each start has a generation; what an earlier one still brings is ignored.
    """

    __slots__ = (
        "_abort_sent", "_aborting", "_after_abort", "_because", "_calls", "_checksums", "_completing", "_creating",
        "_digest", "_encryption", "_form", "_generation", "_in_flight", "_next", "_parts", "_starts", "_strong_etags",
        "_upload_id",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        key: str,
        source: Source,
        options: PutOptions,
        deadline: float,
        replaces: str,
        future: Future[Receipt],
    ) -> None:
        super().__init__(context, key, source, options, deadline, replaces, future)
        self._upload_id = ""
        self._parts: list[Part] = []
        self._next = 0
        self._in_flight = 0
        self._calls: set[PendingRequest] = set()
        self._generation = 0
        self._starts = 0
        self._completing = False
        self._digest: Digest | None = None
        self._aborting = False
        self._abort_sent = False
        self._creating = False
        self._encryption: dict[str, str] = {}
        self._after_abort: list[Callable[[], None]] = []
        self._form: ChecksumForm | None = None
        self._checksums: PartChecksums | None = None
        self._because = ""
        self._strong_etags = True

    def prepare(self) -> None:
        """Begin, on a thread of the crew: a large file's digest may be needed before anything is sent."""
        self.on_crew(self.begin)

    def set_out(self) -> None:
        """Amazon honours a condition when the parts are joined; of others that is not known, so we look first, too."""
        if self.over:
            return
        if self.context.capabilities.trusted or self.options.on_conflict is OnConflict.OVERWRITE:
            self.write()
        else:
            self._look_first()

    # Beginning.

    def write(self) -> None:
        """Begin an upload in parts."""
        if self.over:
            return
        self._starts += 1
        if self._starts > _MAXIMUM_STARTS:
            self.fail(
                StoreError(
                    f"The upload of {self._address} was lost by the server again and again.", code="NoSuchUpload"
                )
            )
            return
        size = requests.part_size_for(self.source.size, self.context.part_size)
        self._generation += 1
        self._parts = plan_parts(self.source.size, size)
        self._next = 0
        self._completing = False
        self._digest = None
        generation = self._generation
        try:
            headers = self.context.headers.of(self.key, self.options)
        except StoreError as error:
            self.fail(error)
            return
        with self._lock:
            if self.over:
                return
            self._creating = True
        self.call(
            requests.create_multipart_upload(self.key, self.path, headers, checksums=self._checksums_in_use),
            lambda call: self._created(call, generation),
            NOTHING_EXPECTED,
            cancels=False,
        )

    def _created(self, call: PendingRequest, generation: int) -> None:
        upload_id = call.answer.field("UploadId") if call.answer is not None else ""
        with self._lock:
            # Known from here on to whoever cleans up.
            self._creating = False
            self._upload_id = upload_id
            late = self._error is not None
            self._aborting = late and bool(upload_id)
        if late:
            # It was cancelled while the server was asked; whoever did so waits for us.
            if upload_id:
                self._abort()
            else:
                self._aborted()
            return
        if call.error is not None:
            if not self._ask_for_fewer_checksums(call):
                self.refuse(call, call.error)
            return
        # Not every server repeats with each part that ETags are no MD5s here.
        self._encryption = {
            name: value
            for source in (call.request.headers, call.body.headers)
            for name, value in source.items()
            if name == "x-amz-server-side-encryption"
        }
        if not upload_id:
            self.fail(StoreError("The server began an upload in parts but did not name it.", code="InvalidAnswer"))
            return
        self._send_parts(generation)

    # Parts.

    def _send_parts(self, generation: int) -> None:
        """Have as many parts under way as may be."""
        while True:
            with self._lock:
                if self.over or generation != self._generation:
                    return
                if self._next >= len(self._parts) or self._in_flight >= _PARTS_AT_ONCE:
                    return
                part = self._parts[self._next]
                self._next += 1
                self._in_flight += 1
            self.context.budget.acquire(part.size, lambda part=part: self._admitted(part, generation))  # type: ignore[misc]

    def _admitted(self, part: Part, generation: int) -> None:
        self.on_crew(lambda: self._read_part(part, generation))

    def _read_part(self, part: Part, generation: int) -> None:
        if generation != self._generation or not self.start_reading():
            self._part_over(part)
            return
        try:
            read = read_digested(
                self.source.descriptor,
                part.first,
                part.size,
                # Reading a file twice as fast is worth more than a second proof from a server that has given both.
                md5=not self.context.capabilities.checksums_trusted or self._form_in_use != "crc32",
                sha256=not self.context.tls,
            )
        except StoreError as error:
            self._part_over(part)
            self.fail(error)
            return
        except BaseException:
            self._part_over(part)
            raise
        finally:
            self.stop_reading()
        part.crc32, part.md5 = read.crc32, read.md5
        request = requests.upload_part(
            self.key,
            self.path,
            read.body,
            upload_id=self._upload_id,
            number=part.number,
            crc32="" if self._form_in_use == "md5" or self._checksums_in_use == "none" else crc32_text(part.crc32),
            md5=part.md5 if self._form_in_use != "crc32" or self._checksums_in_use == "none" else "",
            payload_hash=read.sha256 or UNSIGNED_PAYLOAD,
        )
        del read
        call = self.context.caller.prepare(
            request,
            lambda call: self.guard(self._part_sent, call, part, generation),
            deadline=self.deadline,
        )
        with self._lock:
            begun = not self.over and generation == self._generation
            if begun:
                self._calls.add(call)
        if begun:
            self.context.caller.begin(call)
        else:
            self._part_over(part)

    def _part_over(self, part: Part) -> None:
        """A part holds memory no longer."""
        with self._lock:
            self._in_flight -= 1
        self.context.budget.release(part.size)

    def _part_sent(self, call: PendingRequest, part: Part, generation: int) -> None:
        self._part_over(part)
        with self._lock:
            self._calls.discard(call)
            last_of_aborted = self._aborting and not self._calls
            current = generation == self._generation and not self.over
        if last_of_aborted:
            self._abort()
        if not current:
            return
        if call.error is not None:
            if call.error.code == "NoSuchUpload":
                self._start_again()
            elif not self._try_other_part_checksums(call):
                self.refuse(call, call.error)
            return
        self._part_was_taken()
        headers = {**self._encryption, **call.body.headers}
        sent = Digest(size=part.size, crc32=crc32_text(part.crc32), md5=part.md5)
        found = evidence(headers, sent, etag_counts=self.etag_counts)
        if found.doubt and found.proof is Proof.NONE:
            # The next upload will not go by ETags, but have the whole read back.
            self.context.capabilities.saw_other_etag()
        contradiction = found.contradiction or (found.doubt if found.proof is Proof.NONE else "")
        if contradiction:
            self.fail(
                ProofError(
                    f"Part {part.number} of {self._address} was accepted, but not as sent. {contradiction}",
                    hint="The upload was aborted; the file is kept.",
                )
            )
            return
        part.etag = clean_etag(headers.get("etag", ""))
        part.echoed = found.proof is Proof.CHECKSUM
        capabilities = self.context.capabilities
        part.etag_is_md5 = capabilities.etags_are_md5 and etag_is_md5(part.etag, headers)
        if found.md5_matched:
            part.etag_is_md5 = True
            capabilities.saw_md5_etag()
            if part.echoed:
                capabilities.saw_both_proofs()
        elif part.md5 and part.echoed and etag_is_md5(part.etag, headers):
            capabilities.saw_other_etag()
        with self._lock:
            part.done = True
            complete = self._next >= len(self._parts) and all(part.done for part in self._parts)
            if complete:
                if self._completing:
                    return
                self._completing = True
        if not complete:
            self._send_parts(generation)
        elif self.context.capabilities.trusted or self.condition is not UNLESS_THERE:
            self._complete()
        else:
            # Older servers ignore a condition here, and the first look is as long ago as the parts took.
            self.head(self._looked_before_completing, LOOKED)

    # Completing.

    def digest(self) -> Digest:
        """What is known of the content. Before the parts are read it is read here; may block."""
        if self._digest is None:
            parts = self._parts
            if not parts or not all(part.done for part in parts):
                parts = self._digest_parts()
            self._digest = digest_of_parts(parts, self.source.size)
        return self._digest

    def _digest_parts(self) -> list[Part]:
        size = requests.part_size_for(self.source.size, self.context.part_size)
        parts = plan_parts(self.source.size, size)
        for part in parts:
            read = read_digested(self.source.descriptor, part.first, part.size, md5=True, sha256=False)
            part.crc32, part.md5 = read.crc32, read.md5
        return parts

    def rewrite(self) -> None:
        """Join the parts under another condition, or begin if there are none yet."""
        if self._completing and self._upload_id:
            self._complete()
        else:
            self.write()

    def _looked_before_completing(self, call: PendingRequest) -> None:
        if self.over:
            return
        if call.error is not None:
            self.refuse(call, call.error)
        elif call.status == 200:
            self._examine(call, ours=False)
        else:
            self._complete()

    def _complete(self) -> None:
        if self.over:
            return
        digest = self.digest()
        all_echoed = all(part.echoed for part in self._parts)
        capabilities = self.context.capabilities
        if capabilities.conditional == "refused" or not capabilities.completes_conditionally:
            self.condition = UNCONDITIONAL
        checksums = self._checksums_in_use if all_echoed else "none"
        request = requests.complete_multipart_upload(
            self.key,
            self.path,
            upload_id=self._upload_id,
            etags=[strong_etag(part.etag) if self._strong_etags else part.etag for part in self._parts],
            checksums=[crc32_text(part.crc32) for part in self._parts] if checksums != "none" else (),
            whole_crc32=digest.crc32 if checksums == "full" else "",
            size=digest.size,
            condition=self.condition,
        )
        self.send_write(request, self._completed)

    def _completed(self, call: PendingRequest) -> None:
        if self.over:
            return
        error = call.error
        if error is not None:
            if error.code == "NoSuchUpload":
                # One that was not answered may still be at work, and the server knows the upload no more.
                self._look_whether_completed(looks=_MAXIMUM_LOOKS if call.attempts > 1 else 1)
            elif error.code == "InvalidPart" and self._strong_etags and any("W/" in part.etag for part in self._parts):
                # What made the ETags weak is mostly a proxy, whose mark the server does not know. Or it made them so.
                self._strong_etags = False
                self._complete()
            elif not self._ask_for_fewer_checksums(call) and not self.condition_refused(call):
                self.refuse(call, error)
            return
        if call.was_found:
            self.found_after_all(call)
            return
        if call.status in self.failed_condition:
            self.condition_failed(call)
            return
        if sighting := self.take_sighting():
            self.context.capabilities.refuses_condition_at_completion(sighting)
        if self._checksums is not None:
            self.context.capabilities.takes_part_checksums(self._checksums, self._because)
        answer = call.body
        # What is in the headers of other answers stands in this one's document.
        headers = {
            **self._encryption,
            **answer.headers,
            "etag": answer.field("ETag") or answer.headers.get("etag", ""),
            "x-amz-checksum-crc32": answer.field("ChecksumCRC32"),
        }
        digest = self.digest()
        found = evidence(headers, digest, etag_counts=self.etag_counts)
        if found.contradiction:
            self._upload_id = ""
            self.fail(
                ProofError(
                    f"{self._address} was accepted, but not as it was sent. {found.contradiction}",
                    hint="Do not trust what is stored under this key; the file is kept.",
                )
            )
            return
        self._upload_id = ""
        proof = found.proof
        if proof is Proof.MD5 and all(part.echoed for part in self._parts):
            # The parts were proven by checksum, and the ETag says that the object is made of these parts.
            proof = Proof.CHECKSUM
        receipt = Receipt(
            key=self.key,
            size=digest.size,
            proof=proof,
            checksum=f"crc32:{digest.crc32}",
            etag=clean_etag(headers["etag"]),
            version_id=answer.headers.get("x-amz-version-id", ""),
        )
        # A server that ignores conditions may name another ETag afterwards (rclone: the MD5 of the whole), and by that
        # alone the object can be recognised as ours later.
        lasting = bool(receipt.etag) and self.context.capabilities.conditional == "yes"
        if proof < self.options.minimum_proof or proof is Proof.NONE or found.doubt or not lasting:
            self.look_for_proof(receipt, doubt=found.doubt)
        else:
            self.succeed(receipt)

    # Checksums that the server does not take.

    @property
    def _form_in_use(self) -> ChecksumForm:
        return self._form or self.context.capabilities.form

    @property
    def _checksums_in_use(self) -> PartChecksums:
        if self._form_in_use == "md5":
            return "none"
        return self._checksums or self.context.capabilities.part_checksums

    def _ask_for_fewer_checksums(self, call: PendingRequest) -> bool:
        """Begin, or complete, with one checksum of the parts' instead of one of the whole, or with none."""
        reason = Blame.OTHER if call.refusal is None else blame(call.refusal, call.request.headers)
        fewer = fewer_part_checksums(_asked_for(call.request))
        if fewer is None or call.refusal is None or reason not in (Blame.CHECKSUM, Blame.UNNAMED):
            return False
        if call.request.operation == "CompleteMultipartUpload" and not all(part.echoed for part in self._parts):
            return False  # None was sent.
        self._because = f"{call.refusal.field('Code')}, {call.refusal.field('Message')[:100]}"
        self._checksums = fewer
        self._starts -= 1
        self.rewrite()
        return True

    def _try_other_part_checksums(self, call: PendingRequest) -> bool:
        """Begin anew with the checksum that the server asks for with each part, or without the one it does not know."""
        reason = Blame.OTHER if call.refusal is None else blame(call.refusal, call.request.headers)
        used = form_of(call.request.headers)
        form = other_form(used, reason, may_guess=not self.context.capabilities.form_is_taken)
        if form is None or call.refusal is None or self._form is not None:
            return False
        self._because = f"{call.refusal.field('Code')}, {call.refusal.field('Message')[:100]}"
        self._form = form
        self._starts -= 1
        self._abandon_parts(self.write)
        return True

    def _part_was_taken(self) -> None:
        capabilities = self.context.capabilities
        if self._form is not None and self._form != capabilities.form:
            capabilities.takes_form(self._form, self._because)
        elif not capabilities.form_is_taken and self._checksums_in_use != "none":
            capabilities.form_is_taken = True

    def _abandon_parts(self, then: Callable[[], None]) -> None:
        """Have the upload that was begun removed, and go on; what its other parts bring is ignored."""
        with self._lock:
            self._generation += 1
        self.clean_up(then)

    def _look_whether_completed(self, *, looks: int) -> None:
        """The upload is gone; see whether an attempt whose answer was lost has completed it.

        :param looks: how often to look before everything is sent again, at growing distances.
        """
        if self.over:
            return
        self._upload_id = ""
        self._completing = False

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
                        f"It cannot be seen whether {self._address} was stored: looking is not permitted.",
                        hint="Grant s3:GetObject so that the program can tell; the next run tries again.",
                    )
                )
            elif looks > 1:
                pause = _LAST_LOOK_SECONDS / 2.0 ** (looks - 2)
                again = functools.partial(self._look_whether_completed, looks=looks - 1)
                self.context.timer.call_at(self.context.clock() + pause, functools.partial(self.guard, again))
            else:
                self.write()

        self.head(looked, LOOKED)

    def _start_again(self) -> None:
        with self._lock:
            self._generation += 1
            self._upload_id = ""
            calls = list(self._calls)
        for call in calls:
            call.cancel(UploadCancelled("The upload is begun anew."))
        self.write()

    # Cleaning up.

    def conclude(self, receipt: Receipt) -> None:
        """The object is there; parts that were sent for nothing are removed."""
        self.clean_up(lambda: self.succeed(receipt))

    def cancel(self, reason: UploadCancelled) -> None:
        """Give the upload up; its parts are removed."""
        with self._lock:
            creating = self._creating
            calls = list(self._calls)
        if creating:
            # Cancelling it would leave an upload behind whose name nobody knows.
            self.fail(reason)
            call = self._call
            if call is not None:
                cancel_call = functools.partial(call.cancel, reason)
                self.context.timer.call_at(self.context.clock() + _GRACE_SECONDS, cancel_call)
            return
        super().cancel(reason)
        for call in calls:
            call.cancel(reason)

    def clean_up(self, done: Callable[[], None]) -> None:
        """Abort the upload once none of its parts is on its way, since a part that arrives later would stay."""
        with self._lock:
            begun = bool(self._upload_id or self._aborting or self._creating)
            if begun:
                self._after_abort.append(done)
                if self._aborting or self._creating:
                    return
                self._aborting = True
            calls = list(self._calls)
        if not begun:
            done()
            return
        reason = self._error if isinstance(self._error, UploadCancelled) else None
        for call in calls:
            call.cancel(reason or UploadCancelled("The upload was cancelled because another part failed."))
        if not calls:
            self._abort()

    def _abort(self) -> None:
        with self._lock:
            if self._abort_sent:
                return
            upload_id, self._upload_id = self._upload_id, ""
            self._abort_sent = bool(upload_id)
        if not upload_id:
            # Another thread has just found that the server does not know it any more; who waits for its end has it.
            self._aborted()
            return
        self.context.caller.call(
            requests.abort_multipart_upload(self.key, self.path, upload_id=upload_id),
            lambda call: self._aborted(),
            deadline=self.context.clock() + _ABORT_SECONDS,
            expected=LOOKED,
        )

    def _aborted(self) -> None:
        with self._lock:
            self._aborting = self._abort_sent = False
            waiting, self._after_abort = self._after_abort, []
        for done in waiting:
            done()

    # For conflicts.

    def _examine(self, call: PendingRequest, *, ours: bool) -> None:
        """Whether it is our content takes a digest of the whole file, which may have to be read for it."""

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
            super(MultipartUpload, self)._examine(call, ours=ours)

        self.on_crew(examine)

    def read_again(self, first: int, last: int) -> bytes:
        """Bytes of the file."""
        return read_exactly(self.source.descriptor, first, last - first + 1)

    def content_sha256(self) -> str:
        """SHA-256 of the file, read once more."""
        digest = hashlib.sha256()
        for first in range(0, self.source.size, self.context.part_size):
            count = min(self.context.part_size, self.source.size - first)
            digest.update(read_exactly(self.source.descriptor, first, count))
        return digest.hexdigest()

    def _begin_under(self, key: str, path: str) -> None:
        self._completing = False
        self._digest = None
        super()._begin_under(key, path)


def _asked_for(request: Request) -> PartChecksums:
    """The checksums that a request to begin or to complete an upload in parts asked for."""
    if "x-amz-checksum-type" in request.headers:
        return "full"
    has_parts = bool(request.parts) and bool(request.parts[0][2])
    return "composite" if has_parts or "x-amz-checksum-algorithm" in request.headers else "none"
