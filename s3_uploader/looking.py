"""What a run would do now, without doing anything: for ``--dry-run``, ``status`` and a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from s3_uploader.config.keys import Config
from s3_uploader.intake import Intake, Verdict, survey
from s3_uploader.ledger import Ledger
from s3_uploader.parts import build_store
from s3_uploader.places import Place, open_place
from s3_uploader.spool.layout import Skip
from s3_uploader.stop import Clock

if TYPE_CHECKING:
    from s3_uploader.spool.source import OpenFile


def count_ready(config: Config, *, clock: Clock, seconds: float) -> tuple[int, int] | None:
    """How many files and bytes a run would ship now; ``None`` if it takes longer than ``seconds`` to find out."""
    until = clock.monotonic() + seconds
    files = size = 0
    with open_place(config) as place, Ledger.open_readonly(place.ledger_path) as ledger:
        for verdict in look(place, ledger=ledger, clock=clock, skip=lambda names, name, reason, detail: None):
            if verdict.reason is None:
                files, size = files + 1, size + verdict.candidate.size
            if clock.monotonic() > until:
                return None
    return files, size


def look(place: Place, *, ledger: Ledger | None, clock: Clock, skip: Skip) -> Iterator[Verdict]:
    """What a run would do with each file, one after the other."""
    destination = build_store(place.config, notice=lambda level, sentence: None, memory=None).properties.name
    keeps = place.config.on_success == "keep"

    def is_remembered(file: OpenFile) -> bool:
        return (
            keeps
            and ledger is not None
            and ledger.remembers(file.candidate.path, file.fingerprint, destination=destination)
        )

    intake = Intake(
        place.root,
        settle_seconds=place.config.settle_seconds,
        known_failure=ledger.failing if ledger is not None else lambda path: None,
        is_remembered=is_remembered,
    )
    return survey(place.root, place.layout, intake, now=clock.now, skip=skip)
