"""``check`` for a bucket: it performs each step of an upload with a small object, before any file is deleted."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence

from s3_uploader.core.errors import StoreError
from s3_uploader.core.findings import Finding
from s3_uploader.core.text import is_plain
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, PutOptions, ignore
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import Capabilities
from s3_uploader.stores.s3.checks.conditions import check_condition
from s3_uploader.stores.s3.checks.names import check_names
from s3_uploader.stores.s3.checks.parts import PutInParts, check_parts
from s3_uploader.stores.s3.checks.proofs import check_proof
from s3_uploader.stores.s3.checks.trial import ERROR, NOTE, OK, USUAL, WARNING, Trial
from s3_uploader.stores.s3.client import PendingRequest, S3Client
from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.errors import clock_skew
from s3_uploader.stores.s3.kept_settings import check_kept
from s3_uploader.stores.s3.meanings import DENIALS, UNEXPLAINED, kind_of
from s3_uploader.stores.s3.probe import DIRECTORY, PlainProbe, Reply, Said
from s3_uploader.stores.s3.refusals import Blame, blame, explain_setting, said
from s3_uploader.stores.s3.requests import UNCONDITIONAL
from s3_uploader.stores.s3.single import other_form

PREFIX = DIRECTORY
_TOLERATED_SKEW = 60.0
"""S3 refuses requests whose time is wrong by more than fifteen minutes. A minute is an early warning."""


class Checker:
    """One check of one bucket.

    :param client: sends requests with the usual retries.
    :param impatient: sends requests without retries, for those that are expected to be refused.
    :param probe: tries a plain name, if a refusal does not say what it concerns.
    :param key_prefix: the prefix of all keys, because the permissions may be limited to it.
    :param stored: called with the key of the small object while it exists.
    :param limits: longest time for one request and for all.
    :param variants: the ways in which objects are stored besides the usual one.
    :param put_in_parts: stores a small object under a key as large ones are stored, within that many seconds.
    """

    def __init__(
        self,
        *,
        client: S3Client,
        impatient: S3Client,
        capabilities: Capabilities,
        probe: PlainProbe,
        headers: requests.ObjectHeaders,
        endpoint: Endpoint,
        engine_name: str,
        key_prefix: str = "",
        now: float,
        stored: Callable[[str], None] = ignore,
        limits: CheckLimits = USUAL_LIMITS,
        variants: Sequence[PutOptions] = (),
        put_in_parts: PutInParts,
    ) -> None:
        self._trial = Trial(
            key=key_prefix + PREFIX + secrets.token_hex(8),
            client=client,
            impatient=impatient,
            capabilities=capabilities,
            headers=headers,
            endpoint=endpoint,
            limits=limits,
        )
        self._put_in_parts = put_in_parts
        self._variants = variants
        self._stored = stored
        self._probe = probe
        self._engine_name = engine_name
        self._now = now

    def findings(self) -> list[Finding]:
        """Perform the check, and clean up."""
        self._trial.tell(
            OK,
            "endpoint",
            f"{self._trial.endpoint.url}, region {self._trial.endpoint.region}, engine {self._engine_name}",
        )
        self._check_path()
        try:
            self._check()
        except StoreError as error:
            self._trial.tell(ERROR, "request", error.message, error.hint)
        except BaseException:
            self._trial.hurry()
            raise
        finally:
            self._trial.remove()
        self._check_transport()
        return self._trial.findings

    def _check(self) -> None:
        body = b"s3_uploader was here to see what this bucket can do.\n" + self._trial.key.encode()
        began = time.monotonic()
        call = self._put_in_some_form(body)
        if call.error is not None:
            error = self._whose(call, call.error)
            self._trial.tell(ERROR, "upload", error.message, error.hint)
            return
        self._trial.left_behind.append(self._trial.key)
        self._stored(self._trial.key)
        self._trial.tell(
            OK, "upload", "a small object could be stored", "Credentials, bucket and write permission are right."
        )
        self._check_clock(call, time.monotonic() - began)
        if self._trial.form != "crc32":
            where = "beside" if self._trial.form == "both" else "instead of"
            self._trial.tell(
                NOTE,
                "upload headers",
                f"Content-MD5 is sent {where} the checksum",
                f"Because of this: {self._trial.capabilities.form_evidence}",
            )
        check_proof(self._trial, call, body)
        self._check_settings(body)
        check_condition(self._trial, body)
        check_parts(self._trial, self._put_in_parts)
        check_names(self._trial, body)
        self._check_looking()

    def _put_in_some_form(self, body: bytes) -> PendingRequest:
        """Store the object with the checksum headers that the server accepts, and remember them."""
        tried: set[str] = set()
        because, is_second = "", False
        known = self._trial.form
        if self._trial.capabilities.tries_checksums():
            self._trial.form = "crc32"
        while True:
            call = self._trial.put(self._trial.key, body, UNCONDITIONAL)
            tried.add(self._trial.form)
            if call.error is None:
                if because or self._trial.form != known:
                    self._trial.capabilities.takes_form(self._trial.form, because, named=True)
                return call
            reason = blame(call.refusal, call.request.headers)
            form = other_form(self._trial.form, reason, may_guess=True)
            if form is None or form in tried or call.refusal is None:
                return call
            if reason is Blame.UNNAMED and not is_second:
                is_second = True  # One such answer may have been about anything.
                continue
            because = said(call.refusal)
            self._trial.form = form

    def _whose(self, call: PendingRequest, error: StoreError) -> StoreError:
        """The error, or a better one if a request for a plain name tells more."""
        over = threading.Event()
        replies: list[Reply] = []
        if call.refusal is not None:
            explain_setting(error, call.refusal, call.request.headers, of_all=True)

        def told(reply: Reply) -> None:
            replies.append(reply)
            over.set()

        is_denial = kind_of(error) in DENIALS | UNEXPLAINED
        if call.refusal is None or not (is_denial or not is_plain(self._trial.key)):
            return error
        self._probe.ask(told)
        if not over.wait(max(0.0, self._trial.limits.left())):
            return error
        if replies[0].error is not None:
            return replies[0].error
        if is_denial and replies[0].said is not Said.UNCLEAR:
            return StoreError(error.message, code=error.code, hint=f"The credentials are right: {error.hint}")
        return error

    def _check_clock(self, call: PendingRequest, elapsed: float) -> None:
        skew = clock_skew(call.body, self._now)
        if skew is None:
            self._trial.tell(NOTE, "clock", "the server does not report its time")
        elif abs(skew) > _TOLERATED_SKEW + elapsed:
            direction = "ahead of" if skew > 0 else "behind"
            self._trial.tell(
                WARNING,
                "clock",
                f"this machine is {abs(skew):.0f} s {direction} the server",
                "Beyond fifteen minutes every request is refused. Synchronise the clock.",
            )
        else:
            self._trial.tell(OK, "clock", "this machine and the server agree on the time")

    def _check_settings(self, body: bytes) -> None:
        """Check that the settings of objects are kept, for each way in which objects are stored."""
        self._trial.findings += check_kept(
            self._trial.key, self._trial.headers.of(self._trial.key, USUAL), self._trial.wait
        )
        usual = self._trial.headers.of(self._trial.key, USUAL)
        for number, options in enumerate(self._variants):
            headers = self._trial.headers.of(self._trial.key, options)
            if headers == usual:
                continue
            key = f"{self._trial.key}-{number}"
            call = self._trial.put(key, body, UNCONDITIONAL, options=options)
            if call.error is not None:
                self._trial.tell(ERROR, "locations", call.error.message, call.error.hint)
                continue
            self._trial.left_behind.append(key)
            own = {name: value for name, value in headers.items() if usual.get(name) != value}
            self._trial.findings += check_kept(key, own, self._trial.wait)

    def _check_path(self) -> None:
        """Check that the bucket is not named once more, in another spelling or before a prefix."""
        endpoint = self._trial.endpoint
        scheme, _, rest = endpoint.url.partition("://")
        steps = rest.split("/")
        for number, step in enumerate(steps[1:], 1):
            if step.lower() == endpoint.bucket.lower():
                right = f"{scheme}://{'/'.join(steps[:number])}"
                self._trial.tell(
                    WARNING,
                    "path",
                    f"the path of the endpoint has the bucket's name ({step}), and the program adds the bucket to it",
                    f"Set endpoint_url (or AWS_ENDPOINT_URL) to {right}. What follows goes into key_prefix.",
                )
                return

    def _check_looking(self) -> None:
        call = self._trial.wait(self._trial.head(self._trial.key))
        if call.error is None:
            self._trial.tell(
                OK, "reading", "objects can be looked up", "After a crash the program recognises its own objects."
            )
        else:
            severity = NOTE if self._trial.capabilities.conditional == "yes" else WARNING
            self._trial.tell(
                severity,
                "reading",
                "objects cannot be looked up",
                "Uploads do not need this. But if a run is killed between upload and deletion, the next one cannot "
                "tell that the object is its own, and keeps the file. Grant s3:GetObject to avoid that.",
            )

    def _check_transport(self) -> None:
        if self._trial.endpoint.tls:
            self._trial.tell(OK, "transport", "encrypted")
        elif self._trial.endpoint.host.strip("[]") in ("localhost", "127.0.0.1", "::1"):
            self._trial.tell(OK, "transport", "not encrypted, but it does not leave this machine")
        else:
            self._trial.tell(
                WARNING,
                "transport",
                "not encrypted",
                "Everybody on the network path can read the files. Use https if possible.",
            )
