"""How an error becomes a sentence and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3_uploader import cli
from s3_uploader.cli import process
from s3_uploader.cli.exit_codes import SOME_FAILED, USAGE
from s3_uploader.cli.frame import guarded
from s3_uploader.cli.names import NO_MEMORY, Form


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


def test_a_current_directory_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Relative paths lead nowhere then, and the message says why."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert guarded(lambda: len(os.path.realpath("spool"))) == USAGE
    assert capsys.readouterr().err == (
        "The directory in which this command was started has been removed. Start it in another one.\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/spool/a"),
        OSError(errno.ENFILE, os.strerror(errno.ENFILE)),
        ImportError("_zoneinfo.so: cannot open shared object file: Too many open files"),
    ],
)
def test_no_descriptors_are_no_bug(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that may open no more files, not even those of a library, says what to raise."""
    assert guarded(lambda: failing(error)) == SOME_FAILED
    sentence = capsys.readouterr().err
    assert "Too many open files" in sentence
    assert sentence.endswith("Raise this user's limit of open files (ulimit -n).\n")


def test_no_memory_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine without memory is one sentence, too."""
    assert guarded(lambda: failing(MemoryError())) == SOME_FAILED
    assert capsys.readouterr().err == "The system has no memory left. Files that were not shipped are kept.\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("libsqlite3.so.0: failed to map segment from shared object"), "The system has no memory left"),
        (ImportError("libz.so: cannot open shared object file: Cannot allocate memory"), "no memory left"),
        (SystemError("<built-in function compile> returned NULL without setting an exception"), "no memory left"),
        (SystemError("error return without exception set"), "no memory left"),
        (RuntimeError("can't allocate lock"), "no memory left"),
        (RuntimeError("can't start new thread"), "No thread can be started"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "Cannot allocate memory"),
    ],
)
def test_no_memory_has_many_names(error: Exception, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever Python and its libraries make of it, it is one sentence; for a plugin it is an unknown state."""
    assert guarded(lambda: failing(error)) == SOME_FAILED
    assert words in capsys.readouterr().err
    assert guarded(lambda: failing(error), form=Form.PLUGIN) == 3
    line = capsys.readouterr().out
    assert line.startswith("S3_UPLOADER UNKNOWN - ")
    assert words in line


@pytest.mark.parametrize(
    "error", [ImportError("no module named x"), RuntimeError("oops"), SystemError("oops"), EOFError("oops")]
)
def test_other_errors_are_bugs(error: Exception) -> None:
    """Of the same kinds only those that speak of memory are no bugs."""
    with pytest.raises(type(error)):
        guarded(lambda: failing(error))


def test_no_memory_before_a_command_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is the same sentence, and bugs are shown there too."""
    monkeypatch.setattr(gc, "disable", lambda: None)
    for given, code, place in (["status", "c.json"], 1, "err"), (["status", "--plugin", "c.json"], 3, "out"):
        monkeypatch.setattr(sys, "argv", ["s3-uploader-cli", *given])
        for error in (MemoryError(), ImportError("x.so: failed to map segment from shared object")):
            monkeypatch.setattr(process, "prepare", lambda error=error: failing(error))
            assert cli.main() == code
            assert NO_MEMORY in getattr(capfd.readouterr(), place)
    for bug in (ImportError("no module named x"), EOFError("oops")):
        monkeypatch.setattr(process, "prepare", lambda bug=bug: failing(bug))
        with pytest.raises(type(bug)):
            cli.main()


def test_a_bug_is_shown_as_one() -> None:
    """What is neither an error of ours nor of the system keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)


ENDS = """\
import atexit, os, sys, threading, time
from s3_uploader import cli

def later():
    time.sleep(0.2)
    print("thread")

def main():
    print("main")
    %s
    return 7

atexit.register(print, "at exit")
cli.main = main
cli.command()
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("pass", ["main", "at exit"]),
        ("threading.Thread(target=later).start()", ["main", "thread", "at exit"]),
        ("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", ["main", "at exit"]),
    ],
)
def test_the_end_of_the_process_leaves_nothing_undone(before: str, said: list[str]) -> None:
    """The program ends without taking the interpreter apart, but what waits for its end is done, and all is written."""
    done = subprocess.run([sys.executable, "-c", ENDS % before], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.split("\n")[:-1], done.stderr) == (7, said, "")


def test_output_that_cannot_be_written_at_the_end_is_an_error() -> None:
    """As Python has it: what was buffered is lost, and the exit code says so."""
    with open("/dev/full", "w", encoding="ascii") as full:
        command = [sys.executable, "-E", "-c", f"import sys; sys.path[:0] = {sys.path}\n{ENDS % 'pass'}"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 120
    assert os.strerror(errno.ENOSPC) in done.stderr
