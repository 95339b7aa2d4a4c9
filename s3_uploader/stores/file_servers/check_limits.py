"""The time limits of ``check`` for a file server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from s3_uploader.stores.base import CheckLimits
from s3_uploader.stores.file_servers.base import FileSession

_LIMIT_SECONDS = 180.0
"""For the whole check at least. Some servers answer each transfer seconds after its end, and a check needs eight."""
_TRANSFERS = 8
_REMOVAL_SECONDS = 1.0
"""For the removal of the test files after an interruption."""


class Steps:
    """The time that a session has left: for the step that has begun, and for all. Each answer begins a step."""

    def __init__(self, limits: CheckLimits) -> None:
        self._seconds = limits.seconds
        self._ends_at = min(limits.ends_at, time.monotonic() + max(_LIMIT_SECONDS, _TRANSFERS * limits.seconds))
        self.session: FileSession | None = None
        self.begin()

    def begin(self) -> None:
        """Begin a step."""
        self._begun = time.monotonic()

    def remaining(self) -> float:
        """Seconds left."""
        answered = 0.0 if self.session is None else self.session.last_used
        return min(self._ends_at, max(self._begun, answered) + self._seconds) - time.monotonic()


@contextlib.contextmanager
def hurried(session: FileSession) -> Iterator[None]:
    """If the check is interrupted, leave only a moment for the removal of the test files."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        ends_at = time.monotonic() + _REMOVAL_SECONDS
        session.remaining = lambda: ends_at - time.monotonic()
        raise
