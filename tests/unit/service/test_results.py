"""What a program hears of each file: a typed result for each, and nothing that it does with it costs the run."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import s3_uploader
from s3_uploader.core.model import Left, Proof
from s3_uploader.service.results import FileOutcome, FileResult
from tests.fakes import NOW, write


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A configuration that ships to a directory, with paths as such."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "archive").mkdir()
    return {
        "base_dir": tmp_path / "spool",
        "layout": "queue",
        "settle_seconds": 0,
        "state_dir": tmp_path / "state",
        "destination": {"type": "local", "path": tmp_path / "archive"},
    }


def test_each_file_has_a_result(settings: dict[str, Any], tmp_path: Path) -> None:
    """What was shipped, was there before, failed or was left is told, each with what is known of it."""
    write(tmp_path / "spool/new", mtime=NOW)
    write(tmp_path / "spool/same", mtime=NOW)
    write(tmp_path / "spool/taken", mtime=NOW)
    (tmp_path / "spool/link").symlink_to("new")
    (tmp_path / "archive/same").write_bytes((tmp_path / "spool/same").read_bytes())
    (tmp_path / "archive/taken").write_bytes(b"other content")
    results: dict[str, FileResult] = {}
    threads: set[int] = set()

    def on_file(result: FileResult) -> None:
        assert isinstance(result.path, Path)
        results[result.path.name] = result
        threads.add(threading.get_ident())

    report = s3_uploader.upload_once(settings, on_file=on_file)
    assert {name: result.outcome for name, result in results.items()} == {
        "new": FileOutcome.SHIPPED,
        "same": FileOutcome.ALREADY_THERE,
        "taken": FileOutcome.FAILED,
        "link": FileOutcome.LEFT,
    }
    new = results["new"]
    assert new.path == tmp_path / "spool/new"
    assert new.receipt is not None
    assert (new.receipt.key, new.receipt.proof >= Proof.MD5, new.size) == ("new", True, len("data"))
    assert new.address.endswith("archive/new")
    assert (results["taken"].code, results["taken"].receipt) == ("Conflict", None)
    assert results["taken"].message
    assert results["link"].reason is Left.SPECIAL
    assert threads == {threading.get_ident()}
    assert report.reasons == {Left.SPECIAL: 1}
    assert report.end is s3_uploader.RunEnd.DONE
    assert s3_uploader.FileOutcome is FileOutcome


def test_a_callback_that_fails(settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises costs no file its removal, and is told once."""
    for name in ("a", "b", "c"):
        write(tmp_path / "spool" / name, mtime=NOW)
    calls: list[Path] = []

    def fail(result: FileResult) -> None:
        calls.append(result.path)
        raise ValueError("a bug of the program's")

    with caplog.at_level(logging.ERROR, "s3_uploader"):
        report = s3_uploader.upload_once(settings, on_file=fail)
    assert (report.shipped, len(calls)) == (3, 3)
    assert list((tmp_path / "spool").iterdir()) == []
    assert ["on_file failed for" in record.getMessage() for record in caplog.records] == [True]
    assert "a bug of the program's" in caplog.text


def test_results_in_the_background(settings: dict[str, Any], tmp_path: Path) -> None:
    """What runs in the background tells of its files too."""
    write(tmp_path / "spool/a", mtime=NOW)
    arrived = threading.Event()
    results: list[FileResult] = []

    def on_file(result: FileResult) -> None:
        results.append(result)
        arrived.set()

    stop = s3_uploader.process(settings, interval=0.2, on_file=on_file)
    try:
        assert arrived.wait(20)
    finally:
        assert stop(20)
    assert results[0].outcome is FileOutcome.SHIPPED
    assert results[0].path == tmp_path / "spool/a"


@pytest.mark.parametrize("kind", [str, Path, None])
def test_paths_everywhere(settings: dict[str, Any], tmp_path: Path, kind: type[str] | type[Path] | None) -> None:
    """A configuration file may be named by text or by a path, and the keys of a mapping may be paths."""
    write(tmp_path / "spool/a", mtime=NOW)
    given: Any = settings
    if kind is not None:
        file = tmp_path / "config.json"
        file.write_text(json.dumps(settings, default=str))
        given = kind(file)
    assert s3_uploader.upload_once(given).shipped == 1


class TimeIsOver(Exception):
    """Raised by a signal handler of the calling program."""


@pytest.mark.parametrize("where", ["on_file", "a log handler"])
def test_a_time_limit_in_a_callback(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """What a signal handler raises in a callback ends the pass and is no failure of the callback."""
    for name in ("a", "b", "c"):
        write(tmp_path / "spool" / name, mtime=NOW)

    def limit(*_: object) -> None:
        raise TimeIsOver

    def interrupted(_: object) -> bool:
        signal.raise_signal(signal.SIGALRM)
        return True

    logger = logging.getLogger("s3_uploader")
    before = signal.signal(signal.SIGALRM, limit)
    try:
        if where == "on_file":
            with pytest.raises(TimeIsOver):
                s3_uploader.upload_once(settings, on_file=interrupted)
        else:
            logger.addFilter(interrupted)
            with caplog.at_level(logging.INFO, "s3_uploader"), pytest.raises(TimeIsOver):
                s3_uploader.upload_once(settings)
    finally:
        logger.removeFilter(interrupted)
        signal.signal(signal.SIGALRM, before)
    s3_uploader.upload_once(settings)
    assert sorted(os.listdir(tmp_path / "archive")) == ["a", "b", "c"]
