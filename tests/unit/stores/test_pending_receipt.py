"""What a store returns at once for an upload, and completes later."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.stores.base import PendingReceipt

RECEIPT = Receipt(key="a", size=1, proof=Proof.CHECKSUM)


def test_callbacks_are_called_once_whenever_they_are_added() -> None:
    """Those that were there before the outcome, in their order, and those that come later at once."""
    pending, called = PendingReceipt(), []
    pending.add_done_callback(lambda done: called.append(("first", done.outcome)))
    pending.add_done_callback(lambda done: called.append(("second", done.outcome)))
    assert (pending.done(), called) == (False, [])
    pending.complete(RECEIPT)
    pending.add_done_callback(lambda done: called.append(("late", done.outcome)))
    assert (pending.done(), called) == (True, [("first", RECEIPT), ("second", RECEIPT), ("late", RECEIPT)])


def test_only_the_first_outcome_counts() -> None:
    """The store may be closed in the moment in which the answer comes."""
    pending = PendingReceipt()
    called: list[PendingReceipt] = []
    pending.add_done_callback(called.append)
    pending.complete(RECEIPT)
    pending.complete(StoreError("closed", code="Refused"))
    assert (pending.result(), pending.exception(), called) == (RECEIPT, None, [pending])


def test_an_error_is_returned_and_raised() -> None:
    """Whichever way its caller prefers."""
    pending, error = PendingReceipt(), StoreError("refused", code="Refused")
    pending.complete(error)
    assert pending.exception() is error
    with pytest.raises(StoreError, match="refused"):
        pending.result()


def test_waits_for_an_outcome_on_another_thread() -> None:
    """A caller without a loop waits for the store's threads."""
    pending = PendingReceipt()
    store = threading.Timer(0.05, pending.complete, [RECEIPT])
    store.start()
    assert pending.result(timeout=60) == RECEIPT
    store.join()


def test_a_wait_ends_in_time() -> None:
    """Nobody waits for ever for a store that does not answer."""
    pending = PendingReceipt()
    assert not pending.wait(0.01)
    for ask in (pending.result, pending.exception):
        with pytest.raises(TimeoutError):
            ask(0.01)


def test_a_raised_error_keeps_nothing_in_memory() -> None:
    """Its traceback would hold the frame that holds it, with the file's buffers, until the garbage collector runs."""
    gc.disable()
    try:
        pending = PendingReceipt()
        pending.complete(StoreError("refused", code="Refused"))
        gone = weakref.ref(pending)
        with pytest.raises(StoreError):
            pending.result()
        del pending
        assert gone() is None
    finally:
        gc.enable()
