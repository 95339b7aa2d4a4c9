"""Why some files stay: each cause, since when, on which file, and what to do."""

from __future__ import annotations

import msgspec
import pytest

from s3_uploader.core.findings import Cause, Severity, Stranger, Strangers
from s3_uploader.core.model import Untouchable
from s3_uploader.core.origins import Origin
from s3_uploader.health.diagnosis import diagnose
from s3_uploader.health.observations import FutureFiles, OpenFileSeen, ReadyFiles
from tests.health_values import NOW, abandoned, facts, kind, only, run_row


class TestFiles:
    @pytest.mark.parametrize(
        ("origin", "cause"),
        [
            ("file", Cause.FAILING_FILE),
            ("unreachable", Cause.FAILING_FILE),
            ("clock", Cause.FAILING_FILE),
            ("", Cause.FAILING_FILE),
            ("of a later version", Cause.FAILING_FILE),
            ("conflict", Cause.CONFLICT),
            ("not_removed", Cause.UNREADABLE),
            ("source", Cause.UNREADABLE),
            ("not_moved", Cause.UNREADABLE),
            ("no_room_to_move", Cause.DISK_FULL),
            ("full", Cause.DISK_FULL),
            ("no_room_here", Cause.DISK_FULL),
            ("file_right", Cause.CREDENTIALS),
            ("credentials", Cause.CREDENTIALS),
        ],
    )
    def test_failing(self, origin: str, cause: Cause) -> None:
        """Of failing files the oldest is named, with the time of its first failure and of its next retry."""
        kinds = [kind("X", origin=origin, files=2)]
        problem = only(diagnose(facts(failing=kinds)))
        assert (problem.cause, problem.since, problem.path) == (cause, NOW - 900, "/spool/bedroom/x")
        assert problem.severity is Severity.WARNING
        assert "1 other file too" in problem.sentence
        assert "60 s" in problem.next

    def test_once_is_not_again(self) -> None:
        """A file that failed once for a reason that may pass is no problem yet; a conflict does not pass."""
        assert diagnose(facts(failing=[kind("ReadTimeout", attempts=1)])) == ()
        assert only(diagnose(facts(failing=[kind("Conflict", origin="conflict", attempts=1)]))).cause is Cause.CONFLICT

    def test_a_conflict_is_told_once(self) -> None:
        """The message says that the key is taken, and by what; the sentence does not say it again."""
        kinds = [kind("X", origin="conflict", message="b/x is taken by other content.")]
        assert only(diagnose(facts(failing=kinds))).sentence.count("taken by other content") == 1

    def test_open_writer(self) -> None:
        """A file that is open for more than an hour is named, with who has it open."""
        seen = OpenFileSeen(path="a/b", since=NOW - 7200, by="process 7: logger")
        assert diagnose(facts(not_finished=[OpenFileSeen(path="a/b", since=NOW - 60)])) == ()
        problem = only(diagnose(facts(not_finished=[seen])))
        assert (problem.cause, problem.path, problem.since) == (Cause.OPEN_WRITER, "/spool/a/b", NOW - 7200)
        assert "process 7" in problem.sentence

    def test_unreadable(self) -> None:
        """Entries that cannot be read, since the first run in a row that could not."""
        runs = [run_row(ago, exit_code=1, left={"unreadable": 2}) for ago in (30, 90)] + [run_row(150)]
        problem = only(diagnose(facts(runs=runs)))
        assert (problem.cause, problem.since, problem.files) == (Cause.UNREADABLE, NOW - 90, 2)

    def test_unreadable_by_name(self) -> None:
        """Such an entry is named where the run has remembered one, with its own reason and remedy."""
        runs = [run_row(30, exit_code=1, left={"unreadable": 2})]
        entry = Untouchable("/spool/a", "read", "Input/output error", "See `dmesg`.")
        problem = only(diagnose(facts(runs=runs, untouchable=entry)))
        assert problem.sentence == "/spool/a cannot be read (1 other entry too): input/output error"
        assert (problem.remedy, problem.path) == ("See `dmesg`.", "/spool/a")
        assert diagnose(facts(runs=[run_row(30)], untouchable=entry)) == ()

    def test_disk_that_fails(self) -> None:
        """A file that the kernel does not deliver is not said to be shipped; the disk is what to look at."""
        problem = only(
            diagnose(facts(failing=[kind("SourceUnreadable", origin="source", message="input/output error")]))
        )
        assert "cannot be shipped" in problem.sentence
        assert "dmesg" in problem.remedy

    def test_files_from_the_future(self) -> None:
        """A file from the future is named as what it is: a clock that is wrong."""
        future = FutureFiles(files=3, path="a/b", seconds=7200, since=NOW - 5)
        problem = only(diagnose(facts(future=future)))
        assert (problem.cause, problem.path) == (Cause.CLOCK, "/spool/a/b")
        assert "2 other files too" in problem.sentence

    def test_a_run_in_the_future(self) -> None:
        """A last run in the future shows that the clock was set back."""
        assert only(diagnose(facts(runs=[run_row(-7200)]))).cause is Cause.CLOCK


class TestBehind:
    """Files that could have been shipped."""

    def test_falling_behind(self) -> None:
        """Runs that use up their time and each leave more than the one before."""
        runs = [run_row(30 + 60 * n, ended_by="budget", backlog=100 - n) for n in range(4)]
        problem = only(diagnose(facts(runs=runs)))
        assert (problem.cause, problem.since, problem.files) == (Cause.FALLING_BEHIND, NOW - 150, 100)
        assert diagnose(facts(runs=runs[:3])) == ()

    def test_left_behind(self) -> None:
        """A file that is ready and that a run has left for an hour is a problem, whatever the reason."""
        ready = ReadyFiles(files=3, path="a/b", since=NOW - 7200)
        ticks = [run_row(9000, ticks=150, finished_at=NOW - 30)]
        problem = only(diagnose(facts(runs=ticks, ready=ready)))
        assert (problem.cause, problem.severity, problem.since) == (Cause.FALLING_BEHIND, Severity.WARNING, NOW - 7200)
        assert (problem.path, problem.files) == ("/spool/a/b", 3)
        assert diagnose(facts(runs=ticks, ready=ReadyFiles(files=1, path="a", since=NOW - 3000))) == ()
        assert only(diagnose(facts(runs=[abandoned(30, Origin.CREDENTIALS)], ready=ready))).cause is Cause.CREDENTIALS

    def test_its_turn_has_not_come(self) -> None:
        """A file that came after the last of some daily runs is not behind; after one run, it is within a day."""
        day = 86400.0
        ready = ReadyFiles(files=1, path="a", since=NOW - 30_000)
        daily = [run_row(40_000), run_row(40_000 + day), run_row(40_000 + 2 * day)]
        assert diagnose(facts(runs=daily, ready=ready)) == ()
        assert diagnose(facts(runs=daily[:1], ready=ready)) == ()
        ready = ReadyFiles(files=1, path="a", since=NOW - 2 * day)
        assert only(diagnose(facts(runs=[run_row(3 * day)], ready=ready))).cause is Cause.FALLING_BEHIND


class TestUnmatched:
    """Files that the layout does not recognise."""

    FOUND = Strangers(
        files=5, oldest=Stranger("x.csv", "ends in .csv", NOW - 90_000), proposal='"layout": "tree"', proposed=5
    )

    def test_older_than_a_day(self) -> None:
        """Attention, with the oldest, why, since when, and the configuration that would ship them."""
        found = msgspec.structs.replace(self.FOUND, old=2)
        (problem,) = diagnose(facts(strangers=found, layout="dated"))
        assert (problem.cause, problem.severity, problem.files) == (Cause.UNMATCHED, Severity.WARNING, 2)
        assert (problem.path, problem.since) == ("/spool/x.csv", NOW - 90_000)
        assert "/spool/x.csv does not match the layout dated (location/YYYY/" in problem.sentence
        assert '"layout": "tree"' in problem.remedy

    def test_young_ones(self) -> None:
        """Their producer may be about to rename them, unless nothing ever came through."""
        assert diagnose(facts(strangers=self.FOUND)) == ()
        (problem,) = diagnose(facts(strangers=self.FOUND, are_all_strangers=True, layout="dated"))
        assert problem.sentence.startswith("none of the 5 files matches the layout dated (location/")
        assert problem.sentence.endswith(": /spool/x.csv (ends in .csv)")
        assert problem.files == 5
