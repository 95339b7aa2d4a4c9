"""Names that a server may treat as the same: by case, Unicode form, empty or dotted steps, escapes or parameters.

Servers on a file system fold names (Windows and macOS fold case, HFS+ decomposes accents, gateways drop empty and
dotted steps). Some decode a path twice, so for them ``%25`` is ``%``. There a second file overwrites the first although
their keys differ. So at a server that is not known to keep such names distinct, the program looks before and after an
unusual name is written. What it has seen once is remembered.
"""

from __future__ import annotations

from collections.abc import Callable

from s3_uploader.core.errors import NameTaken
from s3_uploader.core.model import OnConflict, Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.folding import ALL, SIGNS, folded, kinds_of, shared, twins_of
from s3_uploader.stores.s3.probe import KINDS
from s3_uploader.stores.s3.proof import ProvenUpload

_LOOKED = frozenset(range(400, 500)) - {408, 429}
_IDENTITY = ("etag", "last-modified", "content-length")
"""Headers that two objects never share completely, unless they have the same bytes from the same second."""


def doubt_name(upload: ProvenUpload) -> None:
    """Have the unusual name of an upload checked, if this endpoint is not known to keep it."""
    capabilities = upload.context.capabilities
    # With conditional writes the server itself refuses a name that is truncated to a taken one.
    is_refused = capabilities.conditional == "yes"
    upload.common_name = folded(upload.key) if is_refused else shared(upload.key)
    if kinds_of(upload.key) - capabilities.kept_names:
        upload.name_checks = UnusualName(upload)


class UnusualName:
    """The checks of an upload whose name is unusual: it overwrites no other object, and the object has that very name.

    :ivar _unsure: the ways in which the name is unusual and not known to be kept.
    :ivar _twins: the other names that the object may be stored under, by kind.
    """

    def __init__(self, upload: ProvenUpload) -> None:
        self._upload = upload
        self._doubt()

    def _doubt(self) -> None:
        self._unsure = kinds_of(self._upload.key) - self._upload.context.capabilities.kept_names
        self._twins = twins_of(self._upload.key, self._unsure)

    def check_before(self, then: Callable[[], None], there: Callable[[PendingRequest], None]) -> None:
        """Go on if this name cannot belong to an object of another name.

        :param there: called with the answer to a HEAD if both names exist.
        """
        twins: list[tuple[str, str]] = []

        def begin() -> None:
            if self._upload.over:
                return
            if merged := self._unsure & self._upload.context.capabilities.merged_names:
                self._refuse_merged(merged)
                return
            # A kind may have been learned meanwhile.
            self._doubt()
            twins.extend(self._twins.items())
            look_at_next()

        def look_at_next() -> None:
            if twins:
                kind, twin = twins.pop(0)
                self._head_twin(twin, lambda call: looked_at_twin(kind, twin, call))
            else:
                then()

        def looked_at_twin(kind: str, twin: str, call: PendingRequest) -> None:
            if self._upload.over:
                return
            if call.error is None and call.status == 200:
                self._upload.head(lambda own: looked_at_name(kind, twin, call, own), _LOOKED)
            else:
                look_at_next()

        def looked_at_name(kind: str, twin: str, call: PendingRequest, own: PendingRequest) -> None:
            if self._upload.over:
                return
            if own.error is None and own.status == 200:
                if _is_one(call, own):
                    self._takes_for_one(kind, twin)
                there(own)
            elif own.error is None and own.status == 404:
                self._refuse_for(kind, twin)
            else:
                look_at_next()

        if self._upload.context.names is None:
            begin()
        else:
            self._upload.context.names.ask(self._unsure, lambda: self._upload.guard(begin))

    def _refuse_merged(self, merged: frozenset[str]) -> None:
        self._upload.fail(
            NameTaken(
                f"{self._upload._address} was not uploaded. This server has one object for it and for other names, and "
                f"reports each of them as existing ({', '.join(sorted(merged))}).",
                hint="Rename the file.",
            )
        )

    def _refuse_for(self, kind: str, twin: str) -> None:
        # The check cannot find out more than this run has tried already.
        is_tried = self._upload.context.names is not None and kind in KINDS
        self._upload.fail(
            NameTaken(
                f"{self._upload._address} was not uploaded. {shown_name(twin)} exists already, and it is unknown "
                "whether this server keeps the two names distinct.",
                hint="Rename the file." if is_tried else "The command check finds that out. Otherwise rename the file.",
            )
        )

    def _head_twin(self, twin: str, finished: Callable[[PendingRequest], None]) -> None:
        self._upload.call(requests.head_object(twin, requests.encode_key(twin), checksums=False), finished, _LOOKED)

    def check_after(self, receipt: Receipt) -> None:
        """Succeed if the content is also found under its own name."""
        if not self._unsure or self._upload.over:
            self._succeed(receipt)
            return
        twins = [(kind, twin) for kind, twin in self._twins.items() if kind != ALL]
        kept = set(self._unsure & {SIGNS})

        def looked_at_name(own: PendingRequest) -> None:
            if self._upload.over:
                return
            if own.error is None and own.status == 404:
                self._upload.not_there()
            elif own.error is None and own.status == 200:
                look_at_next(own)
            else:
                self._succeed(receipt)

        def look_at_next(own: PendingRequest) -> None:
            if twins:
                kind, twin = twins.pop(0)
                self._head_twin(twin, lambda call: looked_at_twin(own, kind, twin, call))
                return
            self._upload.context.capabilities.keeps_names(frozenset(kept))
            self._succeed(receipt)

        def looked_at_twin(own: PendingRequest, kind: str, twin: str, call: PendingRequest) -> None:
            if self._upload.over:
                return
            if call.error is None and call.status == 404:
                kept.add(kind)
            elif call.error is None and call.status == 200 and _is_one(call, own):
                self._takes_for_one(kind, twin)
            look_at_next(own)

        self._upload.head(looked_at_name, _LOOKED)

    def _succeed(self, receipt: Receipt) -> None:
        self._upload.name_checks = None
        self._upload.succeed(receipt)

    def _takes_for_one(self, kind: str, twin: str) -> None:
        is_replaced = self._upload.options.on_conflict is OnConflict.OVERWRITE
        self._upload.context.capabilities.takes_for_one(kind, self._upload.key, twin, is_replaced=is_replaced)


def _is_one(one: PendingRequest, other: PendingRequest) -> bool:
    """Whether two answers to a HEAD seem to describe one object."""
    return all(one.body.headers.get(name) == other.body.headers.get(name) for name in _IDENTITY)
