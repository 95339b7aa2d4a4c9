"""The command ``init``: ask for spool and destination, look at the spool, and write a commented configuration."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import click

from s3_uploader import config
from s3_uploader.cli.arguments import InitOptions
from s3_uploader.cli.frame import guarded
from s3_uploader.cli.names import COMMANDS
from s3_uploader.cli.output import columns, print_lines, wrapped
from s3_uploader.config.older import Older, understood
from s3_uploader.core.errors import ConfigError, SpoolDenied, SpoolError, StoreError, UsageProblem
from s3_uploader.core.files import is_stream, replace_file
from s3_uploader.core.text import shown_name, shown_text
from s3_uploader.inspection.proposal import proposal_for
from s3_uploader.spool.layouts.strangers import FORMS

_FORMS = "a bucket, s3://bucket/prefix, sftp://user@host/path, ftp://user@host/path, or a directory"

_MOST_BYTES = 2**20
_WIDTH = 96
_ABOUT = {
    "base_dir": "The spool: the directory that producers fill and this program empties.",
    "bucket": "The bucket. Credentials and region come from the environment or from ~/.aws.",
    "destination": "Where the files go.",
    "key_prefix": "Prefix of every key.",
    "layout": "How the spool is read: dated, tree or queue.",
    "settle_seconds": "How long a file must have been left alone before it is shipped.",
    "region": "The region of the bucket.",
    "endpoint_url": "An S3-compatible service instead of AWS.",
    "claim_dir": "Several uploaders share the spool: each takes a file by moving it here.",
    "on_success": "What happens to a file that has been shipped.",
    "on_failure": "What happens to a file that cannot be shipped.",
    "acl": "Who may read the objects.",
    "max_concurrency": "Maximum number of uploads in flight.",
}
_OPTIONAL = (
    ('"on_success": {"move_to": "~/shipped"},', "Shipped files are deleted. To move them instead:"),
    ('"exclude": ["*.log"],', "Files that are left, by name or relative path:"),
    ('"metrics_file": "/var/lib/prometheus/node-exporter/s3-uploader.prom",', "Metrics for Prometheus:"),
)


def init(config_file: str, options: InitOptions, *, check: Callable[[str], int], units: Callable[[str], int]) -> int:
    """Write the configuration; asks for missing values on a terminal.

    :param check: runs the command ``check``, which is offered at the end, like ``units``.
    """
    if os.path.lexists(config_file) and not options.force:
        raise UsageProblem(
            f"{shown_name(config_file)} exists already.", hint="Name another file, or overwrite it with --force."
        )
    if is_stream(config_file) or (os.path.exists(config_file) and not os.path.isfile(config_file)):
        raise UsageProblem(
            f"{shown_name(config_file)} is not a regular file, so no configuration takes its place.",
            hint="Name another file.",
        )
    asks = not options.yes and sys.stdin.isatty() and sys.stdout.isatty()
    older = _older(options.source)
    settings, notes = dict(older.settings), older.notes
    settings |= {name: value for name in ("endpoint_url", "region") if (value := getattr(options, name))}
    _take_spool(settings, options, asks=asks)
    _take_destination(settings, options, asks=asks)
    for value in _texts(settings):
        if _has_other_bytes(value):
            raise UsageProblem(
                f"{shown_text(value)} has bytes that are not UTF-8, which a configuration cannot hold.",
                hint="Rename it, or name another.",
            )
    # Before a wrong path is used, and of what is written: it is never refused by the next command.
    _refuse_with_a_run(config.from_mapping(dict(settings), source=config_file), config_file)
    reasons = _take_proposal(settings, asks=asks)
    text = _as_text(settings, reasons)
    _refuse_with_a_run(config.decode(text.encode(), source=config_file), config_file)
    try:
        replace_file(os.path.realpath(config_file), text.encode(), mode=None)
    except OSError as error:
        raise UsageProblem(f"{shown_name(config_file)} cannot be written: {error.strerror or error}.") from error
    print_lines([f"Wrote {shown_name(config_file)}:", ""])
    print_lines(["  " + line for line in text.splitlines()])
    print_lines(["", *map(shown_text, notes)] if notes else [])
    code = 0
    is_checked = False
    if asks and click.confirm("\nCheck now that spool and destination can do what is needed?", default=True):
        is_checked = True
        code = guarded(lambda: check(config_file))
    if asks and click.confirm("\nPrint a systemd timer that starts a run each minute?", default=False):
        guarded(lambda: units(config_file))
    _print_next(config_file, is_checked=is_checked, is_service=older.is_service)
    return code


def _older(source: str | None) -> Older:
    """What an older program's file or command line says; nothing without one."""
    if source is None:
        return Older("", {}, [])
    text = source
    if os.path.exists(source):
        try:
            with open(source, encoding="utf-8-sig", errors="surrogateescape") as file:
                text = file.read(_MOST_BYTES)
        except OSError as error:
            raise UsageProblem(f"{shown_name(source)} cannot be read: {error.strerror}.") from error
    if _is_read_as_it_is(text):
        raise UsageProblem(
            f"{shown_name(source[:80])} is a configuration of this program already.",
            hint="Nothing has to be converted. `s3-uploader-cli check` says whether everything is ready for it.",
        )
    found = understood(text)
    if found is None:
        name = shown_name(source[:80])
        is_file = os.path.exists(source)
        raise UsageProblem(
            f"{name} is not the configuration of a known program." if is_file else f"There is no file {name}.",
            hint="Known are the INI file of zc.s3uploadqueue, the YAML file of s3, and the command line of jollyae.",
        )
    print_lines([f"Read as a configuration of {found.program}.", *map(shown_text, found.unread)])
    for value in _texts(found.settings):
        if _has_other_bytes(value):
            raise UsageProblem(
                f"{shown_text(value)} has bytes that are not UTF-8, which a configuration cannot hold.",
                hint=f"Save {shown_name(source[:80])} as UTF-8. If the name on the disk has these bytes, rename it.",
            )
    return found


def _texts(value: object) -> Iterator[str]:
    """Every text in settings."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _has_other_bytes(value: str) -> bool:
    return not value.isascii() and any("\udc80" <= letter <= "\udcff" for letter in value)


def _refuse_with_a_run(made: config.Config, config_file: str) -> None:
    """Refuse what every run with this configuration would refuse.

    Not a spool that is not there yet, or that another user reads.

    :raises SpoolError: of the paths.
    :raises UsageProblem: of the endpoint.
    """
    from s3_uploader.run.place import open_place, refuse_to_ship

    try:
        with open_place(made):
            refuse_to_ship(made, "The configuration", config_file)
    except SpoolDenied:
        pass
    except SpoolError:
        if os.path.lexists(made.base_dir):
            raise
    bucket = made.destination
    if isinstance(bucket, config.S3Destination) and (bucket.endpoint_url or bucket.region):
        from s3_uploader.stores.s3.endpoint import locate

        try:
            locate(
                bucket=bucket.bucket,
                endpoint_url=bucket.endpoint_url,
                region=bucket.region,
                addressing_style=bucket.addressing_style,
                ca_bundle=None,
                special="",
                environment={},
            )
        except StoreError as error:
            raise UsageProblem(error.message, hint=error.hint) from None


def _is_read_as_it_is(text: str) -> bool:
    """Whether a file needs no conversion, as that of S3 Uploader, whose keys are known here."""
    try:
        config.decode(text.encode("utf-8", "surrogateescape"), source="")
    except ConfigError:
        return False
    return True


def _take_spool(settings: dict[str, Any], options: InitOptions, *, asks: bool) -> None:
    spool = options.spool or settings.get("base_dir")
    if spool is None and asks:
        spool = click.prompt("Spool (the directory that producers fill)", type=str)
    if spool is None:
        raise UsageProblem("There is no spool.", hint="Name it with --spool DIRECTORY.")
    settings["base_dir"] = _absolute(spool)


def _absolute(path: str) -> str:
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        home = expanded.partition("/")[0]
        raise UsageProblem(
            f"There is no home directory of {shown_name(home)}.",
            hint=f"Correct {shown_name(path)}, or write ./ before it if it is the name of a directory.",
        )
    return os.path.abspath(expanded)


def _take_destination(settings: dict[str, Any], options: InitOptions, *, asks: bool) -> None:
    found = None if options.to is None else destination(options.to)
    if found is None and "bucket" not in settings and asks:
        found = click.prompt(f"Destination ({_FORMS})", value_proc=_destination_typed)
    if "destination" in (found or ()) and (options.endpoint_url or options.region):
        raise UsageProblem("--endpoint-url and --region are for a bucket.", hint="Leave them out, or name a bucket.")
    if found is not None:
        for name in ("bucket", "destination"):
            settings.pop(name, None)
        settings |= found
    elif "bucket" not in settings:
        raise UsageProblem(
            "There is no destination.",
            hint=f"Name it with --to: {_FORMS}.",
        )


def _destination_typed(text: str) -> dict[str, Any]:
    """The same of what a person has typed, who is asked again if it cannot be understood."""
    try:
        return destination(text)
    except UsageProblem as error:
        raise click.UsageError(str(error)) from None


def destination(text: str) -> dict[str, Any]:
    """The configuration keys of a destination that is written as a URL, bucket or path.

    :raises UsageProblem: if it cannot be understood.
    """
    try:
        found = _destination(text)
    except ValueError:  # an invalid port, a bracket without the other
        found = None
    if found is None:
        raise UsageProblem(f"{shown_name(text)} is not a destination.", hint=f"Write {_FORMS}.")
    return found


def _destination(text: str) -> dict[str, Any] | None:
    if text[:5].lower() == "s3://":  # a key is no path of a URL: nothing in it has a meaning
        bucket, _, path = text[5:].partition("/")
        prefix = path.strip("/")
        return {"bucket": bucket} | ({"key_prefix": prefix + "/"} if prefix else {}) if bucket else None
    parts = urlsplit(text) if "://" in text else None
    if parts is not None and any(letter in "?#\x7f" or letter < " " for letter in text):
        raise UsageProblem(  # what may be a part of a password is not repeated
            "The URL of the destination has a ?, a # or a control character.",
            hint="In a URL they are written %3F, %23 and, for example, %0A.",
        )
    if parts is not None and parts.scheme in ("ftp", "ftps") and parts.hostname:
        if parts.password is not None:
            raise UsageProblem(
                "A password does not belong in the configuration.",
                hint="Leave it out. It is read from S3_UPLOADER_FTP_PASSWORD, or from a file named by password_file.",
            )
        made: dict[str, Any] = {"type": "ftp", "host": parts.hostname}
        made |= {"port": parts.port} if parts.port is not None else {}
        made |= {"user": _unquoted(parts.username)} if parts.username else {}
        made |= {"path": _unquoted(parts.path)} if parts.path not in ("", "/") else {}
        return {"destination": made | ({"tls": True} if parts.scheme == "ftps" else {})}
    if parts is not None and parts.scheme == "sftp" and parts.hostname and parts.username:
        return {"destination": _sftp(parts)}
    if parts is not None and parts.scheme == "sftp" and parts.hostname and parts.port != 0:
        raise UsageProblem(f"{shown_name(text)} names no user.", hint="Write sftp://user@host/path.")
    if parts is not None and parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return {"destination": {"type": "local", "path": _unquoted(parts.path)}}
    if parts is None and (text.startswith(("/", "~", ".")) or os.path.isdir(text)):
        return {"destination": {"type": "local", "path": _absolute(text)}}
    if parts is None and (re.fullmatch(r"[A-Za-z0-9._-]{3,255}", text) or text.startswith("arn:")):
        return {"bucket": text}
    return None


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _sftp(parts: SplitResult) -> dict[str, Any]:
    if parts.password is not None:
        raise UsageProblem(
            "A password does not belong in the configuration.",
            hint="Leave it out. It is read from S3_UPLOADER_SFTP_PASSWORD, or from a file named by password_file.",
        )
    made: dict[str, Any] = {"type": "sftp", "host": parts.hostname, "user": _unquoted(parts.username or "")}
    made |= {"port": parts.port} if parts.port is not None else {}
    # As in curl: ~ is the login directory, everything else begins at the root.
    path = _unquoted(parts.path)
    path = path[2:].lstrip("/") if path == "/~" or path.startswith("/~/") else path
    return made | ({"path": path} if path not in ("", "/") else {})


def _take_proposal(settings: dict[str, Any], *, asks: bool) -> dict[str, str]:
    """Add the layout and settle time that fit the files in the spool; returns the reasons."""
    try:
        found = proposal_for(settings["base_dir"], monotonic=time.monotonic)
    except SpoolError as error:
        print_lines([f"{shown_text(error.message)} {shown_text(error.hint)}"])
        return {}
    proposed = {name: value for name, value in found.settings.items() if name == "base_dir" or name not in settings}
    print_lines([shown_text(found.reasons["layout"])] if "layout" in proposed else [])
    if asks and "layout" in proposed:
        layouts = click.Choice(list(FORMS))
        proposed["layout"] = click.prompt("Layout", default=proposed["layout"], type=layouts)
    settings |= proposed
    return {name: reason for name, reason in found.reasons.items() if name in proposed}


def _as_text(settings: dict[str, Any], reasons: dict[str, str]) -> str:
    lines = ["// Configuration of s3-uploader. Comments and trailing commas are allowed.", "{"]
    order = {name: number for number, name in enumerate(_ABOUT)}
    for name in sorted(settings, key=lambda each: order.get(each, len(order))):
        lines += _comment(
            " ".join(filter(None, (_ABOUT.get(name, "") if name not in reasons else "", reasons.get(name))))
        )
        value = settings[name]
        shown = f"{value}s" if name == "settle_seconds" else value
        lines.append(f"    {json.dumps(name)}: {json.dumps(shown)},")
    for example, about in _OPTIONAL:
        if json.loads("{" + example.rstrip(",") + "}").keys() & settings.keys():
            continue
        lines += ["", f"    // {about}", f"    // {example}"]
    return "\n".join([*lines, "}", ""])


def _comment(text: str) -> list[str]:
    import textwrap

    return ["", *(f"    // {line}" for line in textwrap.wrap(shown_text(text), _WIDTH))] if text else [""]


def _print_next(config_file: str, *, is_checked: bool, is_service: bool) -> None:
    import shlex

    # A configuration may be called like a command.
    name = shlex.quote(f"./{config_file}" if config_file in COMMANDS else config_file)
    steps = [
        (f"check {name}", "proves that spool and destination can do what is needed"),
        (f"run --dry-run {name}", "says what would be shipped"),
        (name, "ships it"),
        (f"units {name}", "prints a systemd timer that does this every minute"),
    ]
    if is_service:
        steps[2:] = [
            (f"watch {name}", "ships files as they appear, until it is told to stop"),
            (f"units --kind watch {name}", "prints a systemd service that does this"),
        ]
    print_lines(["", "Next:"])
    for command, about in steps[is_checked:]:
        print_lines([f"  s3-uploader-cli {command}", *wrapped(f"      {about}", columns(), indent=6)])
