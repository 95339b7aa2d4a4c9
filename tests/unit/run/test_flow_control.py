"""How many uploads are in flight, and which files wait until it is known whose error a failure is."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from s3_uploader.run import flow_control
from s3_uploader.run.flow_control import AdaptiveLimit, Deferral
from tests.fakes import candidate


class Line:
    """A destination behind a line, simulated: uploads share the bandwidth, and each then takes the latency.

    :param bandwidth: bytes per second, or ``None`` for no limit.
    :param jitter: by which fraction latencies differ.
    :param most: completions per second that our side can deal with.
    """

    def __init__(
        self,
        *,
        latency: float,
        bandwidth: float | None = None,
        jitter: float = 0.3,
        most: float = 10_000,
        size: Callable[[random.Random], int] = lambda random: 4096,
        seed: int = 1,
        maximum: int = 256,
    ) -> None:
        self.random = random.Random(seed)
        self.latency, self.bandwidth, self.jitter, self.most, self.size = latency, bandwidth, jitter, most, size
        self.window = AdaptiveLimit(maximum=maximum)
        self.now = 0.0
        self.line_free = 0.0
        self.under_way: list[tuple[float, int, int]] = []
        self.launched = 0
        self.done = self.sent = 0
        self.widths: list[tuple[float, int]] = []

    def launch(self) -> None:
        """Start an upload."""
        size = self.size(self.random)
        sent = max(self.now, self.line_free) + (size / self.bandwidth if self.bandwidth else 0)
        self.line_free = sent
        answered = sent + self.latency * (1 + self.jitter * (2 * self.random.random() - 1))
        heapq.heappush(self.under_way, (answered, self.launched, size))
        self.launched += 1

    def run(self, *, until: float) -> float:
        """Go on until then; returns files per second since the last call."""
        began, before = self.now, self.done
        while self.now < until:
            while len(self.under_way) < self.window.width:
                self.launch()
            answered, _, size = heapq.heappop(self.under_way)
            self.now = max(self.now, answered) + 1 / self.most
            self.done += 1
            self.sent += size
            self.window.succeeded(size=size, now=self.now)
            self.widths.append((self.now, self.window.width))
        return (self.done - before) / (self.now - began)

    def reached(self, width: int) -> float:
        """When the window was first so wide."""
        return next(now for now, reached in self.widths if reached >= width)

    def mean_width(self) -> float:
        """Over time."""
        spans = [(later - now) * width for (now, width), (later, _) in zip(self.widths, self.widths[1:], strict=False)]
        return sum(spans) / (self.widths[-1][0] - self.widths[0][0])


def any_size(random: random.Random) -> int:
    """Sizes from 256 bytes to 1 MB."""
    return int(2 ** (8 + 12 * random.random()))


def test_starts_small() -> None:
    """A run begins with few uploads, and never has more than is allowed."""
    assert AdaptiveLimit(maximum=256).width == 4
    assert AdaptiveLimit(maximum=2).width == 2


def test_reaches_many_at_once() -> None:
    """At a latency of 20 ms hundreds of uploads are in flight within a fraction of a second."""
    line = Line(latency=0.02, jitter=0)
    line.run(until=0.5)
    assert line.reached(256) < 0.25


@pytest.mark.parametrize("seed", range(5))
def test_stays_wide_where_it_helps(seed: int) -> None:
    """Noise does not make the window collapse: the rate stays close to what the widest one brings."""
    line = Line(latency=0.02, jitter=0.5, seed=seed)
    line.run(until=1)
    assert line.run(until=4) > 0.85 * 10_000
    assert line.mean_width() > 150


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [any_size, lambda random: 4096, lambda random: 2_000_000])
def test_stays_narrow_on_a_slow_line(seed: int, size: Callable[[random.Random], int]) -> None:
    """On a slow line few uploads are in flight, however their sizes differ, and the line is used all the same."""
    line = Line(latency=0.05, bandwidth=1.25e6, size=size, seed=seed)
    rate = line.run(until=600)
    # As many as fit into the line at once, or a few.
    assert line.mean_width() < 8 + 2 * 0.05 * rate
    assert line.sent / 600 > 0.8 * 1.25e6


def test_comes_down_when_the_line_gets_slow() -> None:
    """A line that becomes slow is found out, and one that becomes fast too."""
    line = Line(latency=0.02)
    line.run(until=2)
    assert line.window.width > 100
    line.bandwidth = 1e6
    line.run(until=200)
    assert line.window.width <= 32
    line.bandwidth = None
    line.run(until=230)
    assert line.window.width > 100


@pytest.mark.parametrize("seed", range(5))
def test_has_a_stock_on_a_quick_line(seed: int) -> None:
    """Where a wider window moves no more, it still holds what is done while our side is busy with something else."""
    line = Line(latency=0.0005, most=2000, seed=seed)
    line.run(until=2)
    # That is 100 uploads in 50 ms.
    assert min(width for now, width in line.widths if now > 1) >= 64


def test_a_slow_line_needs_no_stock() -> None:
    """Few uploads a second are no reason to have many under way."""
    line = Line(latency=0.01, bandwidth=1e6, size=lambda random: 100_000)
    line.run(until=60)
    assert line.mean_width() <= 8


def test_no_stock_after_a_struggle() -> None:
    """A destination that asked for a slower pace is not sent more than it deals with."""
    line = Line(latency=0.0005, most=2000)
    line.run(until=1)
    for _ in range(10):
        line.window.struggled()
    line.run(until=3)
    assert line.window.width < 64


def test_struggle() -> None:
    """A destination that asks for a slower pace gets half of it each time, and in the end one upload at a time."""
    line = Line(latency=0.02)
    line.run(until=2)
    width = line.window.width
    line.window.struggled()
    assert line.window.width == width // 2
    for _ in range(10):
        line.window.struggled()
    assert line.window.width == 1
    line.run(until=10)
    assert line.window.width > 64


@pytest.mark.parametrize("maximum", [1, 2, 4, 100])
def test_bounds(maximum: int) -> None:
    """However it goes, the window is at least one and at most what is allowed."""
    line = Line(latency=0.02, maximum=maximum, jitter=0.9)
    for step in range(1, 30):
        line.run(until=step / 10)
        if step % 7 == 0:
            line.window.struggled()
    assert {width for _, width in line.widths} <= set(range(1, maximum + 1))
    assert max(width for _, width in line.widths) == maximum


def test_a_clock_that_stands() -> None:
    """Uploads that are done in the same instant say nothing about the rate."""
    window = AdaptiveLimit(maximum=256)
    for _ in range(1000):
        window.succeeded(size=1, now=5.0)
    assert window.width == 4


def test_there_is_no_room_for_more() -> None:
    """Where descriptors are few the window is never wider again, however much a wider one would bring."""
    line = Line(latency=0.02)
    line.run(until=2)
    assert line.window.width > 8
    line.window.narrow(8)
    assert line.window.width == 8
    line.run(until=10)
    assert line.window.width <= 8
    line.window.narrow(0)
    assert line.window.width == 1


def scanning() -> Deferral:
    """A deferral in the middle of a scan."""
    deferral = Deferral()
    deferral.is_scanning = True
    return deferral


def test_unusual_names_wait_only_where_plain_ones_may_follow() -> None:
    """A name that a destination may refuse waits while errors are in doubt, as long as plain names may still come."""
    deferral = scanning()
    assert not deferral.waits("café", in_doubt=False)
    assert deferral.waits("café", in_doubt=True)
    assert not deferral.waits("plain", in_doubt=True)
    deferral.is_scanning = False
    assert not deferral.waits("café", in_doubt=True)


def test_after_an_unusual_name_has_failed_the_others_wait() -> None:
    """A refused name lets plain names go first; the failure of a plain one changes no order."""
    deferral = scanning()
    deferral.saw_failure("plain", candidate("plain"))
    assert not deferral.waits("café", in_doubt=False)
    deferral.saw_failure("naïve", candidate("naïve"))
    assert deferral.waits("café", in_doubt=False)


def test_a_bounded_number_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files could wait, memory holds a limited number of each kind."""
    monkeypatch.setattr(flow_control, "_MOST_DEFERRED", 2)
    deferral = scanning()
    for name in ("ä", "ö"):
        assert deferral.has_room_for_failed()
        assert deferral.waits(name, in_doubt=True)
        deferral.failed.append(candidate(name))
        deferral.unplain.append(candidate(name))
    assert not deferral.has_room_for_failed()
    assert not deferral.waits("ü", in_doubt=True)


def test_the_oldest_file_of_a_key_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file waits for an older one of its key only, while the scan goes on; memory holds a limited number of keys."""
    monkeypatch.setattr(flow_control, "_MOST_HELD", 1)
    deferral = scanning()
    first, second, third = (candidate(name, key="a", mtime_ns=number) for number, name in enumerate(("a", "%61", "%6")))
    deferral.hold("a", second)
    deferral.hold("b", candidate("b"))
    assert [deferral.overtakes("a", each) for each in (first, second, third)] == [False, False, True]
    assert not deferral.overtakes("b", candidate("%62", mtime_ns=5))
    deferral.begin_again()
    assert not deferral.overtakes("a", third)
