"""The clocks, requests to stop, and the back-off that everything with retries shares."""

from __future__ import annotations

import pytest

from s3_uploader.core.control import backoff


@pytest.mark.parametrize(
    ("failures", "pause"), [(0, 0.5), (1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (10**6, 60.0)]
)
def test_a_pause_doubles_up_to_a_limit(failures: int, pause: float) -> None:
    """Each failure in a row doubles the pause, and however many there are, it has a limit."""
    assert backoff(failures, first=0.5, longest=60.0) == pause
