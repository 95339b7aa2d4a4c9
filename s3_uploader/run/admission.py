"""Decides whether a candidate is shipped in this run, for runs and dry runs alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.model import Candidate, Left
from s3_uploader.core.text import counted, names_are_utf8
from s3_uploader.ledger.rows import FailingRow
from s3_uploader.spool.layouts.base import Layout, NoCandidate, Skip
from s3_uploader.spool.open_file import OpenFile, open_candidate
from s3_uploader.spool.readiness import Reason, Removable, Sightings, is_being_written, why_settling
from s3_uploader.spool.root import SpoolRoot

if TYPE_CHECKING:
    from s3_uploader.spool.claims import Claims

_TICK = 0.02
"""Seconds; file systems stamp changes with a clock that ticks every 1 to 10 ms (``CONFIG_HZ``; until Linux 6.13)."""


_NOT_UTF8 = (
    "this program reads names of files in another encoding than UTF-8, so that the key would not have the bytes of the "
    "name; start it with PYTHONUTF8=1 or under a UTF-8 locale"
)


class Admission:
    """Decides about candidates and opens those that are ready.

    :param known_failure: returns the record of a file that failed before, if there is one.
    :param is_remembered: returns whether this file was shipped before and kept; ``None`` where none is kept.
    :param sightings: what earlier runs have seen of files whose writers may be on other hosts.
    :param removable: checks whether a file could be removed afterwards; ``None`` if files stay.
    :param claims: where ready files are taken by rename, if several uploaders share the spool.
    :param reads_utf8: whether names of files are read as UTF-8; ``None``: as this process does.
    """

    def __init__(
        self,
        root: SpoolRoot,
        *,
        settle_seconds: float,
        known_failure: Callable[[str], FailingRow | None],
        is_remembered: Callable[[OpenFile], bool] | None,
        claims: Claims | None = None,
        sleep: Callable[[float], None] = time.sleep,
        removable: Removable | None = None,
        sightings: Sightings | None = None,
        reads_utf8: bool | None = None,
    ) -> None:
        self._root = root
        self._settle_seconds = settle_seconds
        self._known_failure = known_failure
        self._is_remembered = is_remembered
        self._claims = claims
        self._sleep = sleep
        self._removable = removable
        self._sightings = sightings
        self.stuck: Reason | None = None
        self._only_ascii = not (names_are_utf8() if reads_utf8 is None else reads_utf8)

    def decide(self, candidate: Candidate, *, now: float) -> OpenFile | tuple[Left, str]:
        """Return the open file if it is ready, else the reason why it is left, with a detail for people.

        :attr:`stuck` says more about a file that could not be removed afterwards.
        """
        self.stuck = None
        detail = why_settling(candidate, candidate.mtime_ns, now, self._settle_seconds)
        if detail:
            return Left.FRESH, detail
        if self._only_ascii and not (candidate.path.isascii() and candidate.key.isascii()):
            # Its key would have other bytes than its name.
            return Left.UNDECODABLE, _NOT_UTF8
        failing = self._known_failure(candidate.path)
        if failing is not None and failing.waits(size=candidate.size, mtime_ns=candidate.mtime_ns, now=now):
            return Left.WAITING, f"failed {counted(failing.attempts, 'time')}, last with: {failing.message}"
        file = open_candidate(self._root, candidate)
        if not isinstance(file, OpenFile):
            return file
        try:
            left = self._refuse_unremovable(file) or self._second_look(file, now)
            if left is None and self._claims is not None:
                left = self._claim(file, self._claims)
        except BaseException:
            file.close()
            raise
        if left is None:
            return file
        file.close()
        return left

    def _refuse_unremovable(self, file: OpenFile) -> tuple[Left, str] | None:
        """Do not send a file that cannot be removed: it would be sent again and again."""
        if self._removable is None:
            return None
        self.stuck = self._removable.why_not(file.candidate.directory, owner=os.fstat(file.descriptor).st_uid)
        return None if self.stuck is None else (Left.UNREADABLE, self.stuck[0])

    def _claim(self, file: OpenFile, claims: Claims) -> tuple[Left, str] | None:
        """Claim an open file; returns why it cannot be claimed.

        It is opened first, so that a file that is not ready is left alone: a producer that looks for it by name must
        find it, and a rename there and back would wake every uploader that watches the spool.
        """
        candidate = file.candidate
        try:
            if not claims.take(candidate):
                return Left.VANISHED, "another uploader has it"
        except OSError as error:
            return Left.UNREADABLE, f"it cannot be claimed: {error.strerror or error}"
        file.home = claims.root
        file.on_close = lambda: claims.give_back(candidate)
        try:
            status = claims.root.stat(candidate.directory, candidate.name)
            before = file.fingerprint
            if (status.st_dev, status.st_ino) != (before.device, before.inode):
                return Left.FRESH, "it has just been replaced"
            if is_being_written(file.descriptor):
                return Left.BUSY, "a writer has it open"
            # The rename has changed the ctime. What is to be compared from now on is the file as it was claimed.
            file.look_again()
        except OSError as error:
            return Left.UNREADABLE, error.strerror or str(error)
        return None if file.fingerprint.same_content_as(before) else (Left.FRESH, "it is being changed")

    def _second_look(self, file: OpenFile, now: float) -> tuple[Left, str] | None:
        """Check an open file again, because time has passed since the scan; returns why it is left."""
        if file.fingerprint.mtime_ns != file.candidate.mtime_ns:
            detail = why_settling(file.candidate, file.fingerprint.mtime_ns, now, self._settle_seconds)
            if detail:
                return Left.FRESH, detail
        # Two changes within one tick of the clock leave the same times. So a fingerprint is not trusted while its last
        # change may be in the current tick.
        if abs(now - file.fingerprint.ctime_ns / 1e9) < _TICK:
            self._sleep(_TICK)
            try:
                if not file.look_again():
                    return Left.FRESH, "it is being changed"
            except OSError as error:
                return Left.UNREADABLE, error.strerror or str(error)
        if self._is_remembered is not None and self._is_remembered(file):
            return Left.REMEMBERED, ""
        return self._unseen(file, now)

    def _unseen(self, file: OpenFile, now: float) -> tuple[Left, str] | None:
        """Why a file has to be seen once more, because the kernel may not see its writers."""
        sightings = self._sightings
        if sightings is None:
            return None
        found = sightings.file_system(file.fingerprint.device, file.descriptor)
        if not found and file.writers_are_seen:
            return None
        path = file.candidate.path
        detail = sightings.why_wait(path, file.fingerprint, file.descriptor, now=now)
        if detail:
            return Left.FRESH, detail
        sightings.unseen.setdefault(found, path)
        return None


class Decision(msgspec.Struct, frozen=True):
    """The decision about a candidate: ship it (``reason`` is ``None``) or leave it."""

    candidate: Candidate
    reason: Left | None
    detail: str


def survey(
    root: SpoolRoot, layout: Layout, admission: Admission, *, now: Callable[[], float], skip: Skip
) -> Iterator[Decision]:
    """Decide about each candidate without doing anything. Reads no content."""
    for found in layout.scan(root, skip):
        if isinstance(found, NoCandidate):
            continue
        file = admission.decide(found, now=now())
        if isinstance(file, OpenFile):
            file.close()
            yield Decision(found, None, "")
        else:
            yield Decision(found, *file)
