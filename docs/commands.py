"""The reference of the command line as Markdown, made from the commands themselves."""

from __future__ import annotations

import inspect

import click

from s3_uploader.cli.commands import group

PROGRAM = "s3-uploader-cli"


def reference() -> str:
    """The program, then each command in the order in which ``--help`` lists them."""
    parts = [_help_text(group), _options(group, click.Context(group, info_name=PROGRAM))]
    with click.Context(group, info_name=PROGRAM) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if command is None or command.hidden:
                continue
            own = click.Context(command, info_name=name, parent=context)
            parts += [f"## {name}", *_command(command, own)]
            for below, context_below in subcommands(command, own):
                parts += [f"### {name} {context_below.info_name}", *_command(below, context_below)]
    return "\n\n".join(part for part in parts if part) + "\n"


def subcommands(command: click.Command, context: click.Context) -> list[tuple[click.Command, click.Context]]:
    """The commands of a command that is a group of them."""
    if not isinstance(command, click.Group):
        return []
    found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [(below, click.Context(below, info_name=name, parent=context)) for name, below in found if below is not None]


def _command(command: click.Command, context: click.Context) -> list[str]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    return [f"```\n{' '.join(usage.split())}\n```", _help_text(command), _options(command, context)]


def _help_text(command: click.Command) -> str:
    r"""Paragraphs as they are; those that click must not wrap (``\b``) as code, without what introduces an example."""
    parts = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.strip("\n").split("\n")
        if lines[0].strip() != "\b":
            parts.append(_escaped(paragraph))
            continue
        del lines[0]
        if lines and lines[0].endswith(":"):
            parts.append(lines.pop(0))
        parts.append("```\n" + inspect.cleandoc("\n".join(lines)) + "\n```")
    return "\n\n".join(parts)


def _options(command: click.Command, context: click.Context) -> str:
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1] and not {"--help", "--version"} & set(parameter.opts):
            names, meaning = (cell.replace("|", r"\|") for cell in record)
            rows.append(f"| `{names}` | {_escaped(meaning)} |")
    return "\n".join(["| option | meaning |", "| --- | --- |", *rows]) if rows else ""


def _escaped(text: str) -> str:
    return text.replace("*", r"\*").replace("<", r"\<")
