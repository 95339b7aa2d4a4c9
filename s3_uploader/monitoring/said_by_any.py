"""What any of several processes has reported about the server that they share, so that it is reported once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable

from s3_uploader.core.files import unnamed_file, write_all

_DIGEST = 16
_MOST_SAID = 1000
_TRIES, _PAUSE_SECONDS = 50, 0.002


class SaidByAny:
    """Digests of sentences, in a file without a name that the processes inherit.

    Made before the processes. The lock belongs to a process (``fcntl(2)``), whose end releases it.
    """

    def __init__(self, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._file = unnamed_file(b"")
        self._sleep = sleep

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def is_news(self, message: str) -> bool:
        """Whether no process has reported it yet; the caller does now. ``True`` in doubt: better twice than never."""
        descriptor = self._file.fileno()
        digest = hashlib.blake2b(message.encode("utf-8", "backslashreplace"), digest_size=_DIGEST).digest()
        try:
            if not self._locked(descriptor):
                return True
            try:
                said = os.pread(descriptor, _MOST_SAID * _DIGEST, 0)
                if digest in (said[at : at + _DIGEST] for at in range(0, len(said), _DIGEST)):
                    return False
                if len(said) < _MOST_SAID * _DIGEST:
                    os.lseek(descriptor, 0, os.SEEK_END)
                    write_all(descriptor, digest)
            finally:
                fcntl.lockf(descriptor, fcntl.LOCK_UN)
        except OSError:  # no memory is left for the file
            return True
        return True

    def _locked(self, descriptor: int) -> bool:
        """Take the lock. A process that was stopped while it held it does not stop the others."""
        for _ in range(_TRIES):
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._sleep(_PAUSE_SECONDS)
            else:
                return True
        return False
