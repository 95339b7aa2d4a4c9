"""What is waited for: sockets in the loop of the native engine, and what the kernel refuses it, a time, and memory."""

from __future__ import annotations

import selectors
import signal
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.s3 import waiting
from s3_uploader.stores.s3.waiting import ByteBudget, EventLoop, TimerThread


def test_a_connection_that_the_selector_has_dropped_can_be_closed() -> None:
    """After a change of events that failed, the selector knows the socket no more; that stops no shutdown."""
    loop: Any = EventLoop(work=lambda now: 0.0, shut_down=lambda: None)
    ours, theirs = socket.socketpair()
    with ours, theirs, selectors.DefaultSelector() as selector:
        loop._selector = selector
        connection: Any = SimpleNamespace(sock=ours, events=0)
        loop.watch(connection, selectors.EVENT_READ)
        selector.unregister(ours)
        loop.unwatch(connection)
        assert connection.events == 0
        loop.watch(connection, selectors.EVENT_READ)
        assert selector.get_key(ours).data is connection


def test_what_its_caller_leaves_waits_for_no_event() -> None:
    """Whoever runs the loop himself need not be woken, and his next turn comes to what he has left without a wait."""
    turns: list[float] = []

    def work(now: float) -> float:
        turns.append(now)
        return 30.0

    loop = EventLoop(work=work, shut_down=lambda: None)
    loop.open()
    loop.take_over()
    assert loop.turn(0.0)
    loop.hurry()
    assert loop.turn(30.0)
    loop.hand_back()
    loop.close(timeout=1)
    assert len(turns) == 2
    assert turns[1] - turns[0] < 20


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set as soon as a loop waits for events of its sockets."""
    waiting_now = threading.Event()

    class Selector(selectors.SelectSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout:
                waiting_now.set()
            return super().select(timeout)

    monkeypatch.setattr(selectors, "DefaultSelector", Selector)
    return waiting_now


def test_what_is_left_while_another_thread_waits_wakes_it(waits: threading.Event) -> None:
    """Several threads may run the loop in turn: what the one that took it over leaves does not wait for the other's."""
    loop = EventLoop(work=lambda now: 60.0, shut_down=lambda: None)
    loop.open()
    loop.take_over()
    assert loop.turn(0.0)
    other = threading.Thread(target=loop.turn, args=(60.0,), daemon=True)
    other.start()
    assert waits.wait(20)
    loop.hurry()
    other.join(20)
    assert not other.is_alive()
    loop.close(timeout=1)


def test_a_caller_gets_the_loop_back_at_once(waits: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause the loop's own thread runs it, and a caller who comes back gets it when that thread's turn ends."""
    monkeypatch.setattr(waiting, "_STAND_IN_SECONDS", 0.001)
    loop = EventLoop(work=lambda now: 60.0, shut_down=lambda: None)
    loop.open()
    loop.take_over()
    with loop.lock:
        assert loop.ensure_thread() == ""

    def calls() -> None:
        for _ in range(30):
            assert waits.wait(20)
            waits.clear()
            assert loop.turn(0.0)

    caller = threading.Thread(target=calls, daemon=True)
    caller.start()
    caller.join(20)
    came_back = not caller.is_alive()
    loop.close(timeout=5)
    assert came_back


@pytest.mark.parametrize("kind", ["function", "method", "object"])
def test_what_a_signal_handler_raises_is_its_callers(kind: str) -> None:
    """A time limit of the calling program is no bug of the loop: it comes out of the turn."""

    class Limit:
        def __call__(self, *_: object) -> None:
            raise LookupError("the time is over")

        def method(self, *_: object) -> None:
            self()

    limit = Limit()
    handlers: dict[str, Any] = {"function": lambda *_: limit(), "method": limit.method, "object": limit}

    def work(now: float) -> float:
        signal.raise_signal(signal.SIGALRM)
        return 0.0

    loop = EventLoop(work=work, shut_down=lambda: None)
    loop.open()
    loop.take_over()
    before = signal.signal(signal.SIGALRM, handlers[kind])
    try:
        with pytest.raises(LookupError):
            loop.turn(0.0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not loop.turn(0.0)


def test_what_its_own_work_raises_is_a_bug() -> None:
    """An exception that no signal handler has raised ends the loop, and not the thread that runs it."""

    def work(now: float) -> float:
        raise LookupError("a bug")

    loop = EventLoop(work=work, shut_down=lambda: None)
    loop.open()
    loop.take_over()
    assert not loop.turn(0.0)
    assert isinstance(loop.bug, LookupError)


def test_it_is_not_closed_in_the_middle_of_a_turn() -> None:
    """Where no thread could be started a caller runs the loop alone; another one who closes it waits for his turn."""
    is_turning, goes_on = threading.Event(), threading.Event()
    closed_at: list[int] = []

    def work(now: float) -> float:
        is_turning.set()
        goes_on.wait(20)
        return 60.0

    loop = EventLoop(work=work, shut_down=lambda: closed_at.append(loop.turner))
    loop.open()
    loop.take_over()
    caller = threading.Thread(target=loop.turn, args=(0.0,), daemon=True)
    caller.start()
    assert is_turning.wait(20)
    closer = threading.Thread(target=loop.close, kwargs={"timeout": 20}, daemon=True)
    closer.start()
    closer.join(0.05)
    goes_on.set()
    for thread in (caller, closer):
        thread.join(20)
    assert closed_at == [0]
    assert not loop.turn(0.0)


def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    """What a thread held that is not in the child is held by nobody there: the loop has ended, and says so."""
    loop = EventLoop(work=lambda now: 0.0, shut_down=lambda: None)
    loop.open()
    holds, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with loop._turning, loop.lock:
            holds.set()
            ends.wait(20)

    parents = threading.Thread(target=hold, daemon=True)
    parents.start()
    assert holds.wait(20)
    loop.leave_to_parent()
    answers: list[bool] = []
    childs = threading.Thread(target=lambda: answers.append(loop.turn(0.0)), daemon=True)
    childs.start()
    childs.join(5)
    in_time = list(answers)
    ends.set()
    parents.join(20)
    assert in_time == [False]
    assert not loop.lock.locked()


def test_a_timer_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduling a call fails if no thread can be started for it; a later one is tried again."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    timer = TimerThread(name="test")
    called = threading.Event()
    with monkeypatch.context() as changed:
        changed.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StoreError, match="No thread can be started"):
            timer.call_at(0.0, called.set)
    timer.call_at(0.0, called.set)
    assert called.wait(10)
    timer.close()


def test_bytes_in_memory_are_bounded_and_served_in_order() -> None:
    """Requests without room wait in order; one that is larger than the limit is granted alone."""
    budget = ByteBudget(100)
    order: list[str] = []
    assert budget.try_acquire(60)
    budget.acquire(50, lambda: order.append("second"))
    budget.acquire(10, lambda: order.append("third"))
    assert not budget.try_acquire(1)
    assert order == []
    budget.release(60)
    assert order == ["second", "third"]
    budget.acquire(1000, lambda: order.append("giant"))
    budget.release(50)
    assert order == ["second", "third"]
    budget.release(10)
    assert order == ["second", "third", "giant"]
