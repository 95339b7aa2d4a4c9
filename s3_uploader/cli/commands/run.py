"""The command ``run`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.options import several_configured, shared, simulating, verbosity_of


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
@simulating
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
            verbosity=verbosity_of(verbose=verbose, quiet=quiet),
            max_runtime_seconds=max_runtime,
            wait_for_lock_seconds=wait_for_lock,
            retry=retry,
            simulate_failures=simulate_failures or 0.0,
        ),
        *config_files[1:],
    )
