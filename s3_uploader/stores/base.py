"""The ``Store`` protocol of destinations, with its arguments and results.

Terms
-----
store
    A destination: S3, FTP, SFTP, a local directory.
source
    An open descriptor and the number of bytes that it held when it was opened.
receipt
    The store's confirmation of one stored object (:class:`s3_uploader.core.model.Receipt`).
proof
    How we know that the store has our bytes (:class:`s3_uploader.core.model.Proof`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from s3_uploader.core.errors import SourceChanged, failed_read
from s3_uploader.core.model import OnConflict, Proof, Receipt

if TYPE_CHECKING:
    from s3_uploader.core.findings import Finding


def ignore(key: str) -> None:
    """Do nothing."""


class CheckLimits(msgspec.Struct, frozen=True):
    """How long :meth:`Store.check` may take.

    :param seconds: longest time for one step.
    :param ends_at: ``time.monotonic()`` at which all has to be over.
    """

    seconds: float = 30.0
    ends_at: float = float("inf")

    def left(self) -> float:
        """Seconds for a step that begins now; zero or less if the time is over."""
        return min(self.seconds, self.ends_at - time.monotonic())


USUAL_LIMITS = CheckLimits()


class Source(msgspec.Struct, frozen=True):
    """The bytes of one object: ``size`` bytes from offset 0 of ``descriptor``.

    The descriptor belongs to the caller, who keeps it open until the future of the upload is done. Stores read it with
    ``os.pread`` only, so that its file offset does not matter and threads do not disturb each other. Fewer than
    ``size`` bytes there means that the file shrank: a store raises :class:`~s3_uploader.core.errors.SourceChanged` and
    never completes the object.
    """

    descriptor: int
    size: int

    def read(self, offset: int, *, most: int) -> bytes:
        """Read bytes from an offset below ``size``, as many as one call returns.

        :raises SourceChanged: if there are none.
        :raises SourceUnreadable: if they cannot be read.
        """
        try:
            chunk = os.pread(self.descriptor, min(most, self.size - offset), offset)
        except OSError as error:
            raise failed_read(offset, error) from error
        if not chunk:
            raise SourceChanged(f"The source ends at byte {offset}, not {self.size}.")
        return chunk


class Compression(msgspec.Struct, frozen=True):
    """How the bytes of a file are compressed before they are stored.

    :param format: ``gzip`` or ``zstd``.
    :param suffix: the suffix that was added to the key.
    """

    format: str
    level: int
    suffix: str


class PutOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to store one object. A run uses few different values, each for many files.

    :param on_conflict: what to do if the key is taken by other content.
    :param minimum_proof: with a weaker proof the upload fails with :class:`~s3_uploader.core.errors.ProofError`.
    :param metadata: user metadata of the object, where the store has such a thing, beside the store's own.
    :param storage_class: instead of the one that the store is set up with, where it has such a thing.
    :param compression: for :class:`~s3_uploader.stores.wrappers.compressing.CompressingStore` alone; other stores
        take bytes as they are.
    :param content_encoding: how the bytes are compressed already, where the store can say so of an object.
    :param content_name: the key by whose name the content type is guessed, if it is not the object's own.
    :param tags: instead of those that the store is set up with, where it has such a thing.
    """

    on_conflict: OnConflict = OnConflict.FAIL
    minimum_proof: Proof = Proof.MD5
    metadata: Mapping[str, str] = {}
    storage_class: str | None = None
    tags: Mapping[str, str] | None = None
    compression: Compression | None = None
    content_encoding: str = ""
    content_name: str = ""


class Memory(Protocol):
    """What earlier runs learned about an endpoint: short texts by name. Any thread may use it."""

    def get(self, key: str) -> str | None:
        """The value of ``key``."""

    def set(self, key: str, value: str) -> None:
        """Note ``value`` under ``key``."""


class PendingReceipt:
    """What a store returns at once for an upload, and completes later, on any thread: with a receipt or with an error.

    It is the part of ``concurrent.futures.Future`` that is needed here, without its condition variable, which took 4 %
    of the instructions of a small file. Only the first outcome counts.

    :ivar outcome: the receipt, or why there is none; ``None`` while it is pending.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.outcome: Receipt | BaseException | None = None
        self._callbacks: list[Callable[[PendingReceipt], object]] = []

    def complete(self, outcome: Receipt | BaseException) -> None:
        """Complete it with a receipt, or with the reason why there is none."""
        with self._lock:
            if self.outcome is not None:
                return
            self.outcome = outcome
        # Nobody adds one from now on.
        for callback in self._callbacks:
            callback(self)

    def done(self) -> bool:
        """Whether it is complete."""
        return self.outcome is not None

    def add_done_callback(self, callback: Callable[[PendingReceipt], object]) -> None:
        """Call ``callback`` when it is complete, on the thread that completes it; at once if it is complete already."""
        with self._lock:
            if self.outcome is None:
                self._callbacks.append(callback)
                return
        callback(self)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is complete; returns whether it is."""
        if self.outcome is None:
            completed = threading.Event()
            self.add_done_callback(lambda _: completed.set())
            completed.wait(seconds)
        return self.outcome is not None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Why there is no receipt; ``None`` if there is one. Waits for at most ``timeout`` seconds.

        :raises TimeoutError: if it is still pending then.
        """
        if not self.wait(timeout):
            raise TimeoutError("still pending")
        outcome = self.outcome
        return outcome if isinstance(outcome, BaseException) else None

    def result(self, timeout: float | None = None) -> Receipt:
        """The receipt. Waits for at most ``timeout`` seconds.

        :raises TimeoutError: if it is still pending then.
        :raises BaseException: the reason why there is no receipt.
        """
        error = self.exception(timeout)
        if error is None:
            assert isinstance(self.outcome, Receipt)
            return self.outcome
        try:
            raise error
        finally:
            # Its traceback holds this frame, which would hold it in turn.
            del self, error


class Loop(Protocol):
    """The event loop of a store's sockets, for a caller that would otherwise only wait for it.

    Two Python threads that each do little work per file spend most of their time waiting for each other. A caller of
    :meth:`take_over` runs the loop on its own thread, between its other steps, until it calls :meth:`hand_back`. If the
    caller does not run it for a while, the store runs it instead. The other methods of the store work the same way in
    both cases.
    """

    def take_over(self) -> None:
        """From now on the calling thread runs the loop."""

    def turn(self, timeout: float) -> bool:
        """Handle the events of the sockets. Waits at most ``timeout`` seconds, and may return earlier without an event.

        :returns: whether the loop is still running; once it has ended, returns ``False`` without waiting.
        """

    def wake(self) -> None:
        """End a wait in :meth:`turn`. May be called on any thread, and from a signal handler."""

    def hand_back(self) -> None:
        """From now on the store runs its loop itself. Without :meth:`take_over` this does nothing."""


class Store(Protocol):
    """A destination for files.

    Ordering: uploads are independent of each other and may finish in any order. Thread-safety: one thread calls the
    methods; a future may be completed on any thread. Idempotency: putting the same content under the same key again is
    success and says so (``receipt.already_there``). Errors: a future fails with a
    :class:`~s3_uploader.core.errors.StoreError`, never with a vendor's exception; whatever was begun for a failed
    upload (parts of a multipart upload, a temporary name) has been removed, as far as the destination let us.
    """

    @property
    def name(self) -> str:
        """The store's name in messages and in the ledger, e.g. the bucket."""

    @property
    def loop(self) -> Loop | None:
        """After :meth:`open`: a loop that the caller may run; ``None`` if the store has only threads of its own."""

    @property
    def keeps_writers_apart(self) -> bool:
        """Whether the destination itself refuses the second writer of a name, also if it takes two names for one.

        Otherwise a store sends such files one after the other, and looks in between. Several processes cannot: the
        second file would replace the first, which is removed by then.
        """

    def open(self) -> None:
        """Get ready to ship: imports, credentials, connections, a remote lock.

        Called once, before the first ``put`` and only when there is a file to ship.

        :raises s3_uploader.core.errors.StoreError: with scope ``DESTINATION`` if it is clear already that nothing can
            be shipped.
        :raises s3_uploader.core.errors.DestinationBusy: if another client holds the destination's lock.
        """

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """Store the bytes of ``source`` under ``key``.

        Returns at once, apart from reading a small source. It retries by itself. A failed future
        means that the object may or may not be there; a future that is done with a receipt means that it is there
        and proven at least as well as ``options.minimum_proof``.

        :param deadline: ``time.monotonic()`` at which the upload is cancelled with
            :class:`~s3_uploader.core.errors.UploadCancelled` (code ``"DeadlineExceeded"``).
        :param replaces: ETag (or whatever else the store puts into ``receipt.etag``) of an object under this key that
            an earlier run of ours put there and that was superseded, because the file changed meanwhile. That very
            object, and no other, may be replaced whatever ``on_conflict`` says: conditionally (``If-Match``) where the
            store can, else after a look.
        """

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """Look once more for the object of a receipt: it has its length still, and its last byte can be read now.

        A byte is read, not only its name looked up, because servers and file systems remember names for a while after
        they have gone. The future fails with :class:`~s3_uploader.core.errors.ObjectGone` if the object is not to be
        had, with another ``StoreError`` if the question got no answer, and is done with the receipt otherwise.

        :param deadline: ``time.monotonic()`` at which to give up.
        """

    def cancel(self) -> None:
        """Cancel all uploads in flight. Their futures fail soon with ``UploadCancelled``."""

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """Perform the steps of an upload with a small test object, which is removed again.

        :param now: wall-clock time in seconds since the epoch, to measure the clock skew against.
        :param stored: called with the key of that object while it exists.
        :param limits: a step that takes longer is an error, and ends the check.
        :returns: findings in the order in which a person wants to read them. Never raises ``StoreError``: an error is a
            finding too.
        """

    def address(self, key: str) -> str:
        """The key in the form for messages, e.g. ``bucket/key``."""

    def close(self, *, timeout: float) -> None:
        """Release connections, threads and a remote lock, waiting at most ``timeout`` seconds. May be called twice."""
