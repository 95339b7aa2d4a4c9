"""The commands that ship, as click sees them: ``run`` and ``watch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from s3_uploader.cli.options import several_configured, shared

if TYPE_CHECKING:
    from s3_uploader.monitoring.log import Verbosity

_SIMULATE = "Rehearsal: make this share of the uploads (0 to 1) fail, with every kind of error there is."


@click.command(short_help="Ship what is ready, once.")
@several_configured
@shared
@click.option("--dry-run", is_flag=True, help="Say what would be shipped and what would be left, and do nothing.")
@click.option("--progress/--no-progress", default=None, help="Show a progress bar. Default: on a terminal only.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Also name each file that is left, and why.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors: what cron should mail about.")
@click.option("--max-runtime", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Time budget.")
@click.option(
    "--wait-for-lock",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=0.0,
    help="Wait for another run to end; exit code 75 if it does not. Default: step aside at once, exit code 0.",
)
@click.option("--retry", is_flag=True, help="Also try files that failed before and wait for their next try.")
@click.option("--simulate-failures", type=click.FloatRange(0, 1), metavar="RATE", help=_SIMULATE)
def run(
    config_files: tuple[str, ...],
    dry_run: bool,
    progress: bool | None,
    log_format: str,
    verbose: bool,
    quiet: bool,
    max_runtime: float | None,
    wait_for_lock: float,
    retry: bool,
    simulate_failures: float | None,
) -> int:
    """Ship what is ready, once. Of several files, or a directory of them, up to eight spools at the same time.

    \b
    Example, for cron:
      * * * * * s3-uploader-cli run --quiet /etc/s3-uploader/config.json
    """
    from s3_uploader.cli import run as running

    return running.run(
        config_files[0],
        running.RunOptions(
            dry_run=dry_run,
            progress=progress,
            json_log=log_format == "json",
            verbosity=_verbosity(verbose=verbose, quiet=quiet),
            max_runtime_seconds=max_runtime,
            wait_for_lock_seconds=wait_for_lock,
            retry=retry,
            simulate_failures=simulate_failures or 0.0,
        ),
        *config_files[1:],
    )


@click.command(short_help="Ship files as they appear, until told to stop.")
@several_configured
@shared
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    default=9.0,
    show_default=True,
    help="Time between two looks at the spool; file-system events make the next one come earlier.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Also name each file that is left, and why.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.option("--simulate-failures", type=click.FloatRange(0, 1), metavar="RATE", help=_SIMULATE)
@click.option(
    "--metrics-listen",
    metavar="[ADDRESS:]PORT",
    help="Serve metrics for Prometheus at http://ADDRESS:PORT/metrics. Default address: 127.0.0.1.",
)
def watch(
    config_files: tuple[str, ...],
    interval: float,
    log_format: str,
    verbose: bool,
    quiet: bool,
    simulate_failures: float | None,
    metrics_listen: str | None,
) -> int:
    """Ship files as they appear, until told to stop.

    Of several files, or a directory of them, each spool is watched by a process of its own, so that none depends on
    another. SIGTERM and Ctrl-C finish what is in flight and stop, and so does the end of the terminal that it was
    started at; else SIGHUP reloads the configuration.

    \b
    Example, for a systemd service of Type=notify:
      ExecStart=/usr/local/bin/s3-uploader-cli watch /etc/s3-uploader/config.json
    """
    from s3_uploader.cli import watch as watching
    from s3_uploader.cli.directory import is_one_file

    options = watching.WatchOptions(
        interval=interval,
        json_log=log_format == "json",
        verbosity=_verbosity(verbose=verbose, quiet=quiet),
        simulate_failures=simulate_failures or 0.0,
        metrics_listen=metrics_listen,
    )
    if is_one_file(config_files):
        return watching.watch(config_files[0], options)
    from s3_uploader.cli.watch_many import watch_many

    return watch_many(config_files, options)


def _verbosity(*, verbose: bool, quiet: bool) -> Verbosity:
    from s3_uploader.monitoring.log import Verbosity

    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet contradict each other.")
    return Verbosity.VERBOSE if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL
