"""How often a lasting trouble is told."""

from __future__ import annotations

from s3_uploader.core.events import Event, LocalTrouble, Notice, RunFinished, UploadFailed
from s3_uploader.core.model import RunReport
from s3_uploader.health.said import Said, Sayings
from s3_uploader.health.telling import Telling

HOUR, DAY = 3600.0, 86400.0


def test_the_distances_grow() -> None:
    """Told at once, after an hour, six hours, a day, and then each week."""
    said: dict[str, Said] = {}
    told = []
    for hour in range(24 * 30):
        sayings = Sayings(said, now=hour * HOUR)
        if sayings.is_due("x", "it is so"):
            told.append(hour)
        said = sayings.said
    assert told == [0, 1, 7, 31, 31 + 168, 31 + 336, 31 + 504, 31 + 672]


def test_a_clock_that_was_set_back() -> None:
    """What was told in the future is told again."""
    assert Sayings({"x": Said(DAY, DAY)}, now=0.0).is_due("x", "")


def test_who_looks_on_is_told_each_time() -> None:
    """And that does not change when others are told."""
    before = {"x": Said(0.0, 0.0, 1, "it is so")}
    sayings = Sayings(before, now=60.0, says_again=True)
    assert sayings.is_due("x", "it is so")
    assert sayings.said == before


def test_what_is_over() -> None:
    """What was told and is no longer so is over; what has no words for that is only forgotten."""
    sayings = Sayings({"x": Said(0.0, 0.0, 1, "it is so"), "y": Said(0.0, 0.0)}, now=60.0)
    assert [said.words for said in sayings.over()] == ["it is so"]


def events(said: dict[str, Said], *, now: float) -> tuple[list[bool], dict[str, Said]]:
    """Which events of a run in trouble are no news, and what is remembered."""
    report = RunReport(base_dir="/s", destination="b", started_at=now, duration=1, exit_code=3, ended_by="x")
    seen: list[Event] = []
    sayings = Sayings(said, now=now)
    telling = Telling(seen.append, sayings)
    for event in (
        UploadFailed("/s/x", "", "b/x", "NoSuchBucket", "m", "", 1, None),
        UploadFailed("/s/y", "", "b/y", "Conflict", "m", "", 1, now + 60),
        LocalTrouble("/s/z", "read", "no"),
        Notice("warning", "once"),
        Notice("error", "The run was abandoned", about="destination"),
        RunFinished(report),
    ):
        telling(event)
    return [getattr(event, "is_repeated", False) for event in seen], sayings.said


def abandoned(said: dict[str, Said], about: str, *, now: float) -> tuple[bool, list[str], dict[str, Said]]:
    """Whether the end of a run is told, what it says is over, and what is remembered."""
    seen: list[Notice] = []
    sayings = Sayings(said, now=now)
    Telling(lambda event: seen.append(event) if isinstance(event, Notice) else None, sayings)(
        Notice("error", f"abandoned: {about}", about=about)
    )
    return not seen[0].is_repeated, [each.words for each in sayings.over()], sayings.said


def test_another_error_of_the_destination_is_told_at_once() -> None:
    """Whoever corrects one mistake and makes the next reads of it; two that take turns are told of once each."""
    said: dict[str, Said] = {}
    told = []
    for minute, error in enumerate(["destination", "destination NoCredentials", "destination ProfileNotFound"] * 2):
        is_told, over, said = abandoned(said, error, now=60.0 * minute)
        told.append(is_told)
        assert over == []
    assert told == [True, True, True, False, False, False]
    is_told, over, _ = abandoned(said, "destination_busy", now=600.0)
    assert is_told
    assert sorted(over) == [
        "abandoned: destination",
        "abandoned: destination NoCredentials",
        "abandoned: destination ProfileNotFound",
    ]


def test_a_run_after_the_other() -> None:
    """What every file would meet, what cannot be read and the end are no news; a file's own failure always is."""
    first, said = events({}, now=0.0)
    second, said = events(said, now=60.0)
    assert first == [False] * 6
    assert second == [True, False, True, False, True, True]
    assert events(said, now=2 * HOUR)[0] == [False] * 6
