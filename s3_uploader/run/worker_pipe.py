"""The messages between the leader of a run and its workers, in frames over pipes.

Both are the same program on the same host, one started by the other, so values are pickled, including names that are no
text.
"""

from __future__ import annotations

import os
import signal
import struct
from typing import Any

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core.model import FailureBucket

GO, STOP, OVER, LOOK, LAST = b"g", b"s", b"o", b"l", b"n"
"""The leader's commands after the task: begin; a request to stop; the run takes in no more files; something may have
appeared in the spool; the spool is not scanned again.

The end of the pipe means that the leader has died.
"""
READY = "ready"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals by which all processes are told to stop. A worker leaves them to its leader, from its first moment on."""
_LENGTH = struct.Struct("!I")
_PIECE = 1 << 18


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The task of a worker.

    :param config: of the run, with the worker's share.
    :param run: the number of the run in the ledger, which began at ``started_at``.
    :param state_dir: of the run, with the ledger.
    :param lock_file: descriptor of the spool's lock file, which stays locked as long as it is open; -1 without one.
    :param of: number of processes of the run, among which its limits are divided.
    :param max_runtime_seconds: the rest of the time budget.
    :param look_seconds: how often the spool is scanned again while a large file is in flight; ``None``: not at all.
    :param retries: see :class:`~s3_uploader.run.context.RunContext`.
    """

    config: Config
    run: int
    started_at: float
    state_dir: str
    lock_file: int
    of: int
    max_runtime_seconds: float | None
    retries: bool
    look_seconds: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a worker's share.

    :param counters: :class:`~s3_uploader.core.model.RunCounters`.
    :param failures: uploads that failed, by kind.
    :param sightings: what was seen of files whose writers may be on other hosts; ``unseen`` is to be reported about
        that.
    :param ended_by: the name of the :class:`~s3_uploader.core.model.RunEnd`, with its ``error`` and ``origin``.
    """

    counters: Any
    failures: dict[FailureBucket, int]
    sightings: str
    unseen: dict[str, str]
    ended_by: str
    error: str = ""
    code: str = ""
    hint: str = ""
    origin: str = ""


def send(descriptor: int, value: object) -> None:
    """Write a frame; blocks until there is room.

    :raises BrokenPipeError: if the reader has ended.
    """
    import pickle

    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Frames:
    """Reads frames from a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def next(self) -> Any:
        """Read the next frame; blocks.

        :raises EOFError: if the pipe ends before it.
        """
        import pickle

        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return pickle.loads(self._read(length))

    def _read(self, size: int) -> bytes:
        parts, missing = [self._rest[:size]], size - len(self._rest)
        self._rest = self._rest[size:]
        while missing > 0:
            part = os.read(self._descriptor, max(_PIECE, missing))
            if not part:
                raise EOFError
            parts.append(part[:missing])
            self._rest = part[missing:]
            missing -= len(part)
        return b"".join(parts)
