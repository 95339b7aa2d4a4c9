"""Why a lock cannot be had: who has it, and what is said of that."""

from __future__ import annotations

import msgspec

from s3_uploader.core.errors import LockHeld
from s3_uploader.core.text import shown_name
from s3_uploader.spool.extent import Extent, InTheWay
from s3_uploader.spool.holder import Holder


class Blocked(msgspec.Struct, frozen=True):
    """Somebody else has the spool.

    :param is_stranger: it is no run of this program, as far as can be seen.
    :param other: which lock is in the way, where that is known.
    """

    holder: Holder
    is_stranger: bool = False
    other: InTheWay | None = None

    def error(self, extent: Extent, base_dir: str, *, now: float) -> LockHeld:
        """The same as an error of who wanted that extent."""
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
