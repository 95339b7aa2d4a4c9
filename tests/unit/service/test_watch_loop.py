"""The loop: when it scans the spool, what it reports, and what it does in trouble. The clock is fake."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.core.control import StopRequest
from s3_uploader.core.errors import ConfigError, Scope, UsageProblem
from s3_uploader.core.events import (
    Event,
    Notice,
    RunFinished,
    Uploaded,
    UploadFailed,
)
from s3_uploader.core.model import RunReport
from s3_uploader.ledger.compaction import Limits, compact
from s3_uploader.run import run as app
from s3_uploader.service.watch import Wakeup, Watch, identity_of
from tests.fakes import NOW, FakeClock, FakeStore, failing, write


class Sleep:
    """What the loop sleeps on: sleeping turns the clock, and things happen at their time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._is_set = False
        self.agenda: list[tuple[float, Callable[[], object]]] = []

    def set(self) -> None:
        """As of ``Wakeup``."""
        self._is_set = True

    def at(self, seconds: float, *actions: Callable[[], object]) -> None:
        """So many seconds after the start do something."""
        self.agenda.extend((NOW + seconds, action) for action in actions)
        self.agenda.sort(key=lambda item: item[0])

    def sleep(self, seconds: float) -> bool:
        """As of ``Wakeup``."""
        until = self._clock.seconds if self._is_set else self._clock.seconds + seconds
        if not self._is_set or (self.agenda and self.agenda[0][0] <= until):
            if self.agenda and self.agenda[0][0] <= until:
                self._clock.seconds = max(self._clock.seconds, self.agenda[0][0])
                self.agenda.pop(0)[1]()
            else:
                self._clock.seconds = until
        woken, self._is_set = self._is_set, False
        return woken


class Loop:
    """A watch over a spool with a store that a test can look into."""

    def __init__(self, place: Path, **settings: Any) -> None:
        self.base = place / "spool"
        self.base.mkdir()
        self.settings: dict[str, Any] = {
            "base_dir": str(self.base),
            "bucket": "bucket",
            "layout": "tree",
            "settle_seconds": 2,
            "state_dir": str(place / "state"),
            **settings,
        }
        self.clock = FakeClock()
        self.wakeup = Sleep(self.clock)
        self.stop = StopRequest()
        self.store = FakeStore()
        self.made = 0
        self.said: list[Event] = []
        self.seen: list[Event] = []
        self.statuses: list[str] = []
        self.beats: list[float] = []
        self.service: list[str] = []
        self.followed: list[str] = []
        self.events_ended = 0
        self.is_rehearsal = False

    def make_store(self, config: config.Config, **_: Any) -> FakeStore:
        """See ``MakeStore``."""
        self.made += 1
        return self.store

    def follow(self, directory: str, wake: Callable[[], None], emit: Callable[[Event], None]) -> Callable[[], None]:
        """See ``StartEvents``."""
        self.followed.append(directory)

        def end() -> None:
            self.events_ended += 1

        return end

    def run(self, seconds: float) -> int:
        """Run for so long; returns the exit code."""
        self.wakeup.at(seconds, self.stop.request)
        self.watch = Watch(
            lambda: config.from_mapping(dict(self.settings), source="config.json"),
            emit=self.said.append,
            monitor=self.seen.append,
            stop=self.stop,
            wakeup=self.wakeup,  # type: ignore[arg-type]
            clock=self.clock.clock(),
            events=self.follow,
            status=self.statuses.append,
            beat=lambda: self.beats.append(self.clock.seconds),
            reloading=lambda: self.service.append("reloading"),
            configured=lambda config: self.service.append("ready"),
            make_store=self.make_store,
            is_rehearsal=self.is_rehearsal,
        )
        return self.watch.run()

    def put(self, name: str, content: str = "data", *, age: float = 60.0) -> Path:
        """Put a file into the spool."""
        return write(self.base / name, content, mtime=self.clock.seconds - age)

    def passes(self) -> list[float]:
        """When passes began, in seconds since the start."""
        return [round(event.report.started_at - NOW, 3) for event in self.seen if isinstance(event, RunFinished)]

    def notices(self) -> list[str]:
        """What was said about the run as a whole."""
        return [event.message for event in self.said if isinstance(event, Notice)]


@pytest.fixture(autouse=True)
def no_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests count on time that passes only while the watch sleeps, and not before a file is removed."""
    monkeypatch.setattr("s3_uploader.spool.removal.MOMENT_SECONDS", 0.0)


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    """A loop over an empty spool."""
    return Loop(tmp_path)


class TestRhythm:
    def test_polls(self, loop: Loop) -> None:
        """Without events the spool is looked at each interval; a request to stop ends the loop at once."""
        assert loop.run(30) == 0
        assert loop.passes() == [0, 9, 18, 27]
        assert loop.clock.seconds == NOW + 30

    def test_work_is_followed_by_a_look(self, loop: Loop) -> None:
        """After a pass that shipped something the next one follows at once."""
        loop.put("x")
        loop.wakeup.at(12, lambda: loop.put("y"))
        loop.run(25)
        assert loop.passes() == [0, 0, 9, 18, 18]
        assert set(loop.store.objects) == {"x", "y"}

    def test_event(self, loop: Loop) -> None:
        """An event makes the next pass come a moment later."""
        loop.wakeup.at(3.5, lambda: loop.put("x"), loop.wakeup.set)
        loop.run(5)
        assert loop.passes() == [0, 3.52, 3.52]
        assert "x" in loop.store.objects

    def test_events_never_stop(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a pass takes long, events do not make the loop do nothing but look."""
        real = app.run_once

        def slow(*arguments: Any, **options: Any) -> RunReport:
            loop.wakeup.set()
            loop.clock.seconds += 2
            return real(*arguments, **options)

        monkeypatch.setattr(app, "run_once", slow)
        loop.run(15)
        assert loop.passes() == [2, 6, 10, 14]

    def test_fresh_file(self, loop: Loop) -> None:
        """A file that is too fresh is looked at again when it may be ready, not an interval later."""
        loop.put("x", age=0.5)
        loop.run(8)
        assert loop.passes() == [0, 2, 2]
        assert "x" in loop.store.objects

    def test_signs_of_life(self, loop: Loop) -> None:
        """The loop shows that it is alive at least once a second, and says what it does."""
        loop.put("x")
        loop.run(20)
        assert max(b - a for a, b in zip(loop.beats, loop.beats[1:], strict=False)) <= 1
        assert loop.statuses == ["shipped 1 files, 0 waiting", *["idle, 0 files waiting"] * 3]

    def test_exit_code(self, loop: Loop) -> None:
        """The exit code says which signal ended the loop."""
        loop.wakeup.at(3, lambda: loop.stop.request(15))
        assert loop.run(60) == 143


class TestTrouble:
    def refuse(self, loop: Loop) -> None:
        """Let every upload fail as with expired credentials."""
        loop.store.any_fault = failing("ExpiredToken", scope=Scope.DESTINATION, hint="Renew the credentials.")

    def test_growing_pauses(self, loop: Loop) -> None:
        """A destination that takes nothing is tried after growing pauses, whatever events come; it is said once."""
        self.refuse(loop)
        loop.put("x")
        for second in range(1, 200):
            loop.wakeup.at(second, loop.wakeup.set)
        loop.run(200)
        assert loop.passes() == [0, 9, 27, 63, 123, 183]
        assert [event.code for event in loop.said if isinstance(event, UploadFailed)] == ["ExpiredToken"]
        assert loop.notices() == ["The run was abandoned, all files are kept: ExpiredToken. Renew the credentials."]
        assert len([event for event in loop.said if isinstance(event, RunFinished)]) == 1
        assert loop.statuses[0].startswith("in trouble, next try in 9 s: ExpiredToken")
        assert (loop.base / "x").exists()

    def test_recovery(self, loop: Loop) -> None:
        """The end of the trouble is said, the store has been made anew, and the pauses are the usual ones again."""
        self.refuse(loop)
        loop.put("x")
        loop.wakeup.at(20, lambda: setattr(loop.store, "any_fault", None))
        loop.run(40)
        assert loop.passes() == [0, 9, 27, 27, 36]
        assert loop.notices()[1:] == ["The trouble is over."]
        assert loop.made == 3
        assert not (loop.base / "x").exists()

    def test_comes_back(self, loop: Loop) -> None:
        """Trouble that comes back is said again."""
        self.refuse(loop)
        loop.put("x")
        loop.wakeup.at(5, lambda: setattr(loop.store, "any_fault", None))
        loop.wakeup.at(10, lambda: self.refuse(loop), lambda: loop.put("y"))
        loop.run(20)
        assert [text.split(":")[0] for text in loop.notices()] == [
            "The run was abandoned, all files are kept",
            "The trouble is over.",
            "The run was abandoned, all files are kept",
        ]

    def test_vanished_spool(self, loop: Loop) -> None:
        """A spool that is gone is said once; when it is back it is noticed within a second, and has events again."""
        loop.wakeup.at(1, lambda: shutil.rmtree(loop.base))
        loop.wakeup.at(40, loop.base.mkdir, lambda: loop.put("x"))
        loop.run(50)
        assert loop.passes() == [0, *[at for at in loop.passes()[1:] if at >= 40]]
        assert loop.passes()[1] <= 41
        assert [text.split(".")[0][-14:] for text in loop.notices()] == ["does not exist", "The trouble is over"[-14:]]
        assert loop.followed == [str(loop.base)] * 2
        assert loop.events_ended == 2
        assert "x" in loop.store.objects

    def test_made_anew(self, loop: Loop) -> None:
        """A spool that was replaced by another directory between two passes is followed anew."""

        def replace() -> None:
            loop.base.rename(loop.base.with_name("old"))
            loop.base.mkdir()

        loop.wakeup.at(1, replace)
        loop.run(10)
        assert loop.followed == [str(loop.base)] * 2

    def test_missing_from_the_start(self, loop: Loop) -> None:
        """A spool that is not there yet is waited for."""
        loop.base.rmdir()
        loop.wakeup.at(3.5, loop.base.mkdir, lambda: loop.put("x"))
        loop.run(15)
        assert "x" in loop.store.objects

    def test_internal_error(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever error a pass fails with, the loop continues."""
        real = app.run_once

        def fail(*arguments: Any, **options: Any) -> RunReport:
            monkeypatch.setattr(app, "run_once", real)
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(app, "run_once", fail)
        loop.run(12)
        assert loop.notices() == ["The pass failed: OSError: [Errno 5] Input/output error", "The trouble is over."]
        assert loop.passes() == [9]

    def test_ledger(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        """A state directory that cannot be used is trouble like any other: said once, tried again."""
        (loop.base.parent / "state").write_text("in the way")
        loop.wakeup.at(12, (loop.base.parent / "state").unlink)
        loop.run(30)
        assert len(loop.notices()) == 2
        assert loop.notices()[1] == "The trouble is over."
        assert loop.passes() == [27]

    @pytest.mark.parametrize("gone", ["state", "ledger", "ledger of a share"])
    def test_a_ledger_that_is_removed_between_two_passes(self, loop: Loop, gone: str) -> None:
        """The history is gone, and that is said once; the service manager and others are told of the watch again."""
        state = loop.base.parent / "state"
        is_share = gone == "ledger of a share"
        if is_share:
            loop.settings["share"] = "0/2"

        def remove() -> None:
            if gone == "state":
                shutil.rmtree(state)
            else:
                for path in state.rglob("ledger.sqlite3*"):
                    path.unlink()

        loop.wakeup.at(12, remove)
        loop.run(40)
        (notice,) = loop.notices()
        assert "ledger.sqlite3 was removed between two passes, and a new one was started." in notice
        assert ("only the history, unless ledger merge has taken it over." in notice) is is_share
        assert loop.service == ["ready", "ready"]
        assert list(state.rglob("ledger.sqlite3"))

    def test_a_ledger_that_is_written_anew(self, loop: Loop) -> None:
        """``ledger compact`` and ``ledger merge`` put another file in its place, which is nothing to report."""

        def replace() -> None:
            (path,) = (loop.base.parent / "state").glob("*/ledger.sqlite3")
            compact(str(path), Limits(history_days=1, history_max_files=1, trusts_clock=True))

        loop.wakeup.at(12, replace)
        loop.run(40)
        assert loop.notices() == []

    def test_another_run(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        """While another run has the spool the loop waits, and says so once though the words change."""
        from s3_uploader.core.errors import LockHeld

        def held(*arguments: Any, **options: Any) -> Any:
            raise LockHeld(f"Another run has the spool: for {loop.clock.seconds - NOW:.0f} s.", holder="")

        monkeypatch.setattr(app, "acquire", held)
        loop.run(30)
        assert len(loop.notices()) == 1
        assert loop.statuses[-1] == "waiting: Another run has the spool: for 27 s."

    def test_failing_file(self, loop: Loop) -> None:
        """A file that keeps failing is tried after the pauses of the ledger, and its failures are said each time."""
        loop.put("bad")
        loop.store.any_fault = failing("KeyRefused")
        loop.run(200)
        failures = [event for event in loop.said if isinstance(event, UploadFailed)]
        assert 2 <= len(failures) <= 3
        assert [event.attempts for event in failures] == list(range(1, len(failures) + 1))
        assert len(loop.passes()) >= 20

    def test_delete_on_failure(self, tmp_path: Path) -> None:
        """A configuration that deletes what fails says so at the start, not at each pass."""
        loop = Loop(tmp_path, on_failure="delete")
        loop.run(30)
        assert [text for text in loop.notices() if "on_failure is delete" in text] == [loop.notices()[0]]


class TestReload:
    def test_new_configuration(self, loop: Loop, tmp_path: Path) -> None:
        """The next pass works by the new configuration: another spool, with its own events, and a new store."""
        other = tmp_path / "other"
        write(other / "y", mtime=NOW - 60)
        loop.put("x")

        def change() -> None:
            loop.settings["base_dir"] = str(other)
            loop.watch.reload()

        loop.wakeup.at(3.5, change)
        loop.run(8)
        assert loop.passes() == [0, 0, 3.5, 3.5]
        assert set(loop.store.objects) == {"x", "y"}
        assert loop.followed == [str(loop.base), str(other)]
        assert loop.made == 2
        assert loop.service == ["ready", "reloading", "ready"]
        assert loop.notices() == ["The configuration has been reloaded."]

    def test_invalid_configuration(self, loop: Loop) -> None:
        """A configuration that cannot be used is refused each time with its problems, and the one before stays."""

        def change() -> None:
            loop.settings["interval_of_nothing"] = 1
            loop.watch.reload()

        loop.wakeup.at(3.5, change)
        loop.wakeup.at(5, lambda: loop.watch.reload())
        loop.wakeup.at(6, lambda: loop.put("x"))
        loop.run(20)
        assert len(loop.notices()) == 2
        assert "interval_of_nothing" in loop.notices()[0]
        assert set(loop.store.objects) == {"x"}
        assert loop.service == ["ready", "reloading", "ready", "reloading", "ready"]

    @pytest.mark.parametrize("error", [UsageProblem("it is a directory"), OSError(5, "Input/output error")])
    def test_configuration_that_cannot_be_loaded(
        self, loop: Loop, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """Whatever a reload meets in the place of the configuration, the one before stays, and the watch goes on."""

        def fail(*_: object, **__: object) -> None:
            raise error

        loop.wakeup.at(3.5, lambda: monkeypatch.setattr(config, "from_mapping", fail), lambda: loop.watch.reload())
        loop.wakeup.at(6, lambda: loop.put("x"))
        loop.run(20)
        assert ["the previous one remains in use" in each for each in loop.notices()] == [True]
        assert set(loop.store.objects) == {"x"}

    def test_in_trouble(self, loop: Loop) -> None:
        """A reload ends the pause that trouble makes."""
        loop.store.any_fault = failing("InvalidAccessKeyId", scope=Scope.DESTINATION)
        loop.put("x")

        def mend() -> None:
            loop.store.any_fault = None
            loop.watch.reload()

        loop.wakeup.at(30, mend)
        loop.run(35)
        assert loop.passes()[-2:] == [30, 30]
        assert set(loop.store.objects) == {"x"}

    def test_invalid_at_the_start(self, loop: Loop) -> None:
        """A start with a configuration that cannot be used is none."""
        loop.settings["nonsense"] = True
        with pytest.raises(ConfigError):
            loop.run(1)


class TestStore:
    def test_stays_open(self, loop: Loop) -> None:
        """The store is opened once for many passes, and closed when it was idle for a while."""
        closed: list[float] = []
        loop.store.close = lambda *, timeout: closed.append(loop.clock.seconds - NOW)  # type: ignore[method-assign]
        loop.put("a")
        for second in (5, 15, 25):
            loop.wakeup.at(second, lambda second=second: loop.put(str(second)))  # type: ignore[misc]
        loop.wakeup.at(150, lambda: loop.put("z"))
        loop.run(160)
        assert loop.store.opened == 2
        assert closed == [90, 160]

    def test_is_made_anew(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        """A watch that always has something to ship finds out now and then, too, what its server can do."""
        monkeypatch.setattr("s3_uploader.service.watch._OLDEST_STORE_SECONDS", 100.0)
        for second in range(0, 400, 50):
            loop.wakeup.at(second, lambda second=second: loop.put(str(second)))  # type: ignore[misc]
        loop.run(390)
        assert loop.made == 3
        assert len(loop.store.objects) == 8

    def test_other_destinations(self, tmp_path: Path) -> None:
        """The lock of an FTP server is not held between passes: such a store is closed after each."""
        loop = Loop(tmp_path)
        del loop.settings["bucket"]
        loop.settings["destination"] = {"type": "local", "path": str(tmp_path / "archive")}
        closed: list[float] = []
        loop.store.close = lambda *, timeout: closed.append(loop.clock.seconds - NOW)  # type: ignore[method-assign]
        loop.put("x")
        loop.run(15)
        assert closed == [0], "the passes after that had nothing to ship, and made none"

    def test_flat(self, loop: Loop, effort: Callable[[int, int], int]) -> None:
        """Hundreds of passes leave no thread, no descriptor and no subscriber behind."""
        end = effort(1_800, 9_000)
        loop.put("x")
        loop.wakeup.at(90, lambda: counts.append((threading.active_count(), len(os.listdir("/proc/self/fd")))))
        loop.wakeup.at(end, lambda: counts.append((threading.active_count(), len(os.listdir("/proc/self/fd")))))
        counts: list[tuple[int, int]] = []
        loop.run(end + 5)
        assert len(loop.passes()) > end // 9
        assert counts[0] == counts[1]
        assert loop.stop._subscribers == []

    def test_rehearsal(self, tmp_path: Path) -> None:
        """In a rehearsal nothing is moved or deleted for a failure, and afterwards it counts for nothing."""
        loop = Loop(tmp_path, on_failure={"move_to": str(tmp_path / "failed")})
        loop.is_rehearsal = True
        loop.put("x")
        loop.store.any_fault = failing("it broke (simulated)")
        loop.run(5)
        assert (loop.base / "x").exists()
        loop.is_rehearsal, loop.store.any_fault, loop.stop = False, None, StopRequest()
        loop.wakeup.agenda.clear()
        loop.run(10)
        assert set(loop.store.objects) == {"x"}


class TestWakeup:
    def test_tokens(self) -> None:
        """A wake-up is remembered until the next sleep, and several are one."""
        wakeup = Wakeup()
        wakeup.set()
        wakeup.set()
        assert wakeup.sleep(0)
        assert not wakeup.sleep(0)

    def test_from_a_signal_handler(self) -> None:
        """Setting it twice at the same moment, as a signal handler can, leaves nothing behind."""
        wakeup = Wakeup()
        wakeup._tokens.put(None)
        wakeup._tokens.put(None)
        assert wakeup.sleep(0)
        assert not wakeup.sleep(0)


def test_identity(tmp_path: Path) -> None:
    """A directory is known by where it is and which it is; a missing one is none."""
    assert identity_of(str(tmp_path)) == identity_of(str(tmp_path))
    assert identity_of(str(tmp_path / "gone")) is None


def test_uploads_are_said(loop: Loop) -> None:
    """Every upload is told to people and to monitoring."""
    loop.put("x")
    loop.run(1)
    for events in (loop.said, loop.seen):
        assert [event.path for event in events if isinstance(event, Uploaded)] == [f"{loop.base}/x"]
