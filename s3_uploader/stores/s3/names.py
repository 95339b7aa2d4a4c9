"""Names that a server may treat as the same: by case, Unicode form, empty or dotted steps, escapes or parameters.

Servers on a file system fold names (Windows and macOS fold case, HFS+ decomposes accents, gateways drop empty and
dotted steps). Some decode a path twice, so for them ``%25`` is ``%``. There a second file overwrites the first although
their keys differ. So at a server that is not known to keep such names distinct, the program looks before and after an
unusual name is written. What it has seen once is remembered.
"""

from __future__ import annotations

import collections
import re
import threading
from collections.abc import Callable

from s3_uploader.core.errors import KeyRefused
from s3_uploader.core.model import OnConflict, Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.folding import ALL, SIGNS, folded, kinds_of, shared, twins_of
from s3_uploader.stores.s3.probe import KINDS
from s3_uploader.stores.s3.proof import ProvenUpload
from s3_uploader.stores.s3.upload import ObjectUpload

_USUAL = re.compile("[a-z0-9_-][a-z0-9_.-]*(/[a-z0-9_-][a-z0-9_.-]*)*")
_LOOKED = frozenset(range(400, 500)) - {408, 429}
_IDENTITY = ("etag", "last-modified", "content-length")
"""Headers that two objects never share completely, unless they have the same bytes from the same second."""


def is_usual(key: str) -> bool:
    """Whether no server confuses this name with another: lower case, no accents, no empty or dotted steps."""
    return _USUAL.fullmatch(key) is not None and "./" not in key and not key.endswith(".")


class NamesUnderWay:
    """Serialises uploads whose names the server may treat as the same. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, collections.deque[ObjectUpload]] = {}

    def enter(self, upload: ObjectUpload, go: Callable[[ObjectUpload], None]) -> None:
        """Call ``go`` when no other upload of these names is in flight, at once if there is none."""
        name = upload.key
        if not is_usual(name):
            # With conditional writes the server itself refuses a name that is truncated to a taken one.
            is_refused = upload.context.capabilities.conditional == "yes"
            name = folded(name) if is_refused else shared(name)
        upload.common_name = name
        with self._lock:
            waiting = self._waiting.get(name)
            if waiting is not None:
                waiting.append(upload)
                return
            self._waiting[name] = collections.deque((upload,))
        go(upload)

    def leave(self, upload: ObjectUpload, go: Callable[[ObjectUpload], None]) -> None:
        """End an upload, and start the next one of its names."""
        next_one = None
        with self._lock:
            name = upload.common_name
            waiting = None if name is None else self._waiting.get(name)
            if name is None or waiting is None or upload not in waiting:
                return
            was_first = waiting[0] is upload
            waiting.remove(upload)
            if not waiting:
                del self._waiting[name]
            elif was_first:
                next_one = waiting[0]
        if next_one is not None:
            go(next_one)


class NamedUpload(ProvenUpload):
    """An upload that checks an unusual name: it overwrites no other object, and the object has exactly that name."""

    _unsure: frozenset[str] = frozenset()
    """The ways in which the name is unusual and not known to be kept."""
    _twins: dict[str, str] = {}  # noqa: RUF012  # It is replaced, never modified.
    """The other names that the object may be stored under, by kind."""

    def doubt_name(self) -> None:
        """Check the name if it is unusual and this endpoint is not known to keep it."""
        self._unsure = kinds_of(self.key) - self.context.capabilities.kept_names
        self._twins = twins_of(self.key, self._unsure)

    def sure_of_name(self, then: Callable[[], None], there: Callable[[PendingRequest], None]) -> None:
        """Go on if this name cannot belong to an object of another name.

        :param there: called with the answer to a HEAD if both names exist.
        """
        twins: list[tuple[str, str]] = []

        def begin() -> None:
            if self.over:
                return
            if merged := self._unsure & self.context.capabilities.merged_names:
                self._refuse_merged(merged)
                return
            # A kind may have been learned meanwhile.
            self.doubt_name()
            twins.extend(self._twins.items())
            look_at_next()

        def look_at_next() -> None:
            if twins:
                kind, twin = twins.pop(0)
                self._head_twin(twin, lambda call: looked_at_twin(kind, twin, call))
            else:
                then()

        def looked_at_twin(kind: str, twin: str, call: PendingRequest) -> None:
            if self.over:
                return
            if call.error is None and call.status == 200:
                self.head(lambda own: looked_at_name(kind, twin, call, own), _LOOKED)
            else:
                look_at_next()

        def looked_at_name(kind: str, twin: str, call: PendingRequest, own: PendingRequest) -> None:
            if self.over:
                return
            if own.error is None and own.status == 200:
                if _is_one(call, own):
                    self._takes_for_one(kind, twin)
                there(own)
            elif own.error is None and own.status == 404:
                self._refuse_for(kind, twin)
            else:
                look_at_next()

        if self.context.names is None:
            begin()
        else:
            self.context.names.ask(self._unsure, lambda: self.guard(begin))

    def _refuse_merged(self, merged: frozenset[str]) -> None:
        self.fail(
            KeyRefused(
                f"{self._address} was not uploaded. This server has one object for it and for other names, and reports "
                f"each of them as existing ({', '.join(sorted(merged))}).",
                hint="Rename the file.",
            )
        )

    def _refuse_for(self, kind: str, twin: str) -> None:
        # The check cannot find out more than this run has tried already.
        is_tried = self.context.names is not None and kind in KINDS
        self.fail(
            KeyRefused(
                f"{self._address} was not uploaded. {shown_name(twin)} exists already, and it is unknown whether this "
                "server keeps the two names distinct.",
                hint="Rename the file." if is_tried else "The command check finds that out. Otherwise rename the file.",
            )
        )

    def _head_twin(self, twin: str, finished: Callable[[PendingRequest], None]) -> None:
        self.call(requests.head_object(twin, requests.encode_key(twin), checksums=False), finished, _LOOKED)

    def succeed(self, receipt: Receipt) -> None:
        """Succeed if the content is also found under its own name."""
        if not self._unsure or receipt.already_there or self.over:
            super().succeed(receipt)
            return
        twins = [(kind, twin) for kind, twin in self._twins.items() if kind != ALL]
        kept = set(self._unsure & {SIGNS})

        def looked_at_name(own: PendingRequest) -> None:
            if self.over:
                return
            if own.error is None and own.status == 404:
                self.not_there()
            elif own.error is None and own.status == 200:
                look_at_next(own)
            else:
                super(NamedUpload, self).succeed(receipt)

        def look_at_next(own: PendingRequest) -> None:
            if twins:
                kind, twin = twins.pop(0)
                self._head_twin(twin, lambda call: looked_at_twin(own, kind, twin, call))
                return
            self.context.capabilities.keeps_names(frozenset(kept))
            super(NamedUpload, self).succeed(receipt)

        def looked_at_twin(own: PendingRequest, kind: str, twin: str, call: PendingRequest) -> None:
            if self.over:
                return
            if call.error is None and call.status == 404:
                kept.add(kind)
            elif call.error is None and call.status == 200 and _is_one(call, own):
                self._takes_for_one(kind, twin)
            look_at_next(own)

        self.head(looked_at_name, _LOOKED)

    def _takes_for_one(self, kind: str, twin: str) -> None:
        is_replaced = self.options.on_conflict is OnConflict.OVERWRITE
        self.context.capabilities.takes_for_one(kind, self.key, twin, is_replaced=is_replaced)


def _is_one(one: PendingRequest, other: PendingRequest) -> bool:
    """Whether two answers to a HEAD seem to describe one object."""
    return all(one.body.headers.get(name) == other.body.headers.get(name) for name in _IDENTITY)
