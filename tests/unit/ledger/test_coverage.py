"""What audits have covered of a ledger, and what is told before it is forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.audits import note_audit
from s3_uploader.ledger.coverage import ALWAYS, Coverage, LastAudit, common, gaps, united
from tests.ledger_values import DAY, NOW, shipped


def audit(since: float | None, until: float, *, destination: str = "bucket") -> LastAudit:
    """An audit without findings."""
    return LastAudit(destination=destination, at=NOW, since=since, until=until, problems=0)


def test_spans() -> None:
    """Spans that touch are one, empty ones are none, and gaps are what lies between."""
    assert united([(5, 6), (1, 2), (2, 3), (4, 4), (0, 1.5)]) == [(0, 3), (5, 6)]
    assert common([(0, 3), (5, 8)], [(2, 6)]) == [(2, 3), (5, 6)]
    assert gaps([(0, 3), (5, 6)], 10) == [(ALWAYS, 0), (3, 5), (6, 10)]
    assert gaps([(ALWAYS, 3)], 2) == []
    assert gaps([], 2) == [(ALWAYS, 2)]


def test_it_survives_its_note() -> None:
    """What is noted is what is recalled; damage is as if nothing had been covered."""
    covered = Coverage().with_audit(audit(None, 5)).with_audit(audit(7, 9, destination="d\udcff"))
    again = Coverage.recalled(covered.noted())
    assert again == covered
    assert again.of("bucket") == [(ALWAYS, 5)]
    assert again.of("d\udcff") == [(7, 9)]
    assert Coverage.recalled("{") == Coverage.recalled(None) == Coverage()


def test_audits_add_up(ledger: Ledger) -> None:
    """Two audits of two weeks cover both, of their own destination; what lies between is named."""
    rows = [shipped(f"{n}", shipped_at=NOW + n * DAY) for n in range(10)]
    ledger.commit_batch(shipped=[*rows, shipped("x", shipped_at=NOW, destination="other")])
    assert ledger.unaudited(end=NOW + 5 * DAY) == {"bucket": 5, "other": 1}
    ledger.remember_audit(audit(None, NOW + 2 * DAY))
    ledger.remember_audit(audit(NOW + 3 * DAY, NOW + 20 * DAY))
    assert ledger.unaudited(end=NOW + 10 * DAY) == {"bucket": 1, "other": 1}
    assert ledger.unaudited(end=NOW + 2 * DAY) == {"other": 1}


def test_it_is_told_once_before_an_unaudited_file_is_forgotten(ledger: Ledger) -> None:
    """A warning precedes the loss of unaudited rows by days, once until the next audit; audited rows need none."""
    ledger.commit_batch(shipped=[shipped("old"), shipped("new", shipped_at=NOW + 50 * DAY)])

    def is_told(day: float, files: int = 1000) -> bool:
        return ledger.about_to_forget(
            now=NOW + day * DAY, history_days=100, history_max_files=files, destination="bucket"
        )

    # The clock is believed as long as it goes on in small steps.
    assert not any(is_told(day) for day in range(0, 90, 10))
    assert is_told(91)
    assert not is_told(92)
    ledger.remember_audit(audit(None, NOW + DAY))
    assert not any(is_told(day) for day in (93, 110, 130))
    assert is_told(142)
    ledger.remember_audit(audit(None, NOW + DAY))
    assert not is_told(120, files=1)
    assert is_told(120, files=0)
    ledger.remember_audit(audit(None, NOW + 51 * DAY))
    assert not is_told(142)


def test_it_is_told_after_a_change_of_the_destination(ledger: Ledger) -> None:
    """Among many files of a former destination the first one of the present one is found, over some runs."""
    at = NOW + 95 * DAY
    former = [shipped(f"{n}", destination="former", shipped_at=NOW + n) for n in range(4500)]
    ledger.commit_batch(shipped=former)
    limits = {"history_days": 100, "history_max_files": 100_000}
    assert not ledger.about_to_forget(now=at, destination="bucket", **limits)
    ledger.commit_batch(shipped=[shipped("new", shipped_at=NOW + 4500)])
    assert not ledger.about_to_forget(now=at, destination="other", **limits)
    assert ledger.about_to_forget(now=at, destination="bucket", **limits)
    assert ledger.about_to_forget(now=at, destination="former", **limits) is False  # said once, until an audit
    ledger.remember_audit(audit(None, NOW + 10_000))
    assert not ledger.about_to_forget(now=at, destination="bucket", **limits)
    assert ledger.about_to_forget(now=at, destination="former", **limits)


def test_an_audit_is_noted_beside_runs(path: str, ledger: Ledger) -> None:
    """The note is made while a run has the ledger, and the run sees it."""
    ledger.commit_batch(shipped=[shipped()])
    note_audit(path, audit(None, NOW + 1))
    assert ledger.unaudited(end=NOW + 100) == {}


def test_a_ledger_of_an_older_version_is_not_brought_forward(path: str, ledger: Ledger) -> None:
    """An audit must not take the ledger from the older program that writes it."""
    ledger.close()
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(StateError, match="older version"):
        note_audit(path, audit(None, NOW))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_who_may_not_write_is_told(path: str, ledger: Ledger, tmp_path: Path) -> None:
    """Whoever may only read gets a sentence, and the ledger stays as it is."""
    ledger.close()
    os.chmod(path, 0o444)
    with pytest.raises(StateError, match="read-only"):
        note_audit(path, audit(None, NOW))
