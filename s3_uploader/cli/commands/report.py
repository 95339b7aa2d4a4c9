"""The command ``report`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.options import configured_or_ledgers, form_of, insist_on_one


@click.command(short_help="What was shipped when, as one HTML page with charts.")
@configured_or_ledgers
@click.option(
    "-o", "--output", metavar="FILE", help="Where it goes; - is standard output. Of a directory: a directory."
)
@click.option("--since", metavar="TIME", help="Begin of what is shown: monday, 2026-11-20, or 12h, 30d ago.")
@click.option("--until", metavar="TIME", help="Its end. Default: now.")
@click.option("--json", "as_json", is_flag=True, help="The numbers of the page as JSON.")
def report(
    config_file: str | None,
    ledgers: tuple[str, ...],
    output: str | None,
    since: str | None,
    until: str | None,
    as_json: bool,
) -> int:
    """What was shipped when, delays, backlog and failures, as one HTML page with charts.

    The page holds all it needs and asks no network. It is made from the ledger; the destination is not asked.

    \b
    Examples:
      s3-uploader-cli report config.json -o report.html --since 30d
      s3-uploader-cli report --ledgers /srv/ledgers -o fleet.html --since 30d
    """
    from s3_uploader.cli.directory import each, is_directory
    from s3_uploader.cli.exit_codes import guarded
    from s3_uploader.cli.report import output_in
    from s3_uploader.cli.report import report as work

    insist_on_one(config_file, ledgers)
    if config_file is None or ledgers:
        return guarded(
            lambda: work(config_file, ledgers=ledgers, output=output, since=since, until=until, as_json=as_json),
            form=form_of(as_json),
        )
    many = is_directory(config_file)

    def one(path: str) -> int:
        where = output_in(output, path) if many and not as_json else output
        return work(path, output=where, since=since, until=until, as_json=as_json)

    return each(config_file, one, headings=False, form=form_of(as_json))
