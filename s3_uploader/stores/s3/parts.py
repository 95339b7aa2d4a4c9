"""The parts of an upload in flight: several at once, each read, sent and proven separately."""

from __future__ import annotations

from s3_uploader.core.errors import ProofError, StoreError
from s3_uploader.core.model import Proof
from s3_uploader.stores.s3 import multipart_requests
from s3_uploader.stores.s3.capabilities import ChecksumForm, PartChecksums
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
)
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.conflict import ContestedUpload
from s3_uploader.stores.s3.engines.base import UNSIGNED_PAYLOAD
from s3_uploader.stores.s3.meanings import Kind, kind_of
from s3_uploader.stores.s3.multipart_states import COMPLETING, NOTHING, SENDING, TRANSITIONS, WAITING, Stage
from s3_uploader.stores.s3.refusals import Blame, blame, said
from s3_uploader.stores.s3.single import form_of, other_form
from s3_uploader.stores.s3.upload import Context, Put
from s3_uploader.stores.transitions import step

_PARTS_AT_ONCE = 8


class PartsUpload(ContestedUpload):
    """An upload that sends parts. A subclass begins it, and completes it when all parts are stored.

    Each start has a generation. Answers for an earlier one are ignored.
    """

    _stage = NOTHING
    _upload_id = ""
    _generation = 0
    _next = 0
    _in_flight = 0
    _digest: Digest | None = None
    _form: ChecksumForm | None = None
    _checksums: PartChecksums | None = None
    _because = ""
    _named = False
    """The refusal for which ``_form`` or ``_checksums`` is tried named the checksums."""
    _form_is_told = False
    """What ``_form`` says about the endpoint was noted: all parts of a file are one sighting."""

    def __init__(self, context: Context, put: Put) -> None:
        super().__init__(context, put)
        self._parts: list[Part] = []
        self._calls: set[PendingRequest] = set()
        self._encryption: dict[str, str] = {}

    def enter(self, stage: Stage) -> None:
        """Enter another stage. The caller holds the lock.

        :raises IllegalTransition: if it may not follow the current one.
        """
        self._stage = step(TRANSITIONS, self._stage, stage)

    # To be provided.

    def complete(self) -> None:
        """Join the parts, all of which are stored."""
        raise NotImplementedError

    def start_again(self, generation: int) -> None:
        """Start again, because the server lost the upload."""
        raise NotImplementedError

    def abandon_parts(self) -> None:
        """Abort the upload and start another one."""
        raise NotImplementedError

    def all_parts_ended(self) -> None:
        """Note that no part is in flight any longer, which an abort waits for."""
        raise NotImplementedError

    # Sending.

    def plan(self) -> int:
        """Start with the first part. Returns the generation of its answers."""
        self._parts = plan_parts(
            self.source.size, multipart_requests.part_size_for(self.source.size, self.context.part_size)
        )
        self._next = 0
        self._digest = None
        self._generation += 1
        return self._generation

    def send_parts(self, generation: int) -> None:
        """Send as many parts at once as allowed."""
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
                # Faster reading is worth more than a second proof from a server that has given both.
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
        request = multipart_requests.upload_part(
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
        call = self.context.client.prepare(
            request,
            lambda call: self.guard(self._part_sent, call, part, generation),
            deadline=self.deadline,
        )
        with self._lock:
            begun = self._stage is SENDING and not self.over and generation == self._generation
            if begun:
                self._calls.add(call)
        if begun:
            self.context.client.begin(call)
        else:
            self._part_over(part)

    def _part_over(self, part: Part) -> None:
        """Note that a part has ended, and release its memory."""
        with self._lock:
            self._in_flight -= 1
        self.context.budget.release(part.size)

    def _part_sent(self, call: PendingRequest, part: Part, generation: int) -> None:
        self._part_over(part)
        with self._lock:
            self._calls.discard(call)
            was_last = self._stage is WAITING and not self._calls
            current = generation == self._generation and not self.over
        if was_last:
            self.all_parts_ended()
        if not current:
            return
        if call.error is not None:
            if kind_of(call.error) is Kind.NO_UPLOAD:
                self.start_again(generation)
            elif not self._try_other_part_checksums(call) and generation == self._generation:
                self.refuse(call, call.error)
            return
        self._part_was_taken()
        problem = self._judge_part(call, part)
        if problem is None:
            if generation == self._generation:
                self.abandon_parts()
            return
        if problem:
            self.fail(
                ProofError(
                    f"Part {part.number} of {self._address} was accepted, but not as sent. {problem}",
                    hint="The upload was aborted. The file is kept.",
                )
            )
            return
        with self._lock:
            part.done = True
            complete = self._stage is SENDING and self._next >= len(self._parts) and all(p.done for p in self._parts)
            if complete:
                self.enter(COMPLETING)
        if complete:
            self.complete()
        else:
            self.send_parts(generation)

    def _judge_part(self, call: PendingRequest, part: Part) -> str | None:
        """Note what the answer proves about a part. Returns a sentence if it proves that other bytes were stored.

        :returns: ``None`` if only an ETag says so. Then the parts are sent again, without relying on ETags, and the
            whole object is read back.
        """
        capabilities = self.context.capabilities
        headers = {**self._encryption, **call.body.headers}
        sent = Digest(size=part.size, crc32=crc32_text(part.crc32), md5=part.md5)
        found = evidence(headers, sent, etag_counts=self.etag_counts)
        if found.contradiction:
            return found.contradiction
        if found.doubt and found.proof is Proof.NONE:
            capabilities.saw_other_etag()
            return None
        # A proxy may drop the ETag. Most servers know the part by its MD5.
        part.etag = clean_etag(headers.get("etag", "")) or part.md5
        if not part.etag:
            return "The answer has no ETag, so the parts cannot be joined."
        part.echoed = found.proof is Proof.CHECKSUM
        part.etag_is_md5 = capabilities.etags_are_md5 and etag_is_md5(part.etag, headers)
        if found.md5_matched:
            part.etag_is_md5 = True
            capabilities.saw_md5_etag()
            if part.echoed:
                capabilities.saw_both_proofs()
        elif part.md5 and part.echoed and etag_is_md5(part.etag, headers):
            capabilities.saw_other_etag()
        return ""

    # Digests of the content.

    def digest(self) -> Digest:
        """The digest of the content. If the parts were not read yet, the file is read here; may block."""
        if self._digest is None:
            parts = self._parts
            if not parts or not all(part.done for part in parts):
                parts = self._digest_parts()
            self._digest = digest_of_parts(parts, self.source.size)
        return self._digest

    def _digest_parts(self) -> list[Part]:
        size = multipart_requests.part_size_for(self.source.size, self.context.part_size)
        parts = plan_parts(self.source.size, size)
        for part in parts:
            read = read_digested(self.source.descriptor, part.first, part.size, md5=True, sha256=False)
            part.crc32, part.md5 = read.crc32, read.md5
        return parts

    # Checksums that the server does not accept.

    @property
    def _form_in_use(self) -> ChecksumForm:
        return self._form or self.context.capabilities.form

    @property
    def _checksums_in_use(self) -> PartChecksums:
        if self._form_in_use == "md5":
            return "none"
        return self._checksums or self.context.capabilities.part_checksums

    def _try_other_part_checksums(self, call: PendingRequest) -> bool:
        """Start again with the checksum that the server requires for each part, or without an unsupported one."""
        reason = blame(call.refusal, call.request.headers)
        used = form_of(call.request.headers)
        form = other_form(used, reason, may_guess=not self.context.capabilities.form_is_taken)
        if form is None or call.refusal is None or self._form is not None:
            return False
        self._because, self._named = said(call.refusal), reason is not Blame.UNNAMED
        self._form = form
        self.abandon_parts()
        return True

    def _part_was_taken(self) -> None:
        capabilities = self.context.capabilities
        if self._form is not None and self._form != capabilities.form:
            if not self._form_is_told:
                self._form_is_told = True
                capabilities.takes_form(self._form, self._because, named=self._named)
        elif not capabilities.form_is_taken and self._checksums_in_use != "none":
            capabilities.takes_usual_form()
