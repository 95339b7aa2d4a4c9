"""The command ``watch`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.options import several_configured, shared, simulating, verbosity_of


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
@simulating
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
        verbosity=verbosity_of(verbose=verbose, quiet=quiet),
        simulate_failures=simulate_failures or 0.0,
        metrics_listen=metrics_listen,
    )
    if is_one_file(config_files):
        return watching.watch(config_files[0], options)
    from s3_uploader.cli.watch_many import watch_many

    return watch_many(config_files, options)
