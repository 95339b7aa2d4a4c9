"""What is known of a spool, for tests of what is said of it."""

from __future__ import annotations

from typing import Any

from s3_uploader.core.findings import Problem
from s3_uploader.core.origins import Origin
from s3_uploader.health.observations import Observations
from s3_uploader.ledger.rows import FailingGroup, RunRow

NOW = 1_600_000_000.0


def run_row(ago: float, **changes: Any) -> RunRow:
    """A run that began so many seconds ago and took one."""
    values: dict[str, Any] = {
        "id": int(NOW - ago),
        "started_at": NOW - ago,
        "finished_at": NOW - ago + 1,
        "pid": 1,
        "host": "here",
        "exit_code": 0,
        "ended_by": "done",
    }
    return RunRow(**{**values, **changes})


def kind(code: str, **changes: Any) -> FailingGroup:
    """Files that fail with that code."""
    values: dict[str, Any] = {
        "code": code,
        "files": 1,
        "first_failed_at": NOW - 900,
        "attempts": 3,
        "next_try_at": NOW + 60,
        "path": "bedroom/x",
        "message": "no",
    }
    return FailingGroup(**{**values, **changes})


def facts(**changes: Any) -> Observations:
    """What is known of a spool that ran half a minute ago, changed."""
    values: dict[str, Any] = {"now": NOW, "base_dir": "/spool", "runs": [run_row(30), run_row(90), run_row(150)]}
    return Observations(**{**values, **changes})


def only(found: tuple[Problem, ...]) -> Problem:
    """The one problem, which says all that a person needs."""
    (problem,) = found
    assert problem.sentence
    assert problem.next
    assert problem.remedy
    return problem


def abandoned(ago: float, origin: Origin, **changes: Any) -> RunRow:
    """A run that the destination ended."""
    return run_row(
        ago,
        **{
            "exit_code": 3,
            "ended_by": "destination",
            "origin": origin.value,
            "message": f"({origin.value})",
            **changes,
        },
    )
