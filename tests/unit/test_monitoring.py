"""Metrics file and health check as the configuration names them, run after run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s3_uploader.events import Event, RunFinished, RunStarted
from s3_uploader.model import RunReport
from s3_uploader.reporting import ping
from s3_uploader.reporting.monitoring import Monitoring, NoTail
from tests.fakes import FakeClock


def finished(code: int = 0) -> RunFinished:
    """A run that ended so."""
    return RunFinished(
        RunReport(base_dir="/spool", destination="bucket", started_at=0, duration=1, exit_code=code, shipped=1)
    )


@pytest.fixture
def pinged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Event]]:
    """What was handed to a health check."""
    seen: list[tuple[str, Event]] = []

    class Ping:
        def __init__(self, url: str, **_: Any) -> None:
            self.url = url

        def __call__(self, event: Event) -> None:
            seen.append((self.url, event))

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
    monitoring(finished())
    monitoring.configure(metrics_file=str(tmp_path / "new.prom"), ping_url="http://new")
    (tmp_path / "old.prom").unlink()
    monitoring(finished())
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
    """A program that looks all the time pings once a minute, and at once when it goes from good to bad or back."""
    clock = FakeClock()
    monitoring = Monitoring(notice=lambda event: None, log=NoTail(), is_watch=True, clock=clock.read)
    monitoring.configure(metrics_file=None, ping_url="http://check")
    for code in (0, 0, 1, 1, 0):
        monitoring(RunStarted("/spool", "bucket"))
        monitoring(finished(code))
        clock.seconds += 1
    assert [event.report.exit_code for _, event in pinged if isinstance(event, RunFinished)] == [0, 1, 0]
    clock.seconds += 60
    monitoring(finished())
    assert len(pinged) == 4
