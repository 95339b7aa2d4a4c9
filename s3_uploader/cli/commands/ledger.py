"""The commands ``ledger merge`` and ``ledger compact`` on the command line."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import LedgerCompactOptions, LedgerMergeOptions
from s3_uploader.cli.options import configured, form_of, takes


@click.group(short_help="Make one ledger of several, or a smaller one.")
def ledger() -> None:
    """Write a ledger anew: make one of several, or let it forget what is old and give the room back.

    Nothing may be at work on the spool meanwhile; a run that begins is kept out. Whatever ends it leaves the old ledger
    or the new one, whole.

    \b
    Examples:
      s3-uploader-cli ledger merge config.json
      s3-uploader-cli ledger compact config.json --dry-run
    """


@ledger.command(short_help="Make one ledger of several.")
@configured
@click.argument("sources", nargs=-1, metavar="SOURCE...", type=click.Path())
@takes(LedgerMergeOptions)
def merge(config_file: str, sources: tuple[str, ...], options: LedgerMergeOptions) -> int:
    """Bring what other ledgers know into the one of the configuration, each row once.

    A SOURCE is a ledger, or a directory in which ledgers are, those of machines that are no more for example; it is
    only read. The ledgers of shares, which lie in the spool's state directory, are merged too, and removed afterwards.
    To merge the same once more changes nothing.

    \b
    Examples:
      s3-uploader-cli ledger merge config.json
      s3-uploader-cli ledger merge config.json /srv/retired/host-7/ledger.sqlite3
    """
    from s3_uploader.cli.exit_codes import guarded
    from s3_uploader.cli.ledger import merge as work

    return guarded(lambda: work(config_file, sources, options), form=form_of(options.as_json))


@ledger.command(short_help="Forget what is old and give the room back.")
@configured
@takes(LedgerCompactOptions)
def compact(config_file: str, options: LedgerCompactOptions) -> int:
    """Forget the rows of files that were shipped long ago, and give the room back to the disk.

    It says how many of these rows no audit has covered. What is forgotten is the history only, no file and no object.

    \b
    Examples:
      s3-uploader-cli ledger compact config.json --dry-run
      s3-uploader-cli ledger compact config.json --keep-days 90
    """
    from s3_uploader.cli.directory import each
    from s3_uploader.cli.ledger import compact as work

    return each(
        config_file,
        options,
        work,
        headings=not options.as_json,
        form=form_of(options.as_json),
    )
