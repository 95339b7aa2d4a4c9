"""Where the state directory is: of the configuration, of systemd, of XDG, below the home directory."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.ledger import create_state_directory, spool_name, state_directory
from s3_uploader.ledger.state_directory import not_writable


def parent(config_state_dir: str | None = None, *, uid: int = 0, **environ: str) -> str:
    """The directory in which the spool's state directory would be."""
    found = state_directory(config_state_dir=config_state_dir, environ=environ, base_dir="/srv/spool", uid=uid)
    assert os.path.basename(found) == spool_name("/srv/spool")
    return os.path.dirname(found)


def test_what_a_run_of_this_user_could_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger, its directory, or what is above a missing one: the first that stands in the way is named."""
    directory = tmp_path / "state" / "spool"
    denied: list[Path] = []
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) not in denied)
    assert not_writable(str(directory)) == ""
    denied.append(tmp_path)
    assert not_writable(str(directory)) == str(tmp_path)
    directory.mkdir(parents=True)
    ledger = directory / "ledger.sqlite3"
    denied.append(ledger)
    assert not_writable(str(directory)) == ""
    ledger.touch()
    assert not_writable(str(directory)) == str(ledger)
    denied.append(directory)
    assert not_writable(str(directory)) == str(directory)


def test_the_configured_directory_comes_first() -> None:
    """``state_dir`` is taken before everything that the environment says, with ``~`` for the home directory."""
    assert parent("/state", STATE_DIRECTORY="/var/lib/x", XDG_STATE_HOME="/x", HOME="/home/u") == "/state"
    assert parent("~/state", STATE_DIRECTORY="/var/lib/x", HOME="/home/u") == "/home/u/state"
    assert parent("~", HOME="/home/u") == "/home/u"
    assert parent("~root/state") == os.path.expanduser("~root/state")
    assert parent("state", HOME="/home/u") == os.path.abspath("state")


def test_systemd_comes_second() -> None:
    """Of systemd's directories the first is taken."""
    assert parent(STATE_DIRECTORY="/var/lib/a:/var/lib/b", XDG_STATE_HOME="/x") == "/var/lib/a"


def test_the_xdg_directory_comes_third() -> None:
    """``XDG_STATE_HOME`` is taken if it is absolute, as its specification demands."""
    assert parent(XDG_STATE_HOME="/x", HOME="/home/u") == "/x/s3-uploader"
    assert parent(XDG_STATE_HOME="x", HOME="/home/u") == "/home/u/.local/state/s3-uploader"


def test_the_home_directory_comes_last() -> None:
    """Without anything else it lies below HOME, or below what the user database says."""
    assert parent(HOME="/home/u") == "/home/u/.local/state/s3-uploader"
    assert parent(uid=0, HOME="") == "/root/.local/state/s3-uploader"


def test_a_user_without_a_home_is_told_what_to_do() -> None:
    """Where there is no place at all, the error names the setting."""
    with pytest.raises(StateError, match="user 4000000 has no home directory") as caught:
        parent(uid=4_000_000)
    assert "state_dir" in caught.value.hint


def test_each_spool_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """Two spools of the same name do not share a directory, and two paths of one spool do."""
    first, second, link = tmp_path / "a" / "spool", tmp_path / "b" / "spool", tmp_path / "link"
    first.mkdir(parents=True)
    second.mkdir(parents=True)
    link.symlink_to(first)
    assert spool_name(str(first)) != spool_name(str(second))
    assert spool_name(str(link)) == spool_name(str(first)) == spool_name(f"{first}/../spool/")
    assert spool_name(str(first)).startswith("spool-")


@pytest.mark.parametrize(
    ("base_dir", "readable"),
    [
        ("/srv/my spool\n\x1b", "my_spool"),
        ("/", "spool"),
        ("/srv/..x", "x"),
        ("/srv/\udcff", "spool"),
        ("/s/" + "x" * 99, "x" * 40),
    ],
)
def test_the_name_of_a_spools_directory_is_plain(base_dir: str, readable: str) -> None:
    """Whatever the spool is called, its state directory has a short name of plain characters."""
    name = spool_name(base_dir)
    assert name.rpartition("-")[0] == readable
    assert len(name.rpartition("-")[2]) == 16


def test_the_directory_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    """Nobody else can look into what was uploaded; a directory that is there keeps its permissions."""
    path = tmp_path / "a" / "b" / "state"
    create_state_directory(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o750)
    create_state_directory(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_a_directory_that_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in its place, or on the way to it, or missing permissions are an error with a remedy."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(StateError, match="cannot be used: Not a directory") as caught:
            create_state_directory(str(path))
        assert "state_dir" in caught.value.hint
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StateError, match="cannot be used: Permission denied"):
        create_state_directory(str(tmp_path / "state"))
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(StateError, match="cannot be used: Read-only file system") as caught:
        create_state_directory(str(tmp_path / "state"))
    assert caught.value.hint.startswith("Mount it writable")
    assert caught.value.is_denied


def test_a_mount_that_died_is_not_called_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mkdir() finds that it exists, and only a look at it tells what is wrong."""
    path = str(tmp_path / "state")
    os.mkdir(path)
    real = os.stat

    def look(asked: Any, **options: Any) -> os.stat_result:
        if asked == path:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)
        return real(asked, **options)

    monkeypatch.setattr(os, "stat", look)
    with pytest.raises(StateError, match="cannot be used: Transport endpoint is not connected") as caught:
        create_state_directory(path)
    assert caught.value.hint.startswith("Mount its file system again")


def test_nobody_else_may_write_to_what_is_made(tmp_path: Path) -> None:
    """A permissive umask, as some device has it, opens neither the state directory nor one above it."""
    before = os.umask(0)
    try:
        create_state_directory(str(tmp_path / ".local" / "state" / "s3-uploader" / "spool-1"))
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) == 4
    assert {path.name for path in made if path.stat().st_mode & 0o022} == set()
