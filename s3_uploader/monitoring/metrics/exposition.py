"""The metrics that exist, and Prometheus's text format for them.

The text is written here and not by ``prometheus_client``, whose import takes about 65 ms, as long as a tick without
work. The tests check the text with its parser.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

PREFIX = "s3_uploader_"

Labels = tuple[tuple[str, str], ...]
Samples = list[tuple[Labels, float]]


class Family(msgspec.Struct, frozen=True):
    """The metrics of one name. ``labels`` come in addition to ``spool``, which all have."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    only_in_watch: bool = False

    @property
    def full_name(self) -> str:
        """The type, as Prometheus spells it."""
        return PREFIX + self.name


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, "gauge", meaning, labels)


def _counter(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, "counter", meaning, labels)


def _watch(name: str, meaning: str, kind: str = "gauge") -> Family:
    return Family(name, kind, meaning, only_in_watch=True)


_OTHERS = "Beyond 50 locations, the rest are counted as /others; '.' stands for files without a location."

FAMILIES: tuple[Family, ...] = (
    _gauge("build_info", "The version that wrote this; always 1.", "version"),
    _gauge("last_run_timestamp_seconds", "When the last run ended; 0 if none has."),
    _gauge("last_run_duration_seconds", "How long the last run took."),
    _gauge("last_run_exit_code", "Exit code of the last run; 0 is success."),
    _gauge("last_run_shipped_files", "Files that the last run shipped."),
    _gauge("last_run_shipped_bytes", "Bytes that the last run shipped."),
    _gauge("last_run_failed_files", "Files that the last run could not ship."),
    _gauge("left_entries", "Entries of the spool that the last run left, by reason.", "reason"),
    _gauge("backlog_files", "Files that waited in the spool after the last run."),
    _gauge("backlog_bytes", "Size of the files that waited in the spool after the last run."),
    _gauge(
        "oldest_waiting_timestamp_seconds",
        "Data time of the oldest file that waited after the last run; NaN if none did.",
    ),
    _gauge("oldest_waiting_age_seconds", "Age of the oldest waiting file when this was written; 0 if none waited."),
    _gauge("failing_files", "Files that failed and wait for their next try."),
    _counter("shipped_files_total", "Files shipped since the ledger began."),
    _counter("shipped_bytes_total", "Bytes shipped since the ledger began."),
    _counter("already_there_files_total", "Shipped files that the store had before."),
    _counter("failed_uploads_total", "Uploads that failed, each try counted."),
    _counter("runs_total", "Runs that ended."),
    _gauge("last_success_timestamp_seconds", "When a run last ended with exit code 0; 0 if none has."),
    _gauge("last_shipped_timestamp_seconds", "When a file was last shipped; 0 if none was."),
    _counter(
        "location_shipped_files_total", f"Files shipped since the ledger began, by location. {_OTHERS}", "location"
    ),
    _counter(
        "location_shipped_bytes_total", f"Bytes shipped since the ledger began, by location. {_OTHERS}", "location"
    ),
    _gauge("location_backlog_files", f"Files that waited after the last run, by location. {_OTHERS}", "location"),
    _gauge("location_backlog_bytes", f"Bytes that waited after the last run, by location. {_OTHERS}", "location"),
    _gauge(
        "location_oldest_waiting_timestamp_seconds",
        f"Data time of the oldest waiting file, by location; NaN if none waited. {_OTHERS}",
        "location",
    ),
    _gauge("last_attempt_timestamp_seconds", "When a run last began, or could not."),
    _gauge(
        "last_attempt_outcome",
        "1 for the outcome of the last attempt: ran, stepped_aside (another run has the spool), could_not_begin.",
        "outcome",
    ),
    _gauge(
        "lock_held_since_timestamp_seconds",
        "Since when the run for which the last attempt stepped aside has had the spool; 0 if it did not.",
    ),
    _gauge(
        "run_in_progress_since_timestamp_seconds",
        "Since when a run has been at work, set for runs of more than a minute; 0 if none is.",
    ),
    _gauge("problem", "1 while this keeps files from being shipped, else 0, by cause.", "cause"),
    _gauge(
        "problem_since_timestamp_seconds",
        "Since when this has kept files from being shipped; 0 if it does not.",
        "cause",
    ),
    _watch("watch_start_timestamp_seconds", "When the watch was started."),
    _watch("watch_last_beat_timestamp_seconds", "When the watch last gave a sign of life; it gives one each second."),
    _watch("watch_interval_seconds", "Longest time between two passes while all is well."),
    _watch("watch_passes_total", "Passes that ended since the watch was started.", "counter"),
    _watch("watch_pass_running", "1 while a pass is under way, else 0."),
    _watch("watch_pass_start_timestamp_seconds", "When the pass under way began; 0 if none is."),
    _watch("watch_pass_shipped_files", "Files that the pass under way has shipped so far."),
    _watch("watch_pass_shipped_bytes", "Bytes that the pass under way has shipped so far."),
    _watch("watch_pass_failed_files", "Files that failed in the pass under way so far."),
)

Blocks = dict[str, str]
"""The texts of families, by full name."""


def blocks(samples: Mapping[str, Samples], *, spool: str, share: str = "") -> Blocks:
    """Format the families that have samples.

    :param spool: the label of all samples; ``share`` is another one, if it is not empty.
    """
    common = (("spool", spool), ("share", share)) if share else (("spool", spool),)
    found: Blocks = {}
    for family in FAMILIES:
        if family.name in samples:
            lines = [
                f"# HELP {family.full_name} {family.meaning}",
                f"# TYPE {family.full_name} {family.kind}",
            ]
            for labels, value in samples[family.name]:
                pairs = ",".join(f'{name}="{quoted(text)}"' for name, text in (*common, *labels))
                lines.append(f"{family.full_name}{{{pairs}}} {_number(value)}")
            found[family.full_name] = "\n".join(lines) + "\n"
    return found


def joined(*layers: Blocks) -> str:
    """Join layers to one text. The first layer that has a family wins."""
    full_names = (family.full_name for family in FAMILIES)
    return "".join(next((layer[name] for layer in layers if name in layer), "") for name in full_names)


def blocks_of(text: str, *, spool: str) -> Blocks:
    """Parse the families of a spool in a text that was written here."""
    found: Blocks = {}
    for part in ("\n" + text).rstrip("\n").split("\n# HELP ")[1:]:
        lines = part.split("\n")
        name = lines[0].partition(" ")[0]
        if len(lines) > 2 and all(line.startswith(f'{name}{{spool="{quoted(spool)}"') for line in lines[2:]):
            found[name] = f"# HELP {part}\n"
    return found


def quoted(text: str) -> str:
    """Escape the value of a label."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "NaN" if math.isnan(value) else repr(round(value, 3))
