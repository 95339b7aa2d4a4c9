"""Probes of a server: a request for a plain name, and trials of unusual names and of conditional writes."""

from __future__ import annotations

import enum
import functools
import os
import threading
import time
from collections.abc import Callable, Generator

import msgspec

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import is_plain, shown_name
from s3_uploader.stores.base import PutOptions
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import Capabilities, Conditional
from s3_uploader.stores.s3.checksums import clean_etag, digest_of
from s3_uploader.stores.s3.client import PendingRequest, S3Client
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.foreign import NOT_S3
from s3_uploader.stores.s3.meanings import Kind, kind_of
from s3_uploader.stores.s3.refusals import Blame, blame, said

DIRECTORY = ".s3-uploader-check/"
_LASTS_SECONDS = 5.0
_SECONDS = 30.0
_THERE = frozenset((404, 416))
_NOT_THERE = 404

KINDS = {
    "empty-steps": ("", "//name", "/name"),
    "first-slash": ("/", "", ""),
    "last-slash": ("", "-ends/", "-ends"),
    "dotted-steps": ("", "/./name", "/name"),
}
"""The kinds of :mod:`s3_uploader.stores.s3.folding` that paths of files cannot have: beginning and end of the first
name, and end of the second."""

_ANY = frozenset(range(300, 500))
_TAKEN = 412
_WRITES = ("PutObject", "CompleteMultipartUpload")
_PROTECTED = "protected"


class Said(enum.Enum):
    """What the answer to a plain name means."""

    SERVES = "it is not there"
    DENIED = "the credentials are right, and looking is not permitted"
    REFUSES = "every request is refused"
    NOT_S3 = "this is not an S3 server"
    UNCLEAR = "the answer says nothing"


class Reply(msgspec.Struct, frozen=True):
    """The meaning of an answer. ``error`` is set for ``REFUSES`` and ``NOT_S3``."""

    said: Said
    error: StoreError | None = None


class PlainProbe(msgspec.Struct, kw_only=True, eq=False):
    """A request for a plain name: it tells a refused name from refused credentials, and S3 from a web page.

    The request is a GET of a key that does not exist. GET and not HEAD, because only the refusal of a GET has a
    document with the reason. A web page instead of the server (of a proxy or a login) answers as if the key existed. At
    most one request is sent in a few seconds, even if many uploads need the answer.

    :param prefix: the prefix of all keys, because permissions may be limited to it; ignored if it is not plain itself.
    :param url: of the endpoint, for messages.
    """

    client: S3Client
    prefix: str
    url: str
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    _waiting: list[Callable[[Reply], None]] = []
    _reply: Reply | None = None
    _replied_at: float = 0.0

    def ask(self, then: Callable[[Reply], None]) -> None:
        """Call ``then`` with the answer: at once if it is known, else on any thread."""
        with self._lock:
            reply = self._reply
            if reply is None or self.clock() - self._replied_at > _LASTS_SECONDS:
                reply = None
                self._waiting.append(then)
                if len(self._waiting) > 1:
                    return
        if reply is not None:
            then(reply)
            return
        prefix = self.prefix if is_plain(f"{self.prefix}x") else ""
        key = f"{prefix}{DIRECTORY}{os.urandom(8).hex()}"
        self.client.call_in_time(
            requests.get_object(key, requests.encode_key(key), first=0, last=0, etag=""),
            self._answered,
            deadline=self.clock() + _SECONDS,
            expected=_THERE,
        )

    def _answered(self, call: PendingRequest) -> None:
        reply = self._meaning(call)
        with self._lock:
            self._reply, self._replied_at = reply, self.clock()
            waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(reply)

    def _meaning(self, call: PendingRequest) -> Reply:
        error = call.error
        if error is None:
            return Reply(Said.SERVES) if call.status == _NOT_THERE else Reply(Said.NOT_S3, not_s3(self.url))
        if kind_of(error) is Kind.DENIED:
            return Reply(Said.DENIED)
        if kind_of(error) is Kind.NOT_S3:
            return Reply(Said.NOT_S3, error)
        return Reply(Said.REFUSES, error) if error.scope is Scope.DESTINATION else Reply(Said.UNCLEAR)


def not_s3(url: str) -> StoreError:
    """The error for an endpoint that answers for a missing key as if it existed."""
    return StoreError(
        f"{NOT_S3}{url} answers every request with a page of its own.",
        code="NotS3",
        origin=Origin.SERVER,
        scope=Scope.DESTINATION,
        hint="Check endpoint_url and the network: a proxy or the login page of a network may answer.",
    )


class NameTrial(msgspec.Struct, kw_only=True, eq=False):
    """Tries with two small objects whether a bucket keeps two names distinct when lookups cannot tell.

    Servers that store objects as files and their properties elsewhere (pys3local) report both ``a//b`` and ``a///b`` as
    existing, although both are one file. Only a second write shows that, by the content of the first name afterwards.
    Each kind of name is tried once, even if many uploads need the answer. The result is noted in the capabilities.

    :param prefix: the prefix of all keys, because the permissions may be limited to it.
    :param tls: the payload is not signed.
    """

    client: S3Client
    capabilities: Capabilities
    headers: requests.ObjectHeaders
    prefix: str
    tls: bool
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    _waiting: dict[str, list[Callable[[], None]]] = {}
    _tried: set[str] = set()

    def ask(self, kinds: frozenset[str], then: Callable[[], None]) -> None:
        """Call ``then`` when these kinds have been tried: at once if they have, else on any thread."""
        known = self.capabilities
        for kind in kinds & KINDS.keys() - known.kept_names - known.merged_names:
            with self._lock:
                if kind in self._tried:
                    continue
                waiting = self._waiting.setdefault(kind, [])
                waiting.append(functools.partial(self.ask, kinds, then))
                if len(waiting) > 1:
                    return
            _Pair(self, kind).begin()
            return
        then()

    def told(self, kind: str, verdict: str) -> None:
        """Note the result of the trial of a kind.

        :param verdict: ``kept``, ``merged`` (invisible to lookups), or empty if the result is unknown or lookups can
            tell.
        """
        if verdict == "kept":
            self.capabilities.keeps_names(frozenset((kind,)))
        elif verdict == "merged":
            self.capabilities.merges_names(frozenset((kind,)))
        with self._lock:
            self._tried.add(kind)
            waiting = self._waiting.pop(kind, [])
        for go in waiting:
            go()

    def names(self, kind: str) -> tuple[str, str]:
        """Two new names that differ in that kind alone."""
        begin, one, other = KINDS[kind]
        key = f"{self.prefix}{DIRECTORY}{os.urandom(8).hex()}"
        return f"{begin}{key}{one}", f"{key}{other}"

    def put(self, key: str, body: bytes, then: Callable[[PendingRequest], None]) -> None:
        """Store a small object."""
        self.send(self.put_request(key, body, requests.UNCONDITIONAL), then)

    def put_request(self, key: str, body: bytes, condition: requests.Condition) -> Request:
        """The request that stores a small object."""
        digest, form = digest_of(body), self.capabilities.form
        return requests.put_object(
            key,
            requests.encode_key(key),
            body,
            self.headers.of(key, PutOptions()),
            crc32="" if form == "md5" else digest.crc32,
            md5="" if form == "crc32" else digest.md5,
            condition=condition,
            payload_hash=requests.payload_hash(body, tls=self.tls),
        )

    def send(self, request: Request, then: Callable[[PendingRequest], None]) -> None:
        """Send a request with a timeout."""
        self.client.call_in_time(request, then, deadline=self.clock() + _SECONDS, expected=_ANY)


class _Pair:
    """The two objects of one trial. Each step is called with the previous answer."""

    def __init__(self, trial: NameTrial, kind: str) -> None:
        self._trial = trial
        self._kind = kind
        self._one, self._other = trial.names(kind)
        self._body = f"s3_uploader was here to see whether names are kept apart. {os.urandom(8).hex()}\n".encode()
        self._stored: list[str] = []

    def begin(self) -> None:
        """Store the first object."""
        self._trial.put(self._one, self._body, self._first_stored)

    def _first_stored(self, call: PendingRequest) -> None:
        if not _is_done(call):
            self._end("")
            return
        self._stored.append(self._one)
        look = requests.head_object(self._other, requests.encode_key(self._other), checksums=False)
        self._trial.send(look, self._looked)

    def _looked(self, call: PendingRequest) -> None:
        if call.error is None and call.status == 404:
            self._trial.put(self._other, self._body[::-1], self._second_stored)
        else:
            self._end("")

    def _second_stored(self, call: PendingRequest) -> None:
        if not _is_done(call):
            self._end("")
            return
        self._stored.append(self._other)
        size = len(self._body)
        path = requests.encode_key(self._one)
        self._trial.send(
            requests.get_object(self._one, path, first=0, last=size - 1, etag="", size=size), self._first_read
        )

    def _first_read(self, call: PendingRequest) -> None:
        if call.error is not None or call.status not in (200, 206, 404):
            self._end("")
        else:
            # The object seen a moment ago may be gone, too.
            self._end("kept" if _is_done(call) and call.body.body == self._body else "merged")

    def _end(self, verdict: str) -> None:
        """Delete the two objects, if that is permitted."""
        if self._stored:
            key = self._stored.pop()
            self._trial.send(requests.delete_object(key, requests.encode_key(key)), lambda _: self._end(verdict))
        else:
            self._trial.told(self._kind, verdict)


class ConditionTrial(msgspec.Struct, kw_only=True, eq=False):
    """Tries with a small object whether a bucket refuses a conditional write to a key that is taken.

    Only where keys may not be looked up: there nothing else protects what may be under the key of the first upload. Who
    may not look may often not delete either, so the object always has the same name.
    """

    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    _waiting: dict[bool, list[Callable[[], None]]] = {}

    def ask(self, trial: NameTrial, then: Callable[[], None], *, in_parts: bool) -> None:
        """Call ``then``, on any thread, when it has been tried. The result is noted in the capabilities.

        :param trial: sends the requests.
        :param in_parts: the condition is that of a completion, which some servers ignore.
        """
        with self._lock:
            waiting = self._waiting.setdefault(in_parts, [])
            waiting.append(then)
            if len(waiting) > 1:
                return
        self._go_on(trial, _try_conditions(trial, in_parts), in_parts, None)

    def _go_on(
        self,
        trial: NameTrial,
        steps: Generator[Request, PendingRequest, None],
        in_parts: bool,
        call: PendingRequest | None,
    ) -> None:
        try:
            request = next(steps) if call is None else steps.send(call)
        except (StopIteration, StoreError):
            with self._lock:
                waiting = self._waiting.pop(in_parts)
            for go in waiting:
                go()
        else:
            trial.send(request, functools.partial(self._go_on, trial, steps, in_parts))


def _try_conditions(trial: NameTrial, in_parts: bool) -> Generator[Request, PendingRequest, None]:
    known = trial.capabilities
    key = f"{trial.prefix}{DIRECTORY}{_PROTECTED}"
    body = b"s3_uploader was here to see whether this object is protected.\n"
    call = yield trial.put_request(key, body, requests.UNCONDITIONAL)
    if not _is_done(call):
        return
    # Replaced once may be chance: another uploader may have deleted it in between.
    for _ in range(2):
        if in_parts:
            headers = trial.headers.of(key, PutOptions())
            signature = requests.payload_hash(body, tls=trial.tls)
            call = yield from _join_one_part(key, body, headers, payload_hash=signature)
        else:
            call = yield trial.put_request(key, body, requests.UNLESS_THERE)
        verdict, evidence = _what_protects(call)
        if verdict != "ignored":
            break
    call = yield requests.delete_object(key, requests.encode_key(key))
    if not _is_done(call):
        known.tell_once("object", "info", f"The test object {shown_name(key)} may not be deleted. It stays there.")
    if in_parts and verdict:
        known.found_at_completion(verdict == "yes", evidence)
    elif verdict:
        known.found(verdict, evidence)


def _join_one_part(
    key: str, body: bytes, headers: dict[str, str], *, payload_hash: str
) -> Generator[Request, PendingRequest, PendingRequest]:
    """Upload an object in one part, and join it if the key is free. Returns the last answer before the cleanup."""
    from s3_uploader.stores.s3 import multipart_requests

    path = requests.encode_key(key)
    call = yield multipart_requests.create_multipart_upload(key, path, headers, checksums="none")
    if not _is_done(call):
        return call
    upload_id = call.body.field("UploadId")
    call = part = yield multipart_requests.upload_part(
        key, path, body, upload_id=upload_id, number=1, crc32="", md5=digest_of(body).md5, payload_hash=payload_hash
    )
    if _is_done(part):
        call = yield multipart_requests.complete_multipart_upload(
            key,
            path,
            upload_id=upload_id,
            etags=[clean_etag(part.body.headers.get("etag", ""))],
            checksums=(),
            whole_crc32="",
            size=len(body),
            condition=requests.UNLESS_THERE,
        )
    if not _is_done(call):
        yield multipart_requests.abort_multipart_upload(key, path, upload_id=upload_id)
    return call


def _what_protects(call: PendingRequest) -> tuple[Conditional, str]:
    """What the answer to a conditional write says of an object that was there, with the evidence."""
    operation = call.request.operation
    if operation not in _WRITES:
        return "", ""  # it did not come to that
    if call.status == _TAKEN:
        return "yes", ""
    if _is_done(call):
        return "ignored", f"a {operation} replaced an object in spite of If-None-Match: *"
    refusal = call.refusal or call.answer
    if refusal is not None and blame(refusal, call.request.headers) in (Blame.CONDITION, Blame.UNNAMED):
        return "refused", f"{operation} with if-none-match was refused: {said(refusal)}"
    return "", ""


def _is_done(call: PendingRequest) -> bool:
    return call.error is None and 200 <= call.status < 300
