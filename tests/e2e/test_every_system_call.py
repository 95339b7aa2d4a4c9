"""At each system call in turn a run is killed, or the call fails: nothing is lost, and the next runs end clean.

The quick suite tries a few points of each kind of destination, the long one all of them, in shards that may run side by
side. Which points there are is recorded from a run; what is left out of them stands at `distinct`.

``UPLOADER_TEST_SEED`` repeats the order of the points, ``UPLOADER_TEST_SECONDS`` is the longest time for a shard, which
then says how much it left untried. ``UPLOADER_TEST_POINT`` tries one point alone: ``fsync 2 EIO``, for example.
"""

from __future__ import annotations

import os
import random
import time
import zlib
from collections.abc import Callable

import pytest

from tests.e2e.disturbed import KINDS, Spool, Violation, check_end, check_promises, require_strace, spool_of
from tests.e2e.preloaded import Preloaded, preloaded
from tests.e2e.site import Site
from tests.e2e.syscalls import KILL, Point, distinct, happened, points, recording, spread

QUICK_POINTS = 5
FEWEST_POINTS = 500
"""Of the shortest run; there are thousands. Fewer mean that nothing is tried, not that nothing can happen."""
SHARDS = 8
ATTEMPTS = 3
"""A run that took another way, by its clock and its threads, is tried again."""
LONG_SECONDS = float(os.environ.get("UPLOADER_TEST_SECONDS", "1200"))


def try_point(spool: Spool, command: Preloaded, point: Point, *, idle_run: bool) -> bool:
    """Run into a point and then on; returns whether the run came there.

    :raises Violation: with the point and what the run said.
    """
    spool.begin()
    log = spool.site.place / "injected"
    log.unlink(missing_ok=True)
    run = command.run(point.strace(log))
    try:
        check_promises(spool, run, killed=point.happens == KILL and run.code < 0)
        check_end(spool, run_it=command.run, idle_run=idle_run)
    except Violation as violation:
        raise Violation(f"{point}\n    {violation}\n    exit code {run.code}: {run.stderr[-1500:]}") from None
    return happened(log)


@pytest.mark.slow
@pytest.mark.rotated("shard")
@pytest.mark.timeout(LONG_SECONDS + 300)
@pytest.mark.parametrize("shard", range(SHARDS), ids=lambda number: f"shard{number}")
@pytest.mark.parametrize("kind", KINDS)
def test_killed_or_failing_at_every_system_call(
    site: Site,
    kind: str,
    shard: int,
    chance: random.Random,
    exhaustive: bool,
    tally: Callable[[str, int], None],
) -> None:
    """Wherever a run is killed or a call fails, each byte is on the disk or delivered, and the next runs end clean."""
    require_strace()
    with spool_of(kind, site) as spool, preloaded(site) as command:
        all_points = recorded(spool, command)
        wanted = [point for point in distinct(all_points) if not exhaustive or shard_of(point) == shard]
        alone = os.environ.get("UPLOADER_TEST_POINT")
        if alone:
            wanted = [point for point in wanted if alone == f"{point.call} {point.turn} {point.happens}"]
        tried, reached, violations = 0, 0, []
        until = time.monotonic() + LONG_SECONDS
        for point in spread(wanted, chance):
            if (tried >= QUICK_POINTS and not exhaustive) or time.monotonic() > until:
                break
            tried += 1
            try:
                # An idle run after each would take a third of the time.
                reached += any(try_point(spool, command, point, idle_run=tried % 4 == 1) for _ in range(ATTEMPTS))
            except (Violation, AssertionError) as violation:
                violations.append(str(violation) if str(point) in str(violation) else f"{point}\n    {violation}")
                print(violations[-1][:3000], flush=True)
    tally(f"points at system calls, {kind}", tried)
    tally(f"points at system calls, {kind}, not reached", tried - reached)
    if len(wanted) > tried and exhaustive:
        tally(f"points at system calls, {kind}, no time for", len(wanted) - tried)
    print(f"{kind}: {tried} of {len(wanted)} points tried ({tried - reached} were not reached)")
    assert not violations, f"{len(violations)} of {tried} points\n\n" + "\n\n".join(violations[:20])
    assert reached >= max(1, tried / 4), "most runs did not come to their points: the test proves little"


def recorded(spool: Spool, command: Preloaded) -> list[Point]:
    """The points of an undisturbed run."""
    spool.begin()
    log = spool.site.place / "recorded"
    undisturbed = command.run(recording(log))
    assert undisturbed.code == 0, undisturbed.stderr
    check_promises(spool, undisturbed, killed=False)
    found = points(log, spool.site.place, str(spool.site.config_file))
    assert len(found) > FEWEST_POINTS, "what the run called was not recorded"
    return found


def shard_of(point: Point) -> int:
    """Who tries all that can happen at a call; each shard records a run of its own, and those differ a little."""
    return zlib.crc32(f"{point.call} {point.turn}".encode()) % SHARDS
