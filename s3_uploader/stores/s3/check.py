"""Proves what a bucket can do by doing it with a small object, before the first file is deleted."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence

from s3_uploader.core.errors import StoreError, UploadCancelled
from s3_uploader.core.model import Finding, Proof, Severity
from s3_uploader.core.text import is_plain
from s3_uploader.stores.base import PutOptions, ignore
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import Capabilities, PartChecksums, fewer_part_checksums
from s3_uploader.stores.s3.checksums import crc32_text, digest_of, evidence
from s3_uploader.stores.s3.client import PendingRequest, S3Client
from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.errors import clock_skew
from s3_uploader.stores.s3.kept_settings import check_kept
from s3_uploader.stores.s3.names import kinds_of
from s3_uploader.stores.s3.probe import DIRECTORY, PlainProbe, Reply, Said
from s3_uploader.stores.s3.refusals import Blame, blame
from s3_uploader.stores.s3.requests import UNCONDITIONAL, UNLESS_THERE, Condition
from s3_uploader.stores.s3.single import other_form

PREFIX = DIRECTORY
_SECONDS = 30.0
_TOLERATED_SKEW = 60.0
"""S3 refuses requests that are signed more than fifteen minutes off; a minute is a sign of things to come."""

OK, NOTE, WARNING, ERROR = Severity.OK, Severity.NOTE, Severity.WARNING, Severity.ERROR

_OPTIONS = PutOptions()
_UNUSUAL = (
    ("upper case", "-Name", "-name"),
    ("accents", "-\u00e9", "-e\u0301"),
    ("combining accents", "-ae\u0301", "-a\u00e9"),
    ("empty steps", "-steps//name", "-steps/name"),
)
"""What is unusual about a name, its ending, and that of another which some server takes for it."""
_OF_CONDITION = (Blame.CONDITION, Blame.UNNAMED)


class Checker:
    """One check of one bucket.

    :param caller: sends requests with the usual retries.
    :param impatient: sends requests without any, for those that are meant to be refused.
    :param probe: asks for a plain name, where a refusal does not say whose it is.
    :param key_prefix: what all keys begin with, since the rights may be limited to it.
    :param stored: called with the key of the small object while it is there.
    :param variants: the ways in which objects are stored beside the usual one.
    :param upload_in_parts: stores a small object under a key as a run stores large ones; raises ``StoreError``.
    """

    def __init__(
        self,
        *,
        caller: S3Client,
        impatient: S3Client,
        capabilities: Capabilities,
        probe: PlainProbe,
        headers: requests.ObjectHeaders,
        endpoint: Endpoint,
        engine_name: str,
        key_prefix: str = "",
        now: float,
        stored: Callable[[str], None] = ignore,
        variants: Sequence[PutOptions] = (),
        upload_in_parts: Callable[[str], None],
    ) -> None:
        self._upload_in_parts = upload_in_parts
        self._variants = variants
        self._caller = caller
        self._stored = stored
        self._impatient = impatient
        self._capabilities = capabilities
        self._probe = probe
        self._form = capabilities.form
        self._headers = headers
        self._endpoint = endpoint
        self._engine_name = engine_name
        self._now = now
        self._key = key_prefix + PREFIX + secrets.token_hex(8)
        self._findings: list[Finding] = []
        self._left_behind: list[str] = []

    def findings(self) -> list[Finding]:
        """Do it, and clean up."""
        self._tell(OK, "endpoint", f"{self._endpoint.url}, region {self._endpoint.region}, engine {self._engine_name}")
        try:
            self._check()
        except StoreError as error:
            self._tell(ERROR, "request", error.message, error.hint)
        finally:
            self._remove()
        self._check_transport()
        return self._findings

    def _tell(self, severity: Severity, subject: str, fact: str, meaning: str = "") -> None:
        self._findings.append(Finding(severity, subject, fact, meaning))

    def _check(self) -> None:
        body = b"s3_uploader was here to see what this bucket can do.\n" + self._key.encode()
        began = time.monotonic()
        call = self._put_in_some_form(body)
        if call.error is not None:
            error = self._whose(call, call.error)
            self._tell(ERROR, "upload", error.message, error.hint)
            return
        self._left_behind.append(self._key)
        self._stored(self._key)
        self._tell(
            OK, "upload", "a small object could be stored", "Credentials, bucket and write permission are right."
        )
        self._check_clock(call, time.monotonic() - began)
        if self._form != "crc32":
            where = "beside" if self._form == "both" else "instead of"
            self._tell(
                NOTE,
                "upload headers",
                f"Content-MD5 is sent {where} the checksum",
                f"Because of this: {self._capabilities.form_evidence}",
            )
        verified = self._is_refused(checksum=True)
        md5_verified = self._is_refused(checksum=False)
        self._judge_proof(call, body, verified=verified, md5_verified=md5_verified)
        self._check_settings(body)
        self._check_condition(body)
        self._check_multipart()
        self._check_names(body)
        self._check_looking()

    def _put_in_some_form(self, body: bytes) -> PendingRequest:
        """Store the object with the checksum headers that the server takes; which these are is remembered."""
        tried: set[str] = set()
        because = ""
        while True:
            call = self._put(self._key, body, UNCONDITIONAL)
            tried.add(self._form)
            if call.error is None:
                if because:
                    self._capabilities.takes_form(self._form, because)
                return call
            reason = Blame.OTHER if call.refusal is None else blame(call.refusal, call.request.headers)
            form = other_form(self._form, reason, may_guess=True)
            if form is None or form in tried or call.refusal is None:
                return call
            because = f"{call.refusal.field('Code')}, {call.refusal.field('Message')[:100]}"
            self._form = form

    def _whose(self, call: PendingRequest, error: StoreError) -> StoreError:
        """The error, or a better one where a plain name of ours tells more."""
        over = threading.Event()
        replies: list[Reply] = []

        def told(reply: Reply) -> None:
            replies.append(reply)
            over.set()

        is_denial = error.code in ("AccessDenied", "400", "401", "403")
        if call.refusal is None or not (is_denial or not is_plain(self._key)):
            return error
        self._probe.ask(told)
        if not over.wait(_SECONDS):
            return error
        if replies[0].error is not None:
            return replies[0].error
        if is_denial and replies[0].said is not Said.UNCLEAR:
            return StoreError(error.message, code=error.code, hint=f"The credentials are right: {error.hint}")
        return error

    def _check_clock(self, call: PendingRequest, elapsed: float) -> None:
        skew = clock_skew(call.body, self._now)
        if skew is None:
            self._tell(NOTE, "clock", "the server does not tell its time")
        elif abs(skew) > _TOLERATED_SKEW + elapsed:
            direction = "ahead of" if skew > 0 else "behind"
            self._tell(
                WARNING,
                "clock",
                f"this machine is {abs(skew):.0f} s {direction} the server",
                "From fifteen minutes on every request is refused: synchronise the clock.",
            )
        else:
            self._tell(OK, "clock", "this machine and the server agree on the time")

    def _is_refused(self, *, checksum: bool) -> bool:
        """Whether bytes that do not fit what was said of them are refused, as if they had been damaged on the way."""
        key = f"{self._key}-damaged"
        body = b"these are not the bytes that were meant"
        headers = self._headers.of(key, _OPTIONS)
        if checksum:
            request = requests.put_object(
                key,
                requests.encode_key(key),
                body,
                headers,
                crc32=crc32_text(0x01020304),
                condition=UNCONDITIONAL,
                payload_hash=requests.payload_hash(body, tls=self._endpoint.payload_is_unsigned),
            )
        else:
            headers["content-md5"] = "AAAAAAAAAAAAAAAAAAAAAA=="
            request = Request(
                operation="PutObject",
                method="PUT",
                key=key,
                path=requests.encode_key(key),
                headers=headers,
                body=body,
                payload_hash=requests.payload_hash(body, tls=self._endpoint.payload_is_unsigned),
            )
        call = self._wait(request, caller=self._impatient)
        if call.error is None:
            self._left_behind.append(key)
            return False
        return 400 <= call.status < 500

    def _judge_proof(self, call: PendingRequest, body: bytes, *, verified: bool, md5_verified: bool) -> None:
        headers = call.body.headers
        found = evidence(headers, digest_of(body))
        if found.contradiction:
            self._tell(
                ERROR, "proof", found.contradiction, "The answers of this server cannot be trusted: nothing is deleted."
            )
            return
        echoed = found.proof is Proof.CHECKSUM
        etag = found.md5_matched
        if etag:
            self._capabilities.saw_md5_etag()
        if verified:
            self._tell(OK, "checksums", "a wrong checksum is refused", "Bytes damaged on the way are not stored.")
        elif md5_verified:
            self._tell(
                NOTE,
                "checksums",
                "checksums in headers are ignored, a wrong Content-MD5 is refused",
                "An old dialect: damage is found by comparing the MD5 in the answer, after the fact.",
            )
        else:
            self._tell(
                WARNING,
                "checksums",
                "wrong checksums and a wrong Content-MD5 are both accepted",
                "A weak dialect: the server stores whatever arrives; damage is found only by comparing the MD5 in its "
                "answer" + (", and by https." if self._endpoint.tls else "; use https."),
            )
        if echoed:
            meaning = "Every upload is proven by a checksum that the server computed itself."
            if not verified:
                meaning = "But since wrong ones are accepted, it may only repeat what it was told."
            self._tell(
                OK if verified else WARNING, "proof", "the answer carries the checksum of what was stored", meaning
            )
        elif etag:
            self._tell(
                OK if verified or md5_verified else NOTE,
                "proof",
                "the answer carries no checksum, but the MD5 of what was stored",
                "Every upload is proven by that MD5 (proof md5)."
                + (" Checksums are verified, too: a new dialect that does not answer them." if verified else ""),
            )
        elif self._can_be_read_back(body):
            self._tell(
                OK,
                "proof",
                "the answer carries neither a checksum nor an MD5, and what was stored can be read",
                "Every upload is read back and compared: as good a proof as a checksum, at the price of the way back.",
            )
        else:
            self._tell(
                ERROR,
                "proof",
                "the answer carries neither a checksum nor an MD5, and what was stored cannot be read back",
                "No upload can be proven, so nothing would be deleted. Grant s3:GetObject.",
            )

    def _can_be_read_back(self, body: bytes) -> bool:
        call = self._wait(
            requests.get_object(
                self._key, requests.encode_key(self._key), first=0, last=len(body) - 1, etag="", size=len(body)
            )
        )
        return call.error is None and call.body.body == body

    def _check_settings(self, body: bytes) -> None:
        """Whether what is asked for beside the bytes is kept, for each way in which objects are stored."""
        self._findings += check_kept(self._key, self._headers.of(self._key, _OPTIONS), self._wait)
        usual = self._headers.of(self._key, _OPTIONS)
        for number, options in enumerate(self._variants):
            headers = self._headers.of(self._key, options)
            if headers == usual:
                continue
            key = f"{self._key}-{number}"
            call = self._put(key, body, UNCONDITIONAL, options=options)
            if call.error is not None:
                self._tell(ERROR, "locations", call.error.message, call.error.hint)
                continue
            self._left_behind.append(key)
            own = {name: value for name, value in headers.items() if usual.get(name) != value}
            self._findings += check_kept(key, own, self._wait)

    def _check_condition(self, body: bytes) -> None:
        """Whether a second write to a taken key is refused. One answer to the contrary may be chance; two are not."""
        replaced = refused = 0
        while replaced < 2 and refused < 2:
            call = self._put(self._key, body, UNLESS_THERE, caller=self._impatient, expected=frozenset((412,)))
            if call.status == 412:
                self._capabilities.found("yes")
                self._tell(
                    OK, "conflicts", "a second write to the same key is refused",
                    "No object is ever replaced by others.",
                )  # fmt: skip
                return
            if call.error is None:
                replaced += 1
            elif call.refusal is not None and blame(call.refusal, call.request.headers) in _OF_CONDITION:
                refused += 1
            else:
                self._tell(ERROR, "conflicts", call.error.message, call.error.hint)
                return
        if replaced:
            self._capabilities.found("ignored", "an object was replaced in spite of If-None-Match: *")
        else:
            assert call.refusal is not None
            self._capabilities.found(
                "refused",
                "PutObject with if-none-match was refused and without it taken: "
                f"{call.refusal.field('Code')}, {call.refusal.field('Message')[:100]}",
            )
        self._tell(
            WARNING,
            "conflicts",
            "If-None-Match is " + ("ignored" if replaced else "not implemented") + f": {self._capabilities.evidence}",
            "The program looks whether a key is taken before it writes; if two writers use the same key at the "
            "same time, one can replace the other's object.",
        )

    def _check_multipart(self) -> None:
        key = f"{self._key}-parts"
        path = requests.encode_key(key)
        because = ""
        checksums: PartChecksums = "none" if self._form == "md5" else self._capabilities.part_checksums
        while True:
            headers = self._headers.of(key, _OPTIONS)
            call = self._wait(requests.create_multipart_upload(key, path, headers, checksums=checksums))
            if call.error is None:
                break
            reason = Blame.OTHER if call.refusal is None else blame(call.refusal, call.request.headers)
            fewer = fewer_part_checksums(checksums)
            if fewer is None or call.refusal is None or reason not in (Blame.CHECKSUM, Blame.UNNAMED):
                self._tell(ERROR, "large files", call.error.message, call.error.hint)
                return
            because = f"{call.refusal.field('Code')}, {call.refusal.field('Message')[:100]}"
            checksums = fewer
        if because:
            self._capabilities.takes_part_checksums(checksums, because)
        upload_id = call.body.field("UploadId")
        call = self._wait(requests.abort_multipart_upload(key, path, upload_id=upload_id))
        if call.error is not None:
            self._tell(
                WARNING,
                "parts of failed uploads",
                call.error.message,
                "They would stay and cost money: grant s3:AbortMultipartUpload, and have a lifecycle rule remove "
                "incomplete uploads.",
            )
            return
        words = {
            "full": "",
            "composite": ", with a checksum of the parts",
            "none": ", without a checksum of the whole",
        }
        try:
            self._upload_in_parts(key)
        except StoreError as error:
            self._tell(
                ERROR,
                "large files",
                error.message,
                error.hint or "Files above multipart_threshold would stay in the spool.",
            )
        else:
            self._left_behind.append(key)
            self._tell(OK, "large files", f"an upload in parts can be begun, aborted and completed{words[checksums]}")

    def _check_names(self, body: bytes) -> None:
        """Whether names are kept as they are, and apart from those that they resemble."""
        refused, changed = [], []
        for words, ending, twin in _UNUSUAL:
            key = self._key + ending
            if self._put(key, body, UNCONDITIONAL, caller=self._impatient).error is not None:
                refused.append(words)
                continue
            self._left_behind.append(key)
            mine, other = (self._wait(self._head(name), expected=frozenset((404,))) for name in (key, self._key + twin))
            if mine.error is not None or other.error is not None:
                return  # Looking is not permitted, which is said elsewhere.
            if mine.status == 200 and other.status == 404:
                self._capabilities.keeps_names(kinds_of("name" + ending))
            else:
                changed.append(words)
        if changed:
            self._tell(
                WARNING,
                "names",
                f"not kept apart from others that they resemble: names with {', '.join(changed)}",
                "Of two files whose names differ in nothing else only one is uploaded; the other is kept, and fails.",
            )
        if refused:
            self._tell(
                NOTE,
                "refused names",
                f"names with {', '.join(refused)}",
                "Files with such names are kept and fail; the others go.",
            )
        if not changed and not refused:
            self._tell(OK, "names", "upper and lower case, accents and empty steps are kept as they are")

    def _check_looking(self) -> None:
        call = self._wait(self._head(self._key))
        if call.error is None:
            self._tell(
                OK, "reading", "objects can be looked at", "After a crash the program recognises its own objects."
            )
        else:
            severity = NOTE if self._capabilities.conditional == "yes" else WARNING
            self._tell(
                severity,
                "reading",
                "objects cannot be looked at",
                "Uploads work without. But if a run is killed between upload and delete, the next one cannot tell that "
                "the object is its own, and keeps the file: grant s3:GetObject to avoid that.",
            )

    def _head(self, key: str) -> Request:
        return requests.head_object(key, requests.encode_key(key), checksums=self._form != "md5")

    def _remove(self) -> None:
        stays = []
        for key in self._left_behind:
            try:
                call = self._wait(requests.delete_object(key, requests.encode_key(key)))
            except StoreError:
                stays.append(key)
                continue
            if call.error is not None:
                stays.append(key)
        if stays:
            self._tell(
                NOTE,
                "deleting",
                f"not permitted; this stays behind: {', '.join(stays)}",
                "Uploads need no right to delete, and it is safer not to grant it. Remove it by hand.",
            )
        elif self._left_behind:
            self._tell(
                NOTE,
                "deleting",
                "permitted; the objects of this check were removed",
                "Uploads need no right to delete; a key without it can do less harm.",
            )

    def _check_transport(self) -> None:
        if self._endpoint.tls:
            self._tell(OK, "transport", "encrypted")
        elif self._endpoint.host.strip("[]") in ("localhost", "127.0.0.1", "::1"):
            self._tell(OK, "transport", "not encrypted, but it does not leave this machine")
        else:
            self._tell(
                WARNING,
                "transport",
                "not encrypted",
                "Everybody on the way can read the files; use https if there is a way.",
            )

    def _put(
        self,
        key: str,
        body: bytes,
        condition: Condition,
        *,
        caller: S3Client | None = None,
        expected: frozenset[int] = frozenset(),
        options: PutOptions = _OPTIONS,
    ) -> PendingRequest:
        request = requests.put_object(
            key,
            requests.encode_key(key),
            body,
            self._headers.of(key, options),
            crc32="" if self._form == "md5" else digest_of(body).crc32,
            md5="" if self._form == "crc32" else digest_of(body).md5,
            condition=condition,
            payload_hash=requests.payload_hash(body, tls=self._endpoint.payload_is_unsigned),
        )
        return self._wait(request, caller=caller, expected=expected)

    def _wait(
        self, request: Request, *, caller: S3Client | None = None, expected: frozenset[int] = frozenset()
    ) -> PendingRequest:
        over = threading.Event()
        finished: Callable[[PendingRequest], None] = lambda call: over.set()  # noqa: E731
        call = (caller or self._caller).call(request, finished, deadline=time.monotonic() + _SECONDS, expected=expected)
        if not over.wait(_SECONDS):
            call.cancel(UploadCancelled("The check took too long."))
            raise StoreError(f"The {request.operation} operation got no answer in {_SECONDS:.0f} s.", code="Timeout")
        return call
