"""A request for a plain name: it tells a refused name from refused credentials, and S3 from a web page.

The request is a GET of a key that does not exist. GET and not HEAD, because only the refusal of a GET has a document
with the reason. A web page instead of the server (of a proxy or a login) answers as if the key existed.
"""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable

import msgspec

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import is_plain
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.client import PendingRequest, S3Client
from s3_uploader.stores.s3.errors import NOT_S3

DIRECTORY = ".s3-uploader-check/"
_LASTS_SECONDS = 5.0
_SECONDS = 30.0
_THERE = frozenset((404, 416))
_NOT_THERE = 404


class Said(enum.Enum):
    """What the answer to a plain name means."""

    SERVES = "it is not there"
    DENIED = "the credentials are right, and looking is not permitted"
    REFUSES = "every request is refused"
    NOT_S3 = "this is not an S3 server"
    UNCLEAR = "nothing can be told"


class Reply(msgspec.Struct, frozen=True):
    """The meaning of an answer. ``error`` is set for ``REFUSES`` and ``NOT_S3``."""

    said: Said
    error: StoreError | None = None


class PlainProbe:
    """Sends at most one request in a few seconds, even if many uploads need the answer.

    :param prefix: the prefix of all keys, because the rights may be limited to it; ignored if it is not plain itself.
    :param url: of the endpoint, for messages.
    """

    def __init__(self, caller: S3Client, *, prefix: str, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller = caller
        self._prefix = prefix if is_plain(f"{prefix}x") else ""
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[Callable[[Reply], None]] = []
        self._reply: Reply | None = None
        self._replied_at = 0.0

    def ask(self, then: Callable[[Reply], None]) -> None:
        """Call ``then`` with the answer: at once if it is known, else on any thread."""
        with self._lock:
            reply = self._reply
            if reply is None or self._clock() - self._replied_at > _LASTS_SECONDS:
                reply = None
                self._waiting.append(then)
                if len(self._waiting) > 1:
                    return
        if reply is not None:
            then(reply)
            return
        key = f"{self._prefix}{DIRECTORY}{os.urandom(8).hex()}"
        self._caller.call_in_time(
            requests.get_object(key, requests.encode_key(key), first=0, last=0, etag=""),
            self._answered,
            deadline=self._clock() + _SECONDS,
            expected=_THERE,
        )

    def _answered(self, call: PendingRequest) -> None:
        reply = self._meaning(call)
        with self._lock:
            self._reply, self._replied_at = reply, self._clock()
            waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(reply)

    def _meaning(self, call: PendingRequest) -> Reply:
        error = call.error
        if error is None:
            return Reply(Said.SERVES) if call.status == _NOT_THERE else Reply(Said.NOT_S3, not_s3(self._url))
        if error.code == "AccessDenied":
            return Reply(Said.DENIED)
        if error.code == "NotS3":
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
