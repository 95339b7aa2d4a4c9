"""The progress bar: what it shows, and that log lines stay whole above it."""

from __future__ import annotations

import io
import re

import msgspec
import pytest
from rich.console import Console

from s3_uploader.core.events import (
    Event,
    FileLeft,
    Notice,
    RunFinished,
    RunStarted,
    Uploaded,
    UploadFailed,
    UploadStarted,
)
from s3_uploader.core.model import Left, Proof, Receipt, RunReport
from s3_uploader.monitoring.log import Log
from s3_uploader.monitoring.progress import Progress, SpoolsBar
from s3_uploader.monitoring.together import AboveBar, Together

STARTED = RunStarted("/spool", "bucket")
FINISHED = RunFinished(
    RunReport(
        base_dir="/spool", destination="bucket", started_at=0, duration=1, exit_code=0, shipped=2, shipped_bytes=3000
    )
)


class Screen:
    """A terminal, a log that writes to it, and a bar on it."""

    def __init__(self, width: int = 100) -> None:
        self.stream = io.StringIO()
        self.now = 0.0
        self.log = Log(self.stream, clock=lambda: self.now)
        self.console = Console(file=self.stream, force_terminal=True, width=width, color_system=None)
        self.bar = Progress(self.log, console=self.console, clock=lambda: self.now)

    def tell(self, *events: Event) -> None:
        """Let events happen, one second after the other."""
        for event in events:
            self.now += 1
            self.bar(event)

    def text(self) -> str:
        """All that was ever drawn, without the terminal's control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.stream.getvalue()).replace("\r", "\n")


@pytest.fixture
def screen() -> Screen:
    """A terminal of usual width."""
    return Screen()


def uploaded(path: str) -> Uploaded:
    """An upload."""
    return Uploaded(path, "", "bucket", f"bucket/{path}", Receipt(key=path, size=1, proof=Proof.MD5), 0.1)


def failed(path: str) -> UploadFailed:
    """A failed upload."""
    return UploadFailed(path, "", f"bucket/{path}", "Conflict", "no", "", 1, None)


def test_the_bar_counts_files_and_bytes(screen: Screen) -> None:
    """While files are shipped the bar says how many of how many, and how much of how much."""
    screen.bar.expect(files=4, size=4000)
    screen.tell(STARTED, UploadStarted("a", 1000), UploadStarted("b", 2000), uploaded("a"))
    assert "1/4 files" in screen.text()
    assert "1.0/4.0 kB" in screen.text()
    screen.tell(failed("b"))
    assert "2/4 files" in screen.text()
    assert "3.0/4.0 kB" in screen.text()
    screen.bar.close()


def test_what_is_expected_may_come_later_and_be_too_little(screen: Screen) -> None:
    """Without a forecast the bar counts only, and it never shows more than all of it."""
    screen.tell(STARTED, UploadStarted("a", 1000), uploaded("a"))
    assert "1 file " in screen.text()
    screen.bar.expect(files=1, size=1000)
    screen.tell(UploadStarted("b", 1000), uploaded("b"))
    assert "2/2 files" in screen.text()
    assert "2.0/2.0 kB" in screen.text()
    screen.bar.close()


def test_a_file_that_was_given_up_is_no_longer_awaited(screen: Screen) -> None:
    """A file that changed while it was uploaded counts as done with; one that was never begun does not count."""
    screen.tell(STARTED, UploadStarted("a", 1000), FileLeft("a", Left.CHANGED, "", 5), FileLeft("b", Left.FRESH, "", 5))
    screen.bar.close()
    assert "1 file " in screen.text()
    assert "2 files" not in screen.text()


def test_log_lines_stay_whole_above_the_bar(screen: Screen) -> None:
    """A line of the log, however long, with brackets and emoji codes in it, is printed as it is, once."""
    path = "/spool/[bold]:smile:/" + "x" * 200
    screen.tell(STARTED, UploadStarted(path, 1), uploaded(path), Notice("warning", "look"))
    screen.tell(FINISHED)
    assert screen.text().count(f"{path} has been uploaded to bucket.\n") == 1
    assert screen.text().count("WARNING - look\n") == 1


def test_the_bar_goes_and_the_summary_stays(screen: Screen) -> None:
    """After the run the log writes to its own stream again, and closing the bar twice is fine."""
    screen.tell(STARTED, FINISHED)
    drawn = len(screen.stream.getvalue())
    screen.bar.close()
    screen.tell(Notice("warning", "after"))
    rest = screen.stream.getvalue()[drawn:]
    assert rest.endswith("WARNING - after\n")
    assert "\x1b" not in rest
    assert "2 files (3.0 kB) shipped to bucket in 1.0 s." in screen.text()


def test_a_bar_can_be_used_for_one_run_after_the_other(screen: Screen) -> None:
    """A second run begins with an empty bar."""
    screen.tell(STARTED, UploadStarted("a", 1000), uploaded("a"), FINISHED)
    before = len(screen.stream.getvalue())
    screen.tell(STARTED, UploadStarted("b", 1000))
    screen.tell(STARTED)
    screen.bar.close()
    assert "1 file " not in screen.stream.getvalue()[before:]


def test_many_small_files_are_drawn_now_and_then(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing costs next to nothing, however many files come through."""
    screen.tell(STARTED)
    drawn: list[int] = []
    assert screen.bar._bar is not None
    monkeypatch.setattr(screen.bar._bar, "update", lambda *arguments, **options: drawn.append(1))
    for number in range(1000):
        screen.bar(UploadStarted(f"{number}", 1))
        screen.bar(uploaded(f"{number}"))
    assert len(drawn) == 1
    screen.bar.close()


def test_without_a_run_there_is_no_bar(screen: Screen) -> None:
    """Events before and after a run are logged and nothing is drawn."""
    screen.tell(UploadStarted("a", 1), uploaded("a"))
    screen.bar.expect(files=1, size=1)
    assert "\x1b" not in screen.stream.getvalue()


class Gone(io.StringIO):
    """A terminal that is gone."""

    def write(self, text: str) -> int:
        """Fail."""
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        """Fail."""
        raise OSError(5, "Input/output error")


def test_a_terminal_that_goes_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the window costs the bar and nothing else."""
    monkeypatch.setattr("s3_uploader.monitoring.progress.sys.stderr", Gone())
    monkeypatch.setenv("FORCE_COLOR", "1")
    log = Log(io.StringIO())
    bar = Progress(log)
    for event in (STARTED, UploadStarted("a", 1), uploaded("a"), Notice("warning", "look"), FINISHED):
        bar(event)
    assert "look" in log.tail()


def test_a_narrow_terminal_shows_one_line() -> None:
    """Where there is little room the bar says how many files, and nothing that would break into several lines."""
    narrow = Screen(width=40)
    narrow.bar.expect(files=2, size=3000)
    narrow.tell(STARTED, UploadStarted("/spool/a", 1000), uploaded("/spool/a"))
    drawn = [line for line in narrow.text().splitlines() if "/2 files" in line]
    assert drawn
    assert all(len(line) <= 40 and "bytes" not in line for line in drawn)


def test_what_an_endpoint_cannot_do_is_told_once_for_all_spools() -> None:
    """Thirty spools that ship to one server say it once; what a spool says of itself is said by each."""
    together = Together(spools=2)
    told: list[Event] = []
    limit = Notice("warning", "http://s3 does not know conditional writes.", is_of_endpoint=True)
    own = Notice("error", "The run was abandoned.")
    for spool in (together.around(told.append), together.around(told.append)):
        spool(limit)
        spool(own)
    assert told == [limit, own, own]


def test_a_bar_for_several_spools() -> None:
    """It counts finished runs and files, and log lines appear above it undamaged."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    bar = SpoolsBar(total=3, console=console)
    together = Together(spools=3, bar=bar)
    told: list[Event] = []
    first = together.around(told.append)
    first(uploaded("/spool/a"))
    first(FINISHED)
    second = together.around(told.append)
    trouble = msgspec.structs.replace(FINISHED, report=msgspec.structs.replace(FINISHED.report, exit_code=1, failed=1))
    second(trouble)

    def write(text: str) -> None:
        stream.write(text)

    AboveBar(lambda text: together.write(text, write)).write("half a line, ")
    above = AboveBar(lambda text: together.write(text, lambda text: None))
    above.write("a whole ")
    above.write("line\n")
    together.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "2/3 spools, 1 file" in shown
    assert "a whole line\n" in shown
    assert "half a line" not in shown
    assert [type(event) for event in told] == [Uploaded, RunFinished]
    assert together.sentence() == "3 spools: 4 files (6.0 kB) shipped; 1 failed; 1 spool could not be run."
