"""At each system call in turn a run is killed, or the call fails: nothing is lost, and the next runs end clean.

``UPLOADER_TEST_SEED`` repeats the order of the points, which says which of them are tried: a few in the quick suite, as
many as there is time for in the long one (``UPLOADER_TEST_SECONDS`` for each configuration). ``UPLOADER_TEST_POINT``
tries one point alone: ``fsync 2 EIO``, for example.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.e2e.disturbed import KINDS, Spool, Violation, check_end, check_promises, require_strace, spool_of
from tests.e2e.preloaded import Preloaded, preloaded
from tests.e2e.site import Site
from tests.e2e.syscalls import KILL, Point, happened, points, recording, spread

QUICK_POINTS = 5
FEWEST_POINTS = 500
"""Of the shortest run; there are thousands. Fewer mean that nothing is tried, not that nothing can happen."""
LONG_SECONDS = float(os.environ.get("UPLOADER_TEST_SECONDS", "240"))


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
@pytest.mark.timeout(LONG_SECONDS + 300)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_or_failing_at_every_system_call(
    site: Site,
    kind: str,
    chance: random.Random,
    effort: Callable[[int, int], int],
    record_property: Callable[[str, object], None],
) -> None:
    """Wherever a run is killed or a call fails, each byte is on the disk or delivered, and the next runs end clean."""
    require_strace()
    most, until = effort(QUICK_POINTS, 10**6), time.monotonic() + LONG_SECONDS
    with spool_of(kind, site) as spool, preloaded(site) as command:
        spool.begin()
        log = site.place / "recorded"
        undisturbed = command.run(recording(log))
        assert undisturbed.code == 0, undisturbed.stderr
        check_promises(spool, undisturbed, killed=False)
        all_points = points(log, site.place, str(site.config_file))
        assert len(all_points) > FEWEST_POINTS, "what the run called was not recorded"
        tried, reached, violations = 0, 0, []
        wanted = os.environ.get("UPLOADER_TEST_POINT", "")
        for point in spread(all_points, chance):
            if wanted and wanted != f"{point.call} {point.turn} {point.happens}":
                continue
            if tried >= most or time.monotonic() > until:
                break
            tried += 1
            try:
                # An idle run after each would take a third of the time.
                reached += try_point(spool, command, point, idle_run=tried % 4 == 1)
            except (Violation, AssertionError) as violation:
                violations.append(str(violation) if str(point) in str(violation) else f"{point}\n    {violation}")
                print(violations[-1][:3000], flush=True)
        record_property("points", reached)
        print(f"{kind}: {reached} of {len(all_points)} points tried ({tried - reached} runs did not come to theirs)")
    assert not violations, f"{len(violations)} of {tried} points\n\n" + "\n\n".join(violations[:20])
    assert reached >= max(1, tried / 4), "most runs did not come to their points: the test proves little"
