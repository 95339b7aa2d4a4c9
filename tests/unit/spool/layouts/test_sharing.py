"""What a share sees of a spool, in every layout."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from s3_uploader.core.model import Candidate, Left
from s3_uploader.core.shares import Share
from s3_uploader.spool.layouts.base import EmptyDirectory, Found, Layout, NoCandidate
from s3_uploader.spool.layouts.dated import DatedLayout, utc_epoch
from s3_uploader.spool.layouts.queue import QueueLayout
from s3_uploader.spool.layouts.sharing import OwnFiles
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.root import FILE, Names, SpoolRoot
from tests.fakes import NO_GLOBS, Skips, write

MakeLayout = Callable[[OwnFiles | None], Layout]


def dated(own: OwnFiles | None) -> Layout:
    """The layout ``dated``."""
    return DatedLayout(settle_seconds=10, globs=NO_GLOBS, epoch_of=utc_epoch, own=own)


def tree(own: OwnFiles | None) -> Layout:
    """The layout ``tree``."""
    return TreeLayout(settle_seconds=10, globs=NO_GLOBS, own=own)


def queue(own: OwnFiles | None) -> Layout:
    """The layout ``queue``."""
    return QueueLayout(globs=NO_GLOBS, own=own)


PLACES: dict[MakeLayout, str] = {dated: "den/2020/11/29/20/{:02}-topic.dat", tree: "a/b/{}.txt", queue: "{}%2Fkey"}


def scan(spool: Path, layout: Layout) -> tuple[list[Found], Skips]:
    """What a scan finds, and what it passes over."""
    root, skips = SpoolRoot(str(spool)), Skips()
    try:
        return list(layout.scan(root, skips)), skips
    finally:
        root.close()


def shares(count: int) -> list[OwnFiles]:
    """All shares of a division."""
    return [OwnFiles(Share(index, count)) for index in range(count)]


def paths(found: list[Found]) -> list[str]:
    """The paths of the candidates."""
    return [item.path for item in found if isinstance(item, Candidate)]


@pytest.mark.parametrize("make", PLACES)
def test_each_file_is_seen_by_one_share(tmp_path: Path, make: MakeLayout) -> None:
    """All shares together find what a run of all files finds, and each file once."""
    for number in range(40):
        write(tmp_path / PLACES[make].format(number))
    together = [path for own in shares(3) for path in paths(scan(tmp_path, make(own))[0])]
    assert sorted(together) == sorted(paths(scan(tmp_path, make(None))[0]))
    assert all(paths(scan(tmp_path, make(own))[0]) for own in shares(3))


@pytest.mark.parametrize("make", PLACES)
def test_what_a_killed_run_left_belongs_to_whom_its_file_belongs(tmp_path: Path, make: MakeLayout) -> None:
    """A file that is being removed by its owner must not be taken for abandoned by another share."""
    for number in range(12):
        path = write(tmp_path / PLACES[make].format(number))
        write(path.with_name(f".{path.name}.s3u"))
    for own in shares(3):
        found, _ = scan(tmp_path, make(own))
        keys = Counter(item.key for item in found if isinstance(item, Candidate))
        assert set(keys.values()) <= {2}


@pytest.mark.parametrize("make", PLACES)
def test_foreign_files_are_not_looked_at(tmp_path: Path, make: MakeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another share's file costs its name, and no question to the file system."""
    for number in range(20):
        write(tmp_path / PLACES[make].format(number))
    asked: list[str] = []
    real = SpoolRoot.stat

    def stat(root: SpoolRoot, names: Names, name: str) -> os.stat_result:
        asked.append(name)
        return real(root, names, name)

    monkeypatch.setattr(SpoolRoot, "stat", stat)
    found, _ = scan(tmp_path, make(OwnFiles(Share(0, 4))))
    assert len(asked) == len(paths(found)) < 20


def test_two_names_of_one_key_have_one_owner(tmp_path: Path) -> None:
    """In a queue the key decides, so that files that meet at the destination meet in one run."""
    for name in ("a%2fb", "a%2Fb"):
        write(tmp_path / name)
    assert sorted(len(paths(scan(tmp_path, queue(own))[0])) for own in shares(5)) == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("make", PLACES)
def test_strangers_are_told_by_one_share(tmp_path: Path, make: MakeLayout) -> None:
    """What no layout knows is counted once, and not by each share; that a directory is unreadable is said by all."""
    names = [f"{number}.tmp" for number in range(10)]
    for name in names:
        write(tmp_path / name)
    (tmp_path / "link").symlink_to("nowhere")
    told = Counter(path for own in shares(3) for path in scan(tmp_path, make(own))[1].reasons())
    assert set(told.values()) == {1}
    assert set(told) == set(scan(tmp_path, make(None))[1].reasons())


def test_a_directory_that_cannot_be_read_is_told_by_all_shares() -> None:
    """There may be files of every share in it."""
    for own in shares(3):
        skips = Skips()
        own.skips(skips)(("a",), "b", Left.UNREADABLE, "no permission")
        assert skips.reasons() == {"a/b": Left.UNREADABLE}


@pytest.mark.parametrize("make", [dated, tree])
def test_a_directory_of_foreign_files_is_not_empty(tmp_path: Path, make: MakeLayout) -> None:
    """It is not pruned, and whoever scans gets a moment to do something else."""
    path = write(tmp_path / PLACES[make].format(1))
    foreign = next(own for own in shares(2) if not paths(scan(tmp_path, make(own))[0]))
    found, _ = scan(tmp_path, make(foreign))
    assert len(found) == 1
    assert isinstance(found[0], NoCandidate)
    assert not isinstance(found[0], EmptyDirectory)
    path.unlink()
    found, _ = scan(tmp_path, make(foreign))
    assert any(isinstance(item, EmptyDirectory) for item in found)


@pytest.mark.parametrize("make", [dated, tree], ids=lambda make: make.__name__)
def test_by_location(tmp_path: Path, make: MakeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of a location have one owner, who alone reads its directories; shares are of about one size."""
    locations = [f"device-{number}" for number in range(40)]
    for location in locations:
        for minute in range(3):
            write(tmp_path / location / f"2020/11/29/20/{minute:02}-topic.dat")
    write(tmp_path / "2020.txt")
    read: list[str] = []
    entries = SpoolRoot.entries

    def reading(root: SpoolRoot, names: Names) -> object:
        read.extend(names[:1])
        return entries(root, names)

    monkeypatch.setattr(SpoolRoot, "entries", reading)
    seen: Counter[str] = Counter()
    for index in range(4):
        read.clear()
        found, _ = scan(tmp_path, make(OwnFiles(Share(index, 4), by_location=True)))
        own = {path.split("/")[0] for path in paths(found)}
        assert set(read) <= own
        assert 4 <= len(own & set(locations)) <= 18
        seen.update(paths(found))
    everything, _ = scan(tmp_path, make(None))
    assert seen == Counter(paths(everything))


def test_by_location_of_keys(tmp_path: Path) -> None:
    """In the layout ``queue`` a location is the first part of the key."""
    for number in range(30):
        write(tmp_path / f"device-{number % 10}%2F{number}")
    parts = [paths(scan(tmp_path, queue(OwnFiles(Share(index, 3), by_location=True)))[0]) for index in range(3)]
    assert sorted(path for part in parts for path in part) == sorted(os.listdir(tmp_path))
    owners = [{path.split("%2F")[0] for path in part} for part in parts]
    assert sum(map(len, owners)) == 10


@pytest.mark.parametrize("by_location", [False, True])
def test_several_shares_are_seen_together(by_location: bool) -> None:
    """Two of three shares have the files of both, and the third has the rest."""
    both, third = (
        OwnFiles(*shares, by_location=by_location) for shares in ((Share(0, 3), Share(2, 3)), (Share(1, 3),))
    )
    names = [f"{number}" for number in range(60)]
    entries = [(name, FILE) for name in names]
    for directory in ((), ("den",)):
        found = [name for own in (both, third) for name, _ in own.entries(directory, entries)]
        assert sorted(found) == sorted(names)
    assert {*both.keys(dict(zip(names, names, strict=True))), *third.keys(dict(zip(names, names, strict=True)))} == set(
        names
    )
