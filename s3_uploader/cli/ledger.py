"""The commands ``ledger merge`` and ``ledger compact``: ledgers written anew while nobody works on the spool."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence

from s3_uploader.cli.arguments import LedgerCompactOptions, LedgerMergeOptions
from s3_uploader.cli.exit_codes import OK
from s3_uploader.cli.frame import load
from s3_uploader.cli.output import print_json, print_lines, utc_time
from s3_uploader.config import Config
from s3_uploader.config.share import whole
from s3_uploader.core.errors import StateError, UsageProblem
from s3_uploader.core.files import is_missing
from s3_uploader.core.text import counted, shown_name, shown_size, shown_text
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.compaction import Limits, Outlook, outlook
from s3_uploader.ledger.compaction import compact as compact_one
from s3_uploader.ledger.found import ledgers_in
from s3_uploader.ledger.merging import Merged
from s3_uploader.ledger.merging import merge as merge_all
from s3_uploader.ledger.offline import is_begun
from s3_uploader.ledger.state_directory import create_state_directory, ledger_path
from s3_uploader.ledger.together import ledgers_of_shares
from s3_uploader.spool.lock import acquire
from s3_uploader.spool.root import SpoolRoot


def merge(config_file: str, sources: Sequence[str], options: LedgerMergeOptions) -> int:
    """Merge the ledgers of the shares, and those that are named, into the ledger of the configuration.

    :raises LockHeld: if a run is at work on the spool.
    :raises StateError: if a ledger is in use or cannot be read; then nothing was changed.
    """
    configuration = whole(load(config_file, options))
    target = ledger_path(configuration, environ=os.environ)
    of_shares = list(ledgers_of_shares(target).values())
    own = {os.path.realpath(path) for path in (target, *of_shares)}
    others = [path for source in sources for path in _ledgers_of(source) if os.path.realpath(path) not in own]
    if not of_shares and not others:
        if sources:
            raise UsageProblem("This is the configuration's own ledger, so there is nothing to merge.")
        raise UsageProblem(
            f"There are no ledgers of shares to merge beside {shown_name(target)}.", hint="Name other ledgers."
        )
    create_state_directory(os.path.dirname(target))
    with _spool_alone(configuration, target):
        merged = merge_all(target, [*of_shares, *others], owned=of_shares)
    if options.as_json:
        print_json({"ledger": target, "merged": merged})
    else:
        print_lines(_merged_in_words(target, merged))
    return OK


def compact(config_file: str, options: LedgerCompactOptions) -> int:
    """Forget old files in the ledgers of a configuration, and free their space.

    :raises LockHeld: if a run is at work on the spool.
    :raises StateError: if a ledger is in use or cannot be written.
    """
    configuration = whole(load(config_file, options))
    limits = Limits(
        history_days=configuration.history_days if options.keep_days is None else options.keep_days,
        history_max_files=configuration.history_max_files if options.keep_files is None else options.keep_files,
        trusts_clock=options.keep_days is not None,
    )
    common = ledger_path(configuration, environ=os.environ)
    paths = [path for path in (common, *ledgers_of_shares(common).values()) if os.path.exists(path)]
    if not paths:
        Ledger.open_readonly(common).close()  # Perhaps this user may not see it, which is another error.
        raise StateError(
            f"There is no ledger {shown_name(common)}.", hint="Run this as the user that runs the uploads."
        )
    # If no run has written to any of them, the first one says so.
    paths = [path for path in paths if is_begun(path)] or paths[:1]
    with contextlib.nullcontext() if options.dry_run else _spool_alone(configuration, common):
        seen = [(path, outlook(path, limits, now=time.time())) for path in paths]
        for path, each in seen:
            for destination, unaudited in each.unaudited.items():
                _note(_unaudited_in_words(path, destination, unaudited, is_done=not options.dry_run))
        freed = {
            path: each.freed if options.dry_run else compact_one(path, limits, notice=_note) for path, each in seen
        }
    if options.as_json:
        print_json([_record(path, each, freed[path], options.dry_run) for path, each in seen])
    else:
        print_lines(_compacted_in_words(path, each, freed[path], options.dry_run) for path, each in seen)
    return OK


@contextlib.contextmanager
def _spool_alone(configuration: Config, ledger: str) -> Iterator[None]:
    """Lock all runs out of the spool. A spool that no longer exists, like that of a retired machine, needs no lock."""
    # On a dead mount, which cannot be examined, a run may still be at work.
    if is_missing(configuration.base_dir):
        yield
        return
    root = SpoolRoot(configuration.base_dir)
    try:
        with acquire(
            root.descriptor,
            base_dir=configuration.base_dir,
            state_dir=os.path.dirname(ledger),
            wait_seconds=0,
            clock=time.monotonic,
            now=time.time,
            sleep=time.sleep,
            notice=_note,
        ):
            yield
    finally:
        root.close()


def _ledgers_of(source: str) -> list[str]:
    left_out: list[str] = []
    found = ledgers_in(source, notice=_note, left_out=left_out)
    if left_out:
        more = f" and {counted(len(left_out) - 1, 'other file')}" if len(left_out) > 1 else ""
        raise StateError(
            f"{shown_name(left_out[0])}{more} cannot be merged, so nothing was.",
            hint="Repeat the copy that failed, or move what is not a ledger to another directory.",
        )
    if not found:
        raise UsageProblem(
            f"{shown_name(source)} is not a ledger and contains none.",
            hint="Name a file ledger.sqlite3, or a directory that contains one.",
        )
    return [path for instance in found for path in instance.paths]


def _note(sentence: str) -> None:
    print(shown_text(sentence), file=sys.stderr)


def _merged_in_words(target: str, merged: Merged) -> Iterator[str]:
    for each in merged.sources:
        yield f"{shown_name(each.path)}: {counted(each.files, 'file')}, {each.new:,} of them in no other ledger"
    yield (
        f"{shown_name(target)} has {counted(merged.files, 'file')} and {counted(merged.runs, 'run')} now; it had "
        f"{counted(merged.files_before, 'file')}."
    )


def _unaudited_in_words(path: str, destination: str, files: int, *, is_done: bool) -> str:
    doing = "are forgotten" if is_done else "would be forgotten"
    return (
        f"{shown_name(path)}: {counted(files, 'file')} at {shown_name(destination)} {doing} that no audit has covered."
    )


def _compacted_in_words(path: str, seen: Outlook, freed: int, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    about = "about " if dry_run else ""
    return (
        f"{shown_name(path)}: {seen.forgotten:,} of {counted(seen.files, 'file')} {would}forgotten, {about}"
        f"{shown_size(freed)} of {shown_size(seen.size)} {would}freed."
    )


def _record(path: str, seen: Outlook, freed: int, dry_run: bool) -> dict[str, object]:
    return {
        "ledger": path,
        "dry_run": dry_run,
        "files": seen.files,
        "forgotten": seen.forgotten,
        "shipped_before": None if seen.end in (float("inf"), float("-inf")) else utc_time(seen.end),
        "unaudited": seen.unaudited,
        "bytes": seen.size,
        "freed_bytes": freed,
    }
