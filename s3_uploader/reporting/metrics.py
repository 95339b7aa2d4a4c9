"""Metrics for Prometheus, through node_exporter's textfile collector: one file, rewritten at the end of each run.

The text is written here and not by ``prometheus_client``, whose import alone takes about 65 ms, as long as a whole tick
without work; its parser is what the tests hold the text against. What a process of a second cannot count, the files and
bytes since the beginning, comes from the ledger.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import contextlib
import math
import os

from s3_uploader import __version__
from s3_uploader.events import Emit, Event, Notice, RunFinished
from s3_uploader.model import Left, RunReport, Totals
from s3_uploader.text import shown_name

_PREFIX = "s3_uploader_"
_REASONS = {reason.value: reason.name.lower() for reason in Left}


class MetricsFile:
    """Subscriber that rewrites the file at the end of each run. A file that cannot be written is a warning.

    :param path: what the collector reads; its name must end in ``.prom`` for that.
    :param notice: told if the file cannot be written.
    """

    def __init__(self, path: str, *, notice: Emit) -> None:
        self._path = path
        self._notice = notice

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if not isinstance(event, RunFinished) or event.report.dry_run:
            return
        text = exposition(event.report, totals=event.totals, failing_files=event.failing_files)
        try:
            replace_file(self._path, text.encode())
        except OSError as error:
            self._notice(
                Notice(
                    "warning",
                    f"The metrics file {shown_name(self._path)} cannot be written: {error.strerror}. "
                    "Make its directory writable for this user, or correct metrics_file.",
                )
            )


def exposition(report: RunReport, *, totals: Totals | None, failing_files: int | None) -> str:
    """The metrics of a spool after a run, in Prometheus's text format.

    :param totals: from the ledger; without them the families that need them are left out.
    """
    finished_at = report.started_at + report.duration
    families = _Families(shown_name(report.base_dir))
    add = families.add
    add("build_info", "gauge", "The version that made the last run; always 1.", 1, version=__version__)
    add("last_run_timestamp_seconds", "gauge", "When the last run ended.", finished_at)
    add("last_run_duration_seconds", "gauge", "How long the last run took.", report.duration)
    add("last_run_exit_code", "gauge", "Exit code of the last run; 0 is success.", report.exit_code)
    add("last_run_shipped_files", "gauge", "Files that the last run shipped.", report.shipped)
    add("last_run_shipped_bytes", "gauge", "Bytes that the last run shipped.", report.shipped_bytes)
    add("last_run_failed_files", "gauge", "Files that the last run could not ship.", report.failed)
    left = dict.fromkeys(_REASONS.values(), 0)
    for value, number in report.left.items():
        left[_REASONS.get(value, value)] = number
    for reason, number in left.items():
        add("left_entries", "gauge", "Entries of the spool that the last run left, by reason.", number, reason=reason)
    add("backlog_files", "gauge", "Files that waited in the spool after the last run.", report.backlog)
    add(
        "backlog_bytes", "gauge", "Size of the files that waited in the spool after the last run.", report.backlog_bytes
    )
    oldest = report.oldest_waiting
    add(
        "oldest_waiting_timestamp_seconds",
        "gauge",
        "Data time of the oldest file that waited after the last run; NaN if none did.",
        math.nan if oldest is None else oldest,
    )
    add(
        "oldest_waiting_age_seconds",
        "gauge",
        "Age of the oldest file that waited after the last run; 0 if none did.",
        0 if oldest is None else max(finished_at - oldest, 0.0),
    )
    if failing_files is not None:
        add("failing_files", "gauge", "Files that failed and wait for their next try.", failing_files)
    if totals is not None:
        add("shipped_files_total", "counter", "Files shipped since the ledger began.", totals.shipped_files)
        add("shipped_bytes_total", "counter", "Bytes shipped since the ledger began.", totals.shipped_bytes)
        add("already_there_files_total", "counter", "Shipped files that the store had before.", totals.already_there)
        add("failed_uploads_total", "counter", "Uploads that failed, each try counted.", totals.failed_uploads)
        add("runs_total", "counter", "Runs that came to an end.", totals.runs)
        add(
            "last_success_timestamp_seconds",
            "gauge",
            "When a run last ended with exit code 0; 0 if none has.",
            totals.last_success_at or 0,
        )
        add(
            "last_shipped_timestamp_seconds",
            "gauge",
            "When a file was last shipped; 0 if none was.",
            totals.last_shipped_at or 0,
        )
    return families.text()


def replace_file(path: str, data: bytes) -> None:
    """Replace a file in one step: whoever reads it sees the old content or the new one. Readable for everybody.

    :raises OSError: if that is not possible; the old file is still there then.
    """
    directory, name = os.path.split(path)
    # The collector reads *.prom only, so it never takes this one. The name is always the same, so that killed runs do
    # not leave one each.
    temporary = os.path.join(directory, f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


class _Families:
    def __init__(self, spool: str) -> None:
        self._spool = spool
        self._lines: list[str] = []
        self._family = ""

    def add(self, name: str, kind: str, help_text: str, value: float, **labels: str) -> None:
        if name != self._family:
            self._family = name
            self._lines.append(f"# HELP {_PREFIX}{name} {help_text}")
            self._lines.append(f"# TYPE {_PREFIX}{name} {kind}")
        pairs = ",".join(f'{label}="{_quoted(text)}"' for label, text in {"spool": self._spool, **labels}.items())
        self._lines.append(f"{_PREFIX}{name}{{{pairs}}} {_number(value)}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "NaN" if math.isnan(value) else repr(round(value, 3))
