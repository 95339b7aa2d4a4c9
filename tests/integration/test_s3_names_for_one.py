"""Servers that take two names for one: no file of one name ever takes the place of that of the other, unseen."""

from __future__ import annotations

import dataclasses
import time
import unicodedata
from typing import Any

import pytest

from s3_uploader.core.errors import ConflictError, KeyRefused, StoreError
from s3_uploader.core.findings import Severity
from s3_uploader.core.model import OnConflict
from s3_uploader.stores.s3.capabilities import NoMemory
from tests.integration.s3_support import PATIENCE, Station
from tests.servers.dialects import NEW, WEAK, Dialect
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import MakeFaultServer

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "d/Größe.dat") for form in ("NFC", "NFD"))

PAIRS = {
    "case": ("d/README", "d/readme"),
    "upper case": ("d/ReadMe", "d/README"),
    "composed": (DECOMPOSED, COMPOSED),
    "decomposed": (COMPOSED, DECOMPOSED),
    "slashes": ("in//side", "in///side"),
    "dots": ("a/./b", "a/x/../b"),
    "ends": ("d/a.", "d/a"),
    "escapes": ("d/100%25", "d/100%"),
    "parameters": ("d/a;1", "d/a;2"),
    "query": ("d/a?1", "d/a?2"),
    "fragment": ("d/a#1", "d/a"),
    "signs": ("d/é", "d/ü"),
}
"""What a server folds, and two names that are one to it."""

MISLEADING = ("A//.b", "Mixed/.Hidden", ".DS_Store", "d/①", "C:/file", "x y/É")
"""Names that are unusual in several ways. That one way is kept says nothing of the others."""


def dialect_of(fold: str, *, looks: str, honoured: bool) -> Dialect:
    """A server that folds names."""
    return dataclasses.replace(NEW if honoured else WEAK, folds=fold, looks=looks)  # type: ignore[arg-type]


def still_there(server: FaultServer, shipped: dict[str, bytes]) -> bool:
    """Whether everything that was taken for shipped is stored."""
    return set(shipped.values()) <= set(server.objects().values())


@pytest.mark.rotated("fold", "looks")
@pytest.mark.parametrize("honoured", [True, False], ids=["conditions", "no conditions"])
@pytest.mark.parametrize("looks", ["folded", "exact"])
@pytest.mark.parametrize("fold", PAIRS)
def test_two_names_that_are_one(
    make_fault_server: MakeFaultServer, engine: str, station: Station, fold: str, looks: str, honoured: bool
) -> None:
    """What was shipped under one of them stays, whichever came first, be the other of the same run or of the next."""
    for runs, pair in ((1, PAIRS[fold]), (2, PAIRS[fold][::-1])):
        server = make_fault_server(dialect=dialect_of(fold, looks=looks, honoured=honoured))
        memory, shipped = NoMemory(), {}
        store = station.store(server.endpoint, engine, memory=memory)
        for begun in [station.begin(store, name, name.encode()) for name in MISLEADING]:
            begun.wait(PATIENCE)
        for number, name in enumerate(pair):
            if runs == 2:
                store = station.store(server.endpoint, engine, memory=memory)
            content = b"%d" % number
            error = station.begin(store, name, content).exception(PATIENCE)
            if error is None:
                shipped[name] = content
            else:
                assert isinstance(error, StoreError)
            assert still_there(server, shipped), (pair, error)
        assert len(shipped) < 2


@pytest.mark.rotated("names")
@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("honoured", [True, False], ids=["conditions", "no conditions"])
@pytest.mark.parametrize(
    "names",
    [("in//side", "in///side", "in/side"), ("a/./b", "a/x/../b", "a/b"), ("end/", "end//", "end"), ("//a", "/a")],
)
def test_names_of_which_no_look_tells(
    make_fault_server: MakeFaultServer,
    engine: str,
    station: Station,
    names: tuple[str, ...],
    honoured: bool,
    runs: int,
) -> None:
    """Where each name looks as if it were kept, and all are one object, what was shipped is there all the same."""
    fold = "dots" if "." in names[0] else "slashes"
    server = make_fault_server(dialect=dialect_of(fold, looks="remembered", honoured=honoured))
    memory, shipped = NoMemory(), {}
    store = station.store(server.endpoint, engine, memory=memory)
    for name in names:
        if runs == 2:
            store = station.store(server.endpoint, engine, memory=memory)
        error = station.begin(store, name, name.encode()).exception(PATIENCE)
        if error is None:
            shipped[name] = name.encode()
        else:
            assert isinstance(error, KeyRefused)
        assert still_there(server, shipped), (name, error)
    # Nothing is left of the trial.
    assert set(server.objects().values()) == set(shipped.values())


@pytest.mark.parametrize("fold", ["slashes", "case", "parameters", "query", "signs"])
def test_two_names_that_are_one_at_the_same_time(
    make_fault_server: MakeFaultServer, engine: str, station: Station, fold: str
) -> None:
    """Of two such files that are ready together one is shipped, and the other fails for itself."""
    server = make_fault_server(dialect=dialect_of(fold, looks="folded", honoured=False))
    store = station.store(server.endpoint, engine)
    futures = [station.begin(store, name, name.encode()) for name in PAIRS[fold]]
    errors = [future.exception(PATIENCE) for future in futures]
    (refused,) = (error for error in errors if error is not None)
    assert isinstance(refused, (ConflictError, KeyRefused))
    assert set(server.objects().values()) == {PAIRS[fold][errors.index(None)].encode()}


def test_overwriting_is_told(make_fault_server: MakeFaultServer, engine: str, station: Station) -> None:
    """With ``overwrite`` the second of two such files replaces the first, and a warning names both."""
    server = make_fault_server(dialect=dialect_of("case", looks="folded", honoured=False))
    for pair in (PAIRS["case"], PAIRS["case"][::-1]):
        station.notices.clear()
        store = station.store(server.endpoint, engine)
        for name in pair:
            station.put(store, name, name.encode(), on_conflict=OnConflict.OVERWRITE)
        (told,) = (text for level, text in station.notices if level == "warning" and "names as one" in text)
        assert all(name in told for name in pair)


def test_it_is_told_once(make_fault_server: MakeFaultServer, engine: str, station: Station) -> None:
    """The first run tells it, with names that a reader can tell apart; who acknowledges it reads nothing of it."""

    def told(name: str, **settings: Any) -> list[str]:
        station.notices.clear()
        station.put(station.store(server.endpoint, engine, **settings), name, b"x")
        return [text for _, text in station.notices if "names as one" in text]

    server = make_fault_server(dialect=dialect_of("decomposed", looks="folded", honoured=False))
    memory = NoMemory()
    (first,) = told(COMPOSED, memory=memory)
    assert "Gr\\xf6" in first
    assert "Gro\\u0308" in first
    assert told(COMPOSED.replace("d/", "e/"), memory=memory) == []
    assert told(COMPOSED.replace("d/", "f/"), acknowledged=["names"]) == []


@pytest.mark.rotated("fold", "looks")
@pytest.mark.parametrize("looks", ["folded", "exact", "remembered"])
@pytest.mark.parametrize("fold", ["case", "composed", "decomposed", "slashes", "dots", "ends", "escapes", "query"])
def test_check_finds_them(
    make_fault_server: MakeFaultServer, engine: str, station: Station, fold: str, looks: str
) -> None:
    """`check` says which names are not kept apart, also where no look tells, and nothing of it is left."""
    server = make_fault_server(dialect=dialect_of(fold, looks=looks, honoured=True))
    findings = station.store(server.endpoint, engine).check(now=time.time())
    subject = "names that merge" if looks == "remembered" else "names"
    (names,) = (finding for finding in findings if finding.subject == subject)
    assert names.severity is Severity.WARNING
    assert server.objects() == {}


def test_what_is_kept_is_asked_once(make_fault_server: MakeFaultServer, engine: str, station: Station) -> None:
    """Where names are kept apart both files go, and after the first of a kind nothing more is asked."""
    server = make_fault_server(dialect=NEW)
    store = station.store(server.endpoint, engine)
    for name in (*PAIRS["slashes"], *PAIRS["case"], *PAIRS["dots"], COMPOSED):
        station.put(store, name, name.encode())
    before = len(server.requests)
    station.put(store, "out//side", b"x")
    station.put(store, "d/OTHER", b"x")
    assert [request.operation for request in server.requests[before:]] == ["PutObject"] * 2
