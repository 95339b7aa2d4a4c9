"""What a process that watches one spool among many hears from the one above it, and tells it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from s3_uploader.service.link import RELOAD, STOP, Link


class Ends:
    """A link, and the other ends of its pipes."""

    def __init__(self) -> None:
        self.report, to_report = os.pipe()
        orders, self.orders = os.pipe()
        self.seconds = 0.0
        self.link = Link(report=to_report, orders=orders, clock=lambda: self.seconds)
        self._open = [self.report, to_report, orders]

    def close(self) -> None:
        """Close what is left."""
        for descriptor in self._open:
            os.close(descriptor)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends."""
    made = Ends()
    yield made
    made.close()


def test_a_signal_and_an_order_are_one_request(ends: Ends) -> None:
    """The signal that a service manager sends to all processes does not make the order of the one above the second."""
    ends.link.signalled(signal.SIGTERM, None)
    ends.link.signalled(signal.SIGTERM, None)
    os.write(ends.orders, RELOAD + STOP)
    reloads: list[int] = []

    def reload() -> None:
        reloads.append(ends.link.stop.requests)
        os.close(ends.orders)

    ends.link.on_reload = reload
    ends.link.listen()
    assert reloads == [1]
    assert ends.link.stop.requests == 2  # the end of the orders: nobody is there any more
    assert ends.link.stop.signal_number == signal.SIGTERM


def test_a_sign_of_life_is_given_now_and_then(ends: Ends) -> None:
    """However often the loop beats, the process above hears of it every few seconds; and it hears what is going on."""
    for second in range(12):
        ends.seconds = float(second)
        ends.link.beat()
    ends.link.ready(drain_seconds=20)
    ends.link.status("idle,\n3 files waiting")
    os.close(ends.orders)
    assert os.read(ends.report, 4096) == b"beat\nbeat\nbeat\nready 20\nstatus idle, 3 files waiting\n"
