"""How a spool stands: looked at in bounded time, whatever is there, and told in one line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3_uploader.cli import overview, status
from s3_uploader.cli.arguments import StatusOptions
from s3_uploader.cli.status_json import for_machines
from s3_uploader.cli.verdict import calm, first_line, verdict
from s3_uploader.config import Config, from_mapping
from s3_uploader.core import procfs
from s3_uploader.core.control import Clock
from s3_uploader.core.errors import ConfigError, StateError
from s3_uploader.core.findings import Cause, Problem, Severity
from s3_uploader.core.model import RunReport
from s3_uploader.health import MEMORY_PREFIX
from s3_uploader.health.notices import Seen
from s3_uploader.inspection import waiting
from s3_uploader.inspection.preview import Decision, look
from s3_uploader.inspection.status import SpoolStatus, standing_of
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.run.place import Place, open_place
from s3_uploader.spool import watcher
from s3_uploader.spool.claim_dir import mark_of
from s3_uploader.spool.lock_file import LOCK_NAME
from tests.fakes import FakeClock, write

HOUR = 3600.0


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A spool of one file, and a state directory that is not there yet."""
    write(tmp_path / "spool" / "attic" / "x")
    return from_mapping(
        {"base_dir": str(tmp_path / "spool"), "bucket": "b", "layout": "tree", "state_dir": str(tmp_path / "state")},
        source="x",
    )


def noted(config: Config, not_finished: dict[str, float], *, at: float) -> None:
    """A run that did nothing but note since when files have been open."""
    path = ledger_path(config)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with Ledger.open(path, clock=lambda: at) as ledger:
        run = ledger.begin_run(started_at=at, pid=1, host="here", destination="b")
        Seen(not_finished=not_finished).remember(ledger.endpoint_memory(prefix=MEMORY_PREFIX))
        ledger.finish_run(
            run, RunReport(base_dir=config.base_dir, destination="b", started_at=at, duration=1, exit_code=0)
        )


def problem(severity: Severity = Severity.ERROR, **changes: object) -> Problem:
    """Something that is wrong."""
    made = Problem(cause=Cause.CONFLICT, severity=severity, sentence="it | is\nso", since=1.0)
    return msgspec.structs.replace(made, **changes)


class TestLooking:
    def test_nothing_is_created(self, config: Config, tmp_path: Path) -> None:
        """It only looks."""
        standing = standing_of(config, clock=Clock())
        assert sorted(os.listdir(tmp_path)) == ["spool"]
        assert standing.waiting is not None
        assert (standing.waiting.files, standing.waiting.is_complete, standing.runs) == (1, True, ())

    def test_a_backlog_without_end(self, config: Config, tmp_path: Path) -> None:
        """After some seconds it is said that there is more."""
        for number in range(50):
            write(tmp_path / "spool" / "attic" / str(number))
        seconds: Iterator[float] = map(float, count())
        standing = standing_of(config, clock=Clock(monotonic=lambda: next(seconds)))
        assert standing.waiting is not None
        assert not standing.waiting.is_complete
        assert 0 < standing.waiting.files < 10
        assert any(line.startswith("Waiting: more than ") for line in status.for_people(standing))
        assert for_machines(standing)["backlog_complete"] is False

    def test_the_ledgers_of_thousands_of_shares(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        """What their reading takes is not missing for the spool."""
        clock = FakeClock(time.time())

        def look_late(place: Place, **options: Any) -> Iterator[Decision]:
            clock.seconds += 60
            return look(place, **options)

        monkeypatch.setattr(waiting, "look", look_late)
        standing = standing_of(config, clock=clock.clock())
        assert standing.waiting is not None
        assert (standing.waiting.files, standing.waiting.is_complete) == (1, True)

    def test_a_spool_that_takes_too_long(self, config: Config) -> None:
        """Where the first file is not found in time, it is not said that there is none."""
        seconds: Iterator[float] = map(float, count(step=10))
        standing = standing_of(config, clock=Clock(monotonic=lambda: next(seconds)))
        assert standing.waiting is not None
        assert (standing.waiting.files, standing.waiting.is_complete) == (0, False)
        assert "Waiting: unknown" in status.for_people(standing)
        assert "the spool was not looked through in time" in calm(standing)

    def test_hidden_files(self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many there are, none is counted, and all other files that no run ships are."""
        monkeypatch.setattr(waiting, "_MOST_STRANGERS", 3)
        for number in range(9):
            write(tmp_path / "spool" / f".{number}")
        write(tmp_path / "spool" / "x.tmp")
        standing = standing_of(config, clock=Clock())
        assert standing.waiting is not None
        assert standing.waiting.foreign == {"unmatched": 1}

    def test_a_watch_that_was_stopped(self, config: Config) -> None:
        """A watch that exists and looks at nothing any more does not make all well."""
        began = time.time()
        noted(config, {}, at=began)
        withdraw = watcher.announce(os.path.dirname(ledger_path(config)), interval=9.0)
        try:
            fine = standing_of(config, clock=FakeClock(began + 60).clock())
            stopped = standing_of(config, clock=FakeClock(began + 2 * HOUR).clock())
        finally:
            withdraw()
        assert fine.watcher is not None
        assert fine.problems == ()
        (found,) = [each for each in stopped.problems if each.cause is Cause.NOT_RUN]
        assert found.severity is Severity.ERROR
        assert f"the watch has looked at nothing for 2 h: process {os.getpid()}" in found.sentence

    def test_a_file_that_a_stopped_uploader_has_claimed(self, config: Config, tmp_path: Path) -> None:
        """It is not in the spool, and yet it waits: nobody else ships it."""
        config = msgspec.structs.replace(config, claim_dir=str(tmp_path / "claims"))
        with open_place(config) as place:
            claim = f"{os.uname().nodename}.{mark_of(str(tmp_path / 'claims'), place.root)}.{os.getpid()}.01234567"
        files = tmp_path / "claims" / claim / "files"
        (files / "attic").mkdir(parents=True)
        os.rename(tmp_path / "spool" / "attic" / "x", files / "attic" / "x")
        now = time.time()
        assert standing_of(config, clock=FakeClock(now + 60).clock()).problems == ()
        (found,) = standing_of(config, clock=FakeClock(now + 2 * HOUR).clock()).problems
        assert (found.cause, found.files, found.path) == (Cause.HUNG_RUN, 1, str(tmp_path / "spool" / "attic" / "x"))
        assert f"has been claimed for 2 h and is not shipped, by process {os.getpid()}, which is " in found.sentence
        (tmp_path / "claims" / claim).rename(tmp_path / "claims" / claim.replace(os.uname().nodename, "elsewhere.net"))
        (found,) = standing_of(config, clock=FakeClock(now + 2 * HOUR).clock()).problems
        assert f"by process {os.getpid()} on elsewhere.net" in found.sentence

    def test_a_spool_that_is_gone(self, config: Config, tmp_path: Path) -> None:
        """Where the spool cannot be looked at, that is what is wrong."""
        (tmp_path / "spool").rename(tmp_path / "elsewhere")
        standing = standing_of(config, clock=Clock())
        assert [found.cause for found in standing.problems] == [Cause.UNREADABLE]
        assert "Waiting: unknown" in status.for_people(standing)

    @pytest.mark.parametrize("kind", ["directory", "link", "second name"])
    def test_what_has_the_name_of_the_lock_file(self, config: Config, tmp_path: Path, kind: str) -> None:
        """Where no run can begin because of it, that is what is wrong; it is neither opened nor removed."""
        lock = tmp_path / "spool" / LOCK_NAME
        (tmp_path / "x").write_text("precious")
        if kind == "directory":
            lock.mkdir()
        elif kind == "link":
            lock.symlink_to(tmp_path / "x")
        else:
            lock.hardlink_to(tmp_path / "x")
        standing = standing_of(config, clock=Clock())
        assert [found.cause for found in standing.problems] == [Cause.UNREADABLE]
        assert "is not the lock file" in standing.problems[0].sentence
        assert (tmp_path / "x").read_text() == "precious"

    def test_a_file_that_was_left(self, config: Config, tmp_path: Path) -> None:
        """A file that is ready, and has been for hours, is named; one that has just been moved there is not."""
        os.utime(tmp_path / "spool" / "attic" / "x", (0, 0))
        noted(config, {}, at=time.time() - 60)
        assert standing_of(config, clock=Clock()).problems == ()
        noted(config, {}, at=time.time() + 3 * HOUR)
        (found,) = standing_of(config, clock=Clock(now=lambda: time.time() + 3 * HOUR + 60)).problems
        assert (found.cause, found.severity, found.files) == (Cause.FALLING_BEHIND, Severity.WARNING, 1)

    def test_what_another_user_cannot_tell(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A user who cannot see open files gets what runs have recorded, as long as the file exists."""
        noted(config, {"attic/x": time.time() - 3 * HOUR, "attic/gone": 0.0}, at=time.time() - 60)
        assert standing_of(config, clock=Clock()).problems == ()
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4000)
        (found,) = standing_of(config, clock=Clock()).problems
        assert (found.cause, found.path, found.files) == (Cause.OPEN_WRITER, f"{config.base_dir}/attic/x", 1)


class TestTelling:
    def test_the_worst_decides(self) -> None:
        """The verdict is that of the worst problem; without the ledger nothing is certain."""
        calm = SpoolStatus(now=100.0, base_dir="/spool")
        assert verdict(calm) == "ok"
        assert first_line(calm) == "OK: nothing waits; no run is recorded yet."
        held_up = msgspec.structs.replace(calm, problems=(problem(Severity.WARNING),))
        assert verdict(held_up) == "attention"
        assert verdict(msgspec.structs.replace(calm, problems=(problem(),))) == "stuck"
        unreadable = msgspec.structs.replace(held_up, ledger_error=StateError("It cannot be read."))
        assert verdict(unreadable) == "unknown"
        assert first_line(unreadable) == "UNKNOWN: It cannot be read."

    def test_problems_beyond_the_first(self) -> None:
        """Each has its own line, with what comes next and what is to be done."""
        second = problem(Severity.WARNING, cause=Cause.CLOCK, sentence="late", next="waits", remedy="set it")
        standing = SpoolStatus(now=100.0, base_dir="/spool", problems=(problem(sentence="first"), second))
        lines = status.for_people(standing)
        assert lines[0].startswith("STUCK since 1970-01-01 ")
        assert lines[0].endswith("(99 s) because first.")
        assert lines[3].startswith("  Also since ")
        assert lines[3].endswith(": late.")
        assert lines[4:6] == ["  Next:  waits", "  To do: set it"]


class TestPlugin:
    def test_the_worst_spool_comes_first(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """For a directory of configurations, the first line and the exit code are those of the worst spool."""
        calm = SpoolStatus(now=100.0, base_dir="/spool")
        found = {
            "a.json": calm,
            "b.json": msgspec.structs.replace(calm, problems=(problem(Severity.WARNING),)),
            "c.json": msgspec.structs.replace(calm, problems=(problem(),)),
            "d.json": msgspec.structs.replace(calm, ledger_error=StateError("It cannot be read.")),
        }
        for name in found:
            write(tmp_path / "etc" / name)
        monkeypatch.setattr(status, "look_at", lambda path, options, starters: found[os.path.basename(path)])
        assert overview.plugin(str(tmp_path / "etc"), StatusOptions()) == 2
        first, *others = capsys.readouterr().out.splitlines()
        assert first.startswith(
            "S3_UPLOADER CRITICAL - 4 spools: 1 stuck, 1 unknown, 1 needs attention, 1 ok: c, d, b | "
        )
        assert [line.split(" - ")[0] for line in others] == ["c: CRITICAL", "d: UNKNOWN", "b: WARNING"]

    @pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "x"), MemoryError()])
    def test_a_machine_that_refuses(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
    ) -> None:
        """Whatever the system refuses, the plugin's answer is its line, and that the state is unknown."""

        def refuse(path: str, options: StatusOptions) -> SpoolStatus:
            raise error

        monkeypatch.setattr(status, "look_at", refuse)
        assert status.plugin("x.json", StatusOptions()) == 3
        assert capsys.readouterr().out.startswith("S3_UPLOADER UNKNOWN - The system ")

    def test_the_plugin_says_what_is_wrong_with_a_configuration(self) -> None:
        """It is a sentence on one line, and not the lines of a terminal one after the other."""
        error = ConfigError("c.json", ["bucket: is missing", "x: is not a known key"])
        line = status.unknown_line(error)
        assert line == "S3_UPLOADER UNKNOWN - c.json: bucket: is missing; x: is not a known key"

    def test_a_directory_of_none(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A directory without a configuration is said in the line, too."""
        assert overview.plugin(str(tmp_path), StatusOptions()) == 3
        assert capsys.readouterr().out.startswith("S3_UPLOADER UNKNOWN - ")


class TestProcesses:
    def test_this_process(self, tmp_path: Path) -> None:
        """A process is alive, does something, and has files open; who writes to one is found."""
        path = tmp_path / "x"
        with path.open("w"):
            assert procfs.open_files_below(os.getpid(), str(tmp_path)) == [str(path)]
            assert [pid for pid, _ in procfs.writers_of(str(path), seconds=60)] == [os.getpid()]
        with path.open():
            assert procfs.writers_of(str(path), seconds=60) == []
        assert procfs.is_alive(os.getpid())
        assert procfs.state_of(os.getpid()) == "running"
        assert "python" in procfs.command_of(os.getpid())

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        """Of what cannot be seen nothing is said."""
        assert procfs.is_alive(2**22 + 1) is False
        assert procfs.state_of(2**22 + 1) == ""
        assert procfs.command_of(2**22 + 1) == ""
        assert procfs.open_files_below(2**22 + 1, "/") == []
        assert procfs.writers_of(str(tmp_path / "none")) == []
