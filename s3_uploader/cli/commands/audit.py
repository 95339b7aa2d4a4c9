"""The command line of ``audit``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import AuditOptions
from s3_uploader.cli.options import configured_or_ledgers, form_of, insist_on_one, takes


@click.command(short_help="Compare the ledger with the destination.")
@configured_or_ledgers
@takes(AuditOptions)
def audit(config_file: str | None, options: AuditOptions) -> int:
    """Compare the ledger with the destination: every shipped file must be there, unchanged.

    Prints what is missing or different. Exit code 0 if nothing is, 1 if something is or nothing was shipped there, 2 if
    there is no ledger, 3 if the destination cannot be read. Changes nothing there; needs permission to list the bucket
    and to read its objects.

    \b
    Examples:
      s3-uploader-cli audit config.json --since 30d
      s3-uploader-cli audit config.json --deep --spool --json > audit.jsonl
      s3-uploader-cli audit --ledgers /srv/ledgers --set bucket=readings
    """
    from s3_uploader.cli.directory import each
    from s3_uploader.cli.frame import guarded

    insist_on_one(config_file, options.ledgers)

    def audit_one(path: str | None, options: AuditOptions) -> int:
        from s3_uploader.cli.audit import audit as work

        return work(path, options)

    if config_file is None or options.ledgers:
        return guarded(lambda: audit_one(config_file, options), form=form_of(options.as_json))
    return each(
        config_file,
        options,
        audit_one,
        headings=not options.as_json,
        closing=not options.as_json,
        form=form_of(options.as_json),
    )
