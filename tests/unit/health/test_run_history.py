"""What rows of runs tell."""

from __future__ import annotations

import pytest

from s3_uploader.health.run_history import next_start
from s3_uploader.ledger.rows import RunRow
from tests.health_values import NOW, run_row


class TestNextStart:
    """When the next run is to be expected."""

    @pytest.mark.parametrize(
        ("runs", "ahead"),
        [
            ([run_row(ago) for ago in (30, 90, 150, 210, 270)], 30),
            ([run_row(30, ticks=1), run_row(690, ticks=11, finished_at=NOW - 89, duration=1.0)], 30),
            ([run_row(ago) for ago in (30, 90, 135, 150, 210, 270, 330, 390)], 30),
            ([run_row(ago) for ago in (30, 33, 35, 210, 4000, 4003)], None),
            ([run_row(ago) for ago in (2, 4, 9)], None),
            ([run_row(ago) for ago in (300, 360, 420, 480, 540)], None),
            ([], None),
        ],
        ids=["each minute", "ticks", "one by hand in between", "by hand", "too few", "stopped", "none"],
    )
    def test_a_rhythm_or_nothing(self, runs: list[RunRow], ahead: float | None) -> None:
        """Runs that come steadily let the next one be expected; by hand, too few or stopped, there is no telling."""
        expected = next_start(runs, now=NOW)
        assert (expected is None) == (ahead is None)
        assert expected is None or expected - NOW == pytest.approx(ahead, abs=1)
