"""The commands as click sees them. Everything heavier than parsing is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import s3_uploader
from s3_uploader.cli.deployment_commands import completion, init, units
from s3_uploader.cli.exit_codes import USAGE, Form, finish_output, guarded
from s3_uploader.cli.failing_commands import forget
from s3_uploader.cli.names import COMMANDS, COMPLETION_VARIABLE
from s3_uploader.cli.options import configurations, configured, several_configured, shared

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from s3_uploader.monitoring.log import Verbosity

_SIMULATE = "Rehearsal: make this share of the uploads (0 to 1) fail, with every kind of error there is."


_SINCE = click.option(
    "--since", metavar="TIME", help="At or after: yesterday, monday, 2026-11-20, 2026-11-20T15:04, or 2h, 3d ago."
)
_UNTIL = click.option("--until", metavar="TIME", help="Before that time.")
_MATCH = click.option("--match", metavar="GLOB", help="Only paths or keys that match, e.g. 'bedroom/*'.")
_LOCATION = click.option("--location", metavar="NAME", help="Only this location.")


class _RunByDefault(click.Group):
    """A group whose first argument, if it names no command, is the configuration file of ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if args and args[0] not in COMMANDS and args[0] not in own:
            self._refuse_misspelling(args[0])
            args = ["run", *args]
        return super().parse_args(ctx, args)

    @staticmethod
    def _refuse_misspelling(word: str) -> None:
        if word.startswith("-"):
            return
        from s3_uploader.cli.settings import nearest_command

        nearest = nearest_command(word)
        if nearest:
            raise click.UsageError(
                f"{word} is neither a command nor a configuration file. Did you mean {nearest}?", ctx=None
            )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return super().shell_complete(ctx, incomplete) + ([] if incomplete[:1] == "-" else configurations(incomplete))


@click.group(cls=_RunByDefault, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(s3_uploader.__version__, prog_name="s3-uploader-cli")
def group() -> None:
    """Empties a spool directory into object storage, without ever losing a byte.

    \b
    s3-uploader-cli CONFIG_FILE        one run, the same as `run CONFIG_FILE`
    s3-uploader-cli COMMAND --help     more about a command
    """


@group.command(short_help="Ship what is ready, once.")
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


@group.command(short_help="Ship files as they appear, until told to stop.")
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


@group.command(short_help="Prove that spool and destination can do what is needed.")
@configured
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(config_file: str, as_json: bool) -> int:
    """Prove, before the first delete, that spool and destination can do what is needed.

    Stores a small object of its own at the destination and removes it again.

    \b
    Example:
      s3-uploader-cli check /etc/s3-uploader/config.json
    """
    from s3_uploader.cli.check import check as work
    from s3_uploader.cli.directory import each

    return each(config_file, lambda path: work(path, as_json=as_json), headings=not as_json, form=_form(as_json))


@group.command(short_help="Whether it is stuck: since when, why, and what comes next.")
@configured
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--plugin",
    "as_plugin",
    is_flag=True,
    help="For Nagios, Icinga and the like: one line with figures; exit code 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
)
@click.option("--exit-code", is_flag=True, help="End with 0 if all is well, 1 for attention, 2 if it is stuck.")
@click.option("--details", is_flag=True, help="Of a directory: all about each spool, and not one line.")
@click.option("--watch", is_flag=True, help="Show it live, until Ctrl-C.")
def status(config_file: str, as_json: bool, as_plugin: bool, exit_code: bool, details: bool, watch: bool) -> int:
    """Whether it is stuck: since when, on which file, why, and what comes next.

    Then who has the lock, the backlog by location with its oldest age, failing files and the last runs. Of a directory
    of configurations: a summary and one line for each spool, the worst first. Changes nothing and may be called at any
    time, also by another user who may read the ledger.

    \b
    Examples:
      s3-uploader-cli status config.json
      s3-uploader-cli status config.json --json | jq -r '.problems[].cause'
      s3-uploader-cli status config.json --plugin
    """
    from s3_uploader.cli import overview
    from s3_uploader.cli import status as one
    from s3_uploader.cli.directory import each, is_directory

    if as_json + as_plugin + watch > 1:
        raise click.UsageError("--json, --plugin and --watch contradict each other.")
    many = is_directory(config_file)
    if as_plugin:
        return guarded(lambda: overview.plugin(config_file) if many else one.plugin(config_file))
    if watch:
        return guarded(lambda: overview.watch_directory(config_file) if many else overview.watch_file(config_file))
    if many and not as_json and not details:
        return guarded(lambda: overview.overview(config_file, exit_by_verdict=exit_code))
    return each(
        config_file,
        lambda path: one.status(path, as_json=as_json, exit_by_verdict=exit_code),
        headings=not as_json,
        form=_form(as_json),
    )


@group.command(short_help="What was shipped, from the ledger.")
@configured
@_SINCE
@_UNTIL
@_MATCH
@_LOCATION
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest.")
@click.option("--failed", is_flag=True, help="Failures instead: runs in which files failed, files that still fail.")
@click.option(
    "--totals",
    type=click.Choice(["day", "location", "day,location"]),
    help="Sums instead of files: by day (local time), by location, or both.",
)
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def history(
    config_file: str,
    since: str | None,
    until: str | None,
    match: str | None,
    location: str | None,
    limit: int | None,
    failed: bool,
    totals: str | None,
    form: str,
    as_json: bool,
) -> int:
    """What was shipped, from the ledger; the destination is not asked.

    \b
    Examples:
      s3-uploader-cli history config.json --since 1d --match 'den/*' --format csv
      s3-uploader-cli history config.json --totals day,location --since 7d
    """
    from s3_uploader.cli.directory import each
    from s3_uploader.cli.history import Selection
    from s3_uploader.cli.history import history as work

    def select_and_print(path: str) -> int:
        selection = Selection.of(since=since, until=until, match=match, location=location, limit=limit)
        return work(path, selection, failed=failed, totals=totals, form="json" if as_json else form)

    is_table = form == "table" and not as_json
    return each(config_file, select_and_print, headings=is_table, form=_form(as_json or form == "json"))


@group.command(short_help="What was shipped when, as one HTML page with charts.")
@configured
@click.option(
    "-o", "--output", metavar="FILE", help="Where it goes; - is standard output. Of a directory: a directory."
)
@click.option("--since", metavar="TIME", help="Begin of what is shown: monday, 2026-11-20, or 12h, 30d ago.")
@click.option("--until", metavar="TIME", help="Its end. Default: now.")
@click.option("--json", "as_json", is_flag=True, help="The numbers of the page as JSON.")
def report(config_file: str, output: str | None, since: str | None, until: str | None, as_json: bool) -> int:
    """What was shipped when, delays, backlog and failures, as one HTML page with charts.

    The page holds all it needs and asks no network. It is made from the ledger; the destination is not asked.

    \b
    Example:
      s3-uploader-cli report config.json -o report.html --since 30d
    """
    from s3_uploader.cli.directory import each, is_directory
    from s3_uploader.cli.report import output_in
    from s3_uploader.cli.report import report as work

    many = is_directory(config_file)

    def one(path: str) -> int:
        where = output_in(output, path) if many and not as_json else output
        return work(path, output=where, since=since, until=until, as_json=as_json)

    return each(config_file, one, headings=False, form=_form(as_json))


@group.command(short_help="Hold the ledger against the destination.")
@configured
@click.option("--spool", is_flag=True, help="Also tell of files in the spool that were shipped and are still there.")
@_SINCE
@_UNTIL
@_MATCH
@_LOCATION
@click.option("--deep", is_flag=True, help="Look at every object on its own; read it where nothing else tells.")
@click.option("--json", "as_json", is_flag=True, help="Print each finding as a line of JSON, and the summary.")
@click.option("--progress/--no-progress", default=None, help="Show a progress bar. Default: on a terminal only.")
def audit(
    config_file: str,
    spool: bool,
    since: str | None,
    until: str | None,
    match: str | None,
    location: str | None,
    deep: bool,
    as_json: bool,
    progress: bool | None,
) -> int:
    """Hold the ledger against the destination: what was shipped must be there, unchanged.

    Prints what is missing or different. Exit code 0 if nothing is, 1 if something is or nothing was shipped there, 2 if
    there is no ledger, 3 if the destination cannot be read. Changes nothing; needs the right to list the bucket and to
    read its objects.

    \b
    Examples:
      s3-uploader-cli audit config.json --since 30d
      s3-uploader-cli audit config.json --deep --spool --json > audit.jsonl
    """
    from s3_uploader.cli.directory import each

    def work(path: str) -> int:
        from s3_uploader.cli import audit as auditing
        from s3_uploader.cli.history import Selection

        selection = Selection.of(since=since, until=until, match=match, location=location)
        options = auditing.AuditOptions(deep=deep, spool=spool, as_json=as_json, progress=progress)
        return auditing.audit(path, selection, options)

    return each(config_file, work, headings=not as_json, form=_form(as_json))


@group.command()
def schema() -> int:
    """The JSON Schema of the configuration file.

    \b
    Example, for an editor that knows schemas:
      s3-uploader-cli schema > s3-uploader.schema.json
    """
    import msgspec

    from s3_uploader import config

    print(msgspec.json.format(msgspec.json.encode(config.json_schema()), indent=2).decode())
    return 0


@group.command(short_help="Show the main job, with a server of its own.")
@click.option("--keep", is_flag=True, help="Do not remove the demo's directory at the end.")
def demo(keep: bool) -> int:
    """Show the main job: a spool, an S3 server inside this process, and a run. Needs no account.

    \b
    Example:
      s3-uploader-cli demo --keep
    """
    from s3_uploader.cli.demo import demo as work

    return guarded(lambda: work(keep=keep))


group.add_command(init)
group.add_command(forget)
group.add_command(units)
group.add_command(completion)


def _form(as_json: bool) -> Form:
    return Form.JSON if as_json else Form.TEXT


def _verbosity(*, verbose: bool, quiet: bool) -> Verbosity:
    from s3_uploader.monitoring.log import Verbosity

    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet contradict each other.")
    return Verbosity.VERBOSE if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL


def command_line(arguments: Sequence[str]) -> int:
    """Parse and run; the exit code instead of ``SystemExit``."""
    if COMPLETION_VARIABLE in os.environ:
        from s3_uploader.cli import completion as completing

        sys.stdout.write(completing.answer(group))
        return 0
    try:
        result = group.main(args=list(arguments), prog_name="s3-uploader-cli", standalone_mode=False)
        finish_output()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except click.Abort:
        print("Aborted.", file=sys.stderr)
        return 130
    return result if isinstance(result, int) else 0
