"""Which ``watch`` looks after a spool between its passes: a note in the state directory, locked while it is true."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable

from s3_uploader.core import files, procfs
from s3_uploader.spool import lock_file
from s3_uploader.spool.holder import is_current
from s3_uploader.spool.lock_file import Holder

NOTE_NAME = "watch"
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def announce(state_dir: str, *, interval: float) -> Callable[[], None]:
    """Say that this process watches the spool, until the returned function is called or the process ends.

    A note that cannot be written is no reason not to watch.

    :param interval: see :class:`~s3_uploader.spool.lock_file.Holder`.
    """
    try:
        descriptor = os.open(os.path.join(state_dir, NOTE_NAME), os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
    except OSError:
        return lambda: None
    by_process = files.belongs_to_process(procfs.file_system_at(descriptor))
    with contextlib.suppress(OSError):
        # Several may watch one spool, each with files that it claims.
        files.try_range(descriptor, first=lock_file.FIRST_BYTE, length=1, shared=True, by_process=by_process)
        lock_file.write_note(descriptor, _this_process(interval))

    def withdraw() -> None:
        with contextlib.suppress(OSError):
            os.close(descriptor)

    return withdraw


def watcher_of(state_dir: str) -> Holder | None:
    """The process that watches the spool; ``None`` if there is none, or this user may not know."""
    try:
        descriptor = os.open(os.path.join(state_dir, NOTE_NAME), os.O_RDONLY | _FLAGS)
    except OSError:
        return None
    try:
        by_process = files.belongs_to_process(procfs.file_system_at(descriptor))
        if not files.is_held(descriptor, first=lock_file.FIRST_BYTE, length=1, by_process=by_process):
            return None
        note = lock_file.read_note(descriptor)
    finally:
        os.close(descriptor)
    return note if note is not None and is_current(note) else Holder(pid=0)


def _this_process(interval: float) -> Holder:
    pid = os.getpid()
    return Holder(
        pid=pid,
        host=os.uname().nodename,
        uid=os.geteuid(),
        since=time.time(),
        command=procfs.command_line(sys.argv),
        started=procfs.start_ticks(pid),
        interval=interval,
    )
