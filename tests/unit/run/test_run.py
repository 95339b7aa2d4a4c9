"""A run from its lock to its report: whether it ships, and what it needs for that."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3_uploader import config
from s3_uploader.core.control import ScanTrigger
from s3_uploader.core.errors import SpoolError
from s3_uploader.core.events import Event, Notice
from s3_uploader.run.context import RunContext
from s3_uploader.run.run import run_once
from tests.fakes import FakeClock, FakeStore, write


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    """A spool of its own."""
    (tmp_path / "spool").mkdir()
    return config.from_mapping(
        {
            "base_dir": str(tmp_path / "spool"),
            "bucket": "bucket",
            "layout": "tree",
            "state_dir": str(tmp_path / "state"),
        },
        source="x",
    )


def test_no_store_is_made_before_there_is_a_file_to_ship(settings: config.Config) -> None:
    """A run that finds only young files asks nothing of the destination, and is in the history with its name."""
    (Path(settings.base_dir) / "young").touch()

    def make_store(*_: Any, **__: Any) -> Any:
        raise AssertionError("a store was made for nothing")

    report = run_once(settings, RunContext(emit=lambda event: None, make_store=make_store))
    assert (report.exit_code, report.left, report.destination) == (0, {"fresh": 1}, "bucket")


@pytest.mark.parametrize("call", ["flock", "fstatvfs"])
def test_a_spool_whose_disk_fails_before_the_lock(
    settings: config.Config, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The error names the spool and its disk."""

    def fail(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(fcntl if call == "flock" else os, call, fail)
    with pytest.raises(SpoolError, match=f"base_dir {settings.base_dir} .*: Stale file handle") as caught:
        run_once(settings, RunContext(emit=lambda event: None))
    assert "may be failing" in caught.value.hint


def test_events_of_the_first_scan_are_kept(settings: config.Config) -> None:
    """A file that appears behind the scan, while the first one is looked for, is worth another look."""
    base = Path(settings.base_dir)
    (base / "young").touch()
    (base / "ready").write_text("content")
    os.utime(base / "ready", (0, 0))
    scan_trigger = ScanTrigger(poll_seconds=3600)
    scan_trigger.tell()
    store = FakeStore()
    begun: list[bool] = []

    def beat() -> None:
        if not begun:
            begun.append(scan_trigger.is_due(seconds_since_look=0))
            scan_trigger.tell()

    context = RunContext(
        emit=lambda event: None, make_store=lambda *_, **__: store, scan_trigger=scan_trigger, beat=beat
    )
    assert run_once(settings, context).exit_code == 0
    assert store.objects == {"ready": b"content"}
    assert begun == [False], "what came before the look is answered by it"
    assert scan_trigger.is_due(seconds_since_look=0)


@pytest.mark.parametrize("name", ["wörk\\ing", "\udcff"])
@pytest.mark.parametrize("after", ["none", "another"])
def test_files_claimed_before_claim_dir_was_changed(
    settings: config.Config, tmp_path: Path, after: str, name: str
) -> None:
    """What a killed run had claimed returns to the spool, also if claim_dir was then changed or removed."""
    working = tmp_path / name
    store = FakeStore()
    context = RunContext(emit=lambda event: None, make_store=lambda *_, **__: store)
    run_once(msgspec.structs.replace(settings, claim_dir=str(working)), context)
    claimed = write(working / "vm.1.0123abcd" / "files" / "claimed")
    alive = os.open(working / "vm.1.0123abcd" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(alive, fcntl.LOCK_EX)
    changed = msgspec.structs.replace(settings, claim_dir=None if after == "none" else str(tmp_path / "other"))
    run_once(changed, context)
    assert claimed.exists(), "its uploader is at work"
    os.close(alive)
    run_once(changed, context)
    assert "claimed" in store.objects
    assert list(working.iterdir()) == []


def test_what_another_program_left_in_claim_dir_is_told_once_a_day(settings: config.Config, tmp_path: Path) -> None:
    """Files that an older program had taken are shipped by nobody; a run says so, but not with each pass."""
    working = tmp_path / "working"
    (working / "deep").mkdir(parents=True)
    (working / "half").write_text("taken by an older program")
    (working / ".hidden").touch()
    events: list[Event] = []
    time = FakeClock()
    context = RunContext(emit=events.append, make_store=lambda *_, **__: FakeStore(), clock=time.clock())

    def told() -> list[str]:
        events.clear()
        run_once(msgspec.structs.replace(settings, claim_dir=str(working)), context)
        return [event.message for event in events if isinstance(event, Notice) and "claim_dir" in event.message]

    (sentence,) = told()
    assert sentence.startswith(f"claim_dir {working} contains ")
    assert "half" in sentence
    assert "deep" in sentence
    assert "hidden" not in sentence
    assert "They are not shipped." in sentence
    assert told() == []
    time.sleep(90_000)
    assert told() == [sentence]
    assert (working / "half").read_text() == "taken by an older program"
