"""The command ``report``: the ledger's history as one HTML page, or as JSON."""

from __future__ import annotations

import errno
import os
import sys
import time

import msgspec

from s3_uploader.cli.arguments import ReportOptions
from s3_uploader.cli.directory import each_of, files_in
from s3_uploader.cli.exit_codes import OK, SOME_FAILED
from s3_uploader.cli.frame import guarded, load
from s3_uploader.cli.missing_ledgers import tell_of_missing_ledger, tell_of_missing_shares
from s3_uploader.cli.names import Form
from s3_uploader.cli.output import json_bytes, print_note, with_source, write_bytes
from s3_uploader.cli.times import parse_period
from s3_uploader.core.errors import UploaderError, UsageProblem
from s3_uploader.core.files import is_stream, replace_file
from s3_uploader.core.text import counted, shown_name
from s3_uploader.inspection.report.contents import Entry, contents, file_of
from s3_uploader.inspection.report.data import Report, gather
from s3_uploader.inspection.report.fleet import gather_of_many
from s3_uploader.inspection.report.page import page
from s3_uploader.ledger.found import instances_in
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.ledger.together import open_together

STANDARD_OUTPUT = "-"


_NO_REPORT = "No report could be made; the command says why."


def report(config_file: str | None, options: ReportOptions, *, output: str | None) -> int:
    """Write the report to a file, or to standard output.

    Exit code 1 if ledgers of several are not included, because they cannot be read.
    """
    return SOME_FAILED if _make(config_file, options, output=output).left_out else OK


def report_each(directory: str, options: ReportOptions, *, form: Form) -> int:
    """Write a report for each configuration of a directory, and a page that leads to them."""
    entries: dict[str, Entry] = {}

    def one(path: str, options: ReportOptions) -> int:
        name = _name_of(path)
        try:
            summary = _make(path, options, output=_output_in(options.output, path)).summary
        except UploaderError as error:
            entries[name] = Entry(name=name, why=error.message)
            raise
        entries[name] = Entry(name=name, file=file_of(name), summary=summary)
        return 0

    def all_of_them() -> int:
        paths = files_in(directory)
        code = each_of(paths, options, one, headings=False, form=form)
        known = [entries.get(name) or Entry(name=name, why=_NO_REPORT) for name in map(_name_of, paths)]
        if options.output is not None and any(entry.summary is not None for entry in known):
            page_of_all = os.path.join(options.output, "index.html")
            _write(contents(known, now=time.time()).encode(), page_of_all)
            if sys.stdout.isatty():
                print(f"{counted(len(known), 'spool')}: open {shown_name(page_of_all)}")
        return code

    return guarded(all_of_them, form=form)


def _make(config_file: str | None, options: ReportOptions, *, output: str | None) -> Report:
    since, until, as_json = options.since, options.until, options.as_json
    if output is None and not as_json and sys.stdout.isatty():
        raise UsageProblem("A terminal cannot show the page.", hint="Name a file with -o.")
    now = time.time()
    begin, end = parse_period(since, until, now=now)
    if begin is not None and begin >= now:
        raise UsageProblem("The period of the report has not begun.", hint="Set --since to a time before now.")
    numbers = _numbers(config_file, options, begin, end, now)
    # Names are escaped in the page, so that it is UTF-8 whatever they are.
    _write(
        json_bytes(with_source(msgspec.to_builtins(numbers))) + b"\n" if as_json else page(numbers).encode(),
        output or STANDARD_OUTPUT,
    )
    return numbers


def _numbers(
    config_file: str | None, options: ReportOptions, since: float | None, until: float | None, now: float
) -> Report:
    if options.ledgers:
        left_out: list[str] = []
        instances = instances_in(options.ledgers, notice=print_note, left_out=left_out)
        numbers = gather_of_many(instances, since=since, until=until, now=now, notice=print_note)
        numbers.left_out = [*left_out, *numbers.left_out]
        return numbers
    assert config_file is not None
    configuration = load(config_file, options)
    base_dir, destination = configuration.base_dir, configuration.destination.name
    # The ledger outlives its spool: the report must be there when base_dir is gone.
    path = ledger_path(configuration, environ=os.environ)
    with open_together(path) as ledger:
        tell_of_missing_ledger(path)
        tell_of_missing_shares(ledger)
        return gather(ledger, base_dir=base_dir, destination=destination, since=since, until=until, now=now)


def _name_of(config_file: str) -> str:
    return os.path.basename(config_file).removesuffix(".json")


def _output_in(directory: str | None, config_file: str) -> str:
    """The report's file for one of several configurations; creates the directory if it is missing."""
    if directory is None or directory == STANDARD_OUTPUT:
        raise UsageProblem("The reports of several spools need a directory.", hint="Name it with -o.")
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)  # not for others to write to, whatever the umask is
    except OSError as error:
        raise UsageProblem(f"{shown_name(directory)} is not a directory: {error.strerror}.") from error
    return os.path.join(directory, file_of(_name_of(config_file)))


def _write(data: bytes, output: str) -> None:
    if output == STANDARD_OUTPUT:
        write_bytes(data)
        return
    path = os.path.realpath(output)  # a link is followed, as by a shell's redirection
    try:
        # What the shell opened, as for >(gzip), may be a file that already has something in it, or have no path.
        is_open = is_stream(output)
        if is_open or (os.path.exists(path) and not os.path.isfile(path)):
            with open(output, "ab" if is_open else "wb") as device:
                device.write(data)
        else:
            replace_file(path, data, mode=None)
    except OSError as error:
        raise UsageProblem(
            f"The report {shown_name(output)} cannot be written: {error.strerror or error}.",
            hint="Free space there, or name a file on another disk."
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "Name a file in a directory that this user may write to.",
        ) from error
