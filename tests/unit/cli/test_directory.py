"""A directory of configurations: each has its turn, whatever becomes of the others."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.cli.directory import AT_ONCE, Named, each, files_in, files_of, refuse_shared, run_all
from s3_uploader.cli.frame import FileOptions, load
from s3_uploader.core.errors import ConfigError, UsageProblem

MANY = 3 * AT_ONCE


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """More configurations than are run at the same time."""
    for number in range(MANY):
        write(tmp_path, f"{number:02}", {"type": "local", "path": "/archive"})
    return tmp_path


def write(directory: Path, name: str, destination: dict[str, Any]) -> None:
    """One configuration in a directory."""
    raw = {"base_dir": f"/spool/{name}", "destination": destination}
    (directory / f"{name}.json").write_text(json.dumps(raw))


def test_an_error_that_nobody_thought_of_ends_one_spool_and_no_other(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many runs break, each spool is run, and each that broke is named with its reason."""
    ran: list[str] = []

    def run(named: Named, bytes_in_flight: int, beat: object) -> int:
        ran.append(named.name)
        if named.name != "00.json":
            raise ValueError("year 11476\nis out of range")
        return 0

    assert run_all(files_in(str(directory)), FileOptions(), run) == 1
    assert sorted(ran) == [f"{number:02}.json" for number in range(MANY)]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MANY - 1
    assert all("an unexpected error, ValueError: year 11476" in line for line in lines)
    assert {line.partition(":")[0] for line in lines} == set(ran) - {"00.json"}


def test_an_error_that_nobody_thought_of_ends_one_look_and_no_other(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands that process one configuration after the other also continue after it."""
    seen: list[str] = []

    def work(path: str, options: FileOptions) -> int:
        seen.append(path)
        if len(seen) == 1:
            raise TypeError("unhashable")
        return 0

    assert each(str(directory), FileOptions(), work) == 1
    assert len(seen) == MANY
    assert f"{seen[0]}: an unexpected error, TypeError: unhashable" in capsys.readouterr().err


def test_password_variable_of_each_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one of them names is no unknown key to another; what none names is one to all."""
    for name in ("A", "B"):
        write(tmp_path, name, {"type": "ftp", "host": "h", "password_env": f"S3_UPLOADER_PW_{name}"})
        monkeypatch.setenv(f"S3_UPLOADER_PW_{name}", "secret")
    (tmp_path / "C.json").write_text("{")
    write(tmp_path, "D", {"type": "ftp", "host": "h", "password_env": []})
    ran: list[str] = []

    def run(named: Named, bytes_in_flight: int, beat: object) -> int:
        ran.append(named.name)
        return 0

    def look(path: str, options: FileOptions) -> int:
        ran.append(load(path, options).base_dir)
        return 0

    assert run_all(files_in(str(tmp_path)), FileOptions(), run) == each(str(tmp_path), FileOptions(), look) == 2
    assert sorted(ran) == ["/spool/A", "/spool/B", "A.json", "B.json"]
    assert "S3_UPLOADER_PW" not in capsys.readouterr().err
    monkeypatch.setenv("S3_UPLOADER_PW_X", "secret")
    assert each(str(tmp_path), FileOptions(), look) == 2
    assert len(ran) == 4
    assert "S3_UPLOADER_PW_X: names no known key" in capsys.readouterr().err


def test_a_run_that_hangs_is_left_when_the_others_have_ended(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that does not answer must not keep the next start of all of them from coming."""
    forever = threading.Event()

    def run(named: Named, bytes_in_flight: int, beat: Callable[[], None]) -> int:
        if named.name == "03.json":
            forever.wait()
        beat()
        ran.append(named.name)
        return 0

    ran: list[str] = []
    assert run_all(files_in(str(directory)), FileOptions(), run, patience_seconds=0.2) == 1
    assert len(ran) == MANY - 1
    assert capsys.readouterr().err.startswith("03.json: the run hangs")
    forever.set()


def test_a_command_that_takes_one_file_says_which_take_a_directory(tmp_path: Path) -> None:
    """Whoever gives a directory to `forget` learns that `watch` takes one."""
    with pytest.raises(UsageProblem) as caught:
        load(str(tmp_path), FileOptions())
    assert caught.value.hint == "Every command but forget, init and ledger merge takes a directory."


def test_a_check_tells_what_a_run_of_all_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two configurations of one spool are each in order, and together neither of them is run."""
    archive = {"type": "local", "path": "/archive"}
    for name in ("attic", "kitchen"):
        write(tmp_path, name, archive)
    assert each(str(tmp_path), FileOptions(), lambda path, options: 0, are_run_together=True) == 0
    (tmp_path / "kitchen.json").write_text((tmp_path / "attic.json").read_text())
    (tmp_path / "no.json").write_text("nothing")
    capsys.readouterr()
    assert each(str(tmp_path), FileOptions(), lambda path, options: 0, are_run_together=True) == 2
    assert "base_dir: attic.json and kitchen.json have the same path, /spool/attic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "named"),
    [(("a.json", "b.json"), "."), (("d/a.json", "d/b.json"), "d"), (("a.json", "d/b.json"), "the configurations")],
)
def test_where_files_are_that_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, str], named: str
) -> None:
    """The message begins with their directory, or speaks of all of them if they lie in several."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    for name in given:
        Path(name).write_text(json.dumps({"base_dir": "/spool", "bucket": "readings"}))
    with pytest.raises(ConfigError) as raised:
        refuse_shared([Named(name, load(name, FileOptions()), name) for name in given])
    assert raised.value.source == named


def test_a_named_pipe_is_no_configuration(tmp_path: Path) -> None:
    """Nobody waits for what a pipe might say; a link to nowhere is still told of by whoever reads it."""
    write(tmp_path, "attic", {"type": "local", "path": "/archive"})
    os.mkfifo(tmp_path / "kitchen.json")
    (tmp_path / "lost.json").symlink_to(tmp_path / "nowhere")
    assert files_in(str(tmp_path)) == [str(tmp_path / "attic.json"), str(tmp_path / "lost.json")]


def test_spools_whose_files_have_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run */config.json` runs each of them, knows which of them hangs, and calls each by its path."""
    paths = [tmp_path / f"{number:02}" / "config.json" for number in range(MANY)]
    for path in paths:
        path.parent.mkdir()
        write(tmp_path, path.parent.name, {"type": "local", "path": "/archive"})
        (tmp_path / f"{path.parent.name}.json").rename(path)
    forever = threading.Event()
    ran: list[str] = []

    def run(named: Named, bytes_in_flight: int, beat: Callable[[], None]) -> int:
        if named.path == str(paths[3]):
            forever.wait(60)
        beat()
        ran.append(named.name)
        return 0

    assert run_all([str(path) for path in paths], FileOptions(), run, patience_seconds=0.5) == 1
    assert sorted(ran) == [str(path) for path in paths if path != paths[3]]
    assert capsys.readouterr().err.startswith(f"{paths[3]}: the run hangs")
    forever.set()


def test_a_file_given_twice_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However its path is written, and also where its directory is given too."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "link").symlink_to("conf")
    write(tmp_path / "conf", "attic", {"type": "local", "path": "/archive"})
    monkeypatch.chdir(tmp_path / "conf")
    assert files_of(["attic.json", "./attic.json", str(tmp_path / "link"), "../conf/attic.json"]) == ["attic.json"]
