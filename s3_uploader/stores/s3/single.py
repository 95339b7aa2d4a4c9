"""An upload in one request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.core.text import is_plain
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import ChecksumForm
from s3_uploader.stores.s3.checksums import Digest, digest_of, evidence, read_exactly
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.conflict import ContestedUpload
from s3_uploader.stores.s3.engines.base import UNSIGNED_PAYLOAD, Request
from s3_uploader.stores.s3.refusals import Blame, blame, said
from s3_uploader.stores.s3.requests import UNCONDITIONAL, UNLESS_THERE

READ_AT_ONCE = 64 * 1024
"""A file up to this size is read and digested on the calling thread, a larger one on another thread."""
READ_BESIDE = 1024 * 1024
"""Up to this size it is also read on the calling thread if the other threads are busy: it would only wait for them."""
_SMALL = 1024 * 1024
"""Up to this size an upload is sent a second time to test whether conditional writes still do not work."""


class SingleUpload(ContestedUpload):
    """One PutObject, and its follow-up requests."""

    largest_light = READ_AT_ONCE
    _body = b""
    _digest: Digest | None = None
    _payload_hash = ""
    _reserved = 0
    _receipt_of_probe: Receipt | None = None
    _was_replaced = False
    _form: ChecksumForm | None = None
    _forms_tried: tuple[ChecksumForm, ...] = ()
    _because = ""
    _named = False
    """Whether the refusal after which ``_form`` is tried named the checksums."""
    _tries_checksums = False
    """Whether this upload tests if the server accepts the checksums that it once refused."""

    def prepare(self) -> None:
        """Read the source, at once if it is small, and begin."""
        context, source = self.context, self.source
        size = source.size
        is_light = size <= self.largest_light or (size <= READ_BESIDE and context.crew().is_busy)
        if not (is_light and context.budget.try_acquire(size)):
            context.budget.acquire(size, self._admitted)
            return
        self._reserved = size
        try:
            data = read_exactly(source.descriptor, 0, size)
        except StoreError as error:
            self.fail(error)
        else:
            self._ready(data)

    def _admitted(self) -> None:
        self._reserved = self.source.size
        if self.over:
            self.let_go()
        else:
            self.on_crew(self._read_on_crew)

    def _read_on_crew(self) -> None:
        if not self.start_reading():
            self.let_go()
            return
        try:
            data = read_exactly(self.source.descriptor, 0, self.source.size)
        except StoreError as error:
            self.fail(error)
            return
        finally:
            self.stop_reading()
        self._ready(data)

    def _ready(self, data: bytes) -> None:
        self._body = data
        known = self.context.capabilities
        # The MD5 of a larger file is most of its work, and a second proof from a server that has given both.
        one_is_enough = len(data) > READ_AT_ONCE and known.checksums_trusted and known.form == "crc32"
        self._digest = digest_of(data, with_md5=not one_is_enough)
        self._payload_hash = UNSIGNED_PAYLOAD if self.context.tls else hashlib.sha256(data).hexdigest()
        if self.over:
            self.let_go()  # it was cancelled while it waited or was read
        elif self.name_checks is not None:
            self.begin()
        else:
            self.set_out()

    def set_out(self) -> None:
        """Decide whether to look first, and write."""
        if self.over:
            return
        capabilities = self.context.capabilities
        if self.options.on_conflict is OnConflict.OVERWRITE and capabilities.conditional != "yes":
            # For an upload that may overwrite, a condition only avoids sending the same content twice.
            self.condition = UNLESS_THERE if capabilities.conditional == "" else UNCONDITIONAL
            self.write()
            return
        probe = None if capabilities.conditional else capabilities.admit(self.set_out, may_wait=is_plain(self.key))
        if probe is False:
            return
        self._is_probe = probe is True
        if self._is_probe or capabilities.conditional != "yes":
            if not self._is_probe and self.source.size <= _SMALL and capabilities.look_again():
                self._is_probe = True
            elif capabilities.conditional == "refused":
                self.condition = UNCONDITIONAL
            self.look_first()
        else:
            self.write()

    def let_go(self) -> None:
        """Release the memory."""
        reserved, self._reserved = self._reserved, 0
        if reserved:
            self._body = b""
            self.context.budget.release(reserved)

    def digest(self) -> Digest:
        """The digest of the content, with the MD5."""
        digest = self._digest
        assert digest is not None
        if not digest.md5:
            digest = self._digest = digest_of(self._body)
        return digest

    def read_again(self, first: int, last: int) -> bytes:
        """Read bytes of the content, which is in memory."""
        return self._body[first : last + 1]

    def room_to_compare(self, count: int) -> int:
        """Return 0: uploads that hold memory and wait for more could block each other."""
        return 0

    def content_sha256(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self._body).hexdigest()

    def write(self) -> None:
        """Send the object."""
        if self.source.size <= READ_AT_ONCE and self.context.capabilities.tries_checksums():
            self._form, self._tries_checksums = "crc32", True
        try:
            headers = self.context.headers.of(self.key, self.options)
        except StoreError as error:
            self.fail(error)
            return
        self.call(
            self._request(headers),
            self._written,
            self.condition.failed,
            look=self.head_request if self.looks_for_lost else None,
        )

    rewrite = write

    def _request(self, headers: dict[str, str]) -> Request:
        form = self._form or self.context.capabilities.form
        digest = self._digest if form == "crc32" else self.digest()
        assert digest is not None
        return requests.put_object(
            self.key,
            self.path,
            self._body,
            headers,
            crc32="" if form == "md5" else digest.crc32,
            md5="" if form == "crc32" else digest.md5,
            condition=self.condition,
            payload_hash=self._payload_hash,
        )

    def _try_other_checksums(self, call: PendingRequest) -> bool:
        """Send the object again with the checksum that the server requires, or without an unsupported one."""
        capabilities = self.context.capabilities
        reason = blame(call.refusal, call.request.headers)
        # Another upload may have found the right form meanwhile.
        used = form_of(call.request.headers)
        if used not in self._forms_tried:
            self._forms_tried += (used,)
        may_guess = not capabilities.form_is_taken and capabilities.conditional != "refused"
        form = other_form(used, reason, may_guess=may_guess)
        if self._tries_checksums and call.refusal is not None:
            # Checksums are still refused, so use the known form.
            self._tries_checksums, form = False, capabilities.form
        if form is None or form in self._forms_tried or call.refusal is None:
            if reason is Blame.UNNAMED:
                self._form = None  # the checksums were not the cause
            return False
        if self.condition.header and reason is Blame.UNNAMED:
            self._sightings += 1  # the next request has nothing unusual except the condition
        self._because, self._named = said(call.refusal), reason is not Blame.UNNAMED
        self._form = form
        self.write()
        return True

    def _written(self, call: PendingRequest) -> None:
        if self.over:
            return
        error = call.error
        if error is not None:
            if not self._try_other_checksums(call) and not self.condition_refused(call):
                self.refuse(call, error)
            return
        if call.was_found:
            self.found_after_all(call)
            return
        if call.status in self.condition.failed:
            if call.status == 412:
                self.report("yes")
            self.condition_failed(call)
            return
        capabilities = self.context.capabilities
        if self._form is not None or self._sighting or not capabilities.form_is_taken:
            self._was_taken()
        answer, digest = call.answer, self._digest
        assert answer is not None
        assert digest is not None
        headers = answer.headers
        # A server may repeat a checksum without checking the bytes (rclone). Then only its ETag reveals damage.
        suspicious = not capabilities.etags_are_other and self.options.minimum_proof > Proof.SIZE
        found = evidence(headers, digest, etag_counts=suspicious)
        if found.proof is Proof.NONE and not digest.md5 and not found.contradiction:
            found = evidence(headers, self.digest(), etag_counts=suspicious)  # this answer has no checksum
        if found.contradiction:
            self.contradicted(found.contradiction)
            return
        receipt = Receipt(
            key=self.key,
            size=digest.size,
            proof=found.proof,
            checksum=f"crc32:{digest.crc32}",
            etag=found.etag,
            version_id=headers.get("x-amz-version-id", ""),
        )
        if found.md5_matched and not (capabilities.etags_are_md5 and capabilities.checksums_trusted):
            capabilities.saw_md5_etag()
            if found.proof is Proof.CHECKSUM:
                capabilities.saw_both_proofs()
        doubt = found.doubt
        if doubt and found.proof is Proof.NONE and not self.etag_counts:
            doubt = ""
        if found.proof < self.options.minimum_proof or found.proof is Proof.NONE or doubt:
            self.require_s3(lambda: self.look_for_proof(receipt, doubt=doubt), answer)
        elif self._is_probe:
            self.conclude(receipt)
        else:
            self.succeed(receipt)

    def _was_taken(self) -> None:
        """Note that the server accepted the object as sent: this form of the request is known to work now."""
        capabilities = self.context.capabilities
        if self._form is not None:
            capabilities.takes_form(self._form, self._because, named=self._named or self._tries_checksums)
            self._form, self._tries_checksums = None, False
        elif not capabilities.form_is_taken:
            capabilities.takes_usual_form()
        if self._sighting:
            evidence = self.take_sighting()
            if self._is_probe:
                self.report("refused", evidence)
            else:
                capabilities.found("refused", evidence)

    def conclude(self, receipt: Receipt) -> None:
        """Succeed. A probe of an unknown endpoint first sends the stored object once more, to test the condition."""
        if not self._is_probe:
            self.succeed(receipt)
            return
        self._receipt_of_probe = receipt
        self.condition = UNLESS_THERE
        request = self._request(self.context.headers.of(self.key, self.options))
        self.call(request, self._probed, self.condition.failed)

    def _probed(self, call: PendingRequest) -> None:
        if self.over:
            return
        if call.status == 412:
            self.report("yes")
        elif call.error is not None:
            self.report("")
        elif not self._was_replaced and self.context.capabilities.conditional != "ignored":
            # Once may be chance: another client may have removed it in between.
            self._was_replaced = True
            receipt = self._receipt_of_probe
            assert receipt is not None
            self.conclude(receipt)
            return
        else:
            # The same content was overwritten, so no harm is done.
            self.report("ignored", "an object was replaced in spite of If-None-Match: *")
        receipt = self._receipt_of_probe
        assert receipt is not None
        self.succeed(receipt)


def form_of(headers: Mapping[str, str]) -> ChecksumForm:
    """The form of a request's checksum."""
    if "content-md5" not in headers:
        return "crc32"
    return "both" if "x-amz-checksum-crc32" in headers else "md5"


def other_form(used: ChecksumForm, reason: Blame, *, may_guess: bool) -> ChecksumForm | None:
    """The checksum headers to try after a refusal, ``None`` if they were not its cause."""
    if reason is Blame.CONTENT_MD5:
        return "both" if used == "crc32" else None
    if reason is Blame.CHECKSUM:
        return "both" if used == "md5" else "md5"
    return "md5" if reason is Blame.UNNAMED and may_guess and used == "crc32" else None
