"""Opening the store for the first file that is ready."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from s3_uploader.core.control import Latch
from s3_uploader.core.errors import StoreError
from s3_uploader.run import in_flight
from s3_uploader.run.in_flight import open_store
from s3_uploader.stores.base import Store
from s3_uploader.stores.wrappers.base import KeptStore


class SlowStore:
    """A store that is open when somebody says so."""

    def __init__(self, error: StoreError | None = None) -> None:
        self.may_open = threading.Event()
        self.opened = 0
        self._error = error

    def open(self) -> None:
        """Wait, then open or fail."""
        self.may_open.wait(30)
        self.opened += 1
        if self._error is not None:
            raise self._error


def test_a_store_that_opens() -> None:
    """A store that opens is open afterwards, and the run showed that it is alive."""
    store = SlowStore()
    beats: list[None] = []

    def beat() -> None:
        beats.append(None)
        store.may_open.set()

    assert open_store(cast(Store, store), must_end=lambda: False, beat=beat)
    assert (store.opened, bool(beats)) == (1, True)


def test_a_store_that_fails() -> None:
    """What opening raises comes out as if it had been called directly."""
    store = SlowStore(StoreError("no", code="530"))
    store.may_open.set()
    with pytest.raises(StoreError, match="no"):
        open_store(cast(Store, store), must_end=lambda: False, beat=lambda: None)


def test_a_run_that_ends_meanwhile() -> None:
    """A run that is to end does not wait for a destination that hangs."""
    store = SlowStore()
    assert not open_store(cast(Store, store), must_end=lambda: True, beat=lambda: None)
    store.may_open.set()


def test_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the store is opened all the same."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    store = SlowStore()
    store.may_open.set()
    assert open_store(cast(Store, store), must_end=lambda: False, beat=lambda: None)
    assert store.opened == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_without_memory_for_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that dies and cannot say so is not waited for, and what happened is lack of memory."""

    class Unheard(Latch):
        def __init__(self) -> None:
            super().__init__()
            self.set = self.fail

        def fail(self) -> None:
            raise MemoryError

    monkeypatch.setattr(in_flight, "Latch", Unheard)
    store = SlowStore()
    store.may_open.set()
    with pytest.raises(MemoryError):
        open_store(cast(Store, store), must_end=lambda: False, beat=lambda: None)


def test_next_pass_waits_for_the_one_before() -> None:
    """A store that a pass left half open is opened once, not twice at a time."""
    store = SlowStore()
    kept = cast(Store, KeptStore(cast(Store, store)))
    assert not open_store(kept, must_end=lambda: True, beat=lambda: None)
    store.may_open.set()
    assert open_store(kept, must_end=lambda: False, beat=lambda: None)
    assert store.opened == 1
