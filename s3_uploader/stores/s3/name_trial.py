"""Whether a bucket keeps two names apart of which no look tells: tried with two small objects of our own.

Servers that keep objects as files and what they know of them elsewhere (pys3local) say of ``a//b`` and of ``a///b``
that each is there, while both are one file. Only a second write shows it: what is under the first name then.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable

from s3_uploader.stores.base import PutOptions
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import Capabilities
from s3_uploader.stores.s3.checksums import digest_of
from s3_uploader.stores.s3.client import PendingRequest, S3Client
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.probe import DIRECTORY

KINDS = {
    "empty-steps": ("", "//name", "/name"),
    "first-slash": ("/", "", ""),
    "last-slash": ("", "-ends/", "-ends"),
    "dotted-steps": ("", "/./name", "/name"),
}
"""Of :mod:`s3_uploader.stores.s3.folding`, those that paths of files cannot have: what the first name begins and ends
with, and what the second ends with."""

_SECONDS = 30.0
_ANY = frozenset(range(300, 500))


class NameTrial:
    """Tries each kind of names once, however many uploads need the answer. What comes of it is a capability.

    :param prefix: what all keys begin with, since rights may be limited to it.
    :param tls: the payload is not signed.
    """

    def __init__(
        self,
        caller: S3Client,
        *,
        capabilities: Capabilities,
        headers: requests.ObjectHeaders,
        prefix: str,
        tls: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caller = caller
        self._capabilities = capabilities
        self._headers = headers
        self._prefix = prefix
        self._tls = tls
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._tried: set[str] = set()

    def ask(self, kinds: frozenset[str], then: Callable[[], None]) -> None:
        """Have ``then`` called when these kinds have been tried, at once if they have, else on any thread."""
        known = self._capabilities
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
        """The trial of a kind is over.

        :param verdict: ``kept``, ``merged`` (unseen), or empty if nothing was found out, or if looks tell.
        """
        if verdict == "kept":
            self._capabilities.keeps_names(frozenset((kind,)))
        elif verdict == "merged":
            self._capabilities.merges_names(frozenset((kind,)))
        with self._lock:
            self._tried.add(kind)
            waiting = self._waiting.pop(kind, [])
        for go in waiting:
            go()

    def names(self, kind: str) -> tuple[str, str]:
        """Two names that differ in that kind alone, and that nobody has."""
        begin, one, other = KINDS[kind]
        key = f"{self._prefix}{DIRECTORY}{os.urandom(8).hex()}"
        return f"{begin}{key}{one}", f"{key}{other}"

    def put(self, key: str, body: bytes, then: Callable[[PendingRequest], None]) -> None:
        """Store a small object."""
        digest, form = digest_of(body), self._capabilities.form
        request = requests.put_object(
            key,
            requests.encode_key(key),
            body,
            self._headers.of(key, PutOptions()),
            crc32="" if form == "md5" else digest.crc32,
            md5="" if form == "crc32" else digest.md5,
            condition=requests.UNCONDITIONAL,
            payload_hash=requests.payload_hash(body, tls=self._tls),
        )
        self.send(request, then)

    def send(self, request: Request, then: Callable[[PendingRequest], None]) -> None:
        """Send a request that is given up after a while."""
        self._caller.call_in_time(request, then, deadline=self._clock() + _SECONDS, expected=_ANY)


class _Pair:
    """The two objects of one trial. Each step is called with the answer to the one before."""

    def __init__(self, trial: NameTrial, kind: str) -> None:
        self._trial = trial
        self._kind = kind
        self._one, self._other = trial.names(kind)
        self._body = f"s3_uploader was here to see whether names are kept apart. {os.urandom(8).hex()}\n".encode()
        self._stored: list[str] = []

    def begin(self) -> None:
        """Store the first."""
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
            # What was there a moment ago may be gone, too.
            self._end("kept" if _is_done(call) and call.body.body == self._body else "merged")

    def _end(self, verdict: str) -> None:
        """Remove what was stored, as far as that is permitted."""
        if self._stored:
            key = self._stored.pop()
            self._trial.send(requests.delete_object(key, requests.encode_key(key)), lambda _: self._end(verdict))
        else:
            self._trial.told(self._kind, verdict)


def _is_done(call: PendingRequest) -> bool:
    return call.error is None and 200 <= call.status < 300
