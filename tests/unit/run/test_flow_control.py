"""How many uploads are in flight, whose error a failure is, and which files wait until that is known."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from s3_uploader.core.errors import Scope, StoreError, UploadCancelled
from s3_uploader.core.origins import Origin
from s3_uploader.run import flow_control
from s3_uploader.run.flow_control import AdaptiveLimit, CircuitBreaker, Deferral, Refusals
from tests.fakes import candidate

OWN = StoreError("no", code="KeyRefused")
PASSING = StoreError("slow down", code="SlowDown", retryable=True)
EVERYBODYS = StoreError("denied", code="InvalidAccessKeyId", scope=Scope.DESTINATION)
OUT_OF_REACH = StoreError(
    "connection refused", code="ConnectionFailed", retryable=True, scope=Scope.DESTINATION, never_connected=True
)
LATE = UploadCancelled("late", code="DeadlineExceeded")


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


def failed(
    breaker: CircuitBreaker[str],
    error: StoreError,
    *,
    name: str = "x",
    successes_before: int = 0,
    before: bool = False,
    now: float = 0,
) -> bool:
    """A failure with what matters in the test at hand."""
    return breaker.failed(name, error, successes_before=successes_before, failed_before=before, now=now)


def test_own_errors() -> None:
    """An error that is the file's by its kind says nothing about the destination, however many there are."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    assert not any(failed(breaker, OWN) for _ in range(100))
    assert not breaker.must_trip(in_flight=0, now=0)


@pytest.mark.parametrize("error", [PASSING, EVERYBODYS, LATE])
def test_nobody_comes_through(error: StoreError) -> None:
    """When nothing comes through, the destination is given up after a few files, or after a few seconds."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    for _ in range(7):
        assert failed(breaker, error)
        assert not breaker.must_trip(in_flight=0, now=0)
    assert breaker.must_trip(in_flight=0, now=5)
    assert failed(breaker, error)
    assert breaker.must_trip(in_flight=0, now=0)
    assert breaker.take_doubts() == [("x", error)] * 8
    assert not breaker.must_trip(in_flight=0, now=0)


def test_one_after_the_other() -> None:
    """In doubt one file at a time is sent."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    failed(breaker, PASSING)
    assert breaker.is_in_doubt
    assert not breaker.must_wait(in_flight=0, now=0)
    assert breaker.must_wait(in_flight=1, now=0)


def test_waits_for_the_others() -> None:
    """While others are under way nothing more is sent and nobody is blamed, for some seconds."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    failed(breaker, EVERYBODYS, now=100)
    assert breaker.must_wait(in_flight=3, now=104.9)
    assert not breaker.must_trip(in_flight=3, now=104.9)
    assert not breaker.must_wait(in_flight=3, now=105)
    assert breaker.must_trip(in_flight=3, now=105)


def test_another_comes_through() -> None:
    """A success makes what is in doubt the files' own."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    failed(breaker, PASSING, name="a")
    failed(breaker, EVERYBODYS, name="b")
    assert [name for name, _ in breaker.succeeded()] == ["a", "b"]
    assert not breaker.must_wait(in_flight=1, now=0)


def test_others_came_through_meanwhile() -> None:
    """An error that may pass is the file's if others came through while it was tried."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    breaker.succeeded()
    assert not failed(breaker, PASSING, successes_before=0)
    assert failed(breaker, PASSING, successes_before=1)


def test_no_connection_is_never_the_files_own() -> None:
    """Others that came through meanwhile prove nothing against a file that met no connection."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    breaker.succeeded()
    assert failed(breaker, OUT_OF_REACH, successes_before=0)
    assert breaker.is_out_of_order(has_plain_name=bool)
    assert failed(breaker, EVERYBODYS, successes_before=0)
    assert not breaker.is_out_of_order(has_plain_name=bool)


@pytest.mark.parametrize(
    ("origin", "name", "is_of_no_file"),
    [
        (Origin.CREDENTIALS, "plain", True),
        (Origin.CLOCK, "plain", True),
        (Origin.BUCKET, "plain", True),
        (Origin.CREDENTIALS, "odd näme", False),
        (Origin.FULL, "plain", False),
        (Origin.SETTING, "plain", False),
    ],
)
def test_which_refusals_no_file_can_cause(origin: Origin, name: str, *, is_of_no_file: bool) -> None:
    """A quota may leave room for smaller files, and a signature may fit other names. An expired token fits none."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    breaker.succeeded()
    refusal = StoreError("refused", code="X", scope=Scope.DESTINATION, origin=origin)
    assert breaker.failed(name, refusal, successes_before=1, failed_before=False, now=0)
    assert breaker.is_out_of_order(has_plain_name=str.isascii) is is_of_no_file


def test_credentials_that_end() -> None:
    """A refusal is in doubt although others came through before: credentials end in the middle of a run."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    breaker.succeeded()
    for number in range(4):
        assert not breaker.must_trip(in_flight=0, now=5), number
        assert failed(breaker, EVERYBODYS, successes_before=0)
    assert not breaker.must_trip(in_flight=0, now=0)
    assert breaker.must_trip(in_flight=0, now=5)


def test_files_that_failed_before() -> None:
    """Old failures do not end a run in which others came through, but after some it is enough of them."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    assert failed(breaker, PASSING, before=True)
    breaker.succeeded()
    for _ in range(8):
        assert not breaker.has_enough_of_old_failures
        assert not failed(breaker, PASSING, successes_before=1, before=True)
    assert breaker.has_enough_of_old_failures
    assert not breaker.must_trip(in_flight=0, now=99)
    breaker.succeeded()
    assert not breaker.has_enough_of_old_failures


def test_names_that_are_not_plain_prove_nothing_while_plain_ones_come() -> None:
    """However many unusual names fail, the destination is given up only when plain ones fail too, or none are left."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    for _ in range(100):
        assert breaker.failed("café", EVERYBODYS, successes_before=0, failed_before=False, now=0, may_be_its_name=True)
    assert not breaker.must_trip(in_flight=0, now=0)
    assert not breaker.must_trip(in_flight=0, now=60)
    failed(breaker, EVERYBODYS)
    assert breaker.must_trip(in_flight=0, now=60)
    assert len(breaker.succeeded()) == 101


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
    deferral.saw_failure("plain")
    assert not deferral.waits("café", in_doubt=False)
    deferral.saw_failure("naïve")
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


REFUSED = StoreError("no", code="AccessDenied", origin=Origin.FILE_RIGHT)


def test_a_location_that_is_refused_is_only_sampled() -> None:
    """A right that is taken away costs a few hundred of 20,000 files a request, and not each."""
    refusals = Refusals()
    tried = 0
    for _ in range(20_000):
        if not refusals.leaves("den"):
            tried += 1
            assert not refusals.refused("den", REFUSED, failed_before=False)
    assert 300 < tried < 350
    assert not refusals.leaves("attic")


def test_the_answer_to_a_sample_is_waited_for() -> None:
    """Whether others are left after it depends on the sample."""
    refusals = Refusals()
    for _ in range(8):
        assert not refusals.needs_answer("den")
        assert not refusals.leaves("den")
        refusals.refused("den", REFUSED, failed_before=False)
    assert refusals.needs_answer("den")
    assert refusals.leaves("den")
    assert not refusals.needs_answer("den")
    assert not refusals.leaves("den")
    assert refusals.needs_answer("den")
    refusals.accepted("den")
    assert not refusals.needs_answer("den")
    assert not refusals.leaves("den")


def test_refusals_between_others_leave_nothing() -> None:
    """Where files of one location are refused and accepted by turns, each is tried."""
    refusals = Refusals()
    for _ in range(100):
        for _ in range(7):
            assert not refusals.leaves("den")
            assert not refusals.refused("den", REFUSED, failed_before=False)
        refusals.accepted("den")


def test_other_errors_are_no_refusals() -> None:
    """What is wrong with a file itself says nothing about those beside it."""
    refusals = Refusals()
    for _ in range(100):
        assert not refusals.refused("den", StoreError("no", code="KeyTooLongError"), failed_before=False)
    assert not refusals.are_known


def test_refused_everywhere() -> None:
    """Refusals in a row in several locations are the destination's; one that is accepted anywhere says it is not."""
    refusals = Refusals()
    found = [refusals.refused(f"room-{number % 5}", REFUSED, failed_before=False) for number in range(32)]
    assert found == [False] * 31 + [True]
    refusals.accepted("attic")
    assert not any(refusals.refused(f"room-{number % 5}", REFUSED, failed_before=False) for number in range(31))


def test_three_locations_may_be_forbidden() -> None:
    """Missing permissions for a few prefixes never end a run, and neither do files that failed before."""
    refusals = Refusals()
    assert not any(refusals.refused(f"room-{number % 3}", REFUSED, failed_before=False) for number in range(1000))
    assert not any(refusals.refused(f"shed-{number % 9}", REFUSED, failed_before=True) for number in range(1000))
