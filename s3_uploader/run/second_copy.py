"""Makes sure that the destination's object is a second copy of a file, and not the file itself.

A destination may lead back to the spool: through a bind mount or FUSE, an FTP server or an S3 gateway over the same
disk, or a prefix of the keys. It then truthfully reports each file as present, and the removal would delete the only
copy. Devices and inodes show some of these cases. The file's name shows all of them: while the file has another name,
the object must still be there. So each object that was there already is checked once more after its file was renamed
and before it is removed. If the object comes and goes with the file, it is the file. A cache may still show it (an
overlay's, a gateway's), but no cache knows a test file beside it.

A destination *inside* the spool keeps true copies, which the next scan finds and delivers one directory further down,
and so on. So deliveries are also searched in the spool, and a candidate whose path ends with a delivered key is checked
against the destination in the same way before it is sent. There, ``on_conflict: overwrite`` would even replace a file
of the spool by another one, so a file in the spool at the path of a key is checked before the first uploads.
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.control import Clock
from s3_uploader.core.errors import ObjectGone, SameAsSpool, StoreError, UploadCancelled
from s3_uploader.core.model import Candidate, Left, Proof, Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name
from s3_uploader.spool.open_file import OpenFile, open_candidate
from s3_uploader.spool.removal import give_back, take
from s3_uploader.spool.root import Names, SpoolRoot
from s3_uploader.stores.base import PendingReceipt, Store

if TYPE_CHECKING:
    from s3_uploader.spool.echoes import DeepPlaces

SECONDS = 10.0
"""Timeout of a request to the destination."""

_SOUGHT = 8
"""The most new objects that a run searches for in the spool."""
_SUSPECTED = 8
"""The most candidates that a run checks against deliveries, and the most files that it checks in the place of a key.
It assumes that any others only look alike."""
_PROTECTED = 64
"""The most uploads whose keys a run searches for in the spool before it sends them. They may replace an object."""
_KEPT_KEYS = 32
_MOST_KEYS = 1000
_CLOCK_TOLERANCE = 5.0

Wait = Callable[[Sequence[PendingReceipt]], None]
"""Waits until all are done, at most :data:`SECONDS`."""


class SecondCopies:
    """Finds out about a destination that leads back to the spool. Belongs to the thread that owns the spool.

    :ivar refusal: set when it is certain; nothing may be removed from then on.
    :ivar is_apart: an object was seen in this run that is not in the spool.
    :ivar is_in_use: whether the file with this path is in flight or being settled.
    :ivar wait: how to wait for the store; replaced by the owner of the store's loop.
    :ivar is_stopping: whether a stop was requested, so that answers are hardly waited for.
    """

    def __init__(self, root: SpoolRoot, store: Store, *, clock: Clock) -> None:
        self._root = root
        self._store = store
        self._clock = clock
        self.wait: Wait = _wait
        self.is_in_use: Callable[[str], bool] = lambda path: False
        self.is_stopping: Callable[[], bool] = lambda: False
        self.refusal: SameAsSpool | None = None
        self.is_apart = False
        self._began_at = clock.now()
        self._sought = 0
        self._suspected = 0
        self._protected = 0
        self._probed = 0
        self._tried: set[Names] = set()
        self._deep: DeepPlaces | None = None
        self._delivered: dict[str, list[Receipt]] = {}
        self._keys = 0
        self._new: list[Receipt] = []

    # ---------------------------------------------------------------------------------------------- already there

    def ask(self, receipt: Receipt) -> PendingReceipt:
        """Start a request for an object whose file was just renamed."""
        try:
            return self._store.confirm(receipt, deadline=self._clock.monotonic() + SECONDS)
        except Exception as error:
            look = PendingReceipt()
            look.complete(error)
            return look

    def answer(self, look: PendingReceipt) -> StoreError | None:
        """The result of a request, after :attr:`wait`: ``None`` if the object is there."""
        if not look.done() and self.is_stopping():
            return UploadCancelled.interrupted()
        error = look.exception() if look.done() else TimeoutError("no answer in time")
        if error is None:
            self.is_apart = True
            return None
        reason = error.message if isinstance(error, StoreError) else f"{error}."
        return _not_confirmed(
            f"it was found there; this could not be confirmed before the removal of the local file: {reason}"
        )

    def judge(self, file: OpenFile, receipt: Receipt) -> None:
        """Find out whether a file and its object are the same, after the object vanished while the file was renamed."""
        if self._is_there(receipt) and self._vanishes_without_its_name(file, receipt):
            self._refuse(shown_name(self._store.address(receipt.key)))

    def by_its_own_name(self, file: OpenFile, receipt: Receipt) -> None:
        """Do the same for a file that stays: it is renamed and gets its name back, once in a run."""
        if not self.is_apart and self._vanishes_without_its_name(file, receipt):
            self._refuse(shown_name(self._store.address(receipt.key)))
        elif not self.is_apart:
            self.by_a_probe(file, receipt, was_there=True)

    def by_a_probe(self, file: OpenFile, receipt: Receipt, *, was_there: bool = False) -> StoreError | None:
        """Do the same with a new name: a small test file beside the file must not be at the destination.

        :param was_there: the object was there while the file had another name, but perhaps only in a cache. A few
            directories are tried, and only certainty counts.
        :returns: ``None`` if it is not there; otherwise, or without an answer, the error.
        """
        names, reason = file.candidate.directory, "no answer in time"
        if names in self._tried or len(self._tried) >= _SUSPECTED if was_there else self.is_apart:
            return None
        self._tried.add(names)
        try:
            found = self._has_a_probe_beside(names, receipt.key)
        except OSError as error:
            found, reason = None, str(error.strerror)
        if found:
            return self._refuse(shown_name(self._store.address(receipt.key)))
        if found is None and not was_there:
            return _not_confirmed(f"it was found there; it is unknown whether it is the local file itself: {reason}")
        self.is_apart = True
        return None

    # ---------------------------------------------------------------------------------------------- to be replaced

    def protect(self, file: OpenFile, key: str) -> None:
        """Make sure that the object that an upload may replace is not another file of the spool.

        A file that lies where the key leads, if the destination is in the spool or around it, is not touched: a small
        test file beside it must not be at the destination.
        """
        if self.is_apart or self.refusal is not None or self._protected >= _PROTECTED:
            return
        self._protected += 1
        own = file.fingerprint
        path = file.candidate.path
        if self._deep is None:
            from s3_uploader.spool.echoes import DeepPlaces

            self._deep = DeepPlaces(self._root)
        deeper = [self._deep.taken(each) for each in dict.fromkeys((key, path))]
        for names, name in itertools.chain(self._root.likely_places(key, one_deeper=True), *deeper):
            try:
                status = self._root.stat(names, name)
                is_another = stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) != (own.device, own.inode)
                if not is_another or self._probed >= _SUSPECTED:
                    continue
                self._probed += 1
                is_the_object = self._has_a_probe_beside(names, key)
            except (OSError, ValueError):
                continue
            if is_the_object:
                self._refuse(shown_name(self._store.address(key)))
                return

    # ---------------------------------------------------------------------------------------------- new objects

    def look_for(self, file: OpenFile, receipt: Receipt, *, changed: bool) -> None:
        """Look in the spool for a new object, beside its file or in its place.

        :param changed: the file itself has changed meanwhile, perhaps because it was written through the destination.
        """
        # Written out, as in the settlement: a call for each file would cost too much.
        is_new = not (receipt.already_there or receipt.after_lost_answer)
        if is_new and self._keys < _MOST_KEYS:
            self._keys += 1
            self._note_delivered(receipt)
            if len(self._new) < _KEPT_KEYS:
                self._new.append(receipt)
        if self._sought >= _SOUGHT or self.refusal is not None:
            return
        self._sought += 1
        places = self._root.likely_places(receipt.key, one_deeper=self._sought == 1)
        if self._sought == 1 and self._deep is not None:
            # From now on nothing is protected any more, so directories further down are searched too.
            places = itertools.chain(places, self._deep.all(receipt.key))
        for names, name in places:
            if self._is_in_the_spool(names, name, file, receipt, changed=changed):
                self._refuse(shown_name(self._store.address(receipt.key)))
                return
        if not changed and is_new:
            self.is_apart = True

    def suspect(self, file: OpenFile) -> None:
        """Check a candidate against deliveries, if its path is that of a delivery below other directories.

        A file that was renamed for that is closed afterwards.
        """
        candidate = file.candidate
        delivered = self._delivered.get(candidate.name, ())
        path = candidate.path if delivered else ""
        for receipt in delivered:
            if not path.endswith(f"/{receipt.key}") or _stored_size(receipt) != file.fingerprint.size:
                continue
            if self._suspected >= _SUSPECTED:
                return
            self._suspected += 1
            if file.on_close is None:
                is_the_same = self._vanishes_without_its_name(file, receipt)
            else:
                # A claimed file has left the spool already.
                is_gone = self._is_there(receipt) is False
                file.close()
                is_the_same = is_gone and bool(self._is_there(receipt))
            if is_the_same:
                self._refuse(shown_name(self._store.address(receipt.key)))
                return
            if file.descriptor < 0:
                return

    def load(self, text: str | None) -> None:
        """Load what an earlier run delivered (:meth:`dump`)."""
        try:
            for key, size in msgspec.json.decode(text or "[]", type=list[tuple[str, int]]):
                self._note_delivered(Receipt(key=str(key), size=int(size), proof=Proof.NONE))
        except (ValueError, TypeError, RecursionError):
            return  # a note of another version

    def dump(self) -> str:
        """Serialise some deliveries of this run for the next one; empty if there are none."""
        # A name that is not valid text cannot be written as JSON; one of the other names is enough.
        rows = [[each.key, _stored_size(each)] for each in self._new if each.key.isascii() or _is_text(each.key)]
        return msgspec.json.encode(rows).decode() if rows else ""

    # ---------------------------------------------------------------------------------------------- inside

    def _note_delivered(self, receipt: Receipt) -> None:
        self._delivered.setdefault(receipt.key.rpartition("/")[2], []).append(receipt)

    def _is_in_the_spool(self, names: Names, name: str, file: OpenFile, receipt: Receipt, *, changed: bool) -> bool:
        size = _stored_size(receipt)
        try:
            status = self._root.stat(names, name)
        except (OSError, ValueError):
            return False
        is_the_file = (status.st_dev, status.st_ino) == (file.fingerprint.device, file.fingerprint.inode)
        # A file that is renamed looks changed to its own upload.
        path = "/".join((*names, name))
        if path != file.candidate.path and self.is_in_use(path):
            return False
        # Only one that has just appeared can be the object, or one with the name of what was compressed.
        may_be = status.st_ctime >= self._began_at - _CLOCK_TOLERANCE or receipt.encoding != ""
        if not may_be or not stat.S_ISREG(status.st_mode) or status.st_size != size or (is_the_file and not changed):
            return False
        found = open_candidate(self._root, _candidate(names, name, status))
        if not isinstance(found, OpenFile):
            return False
        try:
            if self._is_there(receipt):
                return self._vanishes_without_its_name(found, receipt)
            # Without permission to look up objects, the content of a file that has just appeared decides.
            return not is_the_file and not receipt.encoding and _same_content(file.descriptor, found.descriptor)
        finally:
            found.close()

    def _has_a_probe_beside(self, names: Names, key: str) -> bool | None:
        """Whether a small test file in a directory of the spool is at the destination, beside a key.

        :returns: ``None`` if there is no answer.
        :raises OSError: if the test file cannot be made.
        """
        from s3_uploader.spool.probe import CONTENT, probe_in

        directory = key.rpartition("/")[0]
        with probe_in(lambda: self._root.directory(names)) as name:
            key = f"{directory}/{name}" if directory else name
            return self._is_there(Receipt(key=key, size=len(CONTENT), proof=Proof.NONE))

    def _vanishes_without_its_name(self, file: OpenFile, receipt: Receipt) -> bool:
        """Whether the object vanishes while the file has another name, and reappears with its name.

        A gateway that remembers a name whose file has vanished may break off its answer. That counts only if it happens
        twice, and never while the file has its name.
        """
        for _ in range(2):
            found = self._look_while_renamed(file, receipt)
            if found or not self._is_there(receipt):
                return False
            if found is False:
                return True
        return True

    def _look_while_renamed(self, file: OpenFile, receipt: Receipt) -> bool | None:
        """Whether the object is there while the file has another name; ``None`` if there is no answer.

        If the file cannot be renamed, the object counts as present.
        """
        try:
            _look_again(file)
            taken = take(file.home, file)
            if isinstance(taken, Left):
                return True
            try:
                return True if taken.private == file.candidate.name else self._is_there(receipt)
            finally:
                give_back(self._root, file, taken)
                _look_again(file)
        except OSError:
            return True

    def _is_there(self, receipt: Receipt) -> bool | None:
        """Check the object now; ``None`` if there is no answer."""
        look = self.ask(receipt)
        self.wait([look])
        if not look.done():
            return None
        error = look.exception()
        if error is None:
            return True
        return False if isinstance(error, ObjectGone) else None

    def _refuse(self, address: str) -> SameAsSpool:
        self.refusal = SameAsSpool(
            f"The destination leads back to the spool {shown_name(self._root.base_dir)}: {address} is a file of the "
            "spool by another route. Nothing was removed.",
            hint="Name a destination outside the spool (see bind mounts, the directory of the server, key_prefix).",
        )
        return self.refusal


def _look_again(file: OpenFile) -> None:
    """Take the fingerprint again after a rename of ours, unless the content has changed: that is still to be noticed.

    :raises OSError: if the file system fails.
    """
    before = file.fingerprint
    if not file.look_again() and not file.fingerprint.same_content_as(before):
        file.fingerprint = before


def _stored_size(receipt: Receipt) -> int:
    return receipt.size if receipt.stored_size is None else receipt.stored_size


def _not_confirmed(message: str) -> StoreError:
    return StoreError(message, code="NotConfirmed", hint="The file is kept and tried again.", origin=Origin.OURS)


def _candidate(names: Names, name: str, status: os.stat_result) -> Candidate:
    return Candidate(
        directory=names,
        name=name,
        key="",
        period_begin=None,
        period_end=None,
        location="",
        mtime_ns=status.st_mtime_ns,
        size=status.st_size,
    )


def _same_content(one: int, other: int) -> bool:
    offset = 0
    while True:
        piece = os.pread(one, 1 << 20, offset)
        if piece != os.pread(other, 1 << 20, offset):
            return False
        if not piece:
            return True
        offset += len(piece)


def _wait(looks: Sequence[PendingReceipt]) -> None:
    ends_at = time.monotonic() + SECONDS
    for look in looks:
        look.wait(max(0.0, ends_at - time.monotonic()))


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
