"""The files in flight: each is open, submitted to the store, and taken from a queue when the store has answered.

The store is opened here, too, for the first of them.
"""

from __future__ import annotations

import importlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.control import Latch, is_of_a_handler, start_thread
from s3_uploader.core.errors import StoreError, lacking, lacks_memory
from s3_uploader.core.events import Uploaded
from s3_uploader.core.model import Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.ledger.rows import ShippedRow
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.spool.root import original_name
from s3_uploader.stores.base import Loop, PendingReceipt, PutOptions, Source, Store

if TYPE_CHECKING:
    from s3_uploader.core.model import Fingerprint
    from s3_uploader.run.scan import Directories
    from s3_uploader.spool.root import SpoolRoot

_BYTES_PER_SECOND_AT_LEAST = 64 * 1024
_MOST_COUNTED = 16 * 2**20
"""A file counts for at most this many bytes in flight: a store holds only some parts of it in memory."""
_LOOK_SECONDS = 0.05
_OPENING_LOOK_SECONDS = 0.1
_TURN_SECONDS = 0.005
"""The longest time in which other work may keep the sockets waiting."""


class Evidence:
    """What the uploads of a run have shown of the destination.

    :ivar successes: how many have succeeded.
    :ivar is_in_doubt: whether there are failures of which the cause, file or destination, is unknown.
    """

    def __init__(self) -> None:
        self.successes = 0
        self.is_in_doubt = False


class FileTask(msgspec.Struct):
    """A file under way to the store. It owns the descriptor, and one place in the count of its directory.

    It has three ends: it is left, it failed, or it is proven and removed (:mod:`s3_uploader.run.settlement`).

    :param began: monotonic time of the submission.
    :param successes_before: number of successful uploads at that time.
    :param failed_before: whether an earlier run could not ship it.
    :param replaces: see :meth:`s3_uploader.stores.base.Store.put`.
    :param is_second_try: it is sent once more, because at first the destination was out of reach.
    """

    file: OpenFile
    key: str
    began: float
    successes_before: int
    failed_before: bool = False
    replaces: str = ""
    options: PutOptions = PutOptions()
    is_second_try: bool = False
    _directories: Directories | None = None

    def begin(self, directories: Directories) -> None:
        """Count it in its directory until :meth:`end`. A file that is sent again is counted already."""
        if self._directories is None:
            self._directories = directories
            directories.begin(self.file.candidate.directory)

    def end(self, *, removed: bool = False) -> None:
        """Close the descriptor and end the count in the directory. May be called twice.

        :param removed: the file was removed, so a directory that is empty now may be removed too.
        """
        if self.file.descriptor >= 0:  # a removed file was closed with its batch
            self.file.close()
        directories, self._directories = self._directories, None
        if directories is not None:
            directories.settle(self.file.candidate.directory, removed=removed)

    def shipped_row(
        self, receipt: Receipt, *, run: int | None, destination: str, now: float, seconds: float, is_kept: bool
    ) -> ShippedRow:
        """Make the ledger's row of the shipped file.

        :param now: wall-clock time, in seconds since the epoch; the upload took ``seconds``.
        :param is_kept: the file stays in the spool.
        """
        candidate, fingerprint = self.file.candidate, self.file.fingerprint
        kept: Fingerprint | None = fingerprint if is_kept else None
        return ShippedRow(
            run=run,
            # A file that a killed run left under a private name is recorded under the name that its producer gave it.
            path="/".join((*candidate.directory, original_name(candidate.name))),
            location=candidate.location,
            destination=destination,
            key=receipt.key,
            size=receipt.size,
            mtime_ns=fingerprint.mtime_ns,
            period_begin=candidate.period_begin,
            shipped_at=now,
            seconds=seconds,
            proof=receipt.proof,
            checksum=receipt.checksum,
            etag=receipt.etag,
            version_id=receipt.version_id,
            already_there=receipt.already_there,
            stored_size=receipt.stored_size,
            encoding=receipt.encoding,
            kept=kept,
            # A leftover that stays may never get its name back, because its producer has made a new file of that name.
            kept_path=candidate.path if is_kept else "",
        )

    def uploaded(self, receipt: Receipt, *, spool: SpoolRoot, store: Store, seconds: float) -> Uploaded:
        """Make the event about the shipped file.

        :param spool: the tree in which its producer put it.
        :param seconds: the duration of the upload.
        """
        candidate = self.file.candidate
        return Uploaded(
            spool.shown(candidate.directory, original_name(candidate.name)),
            candidate.location,
            store.name,
            store.address(receipt.key),
            receipt,
            seconds,
            derived_key=receipt.key != self.key,
        )


if TYPE_CHECKING:
    Completions = queue.SimpleQueue[tuple[FileTask, PendingReceipt] | None]


class UploadsInFlight:
    """The uploads in flight.

    Belongs to the thread that owns the spool; only :meth:`wake` may be called from other threads.

    :param timeout_seconds: deadline of each upload, without the time for its bytes.
    :param make_queue: makes the queue for the store's answers.
    :ivar under_way: the uploads with their futures, by the ``id()`` of the upload.
    :ivar bytes: the bytes that they count for.
    """

    def __init__(
        self,
        store: Store,
        *,
        timeout_seconds: float,
        make_queue: Callable[[], Completions] = queue.SimpleQueue,
    ) -> None:
        self._store = store
        self._timeout_seconds = timeout_seconds
        self._completions = make_queue()
        self.under_way: dict[int, tuple[FileTask, PendingReceipt]] = {}
        self._keys: set[str] = set()
        self.bytes = 0
        self._loop: Loop | None = None
        self._owner = 0
        self._turned_at = 0.0

    def take_over_loop(self) -> None:
        """Run the store's loop while waiting, if it lends one, until :meth:`hand_back_loop`. The store must be open."""
        self._loop = loop = self._store.loop
        if loop is not None:
            self._owner = threading.get_ident()
            loop.take_over()

    def hand_back_loop(self) -> None:
        """Give the loop back to the store."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.hand_back()

    def is_sending(self, key: str) -> bool:
        """Whether a file is in flight to this key.

        A second file might arrive first, and the older content would remain.
        """
        return key in self._keys

    def is_sending_from(self, location: str) -> bool:
        """Whether a file of this location is in flight."""
        return any(upload.file.candidate.location == location for upload, _ in self.under_way.values())

    def oldest(self) -> float | None:
        """When the oldest upload in flight began, in monotonic seconds; ``None`` if there is none."""
        return min((upload.began for upload, _ in self.under_way.values()), default=None)

    def largest(self) -> int:
        """The size of the largest file in flight, in bytes; 0 if there is none."""
        return max((upload.file.fingerprint.size for upload, _ in self.under_way.values()), default=0)

    def paths(self) -> set[str]:
        """The paths of the files in flight."""
        return {upload.file.candidate.path for upload, _ in self.under_way.values()}

    def launch(self, upload: FileTask) -> None:
        """Submit a file to the store."""
        size = upload.file.fingerprint.size
        try:
            future = self._store.put(
                upload.key,
                Source(upload.file.descriptor, size),
                options=upload.options,
                deadline=upload.began + self._timeout_seconds + size / _BYTES_PER_SECOND_AT_LEAST,
                replaces=upload.replaces,
            )
        except Exception as error:
            future = PendingReceipt()
            future.complete(error)
        self.under_way[id(upload)] = upload, future
        self._keys.add(upload.key)
        self.bytes += min(size, _MOST_COUNTED)
        future.add_done_callback(partial(self._put, upload))

    def _put(self, upload: FileTask, done: PendingReceipt) -> None:
        self._completions.put((upload, done))
        loop = self._loop
        if loop is not None and threading.get_ident() != self._owner:
            loop.wake()

    def wake(self) -> None:
        """End a wait. May be called from a signal handler: ``SimpleQueue.put`` is reentrant by design."""
        self._completions.put(None)
        loop = self._loop
        if loop is not None:
            loop.wake()

    def has_landed(self) -> bool:
        """Whether :meth:`landed` returns something without waiting."""
        # The condition of keep_turning is repeated here, because this is called twice for each file.
        if self._loop is not None and self.under_way and time.monotonic() - self._turned_at > _TURN_SECONDS:
            self._turn(0.0)
        return not self._completions.empty()

    def keep_turning(self) -> None:
        """Look at the sockets if that is due again. To be called between steps of other work."""
        if self._loop is not None and self.under_way and time.monotonic() - self._turned_at > _TURN_SECONDS:
            self._turn(0.0)

    def _turn(self, timeout: float) -> None:
        loop = self._loop
        assert loop is not None
        if not loop.turn(timeout):
            self.hand_back_loop()
        self._turned_at = time.monotonic()

    def landed(self, timeout: float) -> tuple[FileTask, Receipt | StoreError] | None:
        """Return the next answered upload with its answer; ``None`` if there is none, or when woken.

        Waits for at most ``timeout`` seconds, and sometimes less.
        """
        try:
            if self._loop is not None:
                if self._completions.empty():
                    self._turn(timeout)
                timeout = 0.0
            completion = self._completions.get(timeout=timeout)
        except queue.Empty:
            return None
        if completion is None:
            return None
        upload, future = completion
        # The store may still answer for an upload that was abandoned.
        if self.under_way.pop(id(upload), None) is None:
            return None
        self.bytes -= min(upload.file.fingerprint.size, _MOST_COUNTED)
        self._keys.discard(upload.key)
        outcome = future.outcome
        assert outcome is not None
        if isinstance(outcome, (Receipt, StoreError)):
            return upload, outcome
        if not isinstance(outcome, Exception) or is_of_a_handler(outcome):
            raise outcome
        # A bug of a store must not cost the other files their run.
        message = f"internal error: {type(outcome).__name__}: {outcome}"
        return upload, lacking("The upload failed", outcome) or StoreError(
            message, code="InternalError", origin=Origin.OURS
        )

    def wait_for(self, looks: Sequence[PendingReceipt], *, go_on: Callable[[], bool]) -> None:
        """Wait for answers of the store to other requests than uploads, while ``go_on`` returns ``True``."""
        for look in looks:
            while not look.done() and go_on():
                if self._loop is not None:
                    self._turn(_LOOK_SECONDS)
                else:
                    look.wait(_LOOK_SECONDS)

    def abandon(self) -> list[FileTask]:
        """Abandon all uploads; their files are closed when the store is done with them."""
        uploads = []
        for upload, future in self.under_way.values():
            uploads.append(upload)
            # Until then a thread of the store may still read from it.
            future.add_done_callback(lambda done, file=upload.file: file.close())  # type: ignore[misc]
        self.under_way.clear()
        self._keys.clear()
        self.bytes = 0
        return uploads


def open_store(store: Store, *, must_end: Callable[[], bool], beat: Callable[[], None]) -> bool:
    """Open ``store``; returns ``False`` if the run had to end meanwhile. The store must then still be closed.

    :param must_end: whether the run has to end; called several times a second.
    :param beat: heartbeat, called as often.
    :raises Exception: what :meth:`Store.open` raises.
    """
    raised: list[BaseException] = []
    is_over = Latch()

    def work() -> None:
        try:
            _load_hashes()
            store.open()
        except BaseException as error:
            raised.append(error)
        finally:
            is_over.set()

    thread = threading.Thread(target=work, name="open-store", daemon=True)
    try:
        start_thread(thread)
    except RuntimeError:
        # No further thread can be started, so this one opens the store.
        work()
    while not is_over.wait(_OPENING_LOOK_SECONDS):
        beat()
        if must_end():
            return False
        if not thread.is_alive() and not is_over.wait(0):
            raise MemoryError  # nothing else ends it without a word
    if raised:
        raise raised[0]
    return True


def _load_hashes() -> None:
    """Load the hashes that every store needs. Where there is no memory for them, ``hashlib`` prints tracebacks.

    :raises ImportError: if there is no memory for them.
    """
    for name in ("_hashlib", "_blake2"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            if lacks_memory(error):
                raise
