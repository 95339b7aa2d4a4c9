"""Previews what a run would do now, for ``--dry-run``, ``status`` and the progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core.control import Clock
from s3_uploader.core.errors import UploaderError
from s3_uploader.core.events import MOST_LOCATIONS, RunMeasured
from s3_uploader.core.model import Candidate, Left, RunReport
from s3_uploader.ledger import FailingRow, Ledger, LedgerReader, RunRow
from s3_uploader.ledger.state_directory import own_ledger_path
from s3_uploader.run.admission import Admission
from s3_uploader.run.context import SIGHTINGS
from s3_uploader.run.place import Place, open_place
from s3_uploader.spool.layouts.base import Layout, NoCandidate
from s3_uploader.spool.open_file import OpenFile, Sightings
from s3_uploader.spool.root import Skip, SpoolRoot


class Decision(msgspec.Struct, frozen=True):
    """The decision about a candidate: ship it (``reason`` is ``None``) or leave it."""

    candidate: Candidate
    reason: Left | None
    detail: str


def count_ready(config: Config, *, clock: Clock, seconds: float) -> tuple[int, int] | None:
    """Count the files and bytes that a run would ship now; ``None`` if counting takes longer than ``seconds``."""
    until = clock.monotonic() + seconds
    files = size = 0
    with open_place(config) as place, Ledger.open_readonly(place.ledger_path) as ledger:
        for verdict in look(place, ledger=ledger, clock=clock, skip=lambda names, name, reason, detail: None):
            if verdict.reason is None:
                files, size = files + 1, size + verdict.candidate.size
            if clock.monotonic() > until:
                return None
    return files, size


def measured_before(config: Config) -> RunMeasured | None:
    """Read the measurements of past runs from the ledger; ``None`` if it cannot be read."""
    try:
        with Ledger.open_readonly(own_ledger_path(config)) as ledger:
            runs = ledger.runs(limit=1)
            return RunMeasured(
                report=_report_of(runs[0], config) if runs else _no_report(config),
                totals=ledger.totals(),
                failing_files=ledger.failing_count(attempts=1),
                locations=tuple(ledger.location_totals(limit=MOST_LOCATIONS)),
            )
    except UploaderError:
        return None


def _no_report(config: Config) -> RunReport:
    return RunReport(base_dir=config.base_dir, destination="", started_at=0, duration=0, exit_code=0)


def _report_of(run: RunRow, config: Config) -> RunReport:
    same = set(RunReport.__struct_fields__) & set(RunRow.__struct_fields__) - {"started_at", "exit_code"}
    return RunReport(
        base_dir=config.base_dir,
        # Of several ticks the row's own start is that of the first.
        started_at=(run.finished_at or run.started_at) - run.duration,
        exit_code=run.exit_code or 0,
        **{name: getattr(run, name) for name in same},
    )


def look(
    place: Place,
    *,
    ledger: LedgerReader | None,
    clock: Clock,
    skip: Skip,
    known_failure: Callable[[str], FailingRow | None] | None = None,
) -> Iterator[Decision]:
    """Decide for each file what a run would do with it.

    :param known_failure: returns the record of a file that failed before, if there is one. Default: from the ledger.
    """
    destination = place.config.destination.name
    keeps = place.config.on_success == "keep"
    if keeps and ledger is not None:
        from s3_uploader.run.kept_files import were_shipped_elsewhere

        keeps = not were_shipped_elsewhere(place.config, ledger, environ=os.environ, now=clock.now())

    def is_remembered(file: OpenFile) -> bool:
        return (
            keeps
            and ledger is not None
            and ledger.remembers(file.candidate.path, file.fingerprint, destination=destination)
        )

    admission = Admission(
        place.root,
        settle_seconds=place.config.settle_seconds,
        known_failure=known_failure or (ledger.failing if ledger is not None else lambda path: None),
        is_remembered=is_remembered,
        sightings=Sightings(
            place.root,
            settle_seconds=place.config.settle_seconds,
            known=None if ledger is None else ledger.recall(SIGHTINGS, now=clock.now()),
        ),
    )
    return survey(place.root, place.layout, admission, now=clock.now, skip=skip)


def survey(
    root: SpoolRoot, layout: Layout, admission: Admission, *, now: Callable[[], float], skip: Skip
) -> Iterator[Decision]:
    """Decide about each candidate without doing anything. Reads no content."""
    for found in layout.scan(root, skip):
        if isinstance(found, NoCandidate):
            continue
        file = admission.decide(found, now=now())
        if isinstance(file, OpenFile):
            file.close()
            yield Decision(found, None, "")
        else:
            yield Decision(found, *file)
