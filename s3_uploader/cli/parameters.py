"""The options of the command line: each is stated here once, with its names, type and help.

A command's options are a struct, such as :class:`s3_uploader.cli.run.RunOptions`. Each field is annotated with one of
these, so the struct says which options the command takes and what their defaults are. ``cli/options.py`` turns a
struct into options of click; from there they come into ``--help``, completion, manual page and reference.

This module is imported only when a command line is parsed, never by a run that a timer starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """How an option is spelled and what it takes. Its type is the one that is annotated.

    :param names: as they are typed; ``--x/--no-x`` for a switch with both.
    :param metavar: stands for the value in the help.
    :param choices: the values that are allowed, if there are only these.
    :param least: the smallest number that is allowed.
    :param above: every allowed number is greater than this.
    :param most: the greatest number that is allowed.
    :param takes: ``path`` or ``directory``, which a shell completes.
    :param shows_default: whether the help names the default.
    :param not_with: names of options that contradict this one.
    :param check: raises :class:`~s3_uploader.core.errors.UsageProblem` for a value that is not allowed.
    """

    names: tuple[str, ...]
    help: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    takes: str = ""
    shows_default: bool = False
    not_with: tuple[str, ...] = ()
    check: Callable[[str], object] | None = None


def _flag(*names: str, about: str, not_with: tuple[str, ...] = ()) -> Parameter:
    return Parameter(names=names, help=about, not_with=not_with)


def _is_share(text: str) -> None:
    if not text.startswith("/"):
        from s3_uploader.core.shares import parse

        parse(text)


# What several commands take

Settings = Annotated[
    tuple[str, ...],
    Parameter(
        names=("--set",),
        metavar="KEY=VALUE",
        help="Set a key of the configuration, e.g. destination.port=2121. May be repeated.",
    ),
]
ShareOfFiles = Annotated[
    str | None,
    Parameter(
        names=("--share",),
        metavar="K/N",
        check=_is_share,
        help="Ship only this part of the files. N runs from 0/N to N-1/N, on any machines, ship all. /N takes K from "
        "SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX.",
    ),
]
ShareBy = Annotated[
    str | None,
    Parameter(
        names=("--share-by",),
        choices=("path", "location"),
        help="With --share: share single files by their paths (the default), or whole locations, so that no run reads "
        "the directories of the others.",
    ),
]
AsJson = Annotated[bool, _flag("--json", about="Print the result as JSON.")]
ShowProgress = Annotated[
    bool | None, _flag("--progress/--no-progress", about="Show a progress bar. Default: on a terminal only.")
]
Since = Annotated[
    str | None,
    Parameter(
        names=("--since",),
        metavar="TIME",
        help="From this time on: yesterday, monday, 2026-11-20, 2026-11-20T15:04; 2h and 3d are that long ago.",
    ),
]
Until = Annotated[str | None, Parameter(names=("--until",), metavar="TIME", help="Before this time. Default: now.")]
Match = Annotated[
    str | None, Parameter(names=("--match",), metavar="GLOB", help="Only paths or keys that match, e.g. 'bedroom/*'.")
]
Location = Annotated[
    str | None,
    Parameter(names=("--location",), metavar="NAME", help="Only this location: the first directory of the paths."),
]
Ledgers = Annotated[
    tuple[str, ...],
    Parameter(
        names=("--ledgers",),
        takes="path",
        metavar="PATH",
        help="Read these ledgers, of any uploaders: files, or directories that contain some. May be repeated.",
    ),
]
LogFormat = Annotated[
    str,
    Parameter(names=("--log-format",), choices=("text", "json"), shows_default=True, help="Format of the log lines."),
]
Verbose = Annotated[
    bool, _flag("-v", "--verbose", about="Also name each file that is left, and why.", not_with=("--quiet",))
]
Quiet = Annotated[bool, _flag("-q", "--quiet", about="Log only warnings and errors, so that cron mails nothing else.")]
SimulateFailures = Annotated[
    float,
    Parameter(
        names=("--simulate-failures",),
        least=0,
        most=1,
        metavar="RATE",
        help="Rehearsal: make this share of the uploads (0 to 1) fail, with every kind of error there is.",
    ),
]
MetricsListen = Annotated[
    str | None,
    Parameter(
        names=("--metrics-listen",),
        metavar="[ADDRESS:]PORT",
        help="Let watch serve metrics for Prometheus at http://ADDRESS:PORT/metrics. Default address: 127.0.0.1.",
    ),
]

# run

DryRun = Annotated[
    bool, _flag("--dry-run", about="Print what would be shipped and what would be left. Change nothing.")
]
MaxRuntime = Annotated[
    float | None,
    Parameter(names=("--max-runtime",), above=0, metavar="SECONDS", help="Time budget of the run."),
]
WaitForLock = Annotated[
    float,
    Parameter(
        names=("--wait-for-lock",),
        least=0,
        metavar="SECONDS",
        help="Wait for another run to end; exit code 75 if it does not. Default: step aside at once, exit code 0.",
    ),
]
Retry = Annotated[bool, _flag("--retry", about="Also try files that failed before and wait for their next try.")]

# watch

Interval = Annotated[
    float,
    Parameter(
        names=("--interval",),
        least=0.1,
        metavar="SECONDS",
        shows_default=True,
        help="Time between two passes. File-system events start the next one earlier.",
    ),
]

# history

Limit = Annotated[int | None, Parameter(names=("--limit",), least=1, help="At most this many, the newest.")]
Failed = Annotated[
    bool, _flag("--failed", about="Show failures instead: runs in which files failed, and files that still fail.")
]
TotalsBy = Annotated[
    str | None,
    Parameter(
        names=("--totals",),
        choices=("day", "location", "day,location"),
        help="Show sums instead of files: by day (local time), by location, or both.",
    ),
]
Format = Annotated[
    str,
    Parameter(
        names=("--format",),
        choices=("table", "json", "csv"),
        shows_default=True,
        help="Format of the output; --json is the same as --format json.",
    ),
]

# audit

AlsoSpool = Annotated[
    bool,
    _flag("--spool", not_with=("--ledgers",), about="Also report shipped files that remain in the spool."),
]
InventoryFile = Annotated[
    str | None,
    Parameter(
        names=("--inventory",),
        takes="path",
        metavar="FILE",
        help="The manifest.json of an S3 Inventory, CSV or Parquet, in place of a listing.",
    ),
]
Deep = Annotated[
    bool, _flag("--deep", about="Look up each object separately, and read its content where nothing else proves it.")
]

# status

AsPlugin = Annotated[
    bool,
    _flag(
        "--plugin",
        about="For Nagios, Icinga and the like: one line with figures. Exit code 0 OK, 1 WARNING, 2 CRITICAL, "
        "3 UNKNOWN.",
        not_with=("--json", "--watch"),
    ),
]
ExitByVerdict = Annotated[
    bool,
    _flag(
        "--exit-code",
        about="Exit with 0 if all is well, 1 for attention, 2 if the spool is stuck, 3 if that is unknown.",
    ),
]
Details = Annotated[
    bool, _flag("--details", about="For a directory: print everything about each spool instead of one line.")
]
Live = Annotated[bool, _flag("--watch", about="Update the display until Ctrl-C.", not_with=("--json",))]

# report

Output = Annotated[
    str | None,
    Parameter(
        names=("-o", "--output"),
        metavar="FILE",
        help="Write the page to this file; - is standard output. For a directory of configurations: a directory.",
    ),
]

# forget

Everything = Annotated[bool, _flag("--all", about="Forget all failing files.")]

# ledger

KeepDays = Annotated[
    float | None,
    Parameter(
        names=("--keep-days",),
        least=0,
        metavar="DAYS",
        help="Forget files that were shipped longer ago. Default: history_days.",
    ),
]
KeepFiles = Annotated[
    int | None,
    Parameter(
        names=("--keep-files",),
        least=0,
        metavar="NUMBER",
        help="Keep at most this many files in each ledger. Default: history_max_files.",
    ),
]
DryCompaction = Annotated[
    bool, _flag("--dry-run", about="Print how much would be forgotten and freed. Change nothing.")
]

# demo

Keep = Annotated[bool, _flag("--keep", about="Do not remove the demo's directory at the end.")]

# init

SpoolDirectory = Annotated[
    str | None, Parameter(names=("--spool",), metavar="DIR", help="The directory that producers fill.")
]
To = Annotated[
    str | None,
    Parameter(
        names=("--to",),
        metavar="DEST",
        help="A bucket, s3://bucket/prefix, sftp://user@host/path, ftp://…, or a directory.",
    ),
]
From = Annotated[
    str | None,
    Parameter(
        names=("--from",),
        metavar="FILE",
        help="Convert the configuration file, or the command line, of an older program.",
    ),
]
EndpointUrl = Annotated[
    str | None,
    Parameter(names=("--endpoint-url",), metavar="URL", help="An S3-compatible service instead of AWS."),
]
Region = Annotated[str | None, Parameter(names=("--region",), metavar="NAME", help="Region of the bucket.")]
Yes = Annotated[bool, _flag("-y", "--yes", about="Ask nothing; accept the proposals.")]
Overwrite = Annotated[bool, _flag("--force", about="Overwrite a file that exists.")]

# units

UnitKind = Annotated[
    str,
    Parameter(
        names=("--kind",),
        choices=("timer", "watch", "cron", "crontab"),
        shows_default=True,
        help="A systemd timer that starts runs, a systemd service for `watch`, a file for /etc/cron.d, or lines for "
        "`crontab -e`.",
    ),
]
Every = Annotated[
    str,
    Parameter(names=("--every",), metavar="PERIOD", shows_default=True, help="Time between runs: 1min, 15min, 2h, 1d."),
]
User = Annotated[
    str | None,
    Parameter(
        names=("--user",),
        metavar="NAME",
        help="Run as this user. Default: one that suits the spool; a comment says why.",
    ),
]
Credentials = Annotated[
    str | None,
    Parameter(
        names=("--credentials",),
        takes="path",
        metavar="FILE",
        help="File with AWS keys. Default for systemd: `credentials` beside CONFIG_FILE or in the directory, if it "
        "exists.",
    ),
]
Environment = Annotated[
    str | None,
    Parameter(
        names=("--environment",),
        takes="path",
        metavar="FILE",
        help="For systemd: file with environment variables. Default: `environment` beside CONFIG_FILE or in the "
        "directory, if it exists.",
    ),
]
UnitName = Annotated[
    str | None,
    Parameter(names=("--name",), metavar="NAME", help="Name of the units. Default: made from the name of CONFIG_FILE."),
]
Install = Annotated[
    bool, _flag("--install", about="Write the files instead of printing them, and say what to do next.")
]
UnitDirectory = Annotated[
    str | None,
    Parameter(
        names=("--directory",),
        takes="directory",
        metavar="DIR",
        help="Where to write the files. Default: /etc/systemd/system, /etc/cron.d.",
    ),
]
OverwriteEdited = Annotated[bool, _flag("--force", about="With --install: also overwrite a file that was edited.")]
