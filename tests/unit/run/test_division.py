"""When a run is divided among processes, and what each of them gets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.core import installation
from s3_uploader.core.control import StopRequest
from s3_uploader.core.events import Event
from s3_uploader.core.interpreter import python
from s3_uploader.core.shares import Share, parse
from s3_uploader.run import division
from s3_uploader.run.context import RunContext
from s3_uploader.run.division import Division, count_names, may_be_divided
from s3_uploader.run.place import Place, open_place
from s3_uploader.run.scan import Ending
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.stores.s3.engines.choose import Mock
from s3_uploader.stores.wrappers.base import KeptStore
from tests.fakes import FakeClock, write


def configured(spool: Path, **settings: Any) -> config.Config:
    """A configuration that lets a run be divided."""
    values = {"base_dir": str(spool), "bucket": "b", "processes": 3, "state_dir": f"{spool}.state", **settings}
    return config.from_mapping(values, source="test")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool in which thirty files wait."""
    for number in range(30):
        write(tmp_path / f"spool/den/2020/11/29/20/{number:02}-topic.dat")
    return tmp_path / "spool"


def divided(place: Place) -> Division:
    """The division of a run."""
    ending = Ending(StopRequest(), clock=FakeClock().clock(), max_runtime_seconds=9.0)
    return Division(place, run=7, lock_file=5, ending=ending, retries=True)


@pytest.fixture
def place(spool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The open spool, and ten files for which another process is worth it."""
    monkeypatch.setattr(division, "WORTH_FILES", 10)
    with open_place(configured(spool)) as opened:
        yield opened


@pytest.mark.parametrize(
    "settings",
    [
        {"processes": 1},
        {"max_bandwidth": 100_000},
        {"claim_dir": "/claims"},
        {"bucket": None, "destination": {"type": "local", "path": "/archive"}},
        {"bucket": None, "destination": {"type": "ftp", "host": "h", "user": "u"}},
    ],
)
def test_what_is_not_divided(spool: Path, settings: dict[str, Any]) -> None:
    """Files that are claimed, lines with a limit and other destinations than S3 have one process."""
    values = {name: value for name, value in {"bucket": "b", **settings}.items() if value is not None}
    loaded = config.from_mapping({"base_dir": str(spool), "processes": 2, **values}, source="test")
    assert not may_be_divided(loaded, RunContext(emit=lambda event: None))


def test_who_may_not_be_divided(spool: Path) -> None:
    """A rehearsal, and a run that is one of several at the same time, have one process."""
    loaded = configured(spool)
    assert may_be_divided(loaded, RunContext(emit=lambda event: None))
    assert not may_be_divided(loaded, RunContext(emit=lambda event: None, is_rehearsal=True))
    assert not may_be_divided(loaded, RunContext(emit=lambda event: None, may_be_divided=False))


def test_no_worker_is_of_another_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run during which another version was installed goes on alone: a worker might not understand its leader."""
    assert divided(place).want() == 3
    monkeypatch.setattr(installation, "_LOADED", (0, 0, 0, 0))
    assert divided(place).want() == 1


def test_what_stands_in_for_s3_does_so_in_one_process(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process would not know of ``mock_aws``, and write to the real bucket."""
    for mock, processes in ((Mock.BOTOCORE, 1), (Mock.CLIENTS, 1), (Mock.NONE, 3)):
        monkeypatch.setattr(division, "active_mock", lambda mock=mock: mock)
        assert divided(place).want() == processes


def test_every_processor_by_default(spool: Path) -> None:
    """Nobody has to ask for what the machine has."""
    values = {"base_dir": str(spool), "bucket": "b"}
    assert config.from_mapping(values, source="test").processes == "auto"


def test_files_that_wait_decide(place: Place, spool: Path) -> None:
    """There is a process more for each so many files, up to what is configured."""
    division = divided(place)
    assert division.want() == 3
    for path in sorted(spool.rglob("*.dat"))[15:]:
        path.unlink()
    assert division.want() == 2
    for path in sorted(spool.rglob("*.dat"))[9:]:
        path.unlink()
    assert division.want() == 1


def test_uploads_in_flight_are_enough_for_all(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many processes there may be, all together have no more uploads in flight than configured."""
    monkeypatch.setattr(division, "WORTH_FILES", 5)
    with open_place(configured(spool, processes=4, max_concurrency=2)) as place:
        made = divided(place)
        assert made.want() == 2
        assert made.config(1, 2).destination.max_concurrency == 1


@pytest.mark.parametrize(("allowed", "effort", "expected"), [(8, 0.95, 4), (2, 0.95, 2), (1, 0.95, 1), (8, 0.5, 1)])
def test_auto(spool: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, effort: float, expected: int) -> None:
    """By itself a run takes as many processes as there are processors, up to four, and only if one is not enough."""
    monkeypatch.setattr(division, "WORTH_FILES", 5)
    monkeypatch.setattr(division, "allowed", lambda: allowed)
    with open_place(configured(spool, processes="auto")) as place:
        made = divided(place)
        monkeypatch.setattr(made._effort, "share", lambda: effort)
        assert made.want() == expected


def test_a_program_with_python_in_it(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a program is not started a second time: by itself a run is not divided there, and a command is refused."""
    monkeypatch.setattr(division, "WORTH_FILES", 5)
    monkeypatch.setattr(division, "allowed", lambda: 8)
    with open_place(configured(spool, processes="auto")) as place:
        made = divided(place)
        monkeypatch.setattr(made._effort, "share", lambda: 1.0)
        assert made.want() == 4
        for executable in ("/usr/bin/uwsgi", "", None):
            monkeypatch.setattr(sys, "executable", executable)
            assert made.want() == 1
            with pytest.raises(ValueError, match="is not Python"):
                python("pass")
        monkeypatch.undo()
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        with pytest.raises(ValueError, match="is not Python"):
            python("pass")


def test_what_a_worker_gets(place: Place) -> None:
    """A part of the files, of the connections and of the time; the run's ledger, number and lock."""
    task = divided(place).task(2, 3)
    assert task.config.share == "2/3"
    assert task.config.destination.max_concurrency == place.config.destination.max_concurrency // 3
    assert (task.run, task.lock_file, task.of, task.max_runtime_seconds, task.retries) == (7, 5, 3, 9.0, True)
    assert task.state_dir == place.state_dir


def test_parts_of_a_share(spool: Path) -> None:
    """A run that has a share itself is divided in parts of that, without a gap."""
    with open_place(configured(spool, share="1/4")) as place:
        parts = [divided(place).share(number, 3) for number in range(3)]
    own = parse("1/4")
    assert parts[0].first == own.first
    assert parts[-1].first + parts[-1].length == own.first + own.length
    assert [part.first + part.length for part in parts[:-1]] == [part.first for part in parts[1:]]
    assert parts[1] == Share(4, 12)


def test_a_share_that_is_too_small_for_parts(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are only so many shares, and a run of one of very many has one process; foreign files do not count."""
    monkeypatch.setattr(division, "WORTH_FILES", 10)
    with open_place(configured(spool, share="0/2")) as place:
        assert divided(place).want() == 2
    monkeypatch.setattr(division, "count_names", lambda root, *, most, seconds: most)
    with open_place(configured(spool, share="0/4000")) as place:
        assert divided(place).want() == 2
    with open_place(configured(spool, share="0/9000")) as place:
        assert divided(place).want() == 1


def test_names_are_counted_as_far_as_it_matters(spool: Path) -> None:
    """A spool of millions is not counted to its end."""
    root = SpoolRoot(str(spool))
    assert count_names(root, most=1000, seconds=60) == 30
    assert count_names(root, most=10, seconds=60) == 10
    assert count_names(root, most=1000, seconds=-1) == 0
    root.close()


@pytest.mark.parametrize(("processes", "warnings"), [(3, 1), ("auto", 0)])
def test_a_destination_that_keeps_no_writers_apart(spool: Path, processes: int | str, warnings: int) -> None:
    """There a run is not divided, and says so if it was told to be."""
    told: list[Event] = []
    store: Any = KeptStore(SimpleNamespace(keeps_writers_apart=False))
    with open_place(configured(spool, processes=processes)) as place:
        context = RunContext(emit=told.append)
        missing: Any = None
        assert division.workers_of(place, context, missing, 7, missing, store) is None
    assert len(told) == warnings
