"""What a ``watch`` says again, and what it has said already."""

from __future__ import annotations

from s3_uploader.core.events import (
    DirectoryPruned,
    Event,
    LocalTrouble,
    Notice,
    RunFinished,
    RunStarted,
    UploadFailed,
)
from s3_uploader.core.model import RunReport
from s3_uploader.health.telling import SaysOnce
from tests.fakes import FakeClock


class TestSaysOnce:
    def said(self, *events: Event, pause: float = 1.0) -> list[Event]:
        """What is said of events with a pause between them."""
        clock = FakeClock()
        said: list[Event] = []
        calm = SaysOnce(said.append, clock=clock.read)
        for event in events:
            calm(event)
            clock.seconds += pause
        return said

    def test_events(self) -> None:
        """What tells of work is always said, trouble once."""
        report = RunReport(base_dir="/b", destination="b", started_at=0, duration=0, exit_code=0)
        work: list[Event] = [RunStarted("/b", "b"), DirectoryPruned("/b/a"), RunFinished(report)]
        trouble: list[Event] = [
            LocalTrouble("/b/x", "read", "Permission denied"),
            Notice("warning", "Something is wrong since 3 s."),
            UploadFailed("/b/x", "", "b/x", "AccessDenied", "no", "", 1, None),
        ]
        assert self.said(*work, *work, *trouble, *trouble) == [*work, *work, *trouble]
        file = UploadFailed("/b/x", "", "b/x", "AccessDenied", "no", "", 1, 5.0)
        moved = UploadFailed("/b/x", "", "b/x", "AccessDenied", "no", "", 1, None, "moved to /f/x")
        assert self.said(file, file, moved, moved) == [file, file, moved, moved]

    def test_forgets(self) -> None:
        """A problem that was absent for ten minutes is reported again; a persistent one is not."""
        notice = Notice("warning", "Something is wrong.")
        assert self.said(notice, notice, pause=601) == [notice, notice]
        assert self.said(*[notice] * 100, pause=599) == [notice]

    def test_bounded(self) -> None:
        """With very many kinds of trouble some are not said, rather than memory growing; old ones make room."""
        clock = FakeClock()
        said: list[Event] = []
        calm = SaysOnce(said.append, clock=clock.read)
        for number in range(10_005):
            calm(LocalTrouble(f"/b/{number}", "read", ""))
        assert len(said) == 10_000
        clock.seconds += 1000
        calm(LocalTrouble("/b/new", "read", ""))
        assert len(said) == 10_001
