"""Why nothing is shipped: each cause, since when, and what to do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from s3_uploader.core.errors import SpoolError, StateError
from s3_uploader.core.findings import Cause, Problem, Severity
from s3_uploader.core.origins import Origin
from s3_uploader.health.diagnosis import diagnose, hung_after
from s3_uploader.health.observations import FullDisk, HolderSeen, Starter, WatchSeen
from s3_uploader.health.run_history import pace_of
from tests.health_values import NOW, abandoned, facts, only, run_row


class TestDestination:
    @pytest.mark.parametrize(
        ("origin", "cause"),
        [
            (Origin.CREDENTIALS, Cause.CREDENTIALS),
            (Origin.CREDENTIAL_SOURCE, Cause.CREDENTIALS),
            (Origin.CLOCK, Cause.CLOCK),
            (Origin.BUCKET, Cause.DESTINATION),
            (Origin.UNREACHABLE, Cause.DESTINATION),
            (Origin.FULL, Cause.DISK_FULL),
        ],
    )
    def test_each_error_has_its_cause(self, origin: Origin, cause: Cause) -> None:
        """It is so since the first of the runs in a row that ended like that."""
        runs = [abandoned(ago, origin) for ago in (30, 90, 3600)] + [run_row(7200), abandoned(9000, origin)]
        problem = only(diagnose(facts(runs=runs)))
        assert problem.cause is cause
        assert problem.severity is Severity.ERROR
        assert problem.since == NOW - 3600
        assert origin.value in problem.sentence

    @pytest.mark.parametrize("origin", ["", "of a later version"])
    def test_where_nothing_is_known(self, origin: str) -> None:
        """A run that another version has recorded may be over in a moment; that it is not becomes an error."""
        runs = [
            run_row(ago, exit_code=3, ended_by="destination", message="(X)", origin=origin) for ago in (30, 90, 900)
        ]
        assert only(diagnose(facts(runs=runs[:2]))).severity is Severity.WARNING
        problem = only(diagnose(facts(runs=runs)))
        assert (problem.cause, problem.severity) == (Cause.DESTINATION, Severity.ERROR)

    def test_no_credentials_are_not_refused(self) -> None:
        """Where there are none, nobody has refused them."""
        words = {
            origin: only(diagnose(facts(runs=[abandoned(30, origin)]))).sentence
            for origin in (Origin.CREDENTIALS, Origin.CREDENTIAL_SOURCE)
        }
        assert "refuses the credentials" in words[Origin.CREDENTIALS]
        assert words[Origin.CREDENTIAL_SOURCE].startswith("there are no usable credentials")

    def test_a_run_in_between_does_not_hide_it(self) -> None:
        """A run that is at work, or was killed, says nothing: the last one that ended does."""
        runs = [run_row(5, finished_at=None, exit_code=None, ended_by=""), abandoned(30, Origin.CREDENTIALS)]
        assert only(diagnose(facts(runs=runs))).cause is Cause.CREDENTIALS

    def test_a_short_outage_is_no_alarm(self) -> None:
        """A network that is gone for some minutes is a warning, and an error if it stays away."""
        assert only(diagnose(facts(runs=[abandoned(30, Origin.UNREACHABLE)]))).severity is Severity.WARNING
        runs = [abandoned(ago, Origin.UNREACHABLE) for ago in (30, 300, 900)]
        assert only(diagnose(facts(runs=runs))).severity is Severity.ERROR

    def test_busy(self) -> None:
        """A destination that somebody else holds is a problem once it has been so for long."""
        busy = {"ended_by": "destination_busy", "message": "it is locked"}
        assert diagnose(facts(runs=[run_row(30, **busy)])) == ()
        runs = [run_row(30, **busy), run_row(400, **busy), run_row(1000, **busy), run_row(2000)]
        problem = only(diagnose(facts(runs=runs)))
        assert (problem.cause, problem.since) == (Cause.DESTINATION, NOW - 1000)


class TestRuns:
    def test_hung(self) -> None:
        """A lock that is held for too long by a run that ships nothing is named with its holder."""
        holder = HolderSeen(words="process 7", since=NOW - 4000, state="stopped")
        problem = only(diagnose(facts(holder=holder)))
        assert (problem.cause, problem.since) == (Cause.HUNG_RUN, NOW - 4000)
        assert "process 7; it is stopped" in problem.sentence

    def test_a_long_run_that_ships_does_not_hang(self) -> None:
        """A run that has shipped something lately is at work, however long it takes."""
        assert diagnose(facts(holder=HolderSeen(words="p", since=NOW - 4000, shipped_at=NOW - 10))) == ()
        assert diagnose(facts(holder=HolderSeen(words="p", since=NOW - 400))) == ()
        assert diagnose(facts(holder=HolderSeen(words="p", since=None))) == ()

    def test_the_time_budget_says_when_a_run_hangs(self) -> None:
        """With a time budget a run hangs when that is over for some minutes."""
        assert hung_after(max_runtime_seconds=60, drain_seconds=20) == 380
        assert hung_after(max_runtime_seconds=None, drain_seconds=20) == 3600

    def test_not_run(self) -> None:
        """No run for much longer than usual is an error where files wait, and a warning where none do."""
        runs = [run_row(5000 + 60 * number) for number in range(5)]
        problem = only(diagnose(facts(runs=runs, waiting=1)))
        assert (problem.cause, problem.severity, problem.since) == (Cause.NOT_RUN, Severity.ERROR, NOW - 4999)
        assert only(diagnose(facts(runs=runs, waiting=0))).severity is Severity.WARNING
        assert only(diagnose(facts(runs=[], waiting=1))).since is None

    def test_one_run_has_no_pace(self) -> None:
        """After a few runs by hand nobody knows when the next is due: after hours it is not called late."""
        for runs in (
            [50_000],
            [50_000, 50_060],
            [50_000, 50_060, 50_120, 50_500],
            [50_000, 50_030, 51_000, 58_000, 58_009],
        ):
            assert diagnose(facts(runs=list(map(run_row, runs)), waiting=1)) == ()

    def test_a_timer_that_is_stopped(self) -> None:
        """It is named with what starts it, unless something else has started a run just now."""
        stopped = Starter(unit="s3-uploader.timer", is_active=False)
        problem = only(diagnose(facts(runs=[run_row(500)], waiting=1, starter=stopped)))
        assert (problem.cause, problem.severity, problem.since) == (Cause.NOT_RUN, Severity.ERROR, NOW - 499)
        assert problem.sentence.startswith("s3-uploader.timer, which starts the runs, is stopped; the last run was 8")
        assert problem.remedy == "Start it: systemctl enable --now s3-uploader.timer"
        assert only(diagnose(facts(runs=[], waiting=0, starter=stopped))).severity is Severity.WARNING
        assert diagnose(facts(starter=stopped)) == ()
        hourly = [run_row(4000 + 3600 * number) for number in range(6)]
        assert diagnose(facts(runs=hourly, starter=stopped)) == ()
        at_work = msgspec.structs.replace(stopped, is_active=True)
        assert diagnose(facts(runs=[run_row(50_000)], waiting=1, starter=at_work)) == ()
        own = msgspec.structs.replace(stopped, is_user=True)
        assert "systemctl --user enable" in only(diagnose(facts(runs=[], waiting=1, starter=own))).remedy

    def test_runs_that_leave_no_record(self) -> None:
        """Where a timer is active, or this user may not write to the state directory, the timer is not blamed alone."""
        active = Starter(unit="s3-uploader-den.timer", is_active=True)
        problem = only(diagnose(facts(runs=[], waiting=1, starter=active)))
        assert "s3-uploader-den.timer is active" in problem.remedy
        assert "`journalctl -u s3-uploader-den`" in problem.remedy
        own = msgspec.structs.replace(active, is_user=True)
        assert "`journalctl --user -u s3-uploader-den`" in only(diagnose(facts(runs=[], waiting=1, starter=own))).remedy
        problem = only(diagnose(facts(runs=[], waiting=1, not_writable="/state/\n")))
        assert problem.sentence.endswith("files wait; this user may not write to /state/\\n")
        assert problem.remedy.startswith("If the runs are this user's, name a state_dir that it may write to. Other")
        assert "Start the timer" in problem.remedy
        late = [run_row(5000 + 60 * number) for number in range(6)]
        assert "let it write to /state" in only(diagnose(facts(runs=late, waiting=1, not_writable="/state"))).remedy
        assert diagnose(facts(waiting=1, not_writable="/state")) == ()

    @pytest.mark.parametrize("waiting", [0, 1])
    def test_a_watch_between_two_passes(self, waiting: int) -> None:
        """Its interval says when the next pass is due; what it waits for, and that it is stopped, is said."""
        runs = [run_row(7200), run_row(7260)]

        def found(interval: float | None, **changes: Any) -> tuple[Problem, ...]:
            watch = WatchSeen(words="process 1", since=NOW - 9000, interval=interval, state="stopped")
            return diagnose(facts(runs=runs, watch=watch, waiting=waiting, **changes))

        problem = only(found(9.0))
        assert (problem.cause, problem.since) == (Cause.NOT_RUN, NOW - 7199)
        assert problem.severity is (Severity.ERROR if waiting else Severity.WARNING)
        assert problem.sentence.endswith(": process 1; it is stopped")
        assert found(3600.0) == ()
        assert found(None) == ()
        assert found(9.0, holder=HolderSeen(words="it", since=NOW - 20)) == ()
        full = FullDisk(purpose="state directory", directory="/state", why="is full")
        assert only(found(9.0, full=[full])).cause is Cause.DISK_FULL

    def test_a_watch_that_has_just_begun(self) -> None:
        """It is not late because nothing ran before it."""
        watch = WatchSeen(words="process 1", since=NOW - 60, interval=9.0)
        assert diagnose(facts(runs=[run_row(9000)], watch=watch)) == ()
        assert diagnose(facts(runs=[], watch=watch, waiting=1)) == ()

    def test_runs_without_a_rhythm_are_missed_too(self) -> None:
        """Where runs have come for a day, however unevenly, one is missed after a few times the longest gap."""
        hours = [5, 6, 6.1, 9, 9.5, 12, 15, 15.2, 20, 24, 28, 30]
        (problem,) = diagnose(facts(now=NOW + 10 * 3600, runs=[run_row(each * 3600) for each in hours], waiting=1))
        assert problem.cause is Cause.NOT_RUN
        assert "two runs were never more than 5 h apart" in problem.sentence
        assert diagnose(facts(runs=[run_row(each * 3600) for each in hours], waiting=1)) == ()

    @pytest.mark.parametrize("end", [{"finished_at": None, "ended_by": ""}, {"ended_by": "signal", "exit_code": 143}])
    def test_runs_that_die(self, end: dict[str, Any]) -> None:
        """Where run after run is killed, or sent a signal, that is so since the last that came to its end."""
        dead = [run_row(ago, **end) for ago in (30, 90, 150)]
        ticks = run_row(5000, ticks=80, finished_at=NOW - 210)
        problem = only(diagnose(facts(runs=[*dead, ticks], waiting=3)))
        assert (problem.cause, problem.severity, problem.since) == (Cause.NOT_RUN, Severity.ERROR, NOW - 210)
        assert "the last 3 were killed or interrupted" in problem.sentence
        assert only(diagnose(facts(runs=dead))).since == NOW - 150
        assert only(diagnose(facts(runs=dead, waiting=0))).severity is Severity.WARNING
        assert diagnose(facts(runs=[*dead[:2], ticks], waiting=3)) == ()

    def test_runs_that_are_not_over(self) -> None:
        """Runs that others have begun meanwhile, or that have the spool now, are not dead ones."""
        begun = [run_row(ago, finished_at=None) for ago in (30, 90, 150)]
        assert diagnose(facts(runs=[*begun, run_row(600, finished_at=NOW)])) == ()
        assert diagnose(facts(runs=begun, holder=HolderSeen(words="p", since=NOW - 5))) == ()

    def test_some_is_shipped_before_the_end(self) -> None:
        """Runs that are interrupted after they have shipped something are no standstill."""
        runs = [run_row(ago, ended_by="signal", shipped=5) for ago in (30, 90, 150)]
        assert only(diagnose(facts(runs=runs, waiting=3))).severity is Severity.WARNING

    def test_what_is_usual_comes_from_the_ledger(self) -> None:
        """Runs once a day are not late after an hour; rows of ticks tell their pace too."""
        day = 86400.0
        assert diagnose(facts(runs=[run_row(day), run_row(2 * day), run_row(3 * day)], waiting=1)) == ()
        pace = pace_of([run_row(660, ticks=11, finished_at=NOW - 60)])
        assert pace is not None
        assert pace.seconds == 60
        assert pace_of([run_row(5)]) is None

    def test_a_run_at_work_is_not_missing(self) -> None:
        """While a run has the lock nobody misses the next one."""
        assert diagnose(facts(runs=[run_row(50_000)], waiting=1, holder=HolderSeen(words="p", since=NOW - 5))) == ()


class TestState:
    def test_a_run_that_cannot_begin(self) -> None:
        """What prevents a run is named, since the last run that was one."""
        problem = only(diagnose(facts(prevented=StateError("it is full", code="DiskFull"))))
        assert (problem.cause, problem.since) == (Cause.DISK_FULL, NOW - 29)
        problem = only(diagnose(facts(prevented=SpoolError("it is gone"))))
        assert (problem.cause, problem.path) == (Cause.UNREADABLE, "/spool")

    @pytest.mark.parametrize(
        ("message", "clause"),
        [
            ("The ledger /a is damaged.", "the ledger /a is damaged."),
            ("/a cannot be read.", "/a cannot be read."),
            ("SQLite says no.", "SQLite says no."),
            ("The", "the"),
        ],
    )
    def test_its_message_follows_because(self, message: str, clause: str) -> None:
        """The verdict is one sentence, in which the message of the error is a clause."""
        assert only(diagnose(facts(prevented=StateError(message)))).sentence == clause

    def test_not_everything_is_a_full_disk(self) -> None:
        """A ledger that this user may not write to, or of a newer version, is no full disk."""
        problem = only(diagnose(facts(prevented=StateError("it is another's", code="Denied"))))
        assert (problem.cause, problem.path) == (Cause.UNREADABLE, None)
        assert only(diagnose(facts(prevented=StateError("it is newer")))).cause is Cause.NOT_RUN

    def test_a_full_disk(self) -> None:
        """A full disk is named by its directory."""
        problem = only(diagnose(facts(full=[FullDisk(purpose="state directory", directory="/state", why="is full")])))
        assert (problem.cause, problem.path) == (Cause.DISK_FULL, "/state")

    def test_a_disk_that_is_read_only(self) -> None:
        """Nobody is sent to make room on a disk that is mounted read-only."""
        disk = FullDisk(purpose="state directory", directory="/state", why="is mounted read-only", is_read_only=True)
        problem = only(diagnose(facts(full=[disk])))
        assert problem.remedy.startswith("Mount it writable")

    def test_a_full_disk_hides_that_no_run_is_recorded(self) -> None:
        """Where nothing can be recorded, nobody is sent to look at the timer."""
        full = FullDisk(purpose="state directory", directory="/state", why="is full")
        assert only(diagnose(facts(runs=[], waiting=3, full=[full]))).cause is Cause.DISK_FULL

    def test_a_spool_without_room(self) -> None:
        """Producers cannot write there: attention, after what keeps the spool from being emptied."""
        full = FullDisk(purpose="spool", directory="/spool", why="is full")
        problem = only(diagnose(facts(full=[full])))
        assert (problem.cause, problem.severity, problem.path) == (Cause.DISK_FULL, Severity.WARNING, "/spool")
        assert "producers cannot write there" in problem.sentence
        runs = [abandoned(30, Origin.CREDENTIALS)]
        causes = [each.cause for each in diagnose(facts(full=[full], runs=runs))]
        assert causes == [Cause.CREDENTIALS, Cause.DISK_FULL]

    def test_a_ledger_that_could_not_be_written(self) -> None:
        """A run that the ledger ended, if it could be noted at all."""
        runs = [run_row(30, exit_code=1, ended_by="state", message="full")]
        assert only(diagnose(facts(runs=runs))).cause is Cause.DISK_FULL
