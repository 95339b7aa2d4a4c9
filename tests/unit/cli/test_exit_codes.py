"""How an error becomes a sentence and an exit code."""

from __future__ import annotations

import errno
import os

import pytest

from s3_uploader.cli.exit_codes import SOME_FAILED, guarded


def failing(error: BaseException) -> int:
    """The work of a command that meets an error."""
    raise error


def test_a_disk_that_fails_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the system that nothing more is known of is one sentence with its reason and place."""
    error = OSError(errno.EIO, os.strerror(errno.EIO), b"/spool/\xff")
    assert guarded(lambda: failing(error)) == SOME_FAILED
    assert capsys.readouterr().err == (
        "The system refused an operation: Input/output error: /spool/\\xff. Files that were not shipped are kept.\n"
    )


def test_no_memory_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine without memory is one sentence, too."""
    assert guarded(lambda: failing(MemoryError())) == SOME_FAILED
    assert capsys.readouterr().err == "The system has no memory left. Files that were not shipped are kept.\n"


def test_a_bug_is_shown_as_one() -> None:
    """What is neither an error of ours nor of the system keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)
