"""The command ``init`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.exit_codes import guarded


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
