"""Names that a server may take for one: of other case or form of Unicode, with empty or dotted steps, with escapes.

Servers on a file system fold them (Windows and macOS fold case, HFS+ decomposes accents, gateways drop empty and dotted
steps), and some decode what stands in a path twice, so that ``%25`` is ``%`` to them. There a second file replaces the
first although their keys differ. So at a server that is not known to keep such names apart it is looked before and
after an unusual name is written; what was seen once is remembered.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from s3_uploader.core.errors import KeyRefused
from s3_uploader.core.model import OnConflict, Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.folding import ALL, SIGNS, folded, kinds_of, shared, twins_of
from s3_uploader.stores.s3.proof import ProvenUpload
from s3_uploader.stores.s3.upload import ObjectUpload

_LOOKED = frozenset(range(400, 500)) - {408, 429}
_IDENTITY = ("etag", "last-modified", "content-length")
"""Headers of which two objects have not all alike, unless they were made of the same bytes in the same second."""


class NamesUnderWay:
    """Serialises uploads whose names the server may take for the same. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, collections.deque[ObjectUpload]] = {}

    def enter(self, upload: ObjectUpload, go: Callable[[ObjectUpload], None]) -> None:
        """Call ``go`` once no other upload of these names is under way, at once if there is none."""
        # Where conditional writes are honoured, a name that is cut to a taken one is refused.
        is_refused = upload.context.capabilities.conditional == "yes"
        name = upload.common_name = folded(upload.key) if is_refused else shared(upload.key)
        with self._lock:
            waiting = self._waiting.get(name)
            if waiting is not None:
                waiting.append(upload)
                return
            self._waiting[name] = collections.deque((upload,))
        go(upload)

    def leave(self, upload: ObjectUpload, go: Callable[[ObjectUpload], None]) -> None:
        """The upload is over; start the next one of its names."""
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
    """An upload that makes sure of an unusual name: that it replaces no other, and that it is the object's name."""

    _unsure: frozenset[str] = frozenset()
    """In which ways the name is unusual, and not known to be kept."""
    _twins: dict[str, str] = {}  # noqa: RUF012  # It is replaced, never changed.
    """Other names under which the object may lie, by the kind for which it would."""

    def doubt_name(self) -> None:
        """Make sure of the name, since it is no usual one at this endpoint."""
        self._unsure = kinds_of(self.key) - self.context.capabilities.kept_names
        self._twins = twins_of(self.key, self._unsure)

    def sure_of_name(self, then: Callable[[], None], there: Callable[[PendingRequest], None]) -> None:
        """Go on if no object of another name can be meant by this one.

        :param there: called with the answer to a HEAD if there is something under both names.
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
                self._refuse_for(twin)
            else:
                look_at_next()

        if self.context.names is None:
            begin()
        else:
            self.context.names.ask(self._unsure, lambda: self.guard(begin))

    def _refuse_merged(self, merged: frozenset[str]) -> None:
        self.fail(
            KeyRefused(
                f"{self._address} was not uploaded: this server has one object for it and for other names, and says of "
                f"each that it is there ({', '.join(sorted(merged))}).",
                hint="Rename the file.",
            )
        )

    def _refuse_for(self, twin: str) -> None:
        self.fail(
            KeyRefused(
                f"{self._address} was not uploaded: {shown_name(twin)} is there, and it is not known whether this "
                "server keeps the two names apart.",
                hint="The command check finds that out; or rename the file.",
            )
        )

    def _head_twin(self, twin: str, finished: Callable[[PendingRequest], None]) -> None:
        self.call(requests.head_object(twin, requests.encode_key(twin), checksums=False), finished, _LOOKED)

    def succeed(self, receipt: Receipt) -> None:
        """The content is there and proven; under its own name, too."""
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
    """Whether two answers to a HEAD are about one object, as far as they tell."""
    return all(one.body.headers.get(name) == other.body.headers.get(name) for name in _IDENTITY)
