"""Rehearsals: every kind of error at the rate that is asked for, and the destination is not touched by them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from s3_uploader.core import errors
from s3_uploader.core.errors import SIMULATED, Scope, StoreError
from s3_uploader.run.disposition import FailurePolicy
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.wrappers.simulated import KINDS, UnreliableStore
from tests.fakes import FakeStore, Harness


def put(store: UnreliableStore, count: int) -> list[BaseException | None]:
    """How so many uploads end."""
    futures = [store.put("x", Source(0, 0), options=PutOptions(), deadline=1.0) for _ in range(count)]
    return [future.exception() for future in futures]


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_rate(rate: float) -> None:
    """About so many uploads fail, and those have not reached the store."""
    inner = FakeStore()
    store = UnreliableStore(inner, rate=rate, random=random.Random(1).random)
    failed = [error for error in put(store, 2000) if error is not None]
    assert len(inner.puts) == 2000 - len(failed)
    assert len(failed) == pytest.approx(2000 * rate, abs=60)


def test_every_kind() -> None:
    """Every kind of error of an upload that the program knows is among them, and each says that it is made up."""
    store = UnreliableStore(FakeStore(), rate=1.0, random=random.Random(1).random)
    failed = put(store, 1000)
    assert all(isinstance(error, StoreError) and SIMULATED in error.message for error in failed)
    known = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StoreError)}
    # These two are no answers to an upload.
    known -= {errors.ObjectGone, errors.SameAsSpool}
    assert {type(error) for error in failed} == known
    assert {(error.retryable, error.scope) for error in failed if type(error) is StoreError} == {
        (True, Scope.FILE),
        (False, Scope.FILE),
        (True, Scope.DESTINATION),
        (False, Scope.DESTINATION),
    }
    assert len({str(error) for error in failed}) == len(KINDS)


def test_passed_on() -> None:
    """Everything but an upload is passed on to the store."""
    inner = FakeStore()
    closed: list[float] = []
    inner.close = lambda *, timeout: closed.append(timeout)  # type: ignore[method-assign]
    store = UnreliableStore(inner, rate=1.0)
    store.open()
    store.cancel()
    store.close(timeout=3)
    assert (inner.opened, inner.cancelled, closed) == (1, 1, [3])
    assert store.name == inner.name
    assert store.check(now=0.0) == []
    assert store.address("x") == "bucket/x"


def test_nothing_is_lost(tmp_path: Path) -> None:
    """However many uploads are made to fail, each file is in the spool or in the store."""
    harness = Harness(tmp_path)
    chance = random.Random(7).random
    for number in range(200):
        harness.write(f"{number}", f"{number}")
    store = UnreliableStore(harness.store, rate=0.5, random=chance)
    inner, harness.store = harness.store, store  # type: ignore[assignment]
    harness.on_failure = FailurePolicy()
    harness.run()
    assert harness.names() | set(inner.objects) == {str(number) for number in range(200)}
    assert not harness.names() & set(inner.objects)
