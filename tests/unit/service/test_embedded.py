"""The uploader inside another program: nothing of that program is touched, and it ends when it is told to."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import s3_uploader
from s3_uploader import config
from s3_uploader.core.control import StopRequest
from s3_uploader.core.errors import ConfigError, SpoolError
from s3_uploader.service import embedded
from s3_uploader.service.watch import Wakeup, Watch
from tests.fakes import NOW, write


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A configuration that ships to a directory."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "archive").mkdir()
    return {
        "base_dir": str(tmp_path / "spool"),
        "layout": "queue",
        "settle_seconds": 0,
        "state_dir": str(tmp_path / "state"),
        "destination": {"type": "local", "path": str(tmp_path / "archive")},
    }


class Arrivals(logging.Handler):
    """Waits for records of the logger."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()
        self.texts: list[str] = []
        self.action: Callable[[], object] = lambda: None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        with self.changed:
            self.texts.append(record.getMessage())
            self.changed.notify_all()
        if "has been uploaded" in record.getMessage():
            self.action()

    def wait_for(self, text: str, count: int = 1) -> None:
        """Wait until so many records with that text have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: sum(text in each for each in self.texts) >= count, timeout=20)


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    """What the logger is told."""
    handler = Arrivals()
    logger = logging.getLogger("s3_uploader")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    return handler


class TestUploadOnce:
    def test_report(self, settings: dict[str, Any], tmp_path: Path) -> None:
        """One pass, and a report that says what it did."""
        write(tmp_path / "spool/a%2Fx", mtime=NOW)
        report = s3_uploader.upload_once(settings)
        assert isinstance(report, s3_uploader.RunReport)
        assert (report.shipped, report.exit_code, report.ended_by) == (1, 0, "done")
        assert (tmp_path / "archive/a/x").read_text() == "data"

    def test_forms_of_a_configuration(self, settings: dict[str, Any], tmp_path: Path) -> None:
        """A configuration may be a mapping, the path of a file, or one that was loaded before."""
        path = tmp_path / "config.json"
        path.write_text(json.dumps(settings))
        loaded = config.load(str(path))
        for form in (settings, path, str(path), loaded):
            assert s3_uploader.upload_once(form).exit_code == 0

    def test_errors(self, settings: dict[str, Any], tmp_path: Path) -> None:
        """What is wrong is raised, all problems of a configuration at once."""
        with pytest.raises(ConfigError) as caught:
            s3_uploader.upload_once({"layout": "queue", "settle": 1})
        assert len(caught.value.problems) >= 2
        (tmp_path / "spool").rmdir()
        with pytest.raises(SpoolError, match="does not exist"):
            s3_uploader.upload_once(settings)

    def test_metrics(self, settings: dict[str, Any], tmp_path: Path) -> None:
        """The metrics file that the configuration names is written."""
        settings["metrics_file"] = str(tmp_path / "metrics.prom")
        s3_uploader.upload_once(settings)
        assert "s3_uploader_last_run_exit_code" in (tmp_path / "metrics.prom").read_text()


class TestProcess:
    def test_ships_until_stopped(self, settings: dict[str, Any], tmp_path: Path, arrivals: Arrivals) -> None:
        """Files are shipped as they appear, long before the interval is over, and stop ends it."""
        settings["metrics_file"] = str(tmp_path / "metrics.prom")
        before = threading.active_count()
        stop = s3_uploader.process(settings, interval=3600)
        write(tmp_path / "spool/x", mtime=NOW)
        arrivals.wait_for("x has been uploaded")
        write(tmp_path / "temporary", mtime=NOW)
        (tmp_path / "temporary").rename(tmp_path / "spool/y")
        arrivals.wait_for("y has been uploaded")
        assert stop()
        assert stop()
        assert threading.active_count() == before
        assert sorted(os.listdir(tmp_path / "archive")) == ["x", "y"]
        assert (tmp_path / "metrics.prom").exists()

    def test_program_is_left_alone(self, settings: dict[str, Any]) -> None:
        """No signal handler is installed, and the root logger is as it was."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        root = logging.getLogger()
        root_before = list(root.handlers), root.level
        stop = s3_uploader.process(settings)
        assert {number: signal.getsignal(number) for number in handlers} == handlers
        assert (root.handlers, root.level) == root_before
        assert stop()

    def test_stopped_by_many(self, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Several threads that stop it at once ask once: a second request would cancel what is in flight."""
        made: list[StopRequest] = []

        class Noted(StopRequest):
            """Can be looked at."""

            def __init__(self) -> None:
                super().__init__()
                made.append(self)

        monkeypatch.setattr(embedded, "StopRequest", Noted)
        stop = s3_uploader.process(settings)
        threads = [threading.Thread(target=stop) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [each.requests for each in made] == [1]

    def test_stopped_in_the_middle_of_a_stop(self, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """A signal handler that stops it may interrupt the same call: neither of the two waits for the other."""
        real = Wakeup.set
        interrupted: list[None] = []

        def wake(wakeup: Wakeup) -> None:
            if threading.current_thread() is caller and not interrupted:
                interrupted.append(None)
                stop(timeout=0)
            real(wakeup)

        # Made before there is a watch, because that wakes itself, too.
        caller = threading.Thread(target=lambda: stop(), daemon=True)
        monkeypatch.setattr(Wakeup, "set", wake)
        stop = s3_uploader.process(settings)
        caller.start()
        caller.join(20)
        assert interrupted
        assert not caller.is_alive()

    def test_timeout(self, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """A stop with a time limit says whether it has ended by then."""
        go_on = threading.Event()

        def run(watch: Watch) -> int:
            go_on.wait()
            return 0

        monkeypatch.setattr(Watch, "run", run)
        stop = s3_uploader.process(settings)
        assert not stop(timeout=0)
        go_on.set()
        assert stop()

    def test_stopped_from_within(self, settings: dict[str, Any], tmp_path: Path, arrivals: Arrivals) -> None:
        """A handler of its log records may stop it, and does not wait for itself."""
        answers: list[bool] = []
        stops: list[Callable[[], bool]] = []
        arrivals.action = lambda: answers.append(stops[0]())
        stops.append(s3_uploader.process(settings, interval=3600))
        write(tmp_path / "spool/x", mtime=NOW)
        arrivals.wait_for("x has been uploaded")
        assert stops[0](timeout=20)  # type: ignore[call-arg]
        assert answers == [False]

    def test_handler_that_fails(self, settings: dict[str, Any], tmp_path: Path, arrivals: Arrivals) -> None:
        """An exception in a handler of its log records ends neither the pass nor the uploads."""

        def fail() -> None:
            raise RuntimeError("no network for the log")

        arrivals.action = fail
        stop = s3_uploader.process(settings, interval=0.2)
        for name in ("x", "y"):
            write(tmp_path / "spool" / name, mtime=NOW)
            arrivals.wait_for(f"{name} has been uploaded")
        assert stop()
        assert sorted(os.listdir(tmp_path / "archive")) == ["x", "y"]
        assert not any("pass failed" in text for text in arrivals.texts)

    def test_callback_that_exits(self, settings: dict[str, Any], tmp_path: Path, arrivals: Arrivals) -> None:
        """A callback that calls ``sys.exit()`` on the uploader's thread does not end it without a word."""
        stop = s3_uploader.process(settings, interval=0.2, on_file=lambda result: sys.exit(1))
        for name in ("x", "y"):
            write(tmp_path / "spool" / name, mtime=NOW)
            arrivals.wait_for(f"{name} has been uploaded")
        arrivals.wait_for("on_file failed for")
        assert stop()
        assert sorted(os.listdir(tmp_path / "archive")) == ["x", "y"]

    def test_program_that_changes_its_directory(
        self, settings: dict[str, Any], tmp_path: Path, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Relative paths stay those of the start: no other directory of the same name is emptied."""
        settings |= {"base_dir": "spool", "state_dir": "state", "destination": {"type": "local", "path": "archive"}}
        settings["on_success"] = {"move_to": "done"}
        elsewhere = tmp_path / "elsewhere"
        for name in ("spool", "archive"):
            (elsewhere / name).mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        stop = s3_uploader.process(settings, interval=0.05)
        try:
            write(tmp_path / "spool/first", "1")
            arrivals.wait_for("has been uploaded")
            monkeypatch.chdir(elsewhere)
            write(elsewhere / "spool/theirs", "2")
            write(tmp_path / "spool/second", "3")
            arrivals.wait_for("has been uploaded", 2)
        finally:
            assert stop(timeout=20)
        assert sorted(each.name for each in (tmp_path / "done").iterdir()) == ["first", "second"]
        assert sorted(str(each.relative_to(elsewhere)) for each in elsewhere.rglob("*")) == [
            "archive",
            "spool",
            "spool/theirs",
        ]

    def test_two_in_one_program(self, settings: dict[str, Any], tmp_path: Path, arrivals: Arrivals) -> None:
        """Two spools can be emptied in one program, each stopped by itself; two of one spool keep apart."""
        (tmp_path / "other").mkdir()
        second = {**settings, "base_dir": str(tmp_path / "other"), "state_dir": str(tmp_path / "other-state")}
        stops = [s3_uploader.process(each, interval=0.2) for each in (settings, second, settings)]
        write(tmp_path / "spool/x", mtime=NOW)
        write(tmp_path / "other/y", mtime=NOW)
        arrivals.wait_for("has been uploaded", 2)
        assert stops[0]()
        write(tmp_path / "other/z", mtime=NOW)
        arrivals.wait_for("z has been uploaded")
        assert all(stop() for stop in stops)
        assert sorted(os.listdir(tmp_path / "archive")) == ["x", "y", "z"]

    def test_bad_configuration(self) -> None:
        """A configuration that cannot be used is refused at once."""
        with pytest.raises(ConfigError):
            s3_uploader.process({"nonsense": 1})
