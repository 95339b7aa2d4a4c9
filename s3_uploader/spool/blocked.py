"""The holder that keeps a run from the lock, and the error about it."""

from __future__ import annotations

import msgspec

from s3_uploader.core.errors import LockHeld
from s3_uploader.core.text import shown_name
from s3_uploader.spool.holder import Holder
from s3_uploader.spool.lock_file import Extent, InTheWay


class Blocked(msgspec.Struct, frozen=True):
    """Another process has the spool.

    :param is_stranger: it does not look like a run of this program.
    :param other: the lock that is in the way, if known.
    """

    holder: Holder
    is_stranger: bool = False
    other: InTheWay | None = None

    def error(self, extent: Extent, base_dir: str, *, now: float) -> LockHeld:
        """Convert it to the error for a run that wanted this extent."""
        holder = self.holder
        words = holder.described(now=now)
        is_refusal, hint = extent.is_refused_by(self.other), ""
        if is_refusal:
            sentence = (
                f"The share {extent.share} of the spool {shown_name(base_dir)} has files in common with another run: "
                f"{words}."
            )
            hint = "Give all runs of a spool shares of one number, as in 0/2 and 1/2, and one share_by."
        elif self.is_stranger:
            sentence = (
                f"The spool {shown_name(base_dir)} is locked by {words}, which does not look like a run of this "
                "program; nothing is shipped until it lets go. Find out what it is, and end it."
            )
        else:
            sentence = f"Another run has the spool {shown_name(base_dir)}: {words}."
        return LockHeld(
            sentence,
            holder=words,
            pid=holder.pid,
            held_since=holder.since,
            is_stranger=self.is_stranger,
            is_refusal=is_refusal,
            hint=hint,
        )
