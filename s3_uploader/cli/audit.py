"""The command ``audit``: what is missing or different at the destination, for people and for machines."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from s3_uploader.cli.arguments import AuditOptions
from s3_uploader.cli.exit_codes import OK, SOME_FAILED, finish_output, to_whoever_reads
from s3_uploader.cli.frame import load_destination
from s3_uploader.cli.history import Selection
from s3_uploader.cli.missing_ledgers import tell_of_missing_shares
from s3_uploader.cli.output import print_json_line, print_lines, utc_time, zoned_time
from s3_uploader.config import Config
from s3_uploader.config.share import whole
from s3_uploader.core.errors import StateError
from s3_uploader.core.text import counted, shown_duration, shown_name, shown_text
from s3_uploader.inspection.audit import Audit, Discrepancy, Kind, Summary
from s3_uploader.inspection.audit.discrepancies import size_there
from s3_uploader.inspection.audit.spool import audit_spool
from s3_uploader.ledger import ShippedRow
from s3_uploader.ledger.audits import note_audit
from s3_uploader.ledger.coverage import LastAudit
from s3_uploader.ledger.found import instances_in
from s3_uploader.ledger.snapshot import Snapshot
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.run.inventories import build_inventory
from s3_uploader.run.place import open_place, verify_destination
from s3_uploader.stores.listing import Entry, Inventory

if TYPE_CHECKING:
    from s3_uploader.monitoring.progress import Counting


_IN_SUMMARY = {
    Kind.MISSING: "missing",
    Kind.SIZE: "of another size",
    Kind.CONTENT: "with other content",
    Kind.REPLACED: "replaced since",
    Kind.UNREADABLE: "unreadable",
    Kind.REWRITTEN: "written again with the same content",
    Kind.STILL_THERE: "still in the spool",
    Kind.LOCAL: "in the spool with other content",
}
_LABELS = {Kind.STILL_THERE: "still in the spool", Kind.LOCAL: "local file"}


class InstanceSummary(msgspec.Struct, frozen=True):
    """The result for one of several uploaders."""

    name: str
    keys: int
    problems: int
    is_complete: bool = True


def audit(config_file: str | None, options: AuditOptions) -> int:
    """Print each finding and a summary.

    Exit code 1 if anything is missing or different, or if not everything was audited.
    """
    selection = Selection.of(options)
    configuration = whole(load_destination(config_file, options))
    left_out: list[str] = []
    instances = instances_in(options.ledgers, notice=_note, left_out=left_out)
    began = time.monotonic()
    budget = configuration.max_runtime_seconds
    until = math.inf if budget is None else began + budget
    inventory, selection, taken_at = _inventory(configuration, options, selection, until)
    # It outlives its spool: without --spool the ledger can be audited when base_dir is gone.
    path = "" if instances else ledger_path(configuration, environ=os.environ)
    told: list[Discrepancy] = []
    if not instances:
        verify_destination(configuration)
        tell_of_missing_shares(path)
    try:
        with Snapshot(path, destination=inventory.name, instances=instances) as snapshot:
            reach = snapshot.reach()
            problems: Counter[str] = Counter()
            summary = _audited(configuration, inventory, snapshot, selection, options, told, problems, until)
            counts = snapshot.counts() if instances else {}
            later = 0 if taken_at is None else snapshot.later(taken_at)
            elsewhere = snapshot.elsewhere()
            # The bucket has another name now, or it is the ledger of another spool: "nothing is missing" would mislead.
            is_in_vain = bool(elsewhere) and not summary.keys and not snapshot.knows_destination()
            is_too_old = bool(later) and not summary.keys
            unreadable = snapshot.unreadable
    except BrokenPipeError:
        # The reader has seen enough (`| head`). The exit code still says whether something is wrong.
        finish_output()
        return SOME_FAILED if told else OK
    finally:
        inventory.close()
    for error in unreadable.values():
        _note(str(error))
    if summary.is_complete:
        read = {path: moment for path, moment in reach.items() if path not in unreadable}
        _note_in_ledgers(read, inventory.name, selection, summary)
    else:
        _note(_what_was_left(summary))
    summary.unreadable, summary.taken_at = [*left_out, *unreadable], taken_at
    if is_in_vain:
        _note(f"Nothing was audited: the ledger knows of no file at {shown_name(inventory.name)}.")
    if taken_at is not None and later:
        _note(
            f"The inventory is from {zoned_time(taken_at)} and lacks {counted(later, 'file')} shipped since. "
            f"Audit these with a listing: --since {int(taken_at)}."
        )
    with to_whoever_reads():
        of_each = [
            InstanceSummary(name, files, problems[name], is_complete=name not in snapshot.incomplete)
            for name, files in counts.items()
        ]
        seconds = time.monotonic() - began
        _print_summary(summary, inventory.name, elsewhere, of_each, seconds, as_json=options.as_json)
    return SOME_FAILED if summary.problems or is_in_vain or is_too_old or not summary.is_of_all else OK


def _inventory(
    configuration: Config, options: AuditOptions, selection: Selection, until: float
) -> tuple[Inventory, Selection, float | None]:
    """The destination's inventory, what of the ledgers it can be held against, and when a reported one was made."""
    inventory: Inventory = build_inventory(configuration, notice=lambda level, sentence: _note(sentence), until=until)
    if options.inventory is None:
        return inventory, selection, None
    from s3_uploader.stores.s3.inventory_report import InventoryReport, ReportedInventory

    reported = InventoryReport(options.inventory)
    if selection.until is None or selection.until > reported.taken_at:
        selection = msgspec.structs.replace(selection, until=reported.taken_at)
    return ReportedInventory(inventory, reported), selection, reported.taken_at


def _what_was_left(summary: Summary) -> str:
    """Say what an audit did not reach before its time was over."""
    left = []
    if summary.not_audited:
        files, first = counted(summary.not_audited, "file"), shown_name(summary.first_not_audited)
        left.append(f"{files}, from the key {first} on")
    if summary.left_spool_unfinished:
        left.append("some or all files in the spool")
    return (
        f"The time budget (max_runtime_seconds) ended the audit. Not audited: {'; and '.join(left)}. Give it more time "
        "with --set max_runtime_seconds=SECONDS, or audit a part at a time with --location or --since."
    )


def _note_in_ledgers(reach: Mapping[str, float], destination: str, selection: Selection, summary: Summary) -> None:
    """Let the ledgers remember what was audited, unless only a selection of their files was."""
    if selection.match is not None or selection.location is not None:
        return
    for path, until in reach.items():
        last = LastAudit(
            destination=destination,
            at=time.time(),
            since=selection.since,
            until=until if selection.until is None else min(until, selection.until),
            problems=summary.problems,
        )
        try:
            note_audit(path, last)
        except StateError as error:
            _note(f"The audit could not be recorded in the ledger: {error.message}")


def _audited(
    configuration: Config,
    inventory: Inventory,
    snapshot: Snapshot,
    selection: Selection,
    options: AuditOptions,
    told: list[Discrepancy],
    problems: Counter[str],
    until: float,
) -> Summary:
    bounds = snapshot.select(
        since=selection.since, until=selection.until, match=selection.match, location=selection.location
    )
    inventory.open()
    watched = sys.stderr.isatty() if options.progress is None else options.progress
    bar = _bar(bounds.rows) if watched else None
    tell = _teller(bar, snapshot.instance_of, problems, as_json=options.as_json, told=told)
    try:
        work = Audit(
            inventory,
            deep=options.deep,
            tell=tell,
            notice=_note if bar is None else lambda sentence: bar.aside(lambda: _note(sentence)),
            progress=bar or (lambda rows: None),
            until=until,
        )
        summary = work.run(snapshot.rows(), bounds)
        if options.spool:
            with open_place(configuration) as place:
                audit_spool(
                    place,
                    snapshot,
                    deep=options.deep,
                    address=inventory.address,
                    tell=tell,
                    summary=summary,
                    until=until,
                )
        return summary
    finally:
        if bar is not None:
            bar.close()


def _bar(rows: int) -> Counting:
    from s3_uploader.monitoring.progress import Counting

    return Counting(total=rows, noun="files")


def _note(sentence: str) -> None:
    print(shown_text(sentence), file=sys.stderr)


def _teller(
    bar: Counting | None,
    instance_of: Callable[[ShippedRow], str],
    problems: Counter[str],
    *,
    as_json: bool,
    told: list[Discrepancy],
) -> Callable[[Discrepancy], None]:
    """Make the function that prints a finding.

    :param problems: those of each of several uploaders are counted there.
    :param told: gets the first finding that is a problem and not a note.
    """

    def write(finding: Discrepancy) -> None:
        if not told and not finding.kind.is_note:
            told.append(finding)
        instance = instance_of(finding.row)
        problems[instance] += not finding.kind.is_note
        if as_json:
            print_json_line(({"instance": instance} if instance else {}) | _record(finding))
        else:
            print_lines([_line(finding, instance)])

    # Only a terminal shows the bar and the lines in one place.
    if bar is None or not sys.stdout.isatty():
        return write
    return lambda finding: bar.aside(lambda: write(finding))


# -------------------------------------------------------------------------------------------------- forms


def _line(finding: Discrepancy, instance: str) -> str:
    row = finding.row
    of = f"{shown_name(instance)}: " if instance else ""
    label = _LABELS.get(finding.kind, finding.kind.value) + ":"
    words = [f"{label:11} {of}{shown_name(row.path)} ({shown_name(finding.address)}):"]
    expected = f"expected {_expected(row)}, shipped {zoned_time(row.shipped_at)}"
    if finding.kind in (Kind.STILL_THERE, Kind.LOCAL):
        words.append(f"shipped {zoned_time(row.shipped_at)}; {shown_text(finding.detail)}")
    elif finding.kind is Kind.MISSING:
        words.append(f"{expected}; there is nothing")
    elif finding.entry is None:
        words.append(f"{expected}; {shown_text(finding.detail)}")
    else:
        words.append(f"{expected}; there is {_found(finding.entry, row)}")
    return " ".join(words)


def _expected(row: ShippedRow) -> str:
    parts = [counted(size_there(row), "byte") + (f" of {shown_text(row.encoding)}" if row.encoding else "")]
    if row.etag:
        parts.append(f"ETag {shown_text(row.etag)}")
    if row.checksum and row.checksum != row.etag:
        parts.append(shown_text(row.checksum.replace(":", " ", 1)))
    if row.version_id:
        parts.append(f"version {shown_text(row.version_id)}")
    return ", ".join(parts)


def _found(entry: Entry, row: ShippedRow) -> str:
    parts = [counted(entry.size, "byte")]
    if entry.etag:
        parts.append(f"ETag {shown_text(entry.etag)}")
    parts += [f"{algorithm} {shown_text(value)}" for algorithm, value in entry.checksums.items() if value != entry.etag]
    if entry.version_id:
        parts.append(f"version {shown_text(entry.version_id)}")
    if entry.modified is not None:
        parts.append(f"of {zoned_time(entry.modified)}")
    return ", ".join(parts)


def _record(finding: Discrepancy) -> dict[str, Any]:
    row, entry = finding.row, finding.entry
    return {
        "kind": finding.kind.value,
        "is_note": finding.kind.is_note,
        "path": row.path,
        "key": row.key,
        "address": finding.address,
        "location": row.location,
        "expected": {
            "size": size_there(row),
            "encoding": row.encoding,
            "etag": row.etag,
            "checksum": row.checksum,
            "version_id": row.version_id,
            "shipped_at": utc_time(row.shipped_at),
        },
        "found": None
        if entry is None
        else {
            "size": entry.size,
            "etag": entry.etag,
            "checksums": dict(entry.checksums),
            "version_id": entry.version_id,
            "modified": utc_time(entry.modified),
        },
        "detail": finding.detail,
    }


def _print_summary(
    summary: Summary,
    destination: str,
    elsewhere: dict[str, int],
    of_each: list[InstanceSummary],
    seconds: float,
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json_line(
            {
                "kind": "summary",
                "destination": destination,
                "keys": summary.keys,
                "same_content": summary.same,
                "size_only": summary.size_only,
                "findings": {kind.value: summary.findings.get(kind, 0) for kind in Kind},
                "problems": summary.problems,
                "looks": summary.looks,
                "local_files": summary.local_files,
                "not_audited": summary.not_audited,
                "first_not_audited": summary.first_not_audited,
                "spool_unfinished": summary.left_spool_unfinished,
                "inventory_taken_at": utc_time(summary.taken_at),
                **({"unreadable_ledgers": summary.unreadable} if of_each else {}),
                "elsewhere": elsewhere,
                **({"instances": of_each} if of_each else {}),
                "seconds": round(seconds, 3),
            }
        )
        return
    if elsewhere:
        names = ", ".join(f"{files:,} at {shown_name(name)}" for name, files in elsewhere.items())
        _note(f"Not audited, because they were shipped elsewhere: {names}.")
    for each in of_each:
        found = f"{each.problems:,} missing or different" if each.problems else "nothing missing or different"
        found += "" if summary.is_complete else " so far"
        found += "" if each.is_complete else "; not all that it has shipped could be read"
        print_lines([f"{shown_name(each.name)}: {counted(each.keys, 'file')}, {found}"])
    print_lines([_summary_line(summary, destination, seconds)])


def _summary_line(summary: Summary, destination: str, seconds: float) -> str:
    audited = f"{counted(summary.keys, 'file')} audited at {shown_name(destination)} in {shown_duration(seconds)}"
    if summary.taken_at is not None:
        # What was removed since then is in it, and the bucket is asked only for what differs.
        audited += f", as they were in the inventory from {zoned_time(summary.taken_at)}"
    parts = [f"{summary.same:,} with the same content"]
    if summary.size_only:
        rest = "nothing more can be compared" if summary.is_deep else "--deep compares more where it can"
        parts.append(f"{summary.size_only:,} with the same size ({rest})")
    for kind, number in sorted(summary.findings.items(), key=lambda item: item[0].is_note):
        parts.append(f"{number:,} {_IN_SUMMARY[kind]}")
    if summary.not_audited:
        parts.append(f"{summary.not_audited:,} not audited")
    if summary.unreadable:
        parts.append(f"{counted(len(summary.unreadable), 'ledger')} not read")
    verdict = "Nothing is missing or different." if summary.keys else "Nothing was audited."
    if summary.problems:
        verdict = "Something is missing or different."
    elif summary.keys and not summary.is_of_all:
        verdict = "Nothing is missing or different so far. Not everything was audited."
    return f"{verdict} {audited}: {', '.join(parts)}."
