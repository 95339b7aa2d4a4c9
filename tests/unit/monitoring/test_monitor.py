"""Metrics file and health check as the configuration names them, run after run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.events import Event, Notice, RunFinished, RunMeasured, RunNotBegun, RunStarted, Totals
from s3_uploader.core.model import RunReport
from s3_uploader.monitoring import ping
from s3_uploader.monitoring.monitor import Monitoring, NoTail
from tests.fakes import FakeClock


def finished(code: int = 0) -> RunFinished:
    """A run that ended so."""
    return RunFinished(
        RunReport(base_dir="/spool", destination="bucket", started_at=0, duration=1, exit_code=code, shipped=1)
    )


def tell(monitoring: Monitoring, event: RunFinished, files: int = 1) -> None:
    """A run ends."""
    monitoring(event)
    monitoring.measure(RunMeasured(report=event.report, totals=Totals(shipped_files=files), locations=()))


def shipped_files(path: Path) -> int:
    """How many the metrics file says."""
    found = re.search(r"^s3_uploader_shipped_files_total\{.*\} (\d+)$", path.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.fixture
def pinged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Event]]:
    """What was handed to a health check."""
    seen: list[tuple[str, Event]] = []

    class Ping:
        def __init__(self, url: str, **_: Any) -> None:
            self.url = url

        def __call__(self, event: Event) -> None:
            seen.append((self.url, event))

        def could_not_begin(self, message: str) -> None:
            seen.append((self.url, Notice("error", message)))

        def close(self) -> None:
            seen.append((self.url, RunStarted("closed", "")))

    monkeypatch.setattr(ping, "Ping", Ping)
    return seen


def test_nothing_configured(tmp_path: Path) -> None:
    """Where the configuration names neither, nothing happens."""
    monitoring = Monitoring(notice=lambda event: None, log=NoTail())
    monitoring.configure(metrics_file=None, ping_url=None)
    monitoring(finished())
    monitoring.close()
    assert NoTail().tail() == ""


def test_reconfigured(tmp_path: Path, pinged: list[tuple[str, Event]]) -> None:
    """From a reload on the new file is written and the new check pinged, the old ones no more."""
    monitoring = Monitoring(notice=lambda event: None, log=NoTail())
    monitoring.configure(metrics_file=str(tmp_path / "old.prom"), ping_url="http://old")
    tell(monitoring, finished())
    monitoring.configure(metrics_file=str(tmp_path / "new.prom"), ping_url="http://new")
    (tmp_path / "old.prom").unlink()
    tell(monitoring, finished())
    assert [path.name for path in tmp_path.iterdir()] == ["new.prom"]
    assert [url for url, _ in pinged] == ["http://old", "http://old", "http://new"]
    monitoring.close()
    monitoring(finished())
    assert len(pinged) == 4


def test_each_run(pinged: list[tuple[str, Event]]) -> None:
    """A single run pings when it begins and when it ends."""
    monitoring = Monitoring(notice=lambda event: None, log=NoTail())
    monitoring.configure(metrics_file=None, ping_url="http://check")
    monitoring(RunStarted("/spool", "bucket"))
    monitoring(finished())
    assert len(pinged) == 2


def test_one_run_after_the_other(pinged: list[tuple[str, Event]]) -> None:
    """A watch pings once a minute, and at once when its state changes."""
    clock = FakeClock()
    monitoring = Monitoring(notice=lambda event: None, log=NoTail(), watch_interval=9.0, clock=clock.clock())
    monitoring.configure(metrics_file=None, ping_url="http://check")
    for code in (0, 0, 1, 1, 0):
        monitoring(RunStarted("/spool", "bucket"))
        monitoring(finished(code))
        clock.seconds += 1
    assert [event.report.exit_code for _, event in pinged if isinstance(event, RunFinished)] == [0, 1, 0]
    clock.seconds += 60
    monitoring(finished())
    assert len(pinged) == 4


def test_a_watch_writes_now_and_then(tmp_path: Path) -> None:
    """The file is there before the first pass, is written on an interval while nothing happens, and soon after news."""
    clock, path = FakeClock(), tmp_path / "spool.prom"
    monitoring = Monitoring(notice=lambda event: None, log=NoTail(), watch_interval=9.0, clock=clock.clock())
    known = RunMeasured(report=finished().report, totals=Totals(shipped_files=5), locations=())
    monitoring.configure(metrics_file=str(path), ping_url=None, base_dir="/spool", before=lambda: known)

    def was_written() -> bool:
        monitoring.beat()
        is_new = path.exists()
        path.unlink(missing_ok=True)
        return is_new

    assert shipped_files(path) == 5
    assert was_written()
    clock.seconds += 0.5
    tell(monitoring, finished(), files=6)
    assert not was_written()  # not twice within a second
    clock.seconds += 0.5
    assert was_written()
    clock.seconds += 14
    assert not was_written()
    clock.seconds += 1
    assert was_written()
    clock.seconds += 0.1
    tell(monitoring, finished(), files=7)
    monitoring.close()
    assert shipped_files(path) == 7  # the last numbers are not lost
    path.unlink()
    monitoring.beat()
    assert not path.exists()


def test_a_long_run_is_told_each_minute(tmp_path: Path) -> None:
    """A run writes nothing before it is a minute old, then once a minute since when it is at work, and its end."""
    clock, path = FakeClock(), tmp_path / "spool.prom"
    began_at, asked = clock.seconds, 0
    monitoring = Monitoring(notice=lambda event: None, log=NoTail(), clock=clock.clock())

    def before() -> RunMeasured:
        nonlocal asked
        asked += 1
        return RunMeasured(report=finished().report, totals=Totals(shipped_files=asked), locations=())

    def since() -> float:
        found = re.search(r"^s3_uploader_run_in_progress_since\w+\{.*\} (.+)$", path.read_text(), re.MULTILINE)
        assert found is not None
        return float(found[1])

    monitoring.configure(metrics_file=str(path), ping_url=None, base_dir="/spool", before=before)
    for _ in range(60):
        monitoring.beat()
        clock.seconds += 1
    assert not path.exists()
    for _ in range(120):
        monitoring.beat()
        clock.seconds += 1
    assert (asked, shipped_files(path), since()) == (2, 2, began_at)
    tell(monitoring, finished(), files=7)
    assert (shipped_files(path), since()) == (7, 0)
    path.unlink()
    monitoring.close()
    assert not path.exists()


def test_a_long_run_that_breaks_off(tmp_path: Path) -> None:
    """A run that ends in a way that nobody measures is not told as one at work."""
    clock, path = FakeClock(), tmp_path / "spool.prom"
    monitoring = Monitoring(notice=lambda event: None, log=NoTail(), clock=clock.clock())
    monitoring.configure(metrics_file=str(path), ping_url=None, base_dir="/spool")
    monitoring.beat()
    clock.seconds += 60
    monitoring.beat()
    monitoring.close()
    assert 'run_in_progress_since_timestamp_seconds{spool="/spool"} 0\n' in path.read_text()


def test_passes_without_news_are_not_written_each(tmp_path: Path) -> None:
    """Passes that do nothing make no more writes than the interval does; the first one in trouble makes one."""
    clock, path = FakeClock(), tmp_path / "spool.prom"
    monitoring = Monitoring(notice=lambda event: None, log=NoTail(), watch_interval=1.0, clock=clock.clock())
    monitoring.configure(metrics_file=str(path), ping_url=None)
    idle = RunMeasured(report=RunReport(base_dir="/", destination="", started_at=0, duration=0, exit_code=0))
    writes = 0
    for _ in range(30):
        monitoring.measure(idle)
        path.unlink(missing_ok=True)
        monitoring.beat()
        writes += path.exists()
        clock.seconds += 1
    assert writes in (2, 3)
    for _ in range(2):
        path.unlink(missing_ok=True)
        clock.seconds += 1
        monitoring.measure(RunNotBegun(base_dir="/", at=0, message="no disk"))
        monitoring.beat()
        writes += path.exists()
    assert writes in (3, 4)


@pytest.mark.parametrize(("interval", "pings"), [(None, 3), (9.0, 2)])
def test_runs_that_cannot_begin_are_pinged(pinged: list[tuple[str, Event]], interval: float | None, pings: int) -> None:
    """A run that cannot begin is a failure, in a watch once a minute; one that steps aside is none."""
    clock = FakeClock()
    monitoring = Monitoring(notice=lambda event: None, log=NoTail(), watch_interval=interval, clock=clock.clock())
    monitoring.configure(metrics_file=None, ping_url="http://check")
    monitoring.measure(RunNotBegun(base_dir="/", at=0, message="another run", is_held=True))
    for seconds in (0, 30, 31):
        clock.seconds += seconds
        monitoring.measure(RunNotBegun(base_dir="/", at=0, message="no disk"))
    assert [event for _, event in pinged] == [Notice("error", "no disk")] * pings
