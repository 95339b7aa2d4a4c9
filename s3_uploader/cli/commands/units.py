"""The command ``units`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.exit_codes import guarded
from s3_uploader.cli.options import configured, form_of


@click.command(short_help="Print systemd units or a crontab for a configuration.")
@configured
@click.option(
    "--kind",
    type=click.Choice(["timer", "watch", "cron", "crontab"]),
    default="timer",
    show_default=True,
    help="Runs by a systemd timer, a systemd service for `watch`, a file for /etc/cron.d, or lines for `crontab -e`.",
)
@click.option("--every", metavar="PERIOD", default="1min", show_default=True, help="Between runs: 1min, 15min, 2h, 1d.")
@click.option("--user", metavar="NAME", help="Run as this user. Default: one that suits the spool; a comment says why.")
@click.option(
    "--credentials",
    type=click.Path(),
    metavar="FILE",
    help="AWS keys. Default: `credentials` beside CONFIG_FILE, if it exists.",
)
@click.option(
    "--environment",
    type=click.Path(),
    metavar="FILE",
    help="Variables. Default: `environment` beside CONFIG_FILE, if it exists.",
)
@click.option("--metrics-listen", metavar="[ADDRESS:]PORT", help="With --kind watch: serve metrics there.")
@click.option("--name", metavar="NAME", help="Name of the units. Default: made from the name of CONFIG_FILE.")
@click.option("--install", is_flag=True, help="Write the files instead of printing them, and say what to do next.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where to. Default: /etc/systemd/system, /etc/cron.d.",
)
@click.option("--force", is_flag=True, help="With --install: write over a file that was edited, too.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def units(
    config_file: str,
    kind: str,
    every: str,
    user: str | None,
    credentials: str | None,
    environment: str | None,
    metrics_listen: str | None,
    name: str | None,
    install: bool,
    directory: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Print systemd units or a crontab for a configuration, locked into what it needs.

    \b
    Examples:
      s3-uploader-cli units /etc/s3-uploader/config.json
      s3-uploader-cli units /etc/s3-uploader/config.json --kind watch --install
    """
    from s3_uploader.cli import units as work

    options = work.UnitOptions(
        kind=kind,
        every=every,
        user=user,
        credentials=credentials,
        environment=environment,
        metrics_listen=metrics_listen,
        name=name,
        install=install,
        directory=directory,
        force=force,
        as_json=as_json,
    )
    return guarded(lambda: work.units(config_file, options), form=form_of(as_json))
