"""The command ``report``: the ledger's history as one HTML page, or as JSON."""

from __future__ import annotations

import os
import sys
import time

import msgspec

from s3_uploader.cli.missing_shares import tell_of_missing_shares
from s3_uploader.cli.output import json_bytes, with_source
from s3_uploader.cli.settings import load
from s3_uploader.cli.times import parse_time
from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.files import replace_file
from s3_uploader.core.text import shown_name
from s3_uploader.inspection.report.data import gather
from s3_uploader.inspection.report.page import page
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.ledger.together import open_together
from s3_uploader.run.assembly import build_store

STANDARD_OUTPUT = "-"


def report(config_file: str, *, output: str | None, since: str | None, until: str | None, as_json: bool) -> int:
    """Write the report to a file, or to standard output."""
    if output is None and not as_json and sys.stdout.isatty():
        raise UsageProblem("A terminal cannot show the page.", hint="Name a file for it with -o.")
    configuration = load(config_file)
    now = time.time()
    begin = None if since is None else parse_time(since, now=now)
    end = None if until is None else parse_time(until, now=now)
    if begin is not None and begin >= (now if end is None else min(end, now)):
        raise UsageProblem("The report's time ends before it begins.", hint="Let --since be earlier than --until.")
    store = build_store(configuration, notice=lambda level, sentence: None, memory=None)
    # The ledger outlives its spool: the report must be there when base_dir is gone.
    with open_together(ledger_path(configuration, environ=os.environ)) as ledger:
        tell_of_missing_shares(ledger)
        numbers = gather(
            ledger,
            base_dir=configuration.base_dir,
            destination=store.name,
            since=begin,
            until=end,
            now=now,
        )
    # Names are escaped in the page, so that it is UTF-8 whatever they are.
    _write(
        json_bytes(with_source(msgspec.to_builtins(numbers))) + b"\n" if as_json else page(numbers).encode(),
        output or STANDARD_OUTPUT,
    )
    return 0


def output_in(directory: str | None, config_file: str) -> str:
    """The file for the report of one of several configurations; the directory for them is made if it is missing."""
    if directory is None or directory == STANDARD_OUTPUT:
        raise UsageProblem("The reports of several spools need a directory.", hint="Name it with -o.")
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise UsageProblem(f"{shown_name(directory)} is no directory: {error.strerror}.") from error
    return os.path.join(directory, os.path.basename(config_file).removesuffix(".json") + ".html")


def _write(data: bytes, output: str) -> None:
    if output == STANDARD_OUTPUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    path = os.path.realpath(output)  # a link is followed, as by a shell's redirection
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as device:
                device.write(data)
        else:
            replace_file(path, data, mode=None)
    except OSError as error:
        raise UsageProblem(
            f"The report {shown_name(output)} cannot be written: {error.strerror or error}.",
            hint="Name a file in a directory that this user may write to.",
        ) from error
