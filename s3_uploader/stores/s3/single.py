"""An upload in one request."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future

from s3_uploader.core.errors import ProofError, StoreError
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import Digest, clean_etag, digest_of, evidence, read_exactly
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.conflict import ContestedUpload
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.requests import UNLESS_THERE
from s3_uploader.stores.s3.upload import Context

READ_AT_ONCE = 64 * 1024
"""A file up to this size is read and digested in passing, a larger one on another thread,"""
READ_BESIDE = 1024 * 1024
"""or up to this size in passing too, while another thread does so with another file: all of them queueing for that
thread, this one would only wait."""


class SingleUpload(ContestedUpload):
    """One PutObject, and what may come after it."""

    __slots__ = ("_body", "_digest", "_payload_hash", "_receipt_of_probe", "_reserved")

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
        self._body = b""
        self._digest: Digest | None = None
        self._payload_hash = ""
        self._reserved = 0
        self._receipt_of_probe: Receipt | None = None

    def prepare(self) -> None:
        """Read the source, at once if it is small, and begin."""
        size = self.source.size
        budget = self.context.budget
        is_light = size <= READ_AT_ONCE or (size <= READ_BESIDE and self.context.crew.is_busy)
        if is_light and budget.try_acquire(size):
            self._reserved = size
            self._read()
        else:
            budget.acquire(size, self._admitted)

    def _admitted(self) -> None:
        self._reserved = self.source.size
        if self.over:
            self._release()
        else:
            self.on_crew(self._read_on_crew)

    def _read_on_crew(self) -> None:
        if not self.start_reading():
            self._release()
            return
        try:
            data = read_exactly(self.source.descriptor, 0, self.source.size)
        except StoreError as error:
            self.fail(error)
            return
        finally:
            self.stop_reading()
        self._ready(data)

    def _read(self) -> None:
        try:
            data = read_exactly(self.source.descriptor, 0, self.source.size)
        except StoreError as error:
            self.fail(error)
            return
        self._ready(data)

    def _ready(self, data: bytes) -> None:
        self._body = data
        self._digest = digest_of(data)
        self._payload_hash = requests.payload_hash(data, tls=self.context.tls)
        self.begin()

    def _release(self) -> None:
        reserved, self._reserved = self._reserved, 0
        if reserved:
            self._body = b""
            self.context.budget.release(reserved)

    def _settle(self) -> None:
        self._release()
        super()._settle()

    def digest(self) -> Digest:
        """What is known of the content."""
        assert self._digest is not None
        return self._digest

    def read_again(self, first: int, last: int) -> bytes:
        """Bytes of the content, which is in memory."""
        return self._body[first : last + 1]

    def room_to_compare(self, count: int) -> int:
        """None to wait for: who holds memory and waits for more would block others who do the same."""
        return 0

    def content_sha256(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self._body).hexdigest()

    def write(self) -> None:
        """Send the object."""
        try:
            headers = self.context.headers.of(self.key, self.options)
        except StoreError as error:
            self.fail(error)
            return
        self.send_write(self._request(headers), self._written)

    rewrite = write

    def _request(self, headers: dict[str, str]) -> Request:
        return requests.put_object(
            self.key,
            self.path,
            self._body,
            headers,
            crc32=self.digest().crc32,
            condition=self.condition,
            payload_hash=self._payload_hash,
        )

    def _written(self, call: PendingRequest) -> None:
        if self.over:
            return
        error = call.error
        if error is not None:
            if call.status == 501 and self.condition.header:
                self.condition_refused()
            else:
                self.fail(error)
            return
        if call.was_found:
            self.found_after_all(call)
            return
        if call.status in self.failed_condition:
            if call.status == 412:
                self.report("yes")
            self.condition_failed(call)
            return
        answer = call.body
        headers = answer.headers
        digest = self.digest()
        found = evidence(headers, digest, etag_counts=self.etag_counts)
        if found.contradiction:
            self.fail(
                ProofError(
                    f"{self._address} was accepted, but not as it was sent. {found.contradiction}",
                    hint="Do not trust what is stored under this key; the file is kept.",
                )
            )
            return
        receipt = Receipt(
            key=self.key,
            size=digest.size,
            proof=found.proof,
            checksum=f"crc32:{digest.crc32}",
            etag=clean_etag(headers.get("etag", "")),
            version_id=headers.get("x-amz-version-id", ""),
        )
        if found.proof < self.options.minimum_proof or found.proof is Proof.NONE:
            self.look_for_proof(receipt)
        else:
            self.conclude(receipt)

    def conclude(self, receipt: Receipt) -> None:
        """The object is there; the probe of an unknown endpoint now sends it once more, to see what happens."""
        if not self.is_probe:
            self.succeed(receipt)
            return
        self._receipt_of_probe = receipt
        self.condition = UNLESS_THERE
        request = self._request(self.context.headers.of(self.key, self.options))
        self.call(request, self._probed, self.failed_condition)

    def _probed(self, call: PendingRequest) -> None:
        if self.over:
            return
        if call.status == 412:
            self.report("yes")
        elif call.error is None:
            # The same content replaced itself, so no harm is done.
            self.report("ignored")
        elif call.status == 501:
            self.report("refused")
        else:
            self.report("")
        receipt = self._receipt_of_probe
        assert receipt is not None
        self.succeed(receipt)
