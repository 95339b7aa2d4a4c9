"""Finds the runs at work on the shares of a spool, on this host and on others."""

from __future__ import annotations

import os

from s3_uploader.core.files import belongs_to_process
from s3_uploader.core.procfs import file_system_at
from s3_uploader.core.shares import Share, of_directory
from s3_uploader.spool import lock_file
from s3_uploader.spool.holder import is_current, share_directories
from s3_uploader.spool.lock_file import NOTE_NAME, Extent, Holder, read_note_at


def holders_of_shares(base_fd: int, state_dir: str) -> dict[Share, Holder]:
    """Find the holder of each share from the notes of runs. A note of another host counts while its lock is held.

    :param base_fd: descriptor of the spool's directory.
    :param state_dir: of the spool.
    """
    found: dict[Share, Holder] = {}
    for directory in share_directories(state_dir):
        share = of_directory(os.path.basename(directory))
        note = read_note_at(os.path.join(directory, NOTE_NAME))
        if share is not None and note is not None and is_current(note):
            found[share] = note
    elsewhere = {share for share, note in found.items() if note.host != os.uname().nodename}
    gone = elsewhere - _locked(base_fd, elsewhere) if elsewhere else elsewhere
    return {share: note for share, note in found.items() if share not in gone}


def _locked(base_fd: int, shares: set[Share]) -> set[Share]:
    """The shares whose lock is held."""
    descriptor = lock_file.look_at_lock_file(base_fd)
    if descriptor is None:
        return set()
    try:
        by_process = belongs_to_process(file_system_at(base_fd))
        extents = {share: Extent(share=share) for share in shares}
        return {
            share for share, own in extents.items() if own.in_the_way(descriptor, by_process=by_process) is not None
        }
    finally:
        os.close(descriptor)
