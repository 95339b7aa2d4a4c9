"""Which metrics there are, and how they are written in Prometheus's text format.

The text is written here and not by ``prometheus_client``, whose import alone takes about 65 ms, as long as a whole tick
without work; its parser is what the tests hold the text against.

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
    """Metrics of one name. ``labels`` are those beside ``spool``, which all have."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    only_in_watch: bool = False

    @property
    def full_name(self) -> str:
        """As Prometheus has it."""
        return PREFIX + self.name


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, "gauge", meaning, labels)


def _counter(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, "counter", meaning, labels)


def _watch(name: str, meaning: str, kind: str = "gauge") -> Family:
    return Family(name, kind, meaning, only_in_watch=True)


_OTHERS = "Of more than 50 locations the rest are /others; '.' are files of no location."

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
    _counter("runs_total", "Runs that came to an end."),
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
        "1 for what became of the last attempt: ran, stepped_aside (another run has the spool), could_not_begin.",
        "outcome",
    ),
    _gauge(
        "lock_held_since_timestamp_seconds",
        "Since when the run has the spool for which the last attempt stepped aside; 0 if it did not.",
    ),
    _gauge(
        "run_in_progress_since_timestamp_seconds",
        "Since when a run is at work, told of runs longer than a minute; 0 if none is.",
    ),
    _gauge("problem", "1 while this keeps files from being shipped, else 0, by cause.", "cause"),
    _gauge("problem_since_timestamp_seconds", "Since when this keeps files from being shipped; 0 if not.", "cause"),
    _watch("watch_start_timestamp_seconds", "When the watch was started."),
    _watch("watch_last_beat_timestamp_seconds", "When the watch last gave a sign of life; it does so each second."),
    _watch("watch_interval_seconds", "Longest time between two looks at the spool while all is well."),
    _watch("watch_passes_total", "Passes that came to an end since the watch was started.", "counter"),
    _watch("watch_pass_running", "1 while a pass is under way, else 0."),
    _watch("watch_pass_start_timestamp_seconds", "When the pass that is under way began; 0 if none is."),
    _watch("watch_pass_shipped_files", "Files that the pass under way has shipped so far."),
    _watch("watch_pass_shipped_bytes", "Bytes that the pass under way has shipped so far."),
    _watch("watch_pass_failed_files", "Files that failed in the pass under way so far."),
)

Blocks = dict[str, str]
"""The text of each family, by its full name."""


def blocks(samples: Mapping[str, Samples], *, spool: str, share: str = "") -> Blocks:
    """The text of the families that there are samples of.

    :param spool: what all samples are labelled with; and so with ``share``, if that is one.
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
    """One text; what an earlier layer has of a family stands for what the later ones have of it."""
    full_names = (family.full_name for family in FAMILIES)
    return "".join(next((layer[name] for layer in layers if name in layer), "") for name in full_names)


def blocks_of(text: str, *, spool: str) -> Blocks:
    """The families in a text that was written here, as far as they are of that spool."""
    found: Blocks = {}
    for part in ("\n" + text).rstrip("\n").split("\n# HELP ")[1:]:
        lines = part.split("\n")
        name = lines[0].partition(" ")[0]
        if len(lines) > 2 and all(line.startswith(f'{name}{{spool="{quoted(spool)}"') for line in lines[2:]):
            found[name] = f"# HELP {part}\n"
    return found


def quoted(text: str) -> str:
    """The value of a label, as it stands between its quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "NaN" if math.isnan(value) else repr(round(value, 3))
