"""Threads that begin, or fail to within a limit."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from s3_uploader.core import thread_start


class Stillborn(threading.Thread):
    """The system creates it, and it ends before its first call, as one does that finds no memory."""

    def _bootstrap(self) -> None:
        return


def test_one_that_begins() -> None:
    """It does its work, and is joined like any other."""
    done: list[str] = []
    thread = threading.Thread(target=done.append, args=("work",))
    thread_start.start_thread(thread)
    thread.join()
    assert done == ["work"]
    assert not thread.is_alive()


def test_one_that_never_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts it is told so after a limit, in the way in which a thread is refused."""
    monkeypatch.setattr(thread_start, "START_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="there may be no memory for it"):
        thread_start.start_thread(Stillborn())


def test_all_threads_are_started_so() -> None:
    """No module waits without a limit for a thread."""
    package = Path(thread_start.__file__).parents[1]
    starting = [
        path for path in package.rglob("*.py") if "threading.T" in path.read_text() and path.stem != "thread_start"
    ]
    assert len(starting) > 10
    assert [path for path in starting if ".start()" in path.read_text()] == []
