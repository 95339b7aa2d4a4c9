"""What of a spool a run locks: all of it or a share, alone or together with uploaders that claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core import range_lock
from s3_uploader.spool import lock_file
from s3_uploader.spool.lock_file import FIRST_BYTE, RANGE

if TYPE_CHECKING:
    from s3_uploader.core.shares import Share


class InTheWay(msgspec.Struct, frozen=True):
    """A lock that keeps a run from its own; of a share, or of all files if that is ``None``."""

    share: Share | None = None

    @property
    def name(self) -> str:
        """The directory of the share's state, empty if it is no share's."""
        return "" if self.share is None else self.share.name


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be locked.

    :param share: ``None`` for all files.
    :param claims: uploaders that keep apart by claiming have it together.
    """

    share: Share | None = None
    claims: bool = False

    @property
    def shares_directory(self) -> bool:
        """Whether others may have the directory locked at the same time."""
        return self.claims or self.share is not None

    def try_lock(self, descriptor: int, *, by_process: bool) -> bool | None:
        """See :func:`s3_uploader.spool.lock_file.try_lock`."""
        first, length = _bytes_of(self.share)
        return lock_file.try_lock(descriptor, first=first, length=length, shared=self.claims, by_process=by_process)

    def in_the_way(self, descriptor: int, *, by_process: bool) -> InTheWay | None:
        """Which lock keeps it out; ``None`` if none does any more, or there is no telling."""
        first, length = _bytes_of(self.share)
        found = range_lock.in_the_way(descriptor, first=first, length=length, by_process=by_process)
        if found is None:
            return None
        from s3_uploader.core.shares import of_range

        return InTheWay(of_range(found[0] - FIRST_BYTE, found[1]))

    def is_refused_by(self, other: InTheWay | None) -> bool:
        """Whether the other lock is of a share of another division, so that the two do not go together."""
        return self.share is not None and other is not None and other.share not in (None, self.share)


def _bytes_of(share: Share | None) -> tuple[int, int]:
    """The first of the bytes that stand for a share's hashes, and their number."""
    if share is None:
        return FIRST_BYTE, RANGE
    return FIRST_BYTE + share.first, share.length
