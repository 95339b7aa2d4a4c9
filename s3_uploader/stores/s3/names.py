"""Names that a server may take for one: of other case or form of Unicode, with empty or dotted steps, with escapes.

Servers on a file system fold them (Windows and macOS fold case, HFS+ decomposes accents, gateways drop empty and dotted
steps), and some decode what stands in a path twice, so that ``%25`` is ``%`` to them. There a second file replaces the
first although their keys differ. So at a server that is not known to keep such names apart it is looked before and
after an unusual name is written; what was seen once is remembered.
"""

from __future__ import annotations

import collections
import re
import threading
from collections.abc import Callable

from s3_uploader.core.errors import KeyRefused
from s3_uploader.core.model import Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.proof import ProvenUpload
from s3_uploader.stores.s3.upload import ObjectUpload

_USUAL = re.compile("[a-z0-9_-][a-z0-9_.-]*(/[a-z0-9_-][a-z0-9_.-]*)*")
_STEPS = re.compile(r"[/\\]+")
_LOOKED = frozenset(range(400, 500)) - {408, 429}


def is_usual(key: str) -> bool:
    """Whether no server takes this name for another: lower case, no accents, no empty or dotted steps."""
    return _USUAL.fullmatch(key) is not None and "./" not in key and not key.endswith(".")


def folded(key: str) -> str:
    """The name that all those have in common which some server takes for one."""
    if is_usual(key):
        return key
    import unicodedata
    from urllib.parse import unquote

    steps = (step.strip(" .") for step in _STEPS.split(unicodedata.normalize("NFKC", unquote(key)).casefold()))
    return "/".join(step for step in steps if step)


def kinds_of(key: str) -> frozenset[str]:
    """In which ways a name is unusual.

    They are ``case``, ``path``, ``escapes``, and ``composed`` and ``decomposed`` (Unicode's NFC and NFD).

    That a server keeps a name in the form that it gives all names says nothing of its other forms.
    """
    if is_usual(key):
        return frozenset()
    import unicodedata

    kinds = set()
    if key != key.casefold():
        kinds.add("case")
    if not key.isascii():
        if key != unicodedata.normalize("NFC", key):
            kinds.add("decomposed")
        if key != unicodedata.normalize("NFD", key) or not kinds & {"decomposed"}:
            kinds.add("composed")
    if not re.fullmatch(r"[^/\\ .](?:[^/\\]*[^/\\ .])?(?:/[^/\\ .](?:[^/\\]*[^/\\ .])?)*", key):
        kinds.add("path")
    if "%" in key:
        kinds.add("escapes")
    return frozenset(kinds)


def twin_of(key: str) -> str:
    """Another name that a server may take for this one; empty if there is none to look for."""
    import unicodedata

    twin = folded(key)
    if twin in ("", key):
        twin = unicodedata.normalize("NFD", key)
    if twin == key:
        twin = key.replace("%", "%25")
    return "" if twin == key or len(twin.encode("utf-8", "replace")) > requests.MAXIMUM_KEY_BYTES else twin


class NamesUnderWay:
    """Serialises uploads whose names the server may take for the same. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, collections.deque[ObjectUpload]] = {}

    def enter(self, upload: ObjectUpload, go: Callable[[ObjectUpload], None]) -> None:
        """Call ``go`` once no other upload of these names is under way, at once if there is none."""
        name = upload.common_name = folded(upload.key)
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

    _twin = ""
    _unsure: frozenset[str] = frozenset()
    """In which ways the name is unusual, and not known to be kept."""

    def doubt_name(self) -> None:
        """Make sure of the name, since it is no usual one at this endpoint."""
        self._unsure = kinds_of(self.key) - self.context.capabilities.kept_names
        self._twin = twin_of(self.key) if self._unsure else ""

    def sure_of_name(self, then: Callable[[], None], there: Callable[[PendingRequest], None]) -> None:
        """Go on if no object of another name can be meant by this one.

        :param there: called with the answer to a HEAD if there is something under both names.
        """
        if not self._twin:
            then()
            return

        def looked_at_twin(call: PendingRequest) -> None:
            if self.over:
                return
            if call.error is None and call.status == 200:
                self.head(looked_at_name, _LOOKED)
            else:
                then()

        def looked_at_name(call: PendingRequest) -> None:
            if self.over:
                return
            if call.error is None and call.status == 200:
                there(call)
            elif call.error is None and call.status == 404:
                self.fail(
                    KeyRefused(
                        f"{self._address} was not uploaded: {shown_name(self._twin)} is there, and it is not known "
                        "whether this server keeps the two names apart.",
                        hint="The command check finds that out; or rename the file.",
                    )
                )
            else:
                then()

        self._head_twin(looked_at_twin)

    def _head_twin(self, finished: Callable[[PendingRequest], None]) -> None:
        request = requests.head_object(self._twin, requests.encode_key(self._twin))
        self.call(request, finished, _LOOKED)

    def succeed(self, receipt: Receipt) -> None:
        """The content is there and proven; under its own name, too."""
        if not self._unsure or receipt.already_there or self.over:
            super().succeed(receipt)
            return

        def looked_at_twin(call: PendingRequest) -> None:
            if call.error is None and call.status == 404:
                self.context.capabilities.keeps_names(self._unsure)
            super(NamedUpload, self).succeed(receipt)

        def looked_at_name(call: PendingRequest) -> None:
            if self.over:
                return
            if call.error is None and call.status == 404:
                self.not_there()
            elif call.error is None and call.status == 200 and self._twin:
                self._head_twin(looked_at_twin)
            else:
                super(NamedUpload, self).succeed(receipt)

        self.head(looked_at_name, _LOOKED)
