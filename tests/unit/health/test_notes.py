"""What is remembered on a full disk: when a person was told that it is full."""

from __future__ import annotations

from pathlib import Path

from s3_uploader.health import NOTE_OF_FULL_DISK, notes

HOUR, DAY = 3600.0, 86400.0
BEGAN = 1_700_000_000.0


def test_the_distances_are_those_of_every_trouble(tmp_path: Path) -> None:
    """Told at once, after an hour, six hours, a day, and then each week."""
    told = [hour for hour in range(24 * 20) if notes.is_due(str(tmp_path), NOTE_OF_FULL_DISK, BEGAN + hour * HOUR)]
    assert told == [0, 1, 7, 31, 31 + 168, 31 + 336]


def test_no_room_is_taken(tmp_path: Path) -> None:
    """What is remembered has no content, and nothing is left of it when there is room again."""
    notes.is_due(str(tmp_path), NOTE_OF_FULL_DISK, BEGAN)
    assert (tmp_path / NOTE_OF_FULL_DISK).stat().st_size == 0
    notes.is_due(str(tmp_path), NOTE_OF_FULL_DISK, BEGAN + 2 * HOUR)
    noted = notes.over(str(tmp_path), NOTE_OF_FULL_DISK)
    assert noted is not None
    assert (noted.since, noted.last) == (BEGAN, BEGAN + 2 * HOUR)
    assert list(tmp_path.iterdir()) == []
    assert notes.over(str(tmp_path), NOTE_OF_FULL_DISK) is None


def test_another_time_is_news(tmp_path: Path) -> None:
    """A disk that is full again long after begins a new row."""
    told = [notes.is_due(str(tmp_path), NOTE_OF_FULL_DISK, BEGAN + hour * HOUR) for hour in (0, 1, 8)]
    assert told == [True, True, True]
    later = BEGAN + 90 * DAY
    assert [notes.is_due(str(tmp_path), NOTE_OF_FULL_DISK, later + hours * HOUR) for hours in (0.0, 0.5, 1.1)] == [
        True,
        False,
        True,
    ]


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """What was told in the future is told again."""
    notes.is_due(str(tmp_path), NOTE_OF_FULL_DISK, BEGAN + DAY)
    assert notes.is_due(str(tmp_path), NOTE_OF_FULL_DISK, BEGAN)


def test_where_nothing_can_be_noted(tmp_path: Path) -> None:
    """It is told each time, which is better than never."""
    gone = str(tmp_path / "gone")
    assert notes.is_due(gone, NOTE_OF_FULL_DISK, BEGAN)
    assert notes.is_due(gone, NOTE_OF_FULL_DISK, BEGAN + 60)
