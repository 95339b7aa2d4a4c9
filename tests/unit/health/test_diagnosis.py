"""From what is known of a spool to why it is stuck: all causes together."""

from __future__ import annotations

import pytest

from s3_uploader.core.findings import Cause
from s3_uploader.core.origins import Origin
from s3_uploader.health.diagnosis import diagnose
from s3_uploader.health.observations import Observations
from tests.health_values import NOW, abandoned, facts, kind


def test_all_is_well() -> None:
    """A spool that is emptied has no problem, whatever waits in it for its turn."""
    assert diagnose(facts(waiting=12)) == ()
    assert diagnose(Observations(now=NOW, base_dir="/spool")) == ()


def test_the_worst_comes_first() -> None:
    """Of several problems the one that holds everything up is the first, and each cause is there once."""
    found = diagnose(
        facts(
            runs=[abandoned(30, Origin.CREDENTIALS)],
            failing=[kind("X"), kind("AccessDenied", origin="file_right"), kind("Conflict", origin="conflict")],
        )
    )
    assert [problem.cause for problem in found] == [Cause.CREDENTIALS, Cause.FAILING_FILE, Cause.CONFLICT]


@pytest.mark.parametrize(("ago", "since"), [(30, NOW - 30), (-2, NOW), (-86400, None)])
def test_nothing_lasts_since_a_moment_to_come(ago: float, since: float | None) -> None:
    """What a clock that was far ahead has recorded says nothing about when it began."""
    found = diagnose(facts(runs=[abandoned(ago, Origin.CREDENTIALS)]))
    assert found[0].cause is Cause.CREDENTIALS
    assert found[0].since == since
