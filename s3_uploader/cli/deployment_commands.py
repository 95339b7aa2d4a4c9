"""The commands that fit the program into a machine, as click sees them: ``init``, ``units`` and ``completion``."""

from __future__ import annotations

import click

from s3_uploader.cli.exit_codes import guarded
from s3_uploader.cli.options import configured, form_of


@click.command(short_help="Ask for spool and destination; write a configuration.")
@click.argument("config_file", type=click.Path(), default="s3-uploader.json")
@click.option("--spool", metavar="DIR", help="The directory that producers fill.")
@click.option(
    "--to", metavar="DEST", help="A bucket, s3://bucket/prefix, sftp://user@host/path, ftp://…, or a directory."
)
@click.option("--from", "source", metavar="FILE", help="Take over an older program's file, or its command line.")
@click.option("--endpoint-url", metavar="URL", help="An S3-compatible service instead of AWS.")
@click.option("--region", metavar="NAME", help="Region of the bucket.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; take what is proposed.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(
    config_file: str,
    spool: str | None,
    to: str | None,
    source: str | None,
    endpoint_url: str | None,
    region: str | None,
    yes: bool,
    force: bool,
) -> int:
    """Ask for spool and destination, look at the spool, and write a configuration with comments.

    Layout and settle time are proposed from the files that are there. --from reads the INI file of zc.s3uploadqueue,
    the YAML file of s3, and the command line of jollyae. Nothing is asked where it is no terminal, or with --yes.

    \b
    Examples:
      s3-uploader-cli init
      s3-uploader-cli init config.json --spool /srv/x --to s3://bucket/x --yes
    """
    from s3_uploader.cli.check import check
    from s3_uploader.cli.init import InitOptions
    from s3_uploader.cli.init import init as work
    from s3_uploader.cli.units import UnitOptions
    from s3_uploader.cli.units import units as print_units

    options = InitOptions(
        spool=spool, to=to, source=source, endpoint_url=endpoint_url, region=region, yes=yes, force=force
    )
    return guarded(
        lambda: work(
            config_file,
            options,
            check=lambda path: check(path, as_json=False),
            units=lambda path: print_units(path, UnitOptions()),
        )
    )


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


@click.command(short_help="Print what lets a shell complete commands and files.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print what teaches a shell to complete commands, options and configuration files.

    \b
    Examples:
      eval "$(s3-uploader-cli completion bash)"     in ~/.bashrc
      eval "$(s3-uploader-cli completion zsh)"      in ~/.zshrc, after compinit
      s3-uploader-cli completion fish | source      in ~/.config/fish/config.fish
    """
    from s3_uploader.cli.completion import script

    def work() -> int:
        print(script(shell), end="")
        return 0

    return guarded(work)
