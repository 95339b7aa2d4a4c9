"""How the shares of a spool stand: which are missing, and what is wrong with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.findings import Cause, Problem, Severity
from s3_uploader.core.model import RunEnd
from s3_uploader.core.shares import Share, parse
from s3_uploader.health.observations import FullDisk, Observations
from s3_uploader.inspection.share_status import problems_of, shares_of, unheard_in_words
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.together import open_together
from s3_uploader.spool.lock_file import Holder
from tests.ledger_values import NOW, begin, report

Ran = Callable[..., None]
Look = Callable[..., tuple[Problem, ...]]


@pytest.fixture
def ran(tmp_path: Path) -> Ran:
    """Note a run of a share so many seconds ago."""

    def note(share: str, ago: float, **changes: object) -> None:
        directory = tmp_path / parse(share).name
        directory.mkdir(exist_ok=True)
        with Ledger.open(str(directory / "ledger.sqlite3"), clock=lambda: NOW) as ledger:
            run = begin(ledger, at=NOW - ago)
            values: dict[str, Any] = {"shipped": 1, **changes}
            ledger.finish_run(run, report(started_at=NOW - ago, duration=1.0, **values))

    return note


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Look]:
    """What is wrong now."""
    with ExitStack() as stack:

        def problems(holders: dict[Share, Holder] | None = None, **facts: Any) -> tuple[Problem, ...]:
            ledger = stack.enter_context(open_together(str(tmp_path / "ledger.sqlite3"), clock=lambda: NOW))
            observed = Observations(now=NOW, base_dir="/spool", waiting=1, **facts)
            return problems_of(observed, ledger, shares_of(ledger, holders or {}))

        yield problems


def test_all_is_well(ran: Ran, look: Look) -> None:
    """Shares that have all run are no problem."""
    ran("0/2", 20)
    ran("1/2", 10)
    assert look() == ()


def test_a_share_that_has_never_run(ran: Ran, look: Look, tmp_path: Path) -> None:
    """The others ship their files, so that nobody would notice: it is named."""
    ran("0/3", 20)
    ran("2/3", 10)
    (problem,) = look()
    assert (problem.cause, problem.severity) == (Cause.NOT_RUN, Severity.WARNING)
    assert "the share 1/3 has not run so far, while others of the 3 shares have" in problem.sentence
    assert "--share 1/3" in problem.remedy
    with open_together(str(tmp_path / "ledger.sqlite3")) as ledger:
        assert unheard_in_words(ledger).startswith("The share 1/3 has no ledger here")


def test_many_shares_that_have_never_run(ran: Ran, look: Look, tmp_path: Path) -> None:
    """A few are named, and the rest is counted."""
    ran("0/50", 20)
    (problem,) = look()
    assert "the shares 1/50, 2/50, 3/50, 4/50, 5/50 and 44 more have not run so far" in problem.sentence
    with open_together(str(tmp_path / "ledger.sqlite3")) as ledger:
        assert "The shares 1/50" in unheard_in_words(ledger)


def test_a_share_that_is_at_work_for_the_first_time(ran: Ran, look: Look) -> None:
    """It is not missing, and neither is one that takes long."""
    ran("0/2", 20)
    assert look({Share(1, 2): Holder(pid=7, since=NOW - 5)}) == ()


def test_a_share_that_the_others_have_overtaken(ran: Ran, look: Look) -> None:
    """Once all others have run twice since, it is named with the time of its last run."""
    ran("1/3", 100)
    for ago in (80, 60):
        ran("0/3", ago)
        ran("2/3", ago)
    (problem,) = look()
    assert (problem.cause, problem.since) == (Cause.NOT_RUN, NOW - 99)
    assert "the share 1/3 has not run as often as the others" in problem.sentence
    assert look({Share(1, 3): Holder(pid=7, since=NOW - 5)}) == ()


def test_shares_that_ended_together(ran: Ran, look: Look) -> None:
    """Two of five were on a machine that died: neither hides the other. If it is most of them, more runs must tell."""
    for ago in (110, 100):
        ran("1/5", ago)
        ran("3/5", ago - 5)
    for ago in (80, 60):
        for share in ("0/5", "2/5", "4/5"):
            ran(share, ago)
    (problem,) = look()
    assert "the shares 1/5, 3/5 have not run as often as the others" in problem.sentence
    for ago in range(58, 40, -2):
        ran("0/5", ago)
    (problem,) = look()
    assert "the shares 1/5, 3/5 have" in problem.sentence
    for ago in range(40, 10, -2):
        ran("0/5", ago)
    (problem,) = look()
    assert "the shares 1/5, 3/5, 2/5, 4/5 have not run as often as the others" in problem.sentence


def test_one_share_started_again_by_hand(ran: Ran, look: Look) -> None:
    """That says nothing about the others."""
    for index in range(5):
        ran(f"{index}/5", 100 - index)
    for ago in (80, 60):
        ran("3/5", ago)
    assert look() == ()


def test_each_share_is_asked_a_few_times(ran: Ran, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many shares take as long as they are many, and no longer."""
    for index in range(40):
        ran(f"{index}/40", 100 - index, exit_code=3, ended_by=RunEnd.DESTINATION.value, message=f"{index}")
    asked: list[Ledger] = []
    runs = Ledger.runs

    def count(ledger: Ledger, **about: Any) -> Any:
        asked.append(ledger)
        return runs(ledger, **about)

    monkeypatch.setattr(Ledger, "runs", count)
    assert len(look()) == 1
    assert len(asked) <= 40 * 4


def test_runs_without_work_count(ran: Ran, look: Look) -> None:
    """Runs that found nothing to do are one row, and each of them counts."""
    ran("1/2", 100)
    for ago in (150, 130, 110, 90, 70, 50):
        ran("0/2", ago, shipped=0)
    (problem,) = look()
    assert problem.cause is Cause.NOT_RUN


def test_one_share_that_is_stuck(ran: Ran, look: Look) -> None:
    """Its trouble is not hidden by the runs of the others, and it says whose it is."""
    ran("0/2", 20, exit_code=3, ended_by=RunEnd.DESTINATION.value, origin="credentials", message="no permission")
    ran("1/2", 10)
    (problem,) = look()
    assert problem.severity is Severity.ERROR
    assert problem.sentence.startswith("for the share 0/2, ")


def test_trouble_of_all_shares_is_said_once(ran: Ran, look: Look) -> None:
    """What every share meets is nothing about one of them."""
    ran("0/2", 20)
    ran("1/2", 10)
    (problem,) = look(full=[FullDisk(purpose="state directory", directory="/state", why="is full")])
    assert problem.sentence.startswith("the disk of the state directory")


def test_a_share_that_hangs(ran: Ran, look: Look) -> None:
    """A run of one share that ships nothing for hours is found although the others work."""
    ran("0/2", 3 * 3600)
    ran("1/2", 10)
    (problem,) = look({Share(0, 2): Holder(pid=7, since=NOW - 2 * 3600)})
    assert problem.cause is Cause.HUNG_RUN


def test_runs_of_all_files_have_no_shares(tmp_path: Path) -> None:
    """Without shares nothing is said of them."""
    with Ledger.open(str(tmp_path / "ledger.sqlite3")) as ledger:
        ledger.finish_run(begin(ledger), report())
    with open_together(str(tmp_path / "ledger.sqlite3")) as ledger:
        assert shares_of(ledger, {}) == ()
        assert unheard_in_words(ledger) == ""
