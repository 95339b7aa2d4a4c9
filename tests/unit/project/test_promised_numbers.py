"""The numbers that the pages promise are those of the program."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from s3_uploader.cli import directory
from s3_uploader.cli.arguments import WatchOptions
from s3_uploader.config import Config, S3Destination
from s3_uploader.config.schema import MoveTo
from s3_uploader.core import control
from s3_uploader.health import diagnosis, left_files, notices, observations, standstill
from s3_uploader.inspection import patience
from s3_uploader.inspection import status as spool_status
from s3_uploader.ledger import queries, records, rows
from s3_uploader.ledger.state_directory import RESERVE_SIZE
from s3_uploader.remote_store import pool
from s3_uploader.remote_store.store import RemoteStore
from s3_uploader.run import blame, flow_control, in_flight, settlement
from s3_uploader.service import supervisor
from s3_uploader.service import watch as watching
from s3_uploader.spool import open_file, removal, root
from s3_uploader.spool.layouts import dated, strangers
from s3_uploader.stores.s3 import checksums, helpers, requests, single, waiting
from s3_uploader.stores.s3.engines import base as engines
from s3_uploader.stores.s3.engines import http1

DOCS = Path(__file__).resolve().parents[3] / "docs"
_DEFAULTS = {
    name: default
    for kind in (Config, S3Destination)
    for name, default in zip(kind.__struct_fields__[::-1], kind.__struct_defaults__[::-1], strict=False)
}
SECOND, MINUTE, HOUR, DAY, KIB, MIB, GIB = 1, 60, 3600, 86400, 2**10, 2**20, 2**30
_LONGEST_NAME = 255
_COPY_THRESHOLD = inspect.signature(RemoteStore).parameters["copy_threshold"].default

PROMISES: list[tuple[str, str, list[float]]] = [
    ("guarantees.md", r"sorted in blocks of ([\d,]+)", [root.BLOCK]),
    ("guarantees.md", r"a reserve of (\d+) KiB beside it", [RESERVE_SIZE / KIB]),
    ("guarantees.md", r"has (\d+) seconds and (\d+) KiB", [helpers.HELPER_SECONDS, helpers._MOST_BYTES / KIB]),
    ("guarantees.md", r"by more than (\d+) days", [records._LONGEST_STEP / DAY]),
    ("guarantees.md", r"run on for (\d+) days", [records._LONGEST_TRIAL / DAY]),
    ("guarantees.md", r"says so after (\d+) seconds", [patience.PATIENCE_SECONDS]),
    ("guarantees.md", r"interim answers before it, may have (\d+) KiB", [http1.MAXIMUM_HEAD / KIB]),
    ("guarantees.md", r"a page of a listing (\d+) MiB", [requests._LISTING_BYTES / MIB]),
    ("guarantees.md", r"an answer to a write (\d+) KiB", [engines.DOCUMENT_BYTES / KIB]),
    ("guarantees.md", r"and a second for every (\d+) KiB\), a run", [in_flight._BYTES_PER_SECOND_AT_LEAST / KIB]),
    ("guarantees.md", r"One second is added for every (\d+) KiB", [engines._SLOWEST_HANDLING / KIB]),
    ("guarantees.md", r"at least (\d+) ms, usually", [removal.MOMENT_SECONDS * 1000]),
    ("guarantees.md", r"A name of more than (\d+) bytes", [_LONGEST_NAME + 1 - len(root.taken_name("x") or "")]),
    ("why-a-file-waits.md", r"more than ([\d,]+) bytes", [requests.MAXIMUM_KEY_BYTES]),
    ("why-a-file-waits.md", r"`settle_seconds` \((\d+)\)", [_DEFAULTS["settle_seconds"]]),
    ("coming-from.md", r"`settle_seconds` \((\d+)\)", [_DEFAULTS["settle_seconds"]]),
    ("coming-from.md", r"`--interval`, (\d+) seconds", [WatchOptions().interval]),
    ("coming-from.md", r"written in parts above (\d+) MiB", [_DEFAULTS["multipart_threshold"] / MIB]),
    ("coming-from.md", r"copied in parts above (\d+) GiB", [_COPY_THRESHOLD / GIB]),
    ("coming-from.md", r"after `attempts` failures \((\d+)\)", [MoveTo("x").attempts]),
    ("architecture.md", r"batches\*\* of up to (\d+) files", [settlement._BATCH]),
    ("architecture.md", r"or (\d+) ms later at the end of a run", [removal.MOMENT_SECONDS * 1000]),
    ("architecture.md", r"that are done in (\d+) ms", [flow_control._STOCK_SECONDS * 1000]),
    ("architecture.md", r"that thread waits (\d+) ms", [waiting._GATHERING_SECONDS * 1000]),
    ("architecture.md", r"files of up to (\d+) MiB are read and digested", [single.READ_BESIDE / MIB]),
    ("architecture.md", r"digested in steps of (\d+) KiB", [checksums._STEP / KIB]),
    ("architecture.md", r"at most (\d+) unused ones", [pool.MOST_BUCKETS]),
    ("several-spools.md", r"bodies of uploads to S3 \((\d+) MiB\)", [directory._BYTES_IN_FLIGHT / MIB]),
]
"""A page, where the numbers stand in it, and what they are in the program."""

IN_WORDS: list[tuple[str, str, float]] = [
    ("../README.md", "less than ten seconds ago (`settle_seconds`)", _DEFAULTS["settle_seconds"] / 10),
    ("guarantees.md", "a quarter of an hour before they expire", helpers._RENEW_BEFORE_SECONDS / (15 * MINUTE)),
    ("guarantees.md", "waits up to a minute, then longer, up to six hours", rows.LONGEST_PAUSE / (6 * HOUR)),
    ("guarantees.md", "usually at most a quarter of a second", settlement._BATCH_SECONDS / 0.25),
    ("guarantees.md", "remembered for a week", queries.MAX_AGE / (7 * DAY)),
    ("guarantees.md", "for five seconds at most", blame._DOUBT_SECONDS / 5),
    ("guarantees.md", "none succeeds within five seconds", blame._DOUBT_SECONDS / 5),
    ("guarantees.md", "last pass took, at most five seconds", watching._LONGEST_GATHER_SECONDS / 5),
    ("guarantees.md", "the last year in it has been over for a day", dated._QUIET_DAY / DAY),
    ("architecture.md", "files or a quarter of a second", settlement._BATCH_SECONDS / 0.25),
    ("architecture.md", "does not run the loop for half a second", waiting._STAND_IN_SECONDS / 0.5),
    ("troubleshooting.md", "is attention, and stuck after ten minutes", standstill._PASSING_SECONDS / (10 * MINUTE)),
    ("troubleshooting.md", "attention, after an hour", left_files.LONG_OPEN_SECONDS / HOUR),
    ("troubleshooting.md", "a file has been ready for an hour", left_files.LONG_READY_SECONDS / HOUR),
    ("troubleshooting.md", "stuck, after an hour or", observations.HUNG_SECONDS / HOUR),
    ("troubleshooting.md", "five minutes beyond `max_runtime_seconds`", diagnosis._HUNG_MARGIN / (5 * MINUTE)),
    ("troubleshooting.md", "ships nothing: process 1234 …`, once an hour", notices._SAY_AGAIN_SECONDS / HOUR),
    ("troubleshooting.md", "if the last three runs were killed", standstill._DEAD_RUNS / 3),
    ("troubleshooting.md", "the first twenty with code", spool_status._FAILING_SHOWN / 20),
    ("troubleshooting.md", "the last five runs", spool_status._RUNS_SHOWN / 5),
    ("guarantees.md", "abandons it after two minutes", directory.HUNG_SECONDS / (2 * MINUTE)),
    ("guarantees.md", "a minute older than `settle_seconds`", open_file.LONG_AGO_SECONDS / MINUTE),
    ("guarantees.md", "In trouble the pauses grow to a minute", watching._LONGEST_PAUSE / MINUTE),
    ("why-a-file-waits.md", "retried after a minute at most", rows.FIRST_PAUSE / MINUTE),
    ("why-a-file-waits.md", "pauses of up to six hours", rows.LONGEST_PAUSE / (6 * HOUR)),
    ("why-a-file-waits.md", "more than five minutes in the future", control.FUTURE_TOLERANCE / (5 * MINUTE)),
    ("why-a-file-waits.md", "After a day such a file becomes a problem", strangers._OLD_SECONDS / DAY),
    ("why-a-file-waits.md", "a minute older than `settle_seconds`", open_file.LONG_AGO_SECONDS / MINUTE),
    ("several-spools.md", "up to eight at the same time", directory.AT_ONCE / 8),
    ("several-spools.md", "A run that shows no sign of life for two minutes", directory.HUNG_SECONDS / (2 * MINUTE)),
    (
        "several-spools.md",
        "A process without a sign of life for two minutes",
        supervisor.SILENCE_SECONDS / (2 * MINUTE),
    ),
]
"""A page, what it says in words, and how many times that the program takes."""


def text_of(page: str) -> str:
    """A page with its lines joined."""
    return " ".join((DOCS / page).read_text(encoding="utf-8").split())


@pytest.mark.parametrize(("page", "where", "numbers"), PROMISES, ids=lambda value: value if "\\" in str(value) else "")
def test_numbers(page: str, where: str, numbers: list[float]) -> None:
    """What a page promises in digits is what the program does."""
    found = re.findall(where, text_of(page))
    assert found, f"{page} no longer says: {where}"
    for each in found:
        shown = [each] if isinstance(each, str) else each
        assert [float(number.replace(",", "")) for number in shown] == numbers


@pytest.mark.parametrize(("page", "sentence", "times"), IN_WORDS, ids=lambda value: value if " " in str(value) else "")
def test_numbers_in_words(page: str, sentence: str, times: float) -> None:
    """What a page promises in words is what the program does."""
    assert sentence in text_of(page)
    assert times == 1
