"""Waiting for answers: one thread runs the loop for all, and hands it on; no clock but the one that bounds a wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from s3_uploader.remote_store.waiting import Turns, Waiter

LONG = 30.0


class FakeLoop:
    """A loop whose turns do what is left in it, or wait until it is woken."""

    def __init__(self) -> None:
        self.left: list[Callable[[], None]] = []
        self.threads: list[int] = []
        self.woken = threading.Event()
        self.goes_on = True
        self.taken_over = 0

    def take_over(self) -> None:
        """Take it over."""
        self.taken_over += 1

    def turn(self, timeout: float) -> bool:
        """Do what is left."""
        self.threads.append(threading.get_ident())
        if not self.goes_on:
            return False
        if not self.left:
            self.woken.wait(timeout)
            self.woken.clear()
        while self.left:
            self.left.pop(0)()
        return True

    def wake(self) -> None:
        """End a wait."""
        self.woken.set()

    def hand_back(self) -> None:
        """Not called."""
        raise AssertionError("the engine stands in by itself")


def until() -> float:
    """A time that does not come."""
    return time.monotonic() + LONG


def test_the_waiting_thread_runs_the_loop() -> None:
    """Whoever waits alone runs the loop on its own thread, until what it waits for is there."""
    loop, waiter = FakeLoop(), Waiter()
    loop.left.append(waiter.done)
    assert Turns(loop).wait(waiter, until())
    assert loop.threads == [threading.get_ident()]
    assert loop.taken_over == 1


def test_what_is_done_already_is_not_waited_for() -> None:
    """An answer that came while the request was sent needs no turn."""
    loop, waiter = FakeLoop(), Waiter()
    waiter.done()
    assert Turns(loop).wait(waiter, 0.0)
    assert loop.threads == []


def test_a_wait_has_an_end() -> None:
    """A wait ends at its time, with a loop and without one, though nothing happens."""
    for loop in (FakeLoop(), None):
        assert not Turns(loop).wait(Waiter(), time.monotonic() + 0.01)


def test_the_leader_is_woken_by_another_thread() -> None:
    """What is done on another thread ends the leader's turn at once."""
    loop, waiter = FakeLoop(), Waiter()
    turns = Turns(loop)
    thread = threading.Thread(target=waiter.done)
    loop.left.append(thread.start)
    began = time.monotonic()
    assert turns.wait(waiter, until())
    assert time.monotonic() - began < LONG / 2
    thread.join()


def test_the_loop_is_handed_on() -> None:
    """When the leader has its answer, one of those who wait runs the loop, and gets its own."""
    loop = FakeLoop()
    turns = Turns(loop)
    first, second = Waiter(), Waiter()
    results: list[bool] = []
    is_waiting = threading.Event()

    def follow() -> None:
        nonlocal second
        second = Waiter()
        is_waiting.set()
        results.append(turns.wait(second, until()))

    follower = threading.Thread(target=follow)

    def lead_until_followed() -> None:
        follower.start()
        is_waiting.wait(LONG)
        loop.left.append(first.done)

    loop.left.append(lead_until_followed)
    assert turns.wait(first, until())
    loop.left.append(lambda: second.done())
    loop.wake()
    follower.join(LONG)
    assert results == [True]


def test_many_threads_have_their_answers() -> None:
    """Each of many threads that wait at once ends, whoever runs the loop."""
    loop = FakeLoop()
    turns = Turns(loop)
    ended: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            waiter = Waiter()
            loop.left.append(waiter.done)
            loop.wake()
            assert turns.wait(waiter, until())
        ended.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert sorted(ended) == list(range(8))


def test_an_engine_without_a_loop() -> None:
    """Where the engine has threads of its own the caller sleeps until one of them is done."""
    waiter = Waiter()
    thread = threading.Thread(target=waiter.done)
    thread.start()
    assert Turns(None).wait(waiter, until())
    thread.join()


def test_the_caller_hears_of_progress_on_its_own_thread() -> None:
    """Between two turns the caller's function is called, on the thread that waits."""
    loop, waiter = FakeLoop(), Waiter()
    heard: list[int] = []
    loop.left.append(lambda: None)

    def tick() -> None:
        heard.append(threading.get_ident())
        loop.left.append(waiter.done)

    assert Turns(loop).wait(waiter, until(), tick=tick)
    assert set(heard) == {threading.get_ident()}


def test_a_loop_that_has_ended() -> None:
    """A loop that turns no more does not keep anybody waiting beyond his time."""
    loop, waiter = FakeLoop(), Waiter()
    loop.goes_on = False
    assert not Turns(loop).wait(waiter, time.monotonic() + 0.02)
