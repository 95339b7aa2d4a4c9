"""``run --dry-run``: what a run would ship and what it would leave, and why."""

from __future__ import annotations

import os
from collections import Counter

from s3_uploader.cli.output import print_json_line, print_lines
from s3_uploader.config import Config
from s3_uploader.core.control import Clock
from s3_uploader.core.model import Left
from s3_uploader.core.text import counted, shown_name, shown_size, shown_text
from s3_uploader.inspection import preview
from s3_uploader.ledger import Ledger
from s3_uploader.monitoring.words import left_words
from s3_uploader.run.pauses import failures_in_next_run
from s3_uploader.run.place import open_place
from s3_uploader.run.routing import build_routes
from s3_uploader.spool.root import Names


def dry_run(configuration: Config, *, as_json: bool, retries: bool) -> int:
    """Print what a run would ship and what it would leave, and why.

    :param retries: as a run that does not wait for the next try of failed files.
    """
    clock = Clock()
    skipped: Counter[str] = Counter()
    with open_place(configuration) as place, Ledger.open_readonly(place.ledger_path) as ledger:

        def skip(names: Names, name: str, reason: Left, detail: str) -> None:
            skipped[reason.value] += 1
            tell(place.root.shown(names, name), None, 0, reason, detail)

        def tell(path: str, address: str | None, size: int, reason: Left | None, detail: str) -> None:
            if as_json:
                row = {"path": path, "would_ship": reason is None, "address": address, "size": size}
                row |= {} if reason is None else {"reason": reason.value, "detail": detail}
                print_json_line(row)
            elif reason is None:
                print_lines([f"would ship   {shown_name(path)} to {shown_name(address or '')} ({shown_size(size)})"])
            else:
                why = left_words(reason.value) + (f": {shown_text(detail)}" if detail else "")
                print_lines([f"would leave  {shown_name(path)} ({why})"])

        routes = build_routes(configuration)
        files = size = 0
        left: Counter[str] = Counter()
        known_failure = (
            (lambda path: None)
            if retries
            else failures_in_next_run(configuration, ledger, environ=os.environ, now=clock.now())
        )
        for verdict in preview.look(place, ledger=ledger, clock=clock, skip=skip, known_failure=known_failure):
            candidate = verdict.candidate
            path = place.root.shown(candidate.directory, candidate.name)
            address = f"{configuration.destination.name.rstrip('/')}/{routes(candidate).key}"
            tell(path, address, candidate.size, verdict.reason, verdict.detail)
            if verdict.reason is None:
                files, size = files + 1, size + candidate.size
            else:
                left[verdict.reason.value] += 1
    if not as_json:
        others = ", ".join(f"{number:,} {left_words(reason)}" for reason, number in (left + skipped).items())
        summary = f"Dry run: {counted(files, 'file')} ({shown_size(size)}) would be shipped"
        print_lines([summary + (f"; left: {others}." if others else ".")])
    return 0
