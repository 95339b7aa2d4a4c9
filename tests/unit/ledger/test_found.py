"""Ledgers that were copied to one place are found, each with a name of its own."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.files import open_at_once
from s3_uploader.core.shares import Share
from s3_uploader.ledger import Ledger, found
from s3_uploader.ledger.found import instances_in, ledgers_in


def unsaid(sentence: str) -> None:
    """Nothing is passed over."""
    raise AssertionError(sentence)


def made(path: Path) -> str:
    """An empty ledger."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Ledger.open(str(path)):
        return str(path)


def test_each_has_a_name(tmp_path: Path) -> None:
    """Directories name the instances; a ledger of another name is one too, and shares belong to theirs."""
    made(tmp_path / "host-1" / "spool-1" / "ledger.sqlite3")
    made(tmp_path / "host-2" / "share-0-of-2" / "ledger.sqlite3")
    made(tmp_path / "host-2" / "share-1-of-2" / "ledger.sqlite3")
    made(tmp_path / "host-3.sqlite3")
    (tmp_path / "notes.sqlite3").write_text("no ledger")
    with closing(sqlite3.connect(tmp_path / "other.sqlite3")) as connection:
        connection.execute("CREATE TABLE pets (name)")
    said: list[str] = []
    names = {each.name: sorted(map(str, each.ledgers)) for each in ledgers_in(str(tmp_path), notice=said.append)}
    assert names == {"host-1/spool-1": ["None"], "host-2": ["0/2", "1/2"], "host-3": ["None"]}
    (sentence,) = said
    assert sentence.startswith(f"{tmp_path}/notes.sqlite3, {tmp_path}/other.sqlite3 are not ledgers and are not incl")
    (host,) = ledgers_in(str(tmp_path / "host-2"), notice=unsaid)
    assert (host.name, set(host.ledgers)) == ("host-2", {Share(0, 2), Share(1, 2)})
    (file,) = ledgers_in(str(tmp_path / "host-1" / "spool-1" / "ledger.sqlite3"), notice=unsaid)
    assert file.name == "spool-1"


def test_names_are_told_apart(tmp_path: Path) -> None:
    """The later of two instances with one name gets a number; a place without a ledger is named."""
    for place in ("a", "b"):
        made(tmp_path / place / "spool" / "ledger.sqlite3")
    places = [str(tmp_path / place / "spool") for place in ("a", "b")]
    assert [each.name for each in instances_in(places, notice=unsaid, left_out=[])] == ["spool", "spool (2)"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StateError, match="is not a ledger and contains none"):
        instances_in([*places, str(tmp_path / "empty")], notice=unsaid, left_out=[])


def test_what_is_left_of_others_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged ledgers that were set aside are none; a directory with more than anybody has is refused."""
    path = made(tmp_path / "ledger.sqlite3")
    os.link(path, tmp_path / "ledger.corrupt-20261120T150405Z.sqlite3")
    assert [each.paths for each in ledgers_in(str(tmp_path), notice=unsaid)] == [[path]]
    monkeypatch.setattr(found, "_MOST", 0)
    with pytest.raises(StateError, match="more than 0 ledgers"):
        ledgers_in(str(tmp_path), notice=unsaid)


@pytest.mark.parametrize("content", [b"", bytes(100), b"SQLite format 3\0"])
def test_a_copy_that_failed(tmp_path: Path, content: bytes) -> None:
    """A ledger of which there is only a beginning, or nothing, is not left out in silence."""
    made(tmp_path / "good" / "ledger.sqlite3")
    for number in range(7):
        (tmp_path / f"bad-{number}").mkdir()
        (tmp_path / f"bad-{number}" / "ledger.sqlite3").write_bytes(content)
    said: list[str] = []
    left_out: list[str] = []
    assert [each.name for each in ledgers_in(str(tmp_path), notice=said.append, left_out=left_out)] == ["good"]
    (sentence,) = said
    assert f"{tmp_path}/bad-4/ledger.sqlite3 and 2 more are not ledgers and are not included" in sentence
    assert left_out == [f"{tmp_path}/bad-{number}/ledger.sqlite3" for number in range(7)]


def test_the_database_of_another_program_is_not_missed(tmp_path: Path) -> None:
    """It is named, because its name is that of a ledger; but no ledger is left out."""
    made(tmp_path / "good.sqlite3")
    with closing(sqlite3.connect(tmp_path / "other.sqlite3")) as other:
        other.execute("CREATE TABLE t (x)")
    left_out: list[str] = []
    assert [each.name for each in ledgers_in(str(tmp_path), notice=lambda _: None, left_out=left_out)] == ["good"]
    assert not left_out


def test_a_ledger_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the search; it is not taken for something else."""
    path = made(tmp_path / "ledger.sqlite3")

    def refuse(path: str) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(found, "has_log", refuse)
    with pytest.raises(StateError, match=f"{path} cannot be read: Permission denied"):
        ledgers_in(str(tmp_path), notice=unsaid)


def test_one_of_many_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many, it is named and left out, and so is a directory; but not the one that was asked for."""
    for name in ("good", "ours", "theirs"):
        made(tmp_path / name / "ledger.sqlite3")
    real_scan, real_open = os.scandir, open_at_once

    def scan(path: str) -> object:
        if path == str(tmp_path / "theirs"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real_scan(path)

    def opened(path: str) -> BinaryIO:
        if path == str(tmp_path / "ours" / "ledger.sqlite3"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real_open(path)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(found, "open_at_once", opened)
    said: list[str] = []
    left_out: list[str] = []
    assert [each.name for each in ledgers_in(str(tmp_path), notice=said.append, left_out=left_out)] == ["good"]
    assert left_out == [str(tmp_path / "ours" / "ledger.sqlite3"), str(tmp_path / "theirs")]
    assert [sentence.partition(":")[0] for sentence in said] == [f"{path} cannot be read" for path in left_out]
    with pytest.raises(StateError, match="theirs cannot be read: Permission denied"):
        ledgers_in(str(tmp_path / "theirs"), notice=said.append, left_out=left_out)


def test_ledgers_lie_as_deep_as_they_like(tmp_path: Path) -> None:
    """Whole directories of hosts, sorted by sites, are searched to the bottom; without an end they are refused."""
    deep = Path("north/berlin/host-1/var/lib/s3-uploader/spool-0123456789abcdef/share-0-of-2")
    made(tmp_path / deep / "ledger.sqlite3")
    (instance,) = ledgers_in(str(tmp_path), notice=unsaid)
    assert instance.name == str(deep.parent)
    (tmp_path / "/".join("x" * 40)).mkdir(parents=True)
    with pytest.raises(StateError, match="lies too deep"):
        ledgers_in(str(tmp_path), notice=unsaid)
