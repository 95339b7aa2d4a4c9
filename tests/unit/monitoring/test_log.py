"""The log: the lines that people and scripts read, as text, as JSON, and as records of ``logging``."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core import files
from s3_uploader.core.events import (
    DirectoryPruned,
    Event,
    FileLeft,
    LocalTrouble,
    Notice,
    RunFinished,
    RunStarted,
    StrangersFound,
    Uploaded,
    UploadFailed,
    UploadStarted,
)
from s3_uploader.core.findings import Stranger, Strangers
from s3_uploader.core.model import Left, Proof, Receipt, RunReport
from s3_uploader.core.text import ended
from s3_uploader.monitoring.log import ALIKE, Level, Log, Verbosity, summary
from s3_uploader.monitoring.logging_adapter import LoggingAdapter

PATH = "/base_dir/bedroom/2020/11/29/20/46-topic.dat"
ADDRESS = "bucket/bedroom/2020/11/29/20/46-topic.dat"
NOW = 1_605_472_300.717
SEED_TIME = "2020-11-15 20:31:40,717"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def uploaded(path: str = PATH, **changes: object) -> Uploaded:
    """An upload."""
    receipt = Receipt(key="k", size=5, proof=Proof.MD5)
    values: dict = {
        "path": path,
        "location": "bedroom",
        "store_name": "bucket",
        "address": ADDRESS,
        "receipt": receipt,
        "seconds": 0.1,
    }
    return Uploaded(**{**values, **changes})


def failed(path: str = PATH, **changes: object) -> UploadFailed:
    """A failed upload."""
    values: dict = {
        "path": path,
        "location": "bedroom",
        "address": ADDRESS,
        "code": "InvalidAccessKeyId",
        "message": "An error occurred (InvalidAccessKeyId) when calling the PutObject operation: "
        "The AWS Access Key Id you provided does not exist in our records.",
        "hint": "",
        "attempts": 1,
        "next_try_at": None,
    }
    return UploadFailed(**{**values, **changes})


def report(**changes: object) -> RunReport:
    """The report of a run that found nothing to do."""
    values: dict = {
        "base_dir": "/base_dir",
        "destination": "bucket",
        "started_at": NOW,
        "duration": 0.44,
        "exit_code": 0,
    }
    return RunReport(**{**values, **changes})


def finished(**changes: object) -> RunFinished:
    """The end of a run."""
    return RunFinished(report(**changes))


def lines(*events: Event, **options: object) -> list[str]:
    """What the log writes about the events."""
    stream = io.StringIO()
    with Log(stream, clock=lambda: NOW, **options) as log:  # type: ignore[arg-type]
        for event in events:
            log(event)
    return stream.getvalue().splitlines()


def sentences(*events: Event, **options: object) -> list[str]:
    """The same without time and level."""
    return [line.split(" - ", 2)[2] for line in lines(*events, **options)]


# ------------------------------------------------------------------------------------------------ the known lines


def test_an_upload_is_logged_in_the_known_form() -> None:
    """An uploaded file is one line with time, level, path and bucket."""
    assert lines(uploaded()) == [f"{SEED_TIME} -   INFO - {PATH} has been uploaded to bucket."]


def test_a_failure_is_logged_in_the_known_form() -> None:
    """A failed upload is one line with time, level, path, address and the destination's own words."""
    assert "\n".join(lines(failed())) == (
        f"{SEED_TIME} - WARNING - Failed to upload {PATH} to {ADDRESS}: An error occurred (InvalidAccessKeyId) when "
        "calling the PutObject operation: The AWS Access Key Id you provided does not exist in our records."
    )


def test_the_form_is_that_of_logging() -> None:
    """Time and level look exactly as the standard library's ``logging`` writes them."""
    formatter = logging.Formatter("%(asctime)s - %(levelname)6s - %(message)s")
    for level, name in ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info")):
        record = logging.makeLogRecord(
            {"created": NOW, "msecs": 717, "levelname": logging.getLevelName(level), "msg": "text"}
        )
        assert lines(Notice(name, "text")) == [formatter.format(record)]


def test_the_time_moves_on() -> None:
    """Each line has its own time."""
    stream = io.StringIO()
    times = iter([NOW, NOW, NOW + 0.0015, NOW + 0.0015, NOW + 1, NOW + 1])
    log = Log(stream, clock=lambda: next(times))
    for _ in range(3):
        log(Notice("warning", "x"))
    assert [line[:23] for line in stream.getvalue().splitlines()] == [
        "2020-11-15 20:31:40,717",
        "2020-11-15 20:31:40,718",
        "2020-11-15 20:31:41,717",
    ]


# ------------------------------------------------------------------------------------------------ sentences


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (
            uploaded(receipt=Receipt(key="k", size=5, proof=Proof.MD5, already_there=True)),
            f"{PATH} was in bucket already, as {ADDRESS}.",
        ),
        (uploaded(derived_key=True), f"{PATH} has been uploaded to bucket as {ADDRESS}."),
        (
            failed(message="taken", hint="Hint.", disposition="moved to /failed/46-topic.dat"),
            f"Failed to upload {PATH} to {ADDRESS}: taken. Hint. The file was moved to /failed/46-topic.dat.",
        ),
        (
            failed(message="no", disposition="deleted"),
            f"Failed to upload {PATH} to {ADDRESS}: no. The file was deleted.",
        ),
        (LocalTrouble(PATH, "read", "Permission denied"), f"Could not read {PATH}: Permission denied."),
        (
            LocalTrouble(PATH, "remove", "it is read-only", "Change that."),
            f"Could not remove {PATH}: it is read-only. Change that.",
        ),
        (Notice("info", "Something."), "Something."),
        (FileLeft(PATH, Left.FRESH, "written 3 s ago", 5), f"{PATH} was left: fresh (written 3 s ago)."),
        (FileLeft(PATH, Left.UNMATCHED, "", 5), f"{PATH} was left: outside the layout."),
        (DirectoryPruned("/base_dir/a"), "Removed the empty directory /base_dir/a."),
        (RunStarted("/base_dir", "bucket"), "Shipping /base_dir to bucket."),
        (UploadStarted(PATH, 4096), f"Uploading {PATH} (4.1 kB)."),
    ],
)
def test_each_event_is_a_sentence(event: Event, sentence: str) -> None:
    """Every event is told in one sentence with path and cause."""
    assert sentences(event, verbosity=Verbosity.VERBOSE) == [sentence]


def test_sentences_end() -> None:
    """A sentence gets one full stop, and nothing gets none."""
    assert [ended(text) for text in ("a", "a.", "a!", "")] == ["a.", "a.", "a!", ""]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"shipped": 12, "shipped_bytes": 3_400_000, "failed": 2, "left": {"busy": 1, "fresh": 3}},
            "12 files (3.4 MB) shipped to bucket in 0.4 s; left: 3 fresh, 1 busy; 2 failed, kept for the next run.",
        ),
        (
            {"shipped": 1, "shipped_bytes": 10, "already_there": 1},
            "1 file (10 B) shipped to bucket in 0.4 s, 1 of them was there already.",
        ),
        (
            {"shipped": 3, "shipped_bytes": 10, "already_there": 2, "ended_by": "budget"},
            "3 files (10 B) shipped to bucket in 0.4 s, 2 of them were there already; ended early: time budget.",
        ),
        (
            {"failed": 1, "left": {"unreadable": 1, "fresh": 0, "of a later version": 2}},
            "No file shipped to bucket in 0.4 s; left: 2 of a later version; 1 failed, kept for the next run.",
        ),
    ],
)
def test_a_run_is_summed_up_in_one_sentence(changes: dict, text: str) -> None:
    """At its end a run says what it shipped, what it left, what failed and what ended it."""
    assert sentences(finished(**changes)) == [text]
    assert summary(report(**changes)) == text


def test_a_file_that_was_not_kept_is_not_said_to_be() -> None:
    """If ``on_failure`` moved a file, the summary does not say that all were kept; the next run's may."""
    first, second, third = sentences(
        failed(message="no", disposition="deleted"), finished(failed=1), finished(failed=1)
    )
    assert first.endswith("The file was deleted.")
    assert second.endswith("; 1 failed.")
    assert third.endswith("; 1 failed, kept for the next run.")


# ------------------------------------------------------------------------------------------------ how much is told

ALL: list[Event] = [
    RunStarted("/base_dir", "bucket"),
    UploadStarted(PATH, 5),
    uploaded(),
    failed(message="no"),
    FileLeft(PATH, Left.FRESH, "", 5),
    LocalTrouble(PATH, "read", "no"),
    DirectoryPruned("/base_dir/a"),
    Notice("info", "i"),
    Notice("warning", "w"),
    Notice("error", "e"),
    StrangersFound(
        base_dir="/base_dir",
        layout="tree",
        matching=0,
        found=Strangers(files=1, examples=(Stranger("x.tmp", "a temporary name", 1.0),)),
    ),
    finished(shipped=1),
]


@pytest.mark.parametrize(
    ("verbosity", "levels"),
    [
        (Verbosity.QUIET, ["WARNING", "WARNING", "WARNING", "ERROR", "WARNING"]),
        (Verbosity.NORMAL, ["INFO", "WARNING", "WARNING", "INFO", "WARNING", "ERROR", "WARNING", "INFO"]),
        (
            Verbosity.VERBOSE,
            [
                *("DEBUG", "DEBUG", "INFO", "WARNING", "DEBUG", "WARNING"),
                *("DEBUG", "INFO", "WARNING", "ERROR", "WARNING", "INFO"),
            ],
        ),
    ],
)
def test_verbosity_decides_what_is_told(verbosity: Verbosity, levels: list[str]) -> None:
    """Quiet is what cron should mail about, verbose is everything."""
    assert [line.split(" - ")[1].strip() for line in lines(*ALL, verbosity=verbosity)] == levels


def test_a_run_without_work_says_nothing() -> None:
    """A tick that found nothing to do writes nothing, so that cron has nothing to mail."""
    events: list[Event] = [
        RunStarted("/base_dir", "bucket"),
        FileLeft(PATH, Left.FRESH, "", 5),
        finished(left={"fresh": 1}),
    ]
    assert lines(*events) == []
    assert len(lines(*events, verbosity=Verbosity.VERBOSE)) == 3
    assert lines(*events, verbosity=Verbosity.QUIET, explain_idle=True) == []


def test_a_run_by_hand_explains_why_nothing_moved() -> None:
    """Somebody who tries it with a file made a second ago is told why it stayed."""
    other = PATH + "2"
    assert sentences(
        FileLeft(PATH, Left.FRESH, "written 1 s ago", 5),
        FileLeft(other, Left.FRESH, "written 2 s ago", 5),
        FileLeft(PATH, Left.SPECIAL, "", 5),
        finished(left={"special": 1, "fresh": 2, "unreadable": 1, "unmatched": 3}),
        explain_idle=True,
    ) == [
        f"2 files are too young, so that a later run ships them; the first is {PATH} (written 1 s ago).",
        "3 entries do not match the layout and are not shipped.",
        f"1 entry is not a regular file and is not shipped; it is {PATH}.",
    ]


def test_an_empty_spool_is_said_to_be_empty() -> None:
    """By hand, a spool without files is told as such."""
    assert sentences(finished(), explain_idle=True) == ["There is no file in /base_dir."]


def test_a_run_by_hand_that_shipped_is_summed_up() -> None:
    """Only a run that moved nothing is explained."""
    assert sentences(finished(shipped=1, shipped_bytes=5), explain_idle=True) == [
        "1 file (5 B) shipped to bucket in 0.4 s."
    ]


def test_troubles_of_one_kind_are_bounded() -> None:
    """The first of a hundred thousand unreadable files are named and the rest are counted, in each run."""
    troubles = [LocalTrouble(f"/base_dir/{number}", "read", "no") for number in range(1000)]
    few = [LocalTrouble(f"/base_dir/{number}", "remove", "no") for number in range(ALIKE)]
    told = sentences(*troubles, *few, finished(failed=1000), troubles[0])
    assert len(told) == ALIKE + ALIKE + 3
    assert told[-3] == "Could not read 990 entries more. Use -v to name them all."
    assert told[-1] == "Could not read /base_dir/0: no."
    assert len(sentences(*troubles, verbosity=Verbosity.VERBOSE)) == 1000


# ------------------------------------------------------------------------------------------------ odd content

ODD = st.binary(max_size=30).map(os.fsdecode) | st.text(max_size=30)


@given(name=ODD, message=ODD, as_json=st.booleans())
def test_nothing_in_an_event_can_forge_a_line_or_drive_a_terminal(name: str, message: str, as_json: bool) -> None:
    """Each event is exactly one line without control characters, whatever names and messages hold."""
    events: list[Event] = [
        uploaded(name, store_name=message, address=name),
        failed(name, address=name, message=message, hint=message, disposition=f"moved to {name}"),
        FileLeft(name, Left.BUSY, message, 5),
        LocalTrouble(name, "read", message),
        DirectoryPruned(name),
        Notice("info", message),
        RunStarted(name, message),
        finished(base_dir=name, destination=message, ended_by=message or "x", message=message),
    ]
    stream = io.StringIO()
    with Log(stream, json=as_json, verbosity=Verbosity.VERBOSE, clock=lambda: NOW) as log:
        for event in events:
            log(event)
    told = stream.getvalue()
    told.encode()
    assert told.endswith("\n")
    assert told.count("\n") == len(events)
    assert all(line.isprintable() for line in told[:-1].split("\n"))
    if as_json:
        for line in told.splitlines():
            json.loads(line)


# ------------------------------------------------------------------------------------------------ JSON


def objects(*events: Event, **options: object) -> list[dict]:
    """What the log writes about the events as JSON."""
    return [json.loads(line) for line in lines(*events, json=True, **options)]


def test_json_has_every_field() -> None:
    """As JSON each event is an object with its time in UTC, its level, its name and all its fields."""
    assert objects(uploaded()) == [
        {
            "time": "2020-11-15T20:31:40.717Z",
            "level": "info",
            "event": "uploaded",
            "path": PATH,
            "location": "bedroom",
            "store_name": "bucket",
            "address": ADDRESS,
            "receipt": {
                "key": "k",
                "size": 5,
                "proof": "md5",
                "checksum": "",
                "etag": "",
                "version_id": "",
                "already_there": False,
                "stored_size": None,
                "encoding": "",
            },
            "seconds": 0.1,
            "derived_key": False,
        }
    ]


def test_json_names_each_event() -> None:
    """Each kind of event has a name that a program can look for; a notice has one level, the line's."""
    told = objects(*ALL, verbosity=Verbosity.VERBOSE)
    assert [each["event"] for each in told] == [
        "run_started",
        "upload_started",
        "uploaded",
        "upload_failed",
        "file_left",
        "local_trouble",
        "directory_pruned",
        "notice",
        "notice",
        "notice",
        "strangers_found",
        "run_finished",
    ]
    assert [each["level"] for each in told if each["event"] == "notice"] == ["info", "warning", "error"]
    assert told[4]["reason"] == "fresh"


def test_json_always_tells_the_end_of_a_run() -> None:
    """A program that reads the log gets the report of a run without work, too; unless it asked for warnings only."""
    (end,) = objects(finished(left={"fresh": 2}), explain_idle=True)
    assert end["report"]["left"] == {"fresh": 2}
    assert objects(finished(), verbosity=Verbosity.QUIET) == []


def test_json_counts_what_it_does_not_name() -> None:
    """As JSON, too, troubles of one kind are bounded."""
    troubles = [LocalTrouble(f"/base_dir/{number}", "read", "no") for number in range(11)]
    told = objects(*troubles, finished(failed=11))
    assert [each["event"] for each in told] == ["local_trouble"] * 10 + ["notice", "run_finished"]
    assert told[10]["message"] == "Could not read 1 entry more. Use -v to name them all."


def test_json_marks_names_that_are_no_text() -> None:
    """A name with a byte that is no UTF-8 is escaped, and the object says so."""
    (event,) = objects(uploaded(os.fsdecode(b"/base_dir/a\xff\\")), verbosity=Verbosity.NORMAL)
    assert (event["path"], event["escaped"]) == ("/base_dir/a\\xff\\\\", True)
    assert event["address"] == ADDRESS
    (event,) = objects(uploaded("/base_dir/\x9b\u202e\U000e0001\\"))
    assert event["path"] == "/base_dir/\x9b\u202e\U000e0001\\"
    assert "escaped" not in event


def test_json_escapes_names_inside_of_reports() -> None:
    """Names in the keys and values of nested objects are escaped, too."""
    (event,) = objects(finished(left={"\udcff": 1}, message="\udcfe"))
    assert event["report"]["left"] == {"\\xff": 1}
    assert event["report"]["message"] == "\\xfe"


# ------------------------------------------------------------------------------------------------ when it is written


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """What time it is."""
        return self.now


def test_lines_are_written_in_batches() -> None:
    """The first line appears at once, those of the next half second together."""
    stream, clock = io.StringIO(), Clock()
    log = Log(stream, clock=clock)
    for _ in range(10):
        log(uploaded())
    assert stream.getvalue().count("\n") == 1
    clock.now += 0.5
    log(uploaded())
    assert stream.getvalue().count("\n") == 11


def test_a_warning_is_written_at_once() -> None:
    """A warning does not wait, and what was before it neither."""
    stream = io.StringIO()
    log = Log(stream, clock=Clock())
    log(uploaded())
    log(uploaded())
    log(Notice("warning", "look"))
    assert stream.getvalue().count("\n") == 3


def test_a_large_buffer_is_written() -> None:
    """What is buffered stays small, however fast lines come."""
    stream = io.StringIO()
    log = Log(stream, clock=Clock())
    for _ in range(1000):
        log(uploaded())
    assert stream.getvalue().count("\n") > 500


def test_flush_writes_what_is_buffered() -> None:
    """Whoever waits can have the lines written before."""
    stream = io.StringIO()
    log = Log(stream, clock=Clock())
    log(uploaded())
    log(uploaded())
    log.flush()
    log.flush()
    assert stream.getvalue().count("\n") == 2


def test_what_has_waited_is_written_although_nothing_happens() -> None:
    """While nothing happens, what is buffered appears after half a second."""
    stream, clock = io.StringIO(), Clock()
    log = Log(stream, clock=clock)
    log.flush_if_due()
    log(uploaded())
    log(uploaded())
    log.flush_if_due()
    assert stream.getvalue().count("\n") == 1
    clock.now += 0.5
    log.flush_if_due()
    assert stream.getvalue().count("\n") == 2


def test_a_clock_that_is_set_back_holds_no_line_back() -> None:
    """After the clock was set back lines are written as before."""
    stream, clock = io.StringIO(), Clock()
    log = Log(stream, clock=clock)
    log(uploaded())
    clock.now -= 3600
    log(uploaded())
    assert stream.getvalue().count("\n") == 2


def test_the_tail_is_what_was_written_last() -> None:
    """A health check gets the last lines, whole ones, at most 10 kB."""
    log = Log(io.StringIO(), clock=Clock())
    log(Notice("info", "first"))
    assert log.tail().endswith("first\n")
    for number in range(1000):
        log(Notice("info", f"line {number}"))
    tail = log.tail()
    assert 9000 < len(tail) <= 10_000
    assert tail.startswith("2020")
    assert tail.endswith("line 999\n")


def test_a_line_longer_than_the_tail_is_cut() -> None:
    """A single huge line leaves an end of it."""
    log = Log(io.StringIO(), clock=Clock())
    log(Notice("info", "x" * 20_000))
    assert log.tail() == ""
    log(Notice("info", "end"))
    assert log.tail().endswith("end\n")


def test_the_log_can_be_redirected() -> None:
    """A progress bar takes the lines over and gives them back; what was buffered before comes before."""
    stream, taken = io.StringIO(), list[str]()
    log = Log(stream, clock=Clock())
    log(uploaded("first"))
    log(uploaded("second"))
    before = log.redirect(taken.append)
    log(uploaded("third"))
    log.redirect(before)
    log(Notice("warning", "fourth"))
    assert [line.split(" - ")[2].split()[0] for line in stream.getvalue().splitlines()] == ["first", "second", "fourth"]
    assert len(taken) == 1


# ------------------------------------------------------------------------------------------------ where it is written


def test_a_process_without_standard_error_logs_nowhere() -> None:
    """A missing standard error is no error."""
    with Log(None) as log:
        log(Notice("error", "x"))
    assert log.tail()


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    """On a terminal that is not UTF-8 other characters are escaped instead of ending the run."""
    with open(tmp_path / "log", "w", encoding="ascii") as stream:
        stream.write("before\n")
        with Log(stream) as log:
            log(uploaded("/base_dir/\xe9"))
    before, line = (tmp_path / "log").read_text(encoding="ascii").splitlines()
    assert before == "before"
    assert line.endswith("/base_dir/\\xe9 has been uploaded to bucket.")


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_stream_that_cannot_be_written_costs_only_its_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    """A closed pipe, a full disk or a terminal that is gone neither ends the run nor changes its exit code."""

    def write(descriptor: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    with open(tmp_path / "log", "w", encoding="utf-8") as stream, Log(stream) as log:
        monkeypatch.setattr("s3_uploader.core.files.os.write", write)
        log(Notice("error", "x"))
        monkeypatch.undo()
    assert (tmp_path / "log").read_bytes() == b""


class Broken(io.StringIO):
    """A stream that is no file and cannot be written to."""

    def write(self, text: str) -> int:
        """Fail."""
        raise ValueError("I/O operation on closed file")


def test_a_broken_stream_that_is_no_file_costs_only_its_lines() -> None:
    """The same holds for a stream that another program put in standard error's place."""
    with Log(Broken()) as log:
        log(Notice("error", "x"))


@pytest.mark.parametrize("becomes_writable", [True, False])
def test_a_slow_reader_is_waited_for_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, becomes_writable: bool
) -> None:
    """A full non-blocking pipe is given a moment; lines are then written piece by piece, or given up."""
    answers: list[Callable[[bytes], int]] = []
    written = bytearray()

    def refuse(data: bytes) -> int:
        raise BlockingIOError

    def some(data: bytes) -> int:
        written.extend(data[:20])
        return min(20, len(data))

    def write(descriptor: int, data: bytes) -> int:
        return answers.pop(0)(data) if answers else some(data)

    answers += [some, refuse]
    with open(tmp_path / "log", "w", encoding="utf-8") as stream, Log(stream, clock=lambda: NOW) as log:
        monkeypatch.setattr("s3_uploader.core.files.os.write", write)
        monkeypatch.setattr(files, "_becomes_writable", lambda descriptor, seconds: becomes_writable or not written)
        log(Notice("error", "a sentence"))
        monkeypatch.undo()
    line = f"{SEED_TIME} -  ERROR - a sentence\n".encode()
    assert bytes(written) == (line if becomes_writable else line[:20])


def test_a_writable_pipe_is_known() -> None:
    """Waiting ends as soon as the reader has read."""
    reader, writer = os.pipe()
    assert files._becomes_writable(writer, 1.0)
    os.close(reader)
    os.close(writer)


def test_a_reader_that_hangs_does_not_hang_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full pipe is waited for once; then lines are dropped until the reader goes on, and begin on a line."""
    monkeypatch.setattr(files, "_PATIENCE_SECONDS", 0.3)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    begun = time.monotonic()
    with os.fdopen(writer, "w", encoding="utf-8") as stream, Log(stream, clock=lambda: NOW) as log:
        log(Notice("error", "x" * 4090))
        for _ in range(100):
            log(Notice("error", "lost"))
        assert 0.2 < time.monotonic() - begun < 10
        first = os.read(reader, 8192)
        log(Notice("error", "the reader goes on"))
        assert first.endswith(b"x")
        assert os.read(reader, 8192) == f"\n{SEED_TIME} -  ERROR - the reader goes on\n".encode()
    os.close(reader)


def test_a_descriptor_that_refuses_whatever_it_says_does_not_hang_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What polls writable and takes nothing is tried now and then, once for so long, and its lines are dropped."""
    tried: list[bytes] = []

    def refuse(descriptor: int, data: bytes) -> int:
        tried.append(bytes(data))
        raise BlockingIOError

    monkeypatch.setattr(files, "_PATIENCE_SECONDS", 0.3)
    begun = time.monotonic()
    with open(tmp_path / "log", "w", encoding="utf-8") as stream, Log(stream) as log:
        monkeypatch.setattr("s3_uploader.core.files.os.write", refuse)
        for _ in range(20):
            log(Notice("error", "lost"))
        assert 0.2 < time.monotonic() - begun < 10
        assert 20 < len(tried) < 40
        monkeypatch.undo()
        log(Notice("error", "it takes them again"))
    assert (tmp_path / "log").read_text().endswith("it takes them again\n")


# ------------------------------------------------------------------------------------------------ logging


def test_a_library_user_gets_records_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    """The same events arrive at the logger ``s3_uploader``, with level, sentence and the event itself."""
    caplog.set_level(logging.DEBUG, logger="s3_uploader")
    adapter = LoggingAdapter()
    for event in ALL:
        adapter(event)
    assert [record.levelno for record in caplog.records] == [10, 10, 20, 30, 10, 30, 10, 20, 30, 40, 30, 20]
    assert caplog.records[2].getMessage() == f"{PATH} has been uploaded to bucket."
    assert caplog.records[2].event is ALL[2]  # type: ignore[attr-defined]
    assert all(record.name == "s3_uploader" for record in caplog.records)


def test_a_library_user_decides_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Events below the logger's level cost no record; a run without work is one of them; a logger can be given."""
    logger = logging.getLogger("mine")
    caplog.set_level(logging.INFO, logger="mine")
    adapter = LoggingAdapter(logger)
    adapter(finished())
    adapter(Notice("info", "100 % of it"))
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("mine", "100 % of it")]


def test_every_event_has_words() -> None:
    """No kind of event is without a sentence."""
    assert {type(event) for event in ALL} == set(get_args(Event))
    assert [level.name for level in Level] == ["DEBUG", "INFO", "WARNING", "ERROR"]
