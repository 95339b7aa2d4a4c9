"""What keeps a run from the lock of its spool, and the error about it."""

from __future__ import annotations

import os

import msgspec

from s3_uploader.core.errors import LockHeld
from s3_uploader.core.text import shown_name
from s3_uploader.spool import holder as holders
from s3_uploader.spool import lock_file
from s3_uploader.spool.lock_file import FIRST_BYTE, NOTE_NAME, Extent, Holder, InTheWay


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
            hint = "Give all runs of a spool the same number of shares, as in 0/2 and 1/2, and the same share_by."
        elif self.is_stranger:
            sentence = (
                f"The spool {shown_name(base_dir)} is locked by {words}, which does not look like a run of this "
                "program. Nothing is shipped until it releases the lock. Find out what it is, and end it."
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


def by_directory_lock(directory: int, state_dir: str, *, by_process: bool) -> tuple[Blocked | None, list[Holder]]:
    """What keeps a run from the lock on the directory of its spool.

    :param by_process: the lock on the lock file belongs to a process.
    :returns: ``None`` and the holders of the lock if none of them can be an uploader of the spool.
    """
    pids = holders.pids_in_kernel_table(directory)
    if not pids:
        pids = [0]  # unknown
    respected = [pid for pid in pids if holders.may_be_a_run(pid, directory)]
    orphan = None if respected else holders.orphan_of(directory)
    if orphan is not None:
        return Blocked(orphan), []
    if not respected:
        return None, [found for pid in pids if (found := holders.from_proc(pid)) is not None] or [Holder(pid=0)]
    note = holders.note_about(respected, state_dir)
    holder = holders.identify(respected, note)
    is_known = holders.looks_like_ours(holder, note) or holders.lock_file_is_held(directory, by_process=by_process)
    return Blocked(holder, is_stranger=not is_known), []


def by_range_lock(descriptor: int, extent: Extent, state_dir: str, *, by_process: bool, is_local: bool) -> Blocked:
    """What keeps a run from its range of the lock file."""
    if is_local:
        stranger = holders.stranger_in(descriptor)
        if stranger is not None:
            return Blocked(stranger, is_stranger=True)
    other = extent.in_the_way(descriptor, by_process=by_process)
    note = lock_file.read_note(descriptor)
    if other is not None and other.share is not None:
        note = lock_file.read_note_at(os.path.join(state_dir, other.name, NOTE_NAME))
    holder = holders.identify(None, note or holders.note_about(None, state_dir))
    if other is not None and other.share is not None and holder.share != str(other.share):
        holder = Holder(pid=0)
    if not holder.pid and other is not None:
        share = "" if other.share is None else str(other.share)
        first = FIRST_BYTE + (0 if other.share is None else other.share.first)
        found = holders.locker_of(descriptor, first=first) or holder
        holder = msgspec.structs.replace(found, share=share)
    return Blocked(holder, other=other)


def by_state_lock(descriptor: int, extent: Extent, state_dir: str, *, by_process: bool) -> Blocked:
    """What keeps a run from the lock in the state directory."""
    pids = holders.pids_in_kernel_table(descriptor)
    other = extent.in_the_way(descriptor, by_process=by_process)
    return Blocked(holders.identify(pids, holders.note_about(pids, state_dir)), other=other)
