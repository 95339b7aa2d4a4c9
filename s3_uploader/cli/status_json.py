"""The state of a spool as the fields that ``status --json`` prints."""

from __future__ import annotations

from typing import Any

import msgspec

from s3_uploader.cli.output import utc_time
from s3_uploader.cli.verdict import first_line, verdict
from s3_uploader.core.findings import Problem
from s3_uploader.inspection.at_work import AtWork
from s3_uploader.inspection.share_status import ShareStatus
from s3_uploader.inspection.status import SpoolStatus
from s3_uploader.ledger import FailingRow, RunRow
from s3_uploader.spool.lock_file import Holder


def for_machines(standing: SpoolStatus) -> dict[str, Any]:
    """All fields. They stay the same from version to version."""
    waiting, at_work = standing.waiting, standing.at_work
    first = standing.problems[0] if standing.problems else None
    return {
        "base_dir": standing.base_dir,
        "time": utc_time(standing.now),
        "verdict": verdict(standing),
        "sentence": first_line(standing),
        "since": None if first is None else utc_time(first.since),
        "problems": [_problem_for_machines(problem) for problem in standing.problems],
        "lock_holder": None if at_work is None else at_work.holder.described(now=standing.now),
        "running": None if at_work is None else _at_work_for_machines(at_work),
        "watched_by": None if standing.watcher is None else _process_for_machines(standing.watcher),
        "endpoint_limits": list(standing.endpoint_limits),
        "shares": [_share_for_machines(share, standing.now) for share in standing.shares],
        "started_by": None
        if standing.started_by is None
        else {"unit": standing.started_by.unit, "active": standing.started_by.is_active},
        "next_run_expected": utc_time(standing.next_run_at),
        "next_try": utc_time(min((row.next_try_at for row in standing.failing), default=None)),
        "backlog": []
        if waiting is None
        else [{**msgspec.structs.asdict(row), "oldest": utc_time(row.oldest)} for row in waiting.by_location.values()],
        "backlog_complete": waiting is not None and waiting.is_complete,
        "not_candidates": {} if waiting is None else waiting.foreign,
        "failing_files": standing.failing_count,
        "failing": [_failing_for_machines(row) for row in standing.failing],
        "runs": [_run_for_machines(row) for row in standing.runs],
        "totals": msgspec.structs.asdict(standing.totals),
        "ledger": standing.ledger,
        "errors": [str(error) for error in (standing.spool_error, standing.ledger_error) if error is not None],
    }


def _problem_for_machines(problem: Problem) -> dict[str, Any]:
    return {
        "cause": problem.cause.value,
        "severity": problem.severity.value,
        "since": utc_time(problem.since),
        "path": problem.path,
        "files": problem.files,
        "sentence": problem.sentence,
        "next": problem.next,
        "remedy": problem.remedy,
    }


def _share_for_machines(share: ShareStatus, now: float) -> dict[str, Any]:
    return {
        "share": str(share.share),
        "last_run": None if share.last_run is None else _run_for_machines(share.last_run),
        "lock_holder": None if share.holder is None else share.holder.described(now=now),
    }


def _at_work_for_machines(at_work: AtWork) -> dict[str, Any]:
    holder = at_work.holder
    return {
        **_process_for_machines(holder),
        "alive": at_work.is_alive,
        "doing": at_work.doing,
        "open_files": list(at_work.open_files),
        "open_files_count": at_work.open_count,
        "shipped_files": at_work.shipped,
        "shipped_bytes": at_work.shipped_bytes,
        "last_shipped": utc_time(at_work.shipped_at),
    }


def _process_for_machines(holder: Holder) -> dict[str, Any]:
    return {
        "pid": holder.pid or None,
        "host": holder.host or None,
        "uid": holder.uid,
        "since": utc_time(holder.since),
        "command": holder.command,
    }


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
