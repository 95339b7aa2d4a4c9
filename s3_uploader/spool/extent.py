"""What of a spool a run locks: all of it or a share, alone or together with uploaders that claim.

A share by path owns the files whose paths have its hashes, a share by location those of the locations that have them.
Two of one rule meet exactly where their ranges of hashes do; two of different rules may have files in common wherever
their ranges are, so they exclude each other altogether. For that each locks a byte that stands for its rule, together
with others of that rule, and then looks at the other rule's. Each locks before it looks, so that of two that begin at
the same time at least one sees the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core import range_lock
from s3_uploader.spool import lock_file
from s3_uploader.spool.lock_file import FIRST_BYTE, RANGE

if TYPE_CHECKING:
    from s3_uploader.core.shares import Share


class InTheWay(msgspec.Struct, frozen=True):
    """A lock that keeps a run from its own; of a share, or of all files if that is ``None``.

    :param by_other_rule: it is of a share whose files are chosen by another rule.
    """

    share: Share | None = None
    by_other_rule: bool = False

    @property
    def name(self) -> str:
        """The state directory of the share; empty if it is no share."""
        return "" if self.share is None else self.share.name


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """The extent to be locked.

    :param share: ``None`` for all files.
    :param by_location: the share owns locations, and not files by their paths.
    :param claims: uploaders that keep apart by claiming have it together.
    """

    share: Share | None = None
    by_location: bool = False
    claims: bool = False

    @property
    def shares_directory(self) -> bool:
        """Whether other processes may lock the directory at the same time."""
        return self.claims or self.share is not None

    def try_lock(self, descriptor: int, *, by_process: bool) -> bool | None:
        """See :func:`s3_uploader.spool.lock_file.try_lock`."""
        first, length = _bytes_of(self.share)
        locked = lock_file.try_lock(descriptor, first=first, length=length, shared=self.claims, by_process=by_process)
        if locked is not True or self.share is None:
            return locked
        own, _ = self._rules
        marked = lock_file.try_lock(descriptor, first=own, length=1, shared=True, by_process=by_process)
        if marked and not self._other_rule(descriptor, by_process=by_process):
            return True
        lock_file.unlock(descriptor, by_process=by_process)
        return False

    @property
    def _rules(self) -> tuple[int, int]:
        """The bytes of the own rule and of the other one."""
        rules = (lock_file.BY_PATH, lock_file.BY_LOCATION)
        return rules[::-1] if self.by_location else rules

    def _other_rule(self, descriptor: int, *, by_process: bool) -> bool:
        """Whether a share of the other rule is at work."""
        return range_lock.is_held(descriptor, first=self._rules[1], length=1, by_process=by_process)

    def in_the_way(self, descriptor: int, *, by_process: bool) -> InTheWay | None:
        """Which lock keeps it out; ``None`` if none does any more, or there is no telling."""
        if self.share is not None and self._other_rule(descriptor, by_process=by_process):
            return InTheWay(by_other_rule=True)
        first, length = _bytes_of(self.share)
        found = range_lock.in_the_way(descriptor, first=first, length=length, by_process=by_process)
        if found is None:
            return None
        from s3_uploader.core.shares import of_range

        return InTheWay(of_range(found[0] - FIRST_BYTE, found[1]))

    def is_refused_by(self, other: InTheWay | None) -> bool:
        """Whether the other lock is of a share of another division, so that the two do not go together."""
        if self.share is None or other is None:
            return False
        return other.by_other_rule or other.share not in (None, self.share)


def _bytes_of(share: Share | None) -> tuple[int, int]:
    """The first byte of a share's range of hashes, and the number of bytes."""
    if share is None:
        return FIRST_BYTE, RANGE
    return FIRST_BYTE + share.first, share.length
