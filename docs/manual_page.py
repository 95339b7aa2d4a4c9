r"""The manual page, made from the commands themselves and the table of exit codes.

Text of click's is plain; what roff would take for its own (backslashes, a dot at the start of a line) is escaped, and
``\b`` before a paragraph means that its lines stay as they are.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

import s3_uploader
from docs.commands import PROGRAM, subcommands
from s3_uploader.cli.commands import group

PAGE = Path(__file__).with_name("man") / f"{PROGRAM}.1"
_EXIT_CODES = Path(__file__).with_name("reference") / "exit-codes.md"
_CHANGED = "2026-11-20"
_MARKS = {"…": "...", "—": "\\(em", "→": "\\(->", "`": ""}


def generated() -> str:
    """Make the page."""
    lines = [
        '.\\" Made by docs/generate.py; change the commands instead.',
        f'.TH {PROGRAM.upper()} 1 "{_CHANGED}" "s3_uploader {s3_uploader.__version__}" "User Commands"',
        ".SH NAME",
        f"{_escaped(PROGRAM)} \\- empty a spool directory into object storage",
        ".SH SYNOPSIS",
        f".B {_escaped(PROGRAM)}",
        ".I CONFIG_FILE",
        ".br",
        f".B {_escaped(PROGRAM)}",
        ".I COMMAND",
        "[\\fIOPTIONS\\fR] [\\fICONFIG_FILE\\fR]",
        ".SH DESCRIPTION",
        *_paragraphs(group.help or ""),
        ".SH COMMANDS",
        *_commands(),
        ".SH EXIT STATUS",
        *_exit_codes(),
        ".SH ENVIRONMENT",
        *_environment(),
        ".SH FILES",
        *_files(),
        ".SH SEE ALSO",
        ".BR crontab (5),",
        ".BR systemd.timer (5),",
        ".BR systemd.exec (5)",
    ]
    return "\n".join(lines) + "\n"


def _commands() -> Iterator[str]:
    with click.Context(group, info_name=PROGRAM) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if command is None or command.hidden:
                continue
            own = click.Context(command, info_name=name, parent=context)
            yield from _command(name, command, own)
            for below, context_below in subcommands(command, own):
                yield from _command(f"{name} {context_below.info_name}", below, context_below)


def _command(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".SS {name}"
    yield f".B {_escaped(PROGRAM)} {name}"
    yield _escaped(" ".join(command.collect_usage_pieces(context)))
    yield ".PP"
    yield from _paragraphs(command.help or "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            yield from _item(record[0], record[1])


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        lines = paragraph.strip("\n").split("\n")
        if number:
            yield ".PP"
        if lines[0].strip() != "\b":
            yield from _filled(" ".join(lines))
            continue
        del lines[0]
        if lines and lines[0].endswith(":"):
            yield _escaped(lines.pop(0))
            yield ".PP"
        yield from [".nf", ".RS 4", *map(_escaped, inspect.cleandoc("\n".join(lines)).split("\n")), ".RE", ".fi"]


def _exit_codes() -> Iterator[str]:
    rows = re.findall(r"^\| (\d[\d, ]*) \| (.*?) \|", _EXIT_CODES.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows, f"{_EXIT_CODES.name} has no table of exit codes"
    for codes, meaning in rows:
        yield from _item(codes, re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning))


def _environment() -> Iterator[str]:
    yield from _item(
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, ...",
        "As in every AWS tool.",
    )
    yield from _item("S3_UPLOADER_KEY", "A key of the configuration, over the file; two underscores separate levels.")
    yield from _item("STATE_DIRECTORY", "Where the ledger lives, unless state_dir says so; set by systemd.")


def _files() -> Iterator[str]:
    yield from _item("/etc/s3-uploader/config.json", "A usual place for the configuration; any other is as good.")
    yield from _item("~/.local/state/s3-uploader", "The ledger, without STATE_DIRECTORY and state_dir.")


def _item(term: str, meaning: str) -> list[str]:
    return [".TP", f".B {_escaped(term)}", *_filled(meaning)]


def _filled(text: str) -> list[str]:
    """Text in lines of a length that people can read in the source too."""
    return list(map(_escaped, textwrap.wrap(text, 72, break_long_words=False, break_on_hyphens=False)))


def _escaped(text: str) -> str:
    """Text as roff prints it; a hyphen that is meant as one on a keyboard can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(_MARKS.get(character, character) for character in text)
    text = "".join(character if character.isascii() else f"\\[u{ord(character):04X}]" for character in text)
    return "\\&" + text if text[:1] in (".", "'") else text
