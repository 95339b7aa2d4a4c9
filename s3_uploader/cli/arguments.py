"""The options that each command takes, with their defaults; ``cli/parameters.py`` says what each of them means.

Those of ``run`` stand in ``cli/run.py``: a run that a timer starts loads no other command's options.
"""

from __future__ import annotations

import msgspec

from s3_uploader.cli import parameters as take
from s3_uploader.cli.frame import FileOptions, ShareOptions
from s3_uploader.monitoring.log import Verbosity


class WatchOptions(ShareOptions, frozen=True, kw_only=True):
    """The options of ``watch``."""

    interval: take.Interval = 9.0
    log_format: take.LogFormat = "text"
    verbose: take.Verbose = False
    quiet: take.Quiet = False
    simulate_failures: take.SimulateFailures = 0.0
    metrics_listen: take.MetricsListen = None

    @property
    def json_log(self) -> bool:
        """Whether log lines are JSON."""
        return self.log_format == "json"

    @property
    def verbosity(self) -> Verbosity:
        """How much the log says."""
        return Verbosity.of(verbose=self.verbose, quiet=self.quiet)


class CheckOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``check``."""

    as_json: take.AsJson = False


class StatusOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``status``."""

    as_json: take.AsJson = False
    as_plugin: take.AsPlugin = False
    exit_by_verdict: take.ExitByVerdict = False
    details: take.Details = False
    live: take.Live = False


class HistoryOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``history``."""

    since: take.Since = None
    until: take.Until = None
    match: take.Match = None
    location: take.Location = None
    limit: take.Limit = None
    failed: take.Failed = False
    totals: take.TotalsBy = None
    format: take.Format = "table"
    as_json: take.AsJson = False

    @property
    def form(self) -> str:
        """``table``, ``json`` or ``csv``."""
        return "json" if self.as_json else self.format


class AuditOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``audit``; ``progress`` is ``None`` for a bar on a terminal only."""

    ledgers: take.Ledgers = ()
    spool: take.AlsoSpool = False
    since: take.Since = None
    until: take.Until = None
    match: take.Match = None
    location: take.Location = None
    inventory: take.InventoryFile = None
    deep: take.Deep = False
    as_json: take.AsJson = False
    progress: take.ShowProgress = None


class ReportOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``report``."""

    ledgers: take.Ledgers = ()
    output: take.Output = None
    since: take.Since = None
    until: take.Until = None
    as_json: take.AsJson = False


class ForgetOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``forget``."""

    everything: take.Everything = False
    as_json: take.AsJson = False


class LedgerMergeOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``ledger merge``."""

    as_json: take.AsJson = False


class LedgerCompactOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``ledger compact``."""

    keep_days: take.KeepDays = None
    keep_files: take.KeepFiles = None
    dry_run: take.DryCompaction = False
    as_json: take.AsJson = False


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``demo``."""

    keep: take.Keep = False


class InitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``init``."""

    spool: take.SpoolDirectory = None
    to: take.To = None
    source: take.From = None
    endpoint_url: take.EndpointUrl = None
    region: take.Region = None
    yes: take.Yes = False
    force: take.Overwrite = False


class UnitOptions(FileOptions, frozen=True, kw_only=True):
    """The options of ``units``."""

    kind: take.UnitKind = "timer"
    every: take.Every = "1min"
    user: take.User = None
    credentials: take.Credentials = None
    environment: take.Environment = None
    metrics_listen: take.MetricsListen = None
    name: take.UnitName = None
    install: take.Install = False
    directory: take.UnitDirectory = None
    force: take.OverwriteEdited = False
    as_json: take.AsJson = False
