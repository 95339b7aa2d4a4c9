"""Addresses of a host: looked up beside the loop, and those that are dead tried last."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable

import pytest

from s3_uploader.stores.s3.engines.connection import Address
from s3_uploader.stores.s3.engines.resolver import Addresses

FIRST, SECOND, THIRD = ((socket.AF_INET, (f"192.0.2.{number}", 443)) for number in (1, 2, 3))


class Loop:
    """Collects what the resolver wants to have called."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.came = threading.Event()
        self.failures: list[str] = []
        self.of_this_machine: list[str] = []

    def fail(self, detail: str, is_of_this_machine: bool) -> None:
        """Keep the reason, and what this machine lacked."""
        (self.of_this_machine if is_of_this_machine else self.failures).append(detail)

    def call(self, function: Callable[[], None]) -> None:
        """Keep it."""
        self.calls.append(function)
        self.came.set()

    def turn(self) -> None:
        """Wait for a call and make it."""
        assert self.came.wait(10)
        self.calls.pop(0)()


def addresses_of(loop: Loop, look_up: Callable[[str, int], list[Address]] | None) -> Addresses:
    """A resolver of that loop."""
    return Addresses(call=loop.call, failed=loop.fail, look_up=look_up)


def test_dead_addresses_come_last() -> None:
    """An address that did not answer is tried after the others for a minute, and then like them again."""
    loop = Loop()
    addresses = addresses_of(loop, lambda host, port: [FIRST, SECOND, THIRD])
    assert not addresses.known("host", 443, now=0)
    loop.turn()
    assert {addresses.next(now=0)[0] for _ in range(6)} == {FIRST, SECOND, THIRD}
    addresses.did_not_answer(SECOND, now=0)
    assert {tuple(addresses.next(now=1)) for _ in range(6)} == {(FIRST, THIRD, SECOND), (THIRD, FIRST, SECOND)}
    assert SECOND in {addresses.next(now=61)[0] for _ in range(6)}


def test_where_all_are_dead_each_is_tried() -> None:
    """If nothing answers there is still an order in which to try."""
    loop = Loop()
    addresses = addresses_of(loop, lambda host, port: [FIRST])
    addresses.known("host", 443, now=0)
    loop.turn()
    addresses.did_not_answer(FIRST, now=0)
    assert addresses.next(now=1) == [FIRST]


def test_a_name_server_that_does_not_answer() -> None:
    """A lookup without an answer fails its requests after the connect timeout; later requests wait again."""
    go_on = threading.Event()
    loop = Loop()

    def hang(host: str, port: int) -> list[Address]:
        go_on.wait(10)
        return [FIRST]

    addresses = addresses_of(loop, hang)
    addresses.known("host", 443, now=0)
    assert addresses.overdue(seconds=10, now=9) == ""
    assert addresses.overdue(seconds=10, now=11) == "host: no answer in 10 s"
    assert addresses.overdue(seconds=10, now=12) == ""
    assert addresses.overdue(seconds=10, now=22) != ""
    go_on.set()
    loop.turn()
    assert addresses.known("host", 443, now=23)


def test_no_thread_for_a_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started a name is not resolved; that is said, and not blamed on the name."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    loop = Loop()
    addresses = addresses_of(loop, None)
    assert not addresses.known("host.example", 443, now=0)
    assert (loop.failures, loop.of_this_machine) == ([], ["host.example: can't start new thread"])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EINVAL])
def test_no_descriptor_for_a_look_up(number: int) -> None:
    """Nor is a lack of descriptors blamed on the name."""

    def refuse(host: str, port: int) -> list[Address]:
        raise OSError(number, "no")

    loop = Loop()
    addresses_of(loop, refuse).known("host.example", 443, now=0)
    loop.turn()
    assert bool(loop.of_this_machine) is (number == errno.EMFILE)
    assert loop.failures + loop.of_this_machine == ["host.example: no"]


def test_many_addresses() -> None:
    """Only some addresses are used of a name that has hundreds."""
    loop = Loop()
    addresses = addresses_of(loop, lambda host, port: [FIRST] * 500)
    addresses.known("host", 443, now=0)
    loop.turn()
    assert len(addresses.next(now=0)) == 16


def test_a_name_without_addresses() -> None:
    """An empty answer is none."""
    loop = Loop()
    addresses = addresses_of(loop, lambda host, port: [])
    addresses.known("host", 443, now=0)
    loop.turn()
    assert loop.failures == ["it has no address"]
