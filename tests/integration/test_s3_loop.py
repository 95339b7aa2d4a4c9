"""The native engine's loop, run by its caller: who runs it when, and that uploads come through whoever does."""

from __future__ import annotations

import threading
import time

import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.stores.base import Loop, PendingReceipt
from s3_uploader.stores.s3 import waiting
from s3_uploader.stores.s3.engines.native import NativeEngine
from s3_uploader.stores.s3.store import S3Store
from tests.integration.s3_support import MEBIBYTE, PATIENCE, Station
from tests.servers.fixtures import MakeFaultServer


@pytest.fixture
def store(station: Station, make_fault_server: MakeFaultServer) -> S3Store:
    """A store with the native engine."""
    return station.store(make_fault_server().endpoint, "native")


def loop_of(store: S3Store) -> Loop:
    """The loop that the store lends."""
    loop = store.loop
    assert loop is not None
    return loop


def turn_until_done(loop: Loop, future: PendingReceipt) -> None:
    """Run the loop as the coordinator does."""
    until = time.monotonic() + PATIENCE
    while not future.done():
        assert time.monotonic() < until, "the upload does not end"
        assert loop.turn(0.2)


def finisher(future: PendingReceipt) -> list[int]:
    """Where the thread will be noted that completes a future."""
    threads: list[int] = []
    future.add_done_callback(lambda done: threads.append(threading.get_ident()))
    return threads


def test_an_engine_with_threads_lends_nothing(station: Station, make_fault_server: MakeFaultServer) -> None:
    """What a library runs on threads of its own, nobody else can run."""
    assert station.store(make_fault_server().endpoint, "boto3").loop is None


@pytest.mark.parametrize("size", [100, 12 * MEBIBYTE])
def test_the_caller_runs_it(station: Station, store: S3Store, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has taken the loop over brings uploads to their end on his own thread."""
    # However long the machine keeps us from turning.
    monkeypatch.setattr(waiting, "_STAND_IN_SECONDS", PATIENCE)
    loop = loop_of(store)
    loop.take_over()
    future = station.begin(store, "key", b"x" * size)
    threads = finisher(future)
    turn_until_done(loop, future)
    assert threads == [threading.get_ident()]
    loop.hand_back()


def test_to_and_fro(station: Station, store: S3Store) -> None:
    """The loop may be taken over and handed back again and again, its connections stay."""
    loop = loop_of(store)
    for number in range(3):
        future = station.begin(store, f"own-{number}", b"content")
        threads = finisher(future)
        future.result(PATIENCE)
        assert threads != [threading.get_ident()]
        loop.take_over()
        future = station.begin(store, f"lent-{number}", b"content")
        turn_until_done(loop, future)
        loop.hand_back()


def test_handed_back_in_flight(station: Station, store: S3Store) -> None:
    """What was under way when the loop was handed back comes to its end without the caller."""
    loop = loop_of(store)
    loop.take_over()
    future = station.begin(store, "key", b"x" * 12 * MEBIBYTE)
    loop.turn(0.0)
    loop.hand_back()
    assert future.result(PATIENCE).size == 12 * MEBIBYTE


def test_a_caller_who_is_busy_is_stood_in_for(station: Station, store: S3Store) -> None:
    """Who has the loop may copy a large file or wait for a disk: uploads go on meanwhile, and he can go on turning."""
    loop = loop_of(store)
    loop.take_over()
    future = station.begin(store, "busy", b"content")
    threads = finisher(future)
    assert future.result(PATIENCE).key == "busy"
    assert threads != [threading.get_ident()]
    future = station.begin(store, "back", b"content")
    turn_until_done(loop, future)
    loop.hand_back()


def test_closed_while_it_is_lent(station: Station, store: S3Store) -> None:
    """A store that is closed turns no more, and says so."""
    loop = loop_of(store)
    loop.take_over()
    turn_until_done(loop, station.begin(store, "key", b"content"))
    store.close(timeout=5)
    assert not loop.turn(0.2)
    loop.hand_back()


def test_closed_without_a_request(store: S3Store) -> None:
    """A loop that was lent and never had anything to do is closed all the same."""
    loop = loop_of(store)
    loop.take_over()
    assert loop.turn(0.0)
    store.close(timeout=5)
    assert not loop.turn(0.0)


def test_a_bug_in_a_turn(station: Station, store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the loop ends all uploads, names itself, and leaves nobody waiting."""

    def broken(engine: NativeEngine, now: float) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(NativeEngine, "_serve_pending", broken)
    loop = loop_of(store)
    loop.take_over()
    future = station.begin(store, "key", b"content")
    while loop.turn(0.1):
        pass
    late = station.begin(store, "late", b"content")
    for each in (future, late):
        error = each.exception(PATIENCE)
        assert isinstance(error, StoreError)
        assert (error.code, error.scope) == ("EngineFailed", Scope.DESTINATION)
        assert "a bug" in error.message
