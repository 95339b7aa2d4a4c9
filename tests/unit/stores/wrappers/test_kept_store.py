"""A store that stays open between runs."""

from __future__ import annotations

import pytest

from s3_uploader.run.assembly import LazyStore
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.wrappers.base import KeptStore, PassedOnMemory
from tests.fakes import FakeStore


class Memory(dict[str, str]):
    """What a ledger remembers."""

    def set(self, key: str, value: str) -> None:
        """See ``Memory``."""
        self[key] = value


def test_opened_once() -> None:
    """It is opened by the first run that needs it and closed by nobody but its owner."""
    store = FakeStore()
    closed: list[float] = []
    store.close = lambda *, timeout: closed.append(timeout)  # type: ignore[method-assign]
    kept = KeptStore(store)
    for _ in range(3):
        kept.open()
        kept.close(timeout=1)
    assert (store.opened, closed) == (1, [])
    kept.really_close(timeout=2)
    assert closed == [2]


@pytest.mark.parametrize("answer", [True, False])
def test_what_the_store_says_of_writers(answer: bool) -> None:
    """A wrapper, and what stands for a store until it is opened, say what the store says."""
    store = FakeStore()
    store.keeps_writers_apart = answer
    assert LazyStore(name="bucket", make=lambda: KeptStore(store)).keeps_writers_apart is answer


def test_opening_failed() -> None:
    """One that could not be opened is tried again by the next run."""
    store = FakeStore()
    store.open_error = OSError("no network")
    kept = KeptStore(store)
    with pytest.raises(OSError, match="no network"):
        kept.open()
    store.open_error = None
    kept.open()
    assert store.opened == 2


def test_passed_on() -> None:
    """Everything else is passed on to the store."""
    store = FakeStore(manual=True)
    kept = KeptStore(store)
    future = kept.put("x", Source(0, 1), options=PutOptions(), deadline=5.0, replaces="tag")
    assert [(asked.key, asked.deadline, asked.replaces) for asked in store.puts] == [("x", 5.0, "tag")]
    kept.cancel()
    assert future.exception() is not None
    assert kept.address("x") == "bucket/x"
    assert kept.check(now=0.0) == []
    assert kept.name == store.name


def test_memory() -> None:
    """What it learns about the endpoint is written to the ledger of the current run, and nowhere between two runs."""
    passed_on = PassedOnMemory()
    passed_on.set("a", "lost")
    assert passed_on.get("a") is None
    passed_on.current = Memory()
    passed_on.set("a", "1")
    assert passed_on.get("a") == "1"
    passed_on.current = Memory(a="2")
    assert passed_on.get("a") == "2"
