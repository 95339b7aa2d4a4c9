"""One upload to S3 of any size: its steps and its end.

The steps of an upload are callbacks. They run in sequence, on the thread that receives the answer, and never wait.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from s3_uploader.core.control import is_of_a_handler
from s3_uploader.core.errors import StoreError, UploadCancelled, lacking
from s3_uploader.core.model import Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import is_plain, shown_name
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import Capabilities, Conditional
from s3_uploader.stores.s3.checksums import Digest
from s3_uploader.stores.s3.client import PendingRequest, S3Client
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.probe import ConditionTrial, NameTrial, PlainProbe
from s3_uploader.stores.s3.requests import UNLESS_THERE
from s3_uploader.stores.s3.waiting import ByteBudget, Timer
from s3_uploader.stores.threads import ThreadPool

_ENOUGH_REFUSED = 4
"""After this many refused names in a row, requests for further unusual names are not retried in this run."""


KNOWS_NO_MODE = frozenset((400, 501))
"""Statuses of a HEAD that may be caused by its request for a checksum, because no document gives the reason."""
KNOWS_NO_HEAD = frozenset((405, 501))
"""Statuses of a HEAD that may be caused by its method. Then a GET of one byte is sent instead."""
_REFUSED = frozenset(range(300, 500)) - {408, 429}


class Context(msgspec.Struct, kw_only=True):
    """What all uploads of a store share.

    :param address: formats a key for messages.
    :param crew: the threads for steps that may block.
    :param over: called with an upload whose future is done.
    :param names: tries unusual names that must not be confused with others.
    :param conditions: tries whether objects are protected that may not be looked up.
    :ivar names_refused: how many unusual names in a row the server has refused with an error that may pass.
    """

    client: S3Client
    capabilities: Capabilities
    headers: requests.ObjectHeaders
    budget: ByteBudget
    crew: Callable[[], ThreadPool]
    timer: Timer
    tls: bool
    part_size: int
    address: Callable[[str], str]
    over: Callable[[ObjectUpload], None]
    probe: PlainProbe
    names: NameTrial | None = None
    conditions: ConditionTrial = msgspec.field(default_factory=ConditionTrial)
    names_refused: int = 0
    clock: Callable[[], float] = time.monotonic

    @property
    def takes_plain_names(self) -> bool:
        """Whether an upload has been accepted, in this run or in one that left something in the memory."""
        known = self.capabilities
        learned = known.etags_are_md5 or (not known.trusted and known.conditional != "")
        return self.client.proven_useful or learned


class Put(msgspec.Struct, frozen=True):
    """The arguments of :meth:`s3_uploader.stores.base.Store.put`. ``future`` receives the result."""

    key: str
    source: Source
    options: PutOptions
    deadline: float
    replaces: str
    future: PendingReceipt


class NameChecks(Protocol):
    """The checks of an upload whose name the server may treat as that of another object."""

    def check_before(self, then: Callable[[], None], there: Callable[[PendingRequest], None]) -> None:
        """Go on if this name cannot belong to an object of another name.

        :param there: called with the answer to a HEAD if both names exist.
        """

    def check_after(self, receipt: Receipt) -> None:
        """Succeed if the content is also found under its own name."""


class ObjectUpload:
    """The common part of uploads in one request and in parts.

    ``write`` sends the content under the current key and condition. ``rewrite`` sends it again after the key was found
    taken. ``clean_up`` removes what a failed upload has left.
    """

    future: PendingReceipt
    common_name: str | None = None
    """The common form of its name and of those that some server treats as the same; see ``names``."""
    name_checks: NameChecks | None = None
    """The checks of a name that the server may treat as another's."""
    condition = UNLESS_THERE
    derived = False
    over = False
    """Whether the outcome is settled; no new step may begin after that."""
    _error: StoreError | None = None
    _receipt: Receipt | None = None
    _reading = 0
    _turns = 0
    _is_probe = False
    _call: PendingRequest | None = None

    def __init__(self, context: Context, put: Put) -> None:
        self.context = context
        self.requested_key = self.key = put.key
        self.path = requests.encode_key(put.key)
        self.source = put.source
        self.options = put.options
        self.deadline = put.deadline
        self.replaces = put.replaces
        self.future = put.future
        self._lock = threading.Lock()

    # Implemented by subclasses.

    def prepare(self) -> None:
        """Prepare and begin."""
        raise NotImplementedError

    def begin(self) -> None:
        """Check the name, and set out."""
        raise NotImplementedError

    def set_out(self) -> None:
        """Decide whether to look first, and write."""
        raise NotImplementedError

    def not_free(self, call: PendingRequest) -> None:
        """Go on after a first lookup that did not find the key free."""
        raise NotImplementedError

    def head_refused(
        self, call: PendingRequest, finished: Callable[[PendingRequest], None], expected: frozenset[int]
    ) -> None:
        """Look in another way after a HEAD with a status of a server that may not support it."""
        raise NotImplementedError

    def look_by_get(self, finished: Callable[[PendingRequest], None], expected: frozenset[int]) -> None:
        """Look at the object with a GET of its first byte, whose answer is passed on as that to a HEAD."""
        raise NotImplementedError

    def write(self) -> None:
        """Send the content under ``key`` with ``condition``."""
        raise NotImplementedError

    def rewrite(self) -> None:
        """Send it again with another condition, under the same key."""
        raise NotImplementedError

    def digest(self) -> Digest:
        """The digest of the content."""
        raise NotImplementedError

    def clean_up(self, done: Callable[[], None]) -> None:
        """Abort what was begun, then call ``done``."""
        done()

    def let_go(self) -> None:
        """Release what it holds, because the upload is over."""

    def read_again(self, first: int, last: int) -> bytes:
        """Read bytes of the content, both ends included. May block."""
        raise NotImplementedError

    def room_to_compare(self, count: int) -> int:
        """Bytes of memory to reserve for the comparison of ``count`` bytes."""
        return 2 * count

    def content_sha256(self) -> str:
        """SHA-256 of the whole content in hexadecimal. May block."""
        raise NotImplementedError

    # Life.

    def call(
        self,
        request: Request,
        finished: Callable[[PendingRequest], None],
        expected: frozenset[int],
        *,
        cancels: bool = True,
        look: Callable[[], Request] | None = None,
    ) -> None:
        """Send a request of this upload, the only one at that time.

        :param look: see :class:`~s3_uploader.stores.s3.client.PendingRequest`.
        """
        client = self.context.client
        call = client.prepare(
            request, functools.partial(self.guard, finished), deadline=self.deadline, expected=expected, look=look
        )
        call.once = self.context.names_refused >= _ENOUGH_REFUSED and not is_plain(self.key)
        # Before it is sent: the answer may come, and the next step begin its own call, before this thread continues.
        self._call = call
        client.begin(call)
        if cancels and isinstance(self._error, UploadCancelled):
            call.cancel(self._error)

    def look_first(self) -> None:
        """Write if the key is free."""
        # The refusal of a HEAD has no document with the reason. The refusal of a write has one, if a write may be
        # tried.
        self.head(self._looked_first, _REFUSED)

    def _looked_first(self, call: PendingRequest) -> None:
        if self.over:
            return
        if call.error is None and call.status == 404:
            self.rewrite()
        else:
            self.not_free(call)

    def head(self, finished: Callable[[PendingRequest], None], expected: frozenset[int]) -> None:
        """Look at the object under the key. A server may support no checksums or no HEAD; then look in another way."""
        if not self.context.capabilities.answers_head:
            self.look_by_get(finished, expected)
            return
        request = self.head_request()
        asks_for_checksums = "x-amz-checksum-mode" in request.headers
        unsupported = KNOWS_NO_HEAD | KNOWS_NO_MODE if asks_for_checksums else KNOWS_NO_HEAD

        def answered(call: PendingRequest) -> None:
            if call.error is None and call.status in unsupported and not self.over:
                self.head_refused(call, finished, expected)
            else:
                finished(call)

        self.call(request, answered, expected | unsupported)

    def head_request(self, *, checksums: bool = True) -> Request:
        """The request that looks at the object under the key, with its checksum if the server supports that."""
        known = self.context.capabilities
        return requests.head_object(
            self.key,
            self.path,
            encoding=self.options.content_encoding,
            checksums=checksums and known.form != "md5" and known.asks_for_checksums,
        )

    def on_crew(self, step: Callable[[], None]) -> None:
        """Run a step that may block on a thread of the pool."""
        self.guard(self.context.crew().do, functools.partial(self.guard, step))

    def after(self, seconds: float, step: Callable[[], None]) -> None:
        """Run a step later, unless the upload is over by then."""

        def later() -> None:
            if not self.over:
                step()

        self.context.timer.call_at(self.context.clock() + seconds, functools.partial(self.guard, later))

    def guard(self, step: Callable[..., None], *arguments: object) -> None:
        """Run a step. An exception, even for lack of memory, fails this upload but does not end the thread."""
        try:
            step(*arguments)
        except StoreError as error:
            self.fail(error)
        except Exception as error:
            if is_of_a_handler(error):
                raise
            fact = f"The upload of {self._address} failed"
            bug = "This is a bug. Please report it."
            self.fail(
                lacking(fact, error)
                or StoreError(f"{fact}: {error!r}.", code="Unexpected", origin=Origin.OURS, hint=bug)
            )

    def cancel(self, reason: UploadCancelled) -> None:
        """Cancel the upload."""
        self.fail(reason)
        # Read after that: a step that begins a later one sees the failure.
        call = self._call
        if call is not None:
            call.cancel(reason)

    def succeed(self, receipt: Receipt) -> None:
        """Succeed: the content is stored and proven."""
        if self.name_checks is not None and not receipt.already_there:
            self.name_checks.check_after(receipt)
            return
        with self._lock:
            if self.over:
                return
            self._receipt = receipt
            self.over = True
        context = self.context
        context.client.proven_useful = True
        if context.names_refused and not is_plain(self.key):
            context.names_refused = 0
        self._settle()

    def fail(self, error: StoreError) -> None:
        """End the upload with an error."""
        with self._lock:
            if self.over:
                return
            self._error = error
            self.over = True
        self.clean_up(self._cleaned_up)

    def _cleaned_up(self) -> None:
        with self._lock:
            if self._reading:
                return
            self._reading = -1
        self._settle()

    def abandon(self) -> None:
        """Complete the future because the store is closed, even if something is still in flight."""
        with self._lock:
            if not self.over:
                self.over = True
                self._error = UploadCancelled("The upload was cancelled because the store was closed.")
            self._reading = -1
        if not self.future.done():
            self._settle()

    def start_reading(self) -> bool:
        """Mark the source's descriptor as in use on another thread; ``False`` if it must not be used any more."""
        with self._lock:
            if self.over:
                return False
            self._reading += 1
            return True

    def stop_reading(self) -> None:
        """Mark the descriptor as free again."""
        with self._lock:
            self._reading -= 1
            if self._error is None or self._reading:
                return
        self.clean_up(self._cleaned_up)

    def _settle(self) -> None:
        outcome = self._receipt or self._error
        self.let_go()
        if self._is_probe:
            self._is_probe = False
            self.context.capabilities.found("")
        self.context.over(self)
        assert outcome is not None
        self.future.complete(outcome)

    # Probing: the first upload to an endpoint finds out whether conditional writes work there.

    def report(self, found: Conditional, evidence: str = "") -> None:
        """Report the result of the probe, and the evidence."""
        if self._is_probe:
            self._is_probe = False
            self.context.capabilities.found(found, evidence)

    @property
    def _address(self) -> str:
        return shown_name(self.context.address(self.key))
