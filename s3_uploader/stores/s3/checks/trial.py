"""The small requests of a bucket check, their findings, and the objects to clean up."""

from __future__ import annotations

import threading
import time

from s3_uploader.core.errors import StoreError, UploadCancelled
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, PutOptions
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import Capabilities, acknowledging
from s3_uploader.stores.s3.checksums import digest_of
from s3_uploader.stores.s3.client import PendingRequest, S3Client
from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.requests import Condition

_REMOVAL_SECONDS = 1.0
"""For the removal of the stored objects, after a request got no answer or the check was interrupted."""
_GONE = frozenset((404,))
OK, NOTE, WARNING, ERROR = Severity.OK, Severity.NOTE, Severity.WARNING, Severity.ERROR
USUAL = PutOptions()


class Trial:
    """Sends the requests of one check and waits for each.

    :param key: of the small object; all other keys begin with it.
    :param client: sends requests with the usual retries.
    :param impatient: sends requests without retries, for those that are expected to be refused.
    :param limits: longest time for one request and for all.
    :ivar form: the checksum headers in use.
    :ivar left_behind: keys to be deleted.
    """

    def __init__(
        self,
        *,
        key: str,
        client: S3Client,
        impatient: S3Client,
        capabilities: Capabilities,
        headers: requests.ObjectHeaders,
        endpoint: Endpoint,
        limits: CheckLimits = USUAL_LIMITS,
    ) -> None:
        self.key = key
        self.impatient = impatient
        self.capabilities = capabilities
        self.headers = headers
        self.endpoint = endpoint
        self.limits = limits
        self.form = capabilities.form
        self.findings: list[Finding] = []
        self.left_behind: list[str] = []
        self._client = client

    def tell(self, severity: Severity, subject: str, fact: str, meaning: str = "") -> None:
        """Note a finding."""
        self.findings.append(Finding(severity, subject, fact, meaning))

    def tell_limit(self, limit: str, subject: str, fact: str, meaning: str) -> None:
        """Note what the endpoint cannot do: a warning, unless the configuration acknowledges it."""
        if limit in self.capabilities.acknowledged:
            self.tell(NOTE, subject, fact, f"{meaning} The configuration acknowledges this.")
        else:
            self.tell(WARNING, subject, fact, f"{meaning} To acknowledge this, set {acknowledging(limit)}.")

    def put(
        self,
        key: str,
        body: bytes,
        condition: Condition,
        *,
        client: S3Client | None = None,
        expected: frozenset[int] = frozenset(),
        options: PutOptions = USUAL,
    ) -> PendingRequest:
        """Store an object."""
        request = requests.put_object(
            key,
            requests.encode_key(key),
            body,
            self.headers.of(key, options),
            crc32="" if self.form == "md5" else digest_of(body).crc32,
            md5="" if self.form == "crc32" else digest_of(body).md5,
            condition=condition,
            payload_hash=requests.payload_hash(body, tls=self.endpoint.payload_is_unsigned),
        )
        return self.wait(request, client=client, expected=expected)

    def wait(
        self, request: Request, *, client: S3Client | None = None, expected: frozenset[int] = frozenset()
    ) -> PendingRequest:
        """Send a request and wait until it is over.

        :raises StoreError: if it does not end in time.
        """
        over = threading.Event()
        seconds = self.time_left()
        call = (client or self._client).call(
            request, lambda call: over.set(), deadline=time.monotonic() + seconds, expected=expected
        )
        try:
            if over.wait(seconds):
                return call
        except BaseException:
            call.cancel(UploadCancelled("The check was interrupted."))
            raise
        call.cancel(UploadCancelled("The check timed out."))
        self.hurry()
        raise StoreError(f"The {request.operation} operation got no answer in {seconds:.1f} s.", code="Timeout")

    def time_left(self) -> float:
        """Seconds for a request that begins now.

        :raises StoreError: if the time for the check is over.
        """
        seconds = self.limits.left()
        if seconds <= 0:
            self.hurry()
            raise StoreError("The check took longer than a run may take (max_runtime_seconds).", code="Timeout")
        return seconds

    def hurry(self) -> None:
        """Leave but a moment for the removal of what was stored."""
        ends_at = min(self.limits.ends_at, time.monotonic()) + _REMOVAL_SECONDS
        self.limits = CheckLimits(seconds=_REMOVAL_SECONDS, ends_at=ends_at)

    def head(self, key: str) -> Request:
        """The request that looks at a key."""
        return requests.head_object(key, requests.encode_key(key), checksums=self.form != "md5")

    def remove(self) -> None:
        """Delete the stored objects, if that is permitted."""
        stays: list[str] = []
        for number, key in enumerate(self.left_behind):
            try:
                # If two names are one object, it was deleted already.
                call = self.wait(requests.delete_object(key, requests.encode_key(key)), expected=_GONE)
            except StoreError as error:
                # A wait for each of the others would be useless.
                stays += self.left_behind[number:]
                self.tell(
                    NOTE, "deleting", f"{error.message} This stays behind: {', '.join(stays)}", "Remove it by hand."
                )
                return
            if call.error is not None:
                stays.append(key)
        if stays:
            self.tell(
                NOTE,
                "deleting",
                f"not permitted; this stays behind: {', '.join(stays)}",
                "Uploads need no permission to delete, and it is safer not to grant it. Remove it by hand.",
            )
        elif self.left_behind:
            self.tell(
                NOTE,
                "deleting",
                "permitted; the objects of this check were removed",
                "Uploads need no permission to delete; a key without it can do less harm.",
            )
