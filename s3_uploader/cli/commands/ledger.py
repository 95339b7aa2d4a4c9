"""The commands ``ledger merge`` and ``ledger compact`` on the command line."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import LedgerCompactOptions, LedgerMergeOptions
from s3_uploader.cli.options import configured, form_of, takes


@click.group(short_help="Merge ledgers, or make one smaller.")
def ledger() -> None:
    """Rewrite a ledger: merge several into one, or forget old files and free the space.

    No run may be active on the spool; runs that start meanwhile are locked out. If the command is interrupted, either
    the old ledger or the new one is there, complete.

    \b
    Examples:
      s3-uploader-cli ledger merge config.json
      s3-uploader-cli ledger compact config.json --dry-run
    """


@ledger.command(short_help="Merge several ledgers into one.")
@configured
@click.argument("sources", nargs=-1, metavar="[SOURCE]...", type=click.Path(readable=False))
@takes(LedgerMergeOptions)
def merge(config_file: str, sources: tuple[str, ...], options: LedgerMergeOptions) -> int:
    """Merge other ledgers into the one of the configuration, each row once.

    A SOURCE is a ledger or a directory with ledgers, of retired machines for example. It is only read. The ledgers of
    shares in the spool's state directory are merged too, and then deleted. Merging the same ledger again changes
    nothing.

    \b
    Examples:
      s3-uploader-cli ledger merge config.json
      s3-uploader-cli ledger merge config.json /srv/retired/host-7/ledger.sqlite3
    """
    from s3_uploader.cli.frame import guarded
    from s3_uploader.cli.ledger import merge as work

    return guarded(lambda: work(config_file, sources, options), form=form_of(options.as_json))


@ledger.command(short_help="Forget old files and free the space.")
@configured
@takes(LedgerCompactOptions)
def compact(config_file: str, options: LedgerCompactOptions) -> int:
    """Forget files that were shipped long ago, and free the space of their rows.

    It prints how many of these files no audit has covered. Only the history is lost; files and objects stay.

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
