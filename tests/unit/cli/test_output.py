"""What commands print for people fits their terminal, and nothing that matters is lost for it."""

from __future__ import annotations

import errno
import io
import sys

import pytest

from s3_uploader.cli.frame import guarded
from s3_uploader.cli.output import cut, table, wrapped, write_text

SENTENCE = "  To do: Look at /a/very/long/path/that/is/wider/than/the/whole/terminal and make room there."


def test_sentences_are_broken_between_words() -> None:
    """A path stays whole, so that it can be copied, however narrow the terminal is."""
    lines = wrapped(SENTENCE, 40, indent=9)
    assert lines == [
        "  To do: Look at",
        "         /a/very/long/path/that/is/wider/than/the/whole/terminal",
        "         and make room there.",
    ]
    assert " ".join(line.strip() for line in lines) == SENTENCE.strip()


@pytest.mark.parametrize("width", [None, 200])
def test_what_fits_stays_as_it_is(width: int | None) -> None:
    """A program that reads the output, or a wide terminal, gets each sentence on one line."""
    assert wrapped(SENTENCE, width, indent=9) == [SENTENCE]
    assert cut(SENTENCE, width) == SENTENCE


def test_rows_of_tables_are_cut() -> None:
    """A row that is too wide ends in an ellipsis, within the terminal."""
    assert cut("2026-11-28  destination unusable", 20) == "2026-11-28  destina…"


def test_wide_characters_take_two_columns() -> None:
    """Names in Chinese, Japanese or Korean push no column out of place, and no line over the edge of the screen."""
    assert cut("寝室の温度計と湿度計", 10) == "寝室の温…"
    assert cut("寝室の温度", 10) == "寝室の温度"
    assert cut("cafe\u0301s", 5) == "cafe\u0301s"
    lines = table(("location", "files"), [("寝室", "3"), ("attic", "12")], right=(1,))
    assert lines == ["location  files", "寝室          3", "attic        12"]


ROWS = [("  bedroom", "3", "200 B", "done: " + "x" * 40), ("  attic", "1", "", "done")]
HEADS = ("  location", "files", "size", "outcome")


def test_the_last_column_of_a_table_may_be_cut() -> None:
    """A long outcome leaves the figures before it side by side."""
    assert table(HEADS, ROWS, right=(1, 2), width=40) == [
        "  location  files   size  outcome",
        "  bedroom       3  200 B  done: xxxxxxx…",
        "  attic         1         done",
    ]


def test_a_row_that_has_no_room_becomes_lines() -> None:
    """In a terminal that is narrower than the figures each of them is still there, with its head."""
    lines = table(HEADS, ROWS, right=(1, 2), width=30)
    assert lines[:2] == ["  location bedroom", "    files 3, size 200 B,"]
    assert lines[-2:] == ["  location attic", "    files 1, outcome done"]
    assert table(HEADS, ROWS, right=(1, 2))[1].endswith("x" * 40)


class FullDisk(io.StringIO):
    """A stream whose disk is full; nothing is left in its buffer afterwards."""

    def write(self, text: str) -> int:
        """Refuse."""
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_under_standard_output_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not taken for a disk of the spool, also when a large write failed and flushing would not fail."""

    def work() -> int:
        write_text("a line\n")
        return 0

    monkeypatch.setattr(sys, "stdout", FullDisk())
    assert guarded(work) == 1
    assert capsys.readouterr().err == "Standard output cannot be written: No space left on device.\n"
