"""The back-off that everything with retries shares, when a file is old enough, and threads that begin or fail."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core import control
from s3_uploader.core.control import backoff, start_thread, why_settling
from s3_uploader.core.model import Candidate
from tests.fakes import NOW


@pytest.mark.parametrize(
    ("failures", "pause"), [(0, 0.5), (1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (10**6, 60.0)]
)
def test_a_pause_doubles_up_to_a_limit(failures: int, pause: float) -> None:
    """Each failure in a row doubles the pause, and however many there are, it has a limit."""
    assert backoff(failures, first=0.5, longest=60.0) == pause


class Stillborn(threading.Thread):
    """The system creates it, and it ends before its first call, as one does that finds no memory."""

    def _bootstrap(self) -> None:
        return


def test_one_that_begins() -> None:
    """It does its work, and is joined like any other."""
    done: list[str] = []
    thread = threading.Thread(target=done.append, args=("work",))
    start_thread(thread)
    thread.join()
    assert done == ["work"]
    assert not thread.is_alive()


def test_one_that_is_watched_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a program that wraps the function of each thread, as Sentry does when it is started, it does its work."""
    start = threading.Thread.start

    def wrapping_start(thread: threading.Thread) -> None:
        run: Any = thread.run
        function = getattr(run, "__func__", run)
        thread.run = lambda: function(threading.current_thread())  # type: ignore[method-assign]
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", wrapping_start)
    test_one_that_begins()


class EventThatIsSealed:
    """An event whose methods cannot be replaced, like those of gevent."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Happen."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it."""
        return self._event.wait(timeout)


def test_one_with_events_of_another_library() -> None:
    """In a program whose threads are those of gevent, it does its work."""
    done: list[str] = []
    thread = threading.Thread(target=done.append, args=("work",))
    thread._started = EventThatIsSealed()  # type: ignore[attr-defined]
    start_thread(thread)
    thread.join()
    assert done == ["work"]


def test_one_that_never_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts it is told so after a limit, in the way in which a thread is refused."""
    monkeypatch.setattr(control, "START_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="there may be no memory for it"):
        start_thread(Stillborn())


class BornInVain(threading.Thread):
    """It counts as started, and finds no memory for its work."""

    def _bootstrap_inner(self) -> None:
        getattr(self, "_set_tstate_lock", lambda: None)()  # until Python 3.12
        self._started.set()  # type: ignore[attr-defined]


def test_one_that_counts_as_begun_and_does_nothing() -> None:
    """Nobody waits for work that nobody does."""
    before = time.monotonic()
    with pytest.raises(RuntimeError, match="there may be no memory for it"):
        start_thread(BornInVain())
    assert time.monotonic() - before < control.START_SECONDS


class BornBetweenLooks(threading.Thread):
    """It begins and ends after somebody has waited for it, and before he looks whether it lives."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.may_begin, self.has_worked = threading.Event(), threading.Event()

    def _bootstrap_inner(self) -> None:
        self._started.set()  # type: ignore[attr-defined]
        self.may_begin.wait(10)
        super()._bootstrap_inner()  # type: ignore[misc]

    def run(self) -> None:
        """Do the work."""
        self.has_worked.set()

    def is_alive(self) -> bool:
        """Look only when it has ended."""
        self.may_begin.set()
        self.has_worked.wait(10)
        return False


def test_one_that_has_ended_when_it_is_looked_at() -> None:
    """What was done is not called undone, or it would be done twice."""
    thread = BornBetweenLooks()
    start_thread(thread)
    assert thread.has_worked.is_set()
    thread.join(10)


class LeavesItsLock(threading.Thread):
    """It gets no memory while it tells that it has begun, and ends with the lock of that event."""

    def _bootstrap_inner(self) -> None:
        getattr(self, "_set_tstate_lock", lambda: None)()  # until Python 3.12
        self._started._cond.acquire()  # type: ignore[attr-defined]


def test_one_that_leaves_a_lock_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the lock of a thread that is no more."""
    monkeypatch.setattr(control, "START_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="there may be no memory for it"):
        start_thread(LeavesItsLock())


def test_a_latch() -> None:
    """It tells whether something has happened, as often as it is asked."""
    latch = control.Latch()
    assert not latch.wait(0.001)
    threading.Timer(0.01, latch.set).start()
    assert latch.wait(10)
    assert latch.wait(0)


def test_all_threads_are_started_so() -> None:
    """No module waits without a limit for a thread."""
    package = Path(control.__file__).parents[1]
    starting = [path for path in package.rglob("*.py") if "threading.T" in path.read_text() and path.stem != "control"]
    assert len(starting) > 10
    assert [path for path in starting if ".start()" in path.read_text()] == []


def settling(*, begin: float | None = None, mtime: float = -3600, settle: float = 10) -> str:
    """Why a file is too fresh; times are relative to now."""
    file = candidate(None if begin is None else NOW + begin)
    return why_settling(file, int((NOW + mtime) * 1e9), NOW, settle)


def candidate(begin: float | None) -> Candidate:
    """A file of the minute that begins then."""
    return Candidate(
        directory=("room",),
        name="file",
        key="room/file",
        period_begin=begin,
        period_end=None if begin is None else begin + 60,
        location="room",
        mtime_ns=0,
        size=4,
    )


class TestClocks:
    @pytest.mark.parametrize(
        ("begin", "reason"),
        [
            (-3600, ""),
            (-70, ""),
            (-69.9, "its minute ended less than 10 s ago"),
            (-60, "its minute ended less than 10 s ago"),
            (-59.9, "its minute is not over"),
            (0, "its minute is not over"),
            (0.1, ""),
            (86400, ""),
            (None, ""),
        ],
    )
    def test_stamp(self, begin: float | None, reason: str) -> None:
        """A stamp holds a file back around its own minute only; one in the future, or none, strands nothing."""
        assert settling(begin=begin) == reason

    @pytest.mark.parametrize(
        ("mtime", "fresh"),
        [(-10, False), (-9.9, True), (0, True), (300, True), (300.1, False), (86400, False)],
    )
    def test_mtime(self, mtime: float, fresh: bool) -> None:
        """A file is fresh for the settle time after its last write; an mtime far in the future strands nothing."""
        assert bool(settling(mtime=mtime)) is fresh

    def test_says_how_old(self) -> None:
        """Somebody who tries it with a file made a second ago is told why nothing moved."""
        assert settling(mtime=-1) == "written 1 s ago, less than 10 s"
        assert settling(mtime=5) == "written 0 s ago, less than 10 s"

    @given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(0, 3600))
    def test_nothing_is_stranded(self, begin: float, mtime: float, settle: float) -> None:
        """Whatever its times say, every file is ready once its stamp, its mtime and the tolerance are in the past."""
        later = max(begin + 60, mtime, 0) + settle + 1
        assert not why_settling(candidate(begin), int(mtime * 1e9), later, settle)

    def test_no_settle_time(self) -> None:
        """With a settle time of zero a file is ready the moment its minute is over."""
        assert settling(begin=-60, mtime=0, settle=0) == ""
        assert settling(begin=-59, mtime=0, settle=0) != ""
