"""The commands that look at the spool and change nothing: ``run --dry-run``, ``status``."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import msgspec

from s3_uploader import looking, parts, places
from s3_uploader.cli.output import local_time, print_json, print_json_line, print_lines, table, utc_time
from s3_uploader.cli.settings import load
from s3_uploader.config import Config
from s3_uploader.ledger import FailingRow, Ledger, RunRow
from s3_uploader.lock import holder_of
from s3_uploader.model import Left
from s3_uploader.spool.root import Names
from s3_uploader.stop import Clock
from s3_uploader.text import counted, shown_duration, shown_name, shown_size, shown_text

_FAILING_SHOWN = 20
_RUNS_SHOWN = 5


# -------------------------------------------------------------------------------------------------- dry run


def dry_run(configuration: Config, *, as_json: bool) -> int:
    """Print what a run would ship and what it would leave, and why."""
    clock = Clock()
    skipped: Counter[str] = Counter()
    with places.open_place(configuration) as place, Ledger.open_readonly(place.ledger_path) as ledger:
        store = parts.build_store(configuration, notice=lambda level, sentence: None, memory=None)

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
                why = reason.value + (f": {shown_text(detail)}" if detail else "")
                print_lines([f"would leave  {shown_name(path)} ({why})"])

        plan = parts.build_plan(configuration)
        files = size = 0
        left: Counter[str] = Counter()
        for verdict in looking.look(place, ledger=ledger, clock=clock, skip=skip):
            candidate = verdict.candidate
            path = place.root.shown(candidate.directory, candidate.name)
            address = store.address(plan(candidate).key)
            tell(path, address, candidate.size, verdict.reason, verdict.detail)
            if verdict.reason is None:
                files, size = files + 1, size + candidate.size
            else:
                left[verdict.reason.value] += 1
    if not as_json:
        others = ", ".join(f"{number:,} {reason}" for reason, number in (left + skipped).items())
        summary = f"Dry run: {counted(files, 'file')} ({shown_size(size)}) would be shipped"
        print_lines([summary + (f"; left: {others}." if others else ".")])
    return 0


# -------------------------------------------------------------------------------------------------- status


class Backlog(msgspec.Struct):
    """What waits in one location."""

    location: str
    files: int = 0
    bytes: int = 0
    ready: int = 0
    oldest: float | None = None


def status(config_file: str, *, as_json: bool) -> int:
    """Print what waits, what fails, what ran, and who has the lock."""
    configuration = load(config_file)
    now = time.time()
    with places.open_place(configuration) as place, Ledger.open_readonly(place.ledger_path) as ledger:
        holder = holder_of(place.root.descriptor, place.state_dir)
        backlog, foreign = _backlog(place, ledger)
        failing, failing_count = _failing(place, ledger)
        runs = ledger.runs(limit=_RUNS_SHOWN)
        totals = ledger.totals()
        if as_json:
            print_json(
                {
                    "base_dir": configuration.base_dir,
                    "time": utc_time(now),
                    "lock_holder": None if holder is None else holder.described(now=now),
                    "backlog": [
                        {**msgspec.structs.asdict(row), "oldest": utc_time(row.oldest)} for row in backlog.values()
                    ],
                    "not_candidates": foreign,
                    "failing_files": failing_count,
                    "failing": [_failing_for_machines(row) for row in failing],
                    "runs": [_run_for_machines(row) for row in runs],
                    "totals": msgspec.structs.asdict(totals),
                    "ledger": place.ledger_path,
                }
            )
            return 0
        lines = [f"Spool {shown_name(configuration.base_dir)}", ""]
        lines.append("Running: " + ("no" if holder is None else holder.described(now=now)))
        lines += ["", *_backlog_lines(backlog, foreign, now)]
        lines += ["", *_failing_lines(failing, failing_count, now)]
        lines += ["", *_run_lines(runs, now)]
        lines += ["", f"Ledger: {shown_name(place.ledger_path)}"]
        print_lines(lines)
    return 0


def _failing(place: places.Place, ledger: Ledger) -> tuple[list[FailingRow], int]:
    """The first of the files that keep failing, and how many there are.

    The ledger forgets a file that is gone only when its next try is due; nobody should read of it until then.
    """
    shown: list[FailingRow] = []
    count = 0
    for row in ledger.failing_rows():
        if not row.attempts:  # Nothing more than suspected, when the destination failed altogether.
            continue
        *names, name = row.path.split("/")
        try:
            place.root.stat(tuple(names), name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        count += 1
        if len(shown) < _FAILING_SHOWN:
            shown.append(row)
    return shown, count


def _backlog(place: places.Place, ledger: Ledger) -> tuple[dict[str, Backlog], dict[str, int]]:
    backlog: dict[str, Backlog] = {}
    foreign: Counter[str] = Counter()

    def skip(names: Names, name: str, reason: Left, detail: str) -> None:
        foreign[reason.value] += 1

    for verdict in looking.look(place, ledger=ledger, clock=Clock(), skip=skip):
        if verdict.reason in (Left.REMEMBERED, Left.VANISHED, Left.SPECIAL):
            continue
        candidate = verdict.candidate
        row = backlog.setdefault(candidate.location, Backlog(candidate.location))
        row.files += 1
        row.bytes += candidate.size
        row.ready += verdict.reason is None
        since = candidate.period_begin if candidate.period_begin is not None else candidate.mtime_ns / 1e9
        row.oldest = since if row.oldest is None else min(row.oldest, since)
    return backlog, dict(foreign)


def _backlog_lines(backlog: dict[str, Backlog], foreign: dict[str, int], now: float) -> list[str]:
    if not backlog:
        lines = ["Waiting: nothing"]
    else:
        rows = [
            (
                shown_name(row.location) or "-",
                f"{row.files:,}",
                f"{row.ready:,}",
                shown_size(row.bytes),
                shown_duration(now - row.oldest) if row.oldest is not None else "-",
            )
            for row in sorted(backlog.values(), key=lambda row: row.oldest or 0.0)
        ]
        lines = [
            "Waiting:",
            *table(
                ("  location", "files", "ready", "size", "oldest"),
                [(f"  {r[0]}", *r[1:]) for r in rows],
                right=(1, 2, 3, 4),
            ),
        ]
    if foreign:
        lines.append("Left alone: " + ", ".join(f"{number:,} {reason}" for reason, number in foreign.items()))
    return lines


def _failing_lines(failing: list[FailingRow], count: int, now: float) -> list[str]:
    if not count:
        return ["Failing: none"]
    lines = [f"Failing: {counted(count, 'file')}"]
    for row in failing:
        due = "at the next run" if row.next_try_at <= now else f"in {shown_duration(row.next_try_at - now)}"
        lines.append(f"  {shown_name(row.path)}: {counted(row.attempts, 'attempt')}, next {due}")
        lines.append(f"    {shown_text(row.message)}")
    if count > len(failing):
        lines.append(f"  … and {count - len(failing):,} more")
    return lines


def _run_lines(runs: list[RunRow], now: float) -> list[str]:
    if not runs:
        return ["Runs: none yet"]
    rows = []
    for row in runs:
        ended = row.finished_at is not None
        outcome = row.ended_by if ended else "did not finish, or is still running"
        rows.append(
            (
                "  " + local_time(row.started_at),
                f"{row.ticks:,}" if row.ticks > 1 else "",
                shown_duration(row.duration) if ended else "-",
                f"{row.shipped:,}",
                shown_size(row.shipped_bytes),
                f"{row.failed:,}",
                "-" if row.exit_code is None else str(row.exit_code),
                shown_text(outcome + (f": {row.message}" if row.message else "")),
            )
        )
    heads = ("  started", "times", "took", "shipped", "size", "failed", "exit", "outcome")
    return ["Last runs:", *table(heads, rows, right=(1, 2, 3, 4, 5, 6))]


def _failing_for_machines(row: FailingRow) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.structs.asdict(row)
    for name in ("first_failed_at", "last_failed_at", "next_try_at"):
        value[name] = utc_time(value[name])
    return value


def _run_for_machines(row: RunRow) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.structs.asdict(row)
    for name in ("started_at", "finished_at", "oldest_waiting"):
        value[name] = utc_time(value[name])
    return value
