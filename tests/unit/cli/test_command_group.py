"""What holds for every command, also for one that is added later: it is found in the group."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from s3_uploader.cli import commands
from s3_uploader.cli.commands import command, group
from s3_uploader.cli.names import COMMANDS

WITHOUT_JSON = {
    "completion": "prints a script",
    "demo": "shows what the other commands print",
    "init": "writes a file and says what to do with it",
    "run": "tells what it does in its log, whose format is an option",
    "schema": "prints JSON and nothing else",
    "watch": "tells what it does in its log, whose format is an option",
}
"""The commands that print no data of their own, and what they do instead."""
COLUMNS = 80


def help_of(name: str, columns: int) -> str:
    """What ``--help`` shows in a terminal of so many columns."""
    parent = click.Context(group, info_name="s3-uploader-cli", terminal_width=columns)
    return command(name).get_help(click.Context(command(name), info_name=name, parent=parent, terminal_width=columns))


def test_every_command_has_a_name_that_is_no_file() -> None:
    """No command is taken for a configuration file, none is announced that there is not, and each has a module."""
    assert sorted(COMMANDS) == [module.name for module in pkgutil.iter_modules(commands.__path__)]
    context = click.Context(group)
    assert group.list_commands(context) == sorted(COMMANDS)
    assert [name for name in COMMANDS if group.get_command(context, name) is not command(name)] == []
    assert group.get_command(context, "config.json") is None


def test_a_command_does_not_pay_for_the_others() -> None:
    """What is called every minute loads the options of no other command."""
    script = "import sys; from s3_uploader.cli.commands import command; command('run'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("s3_uploader.cli.commands.")}
    assert loaded == {"s3_uploader.cli.commands.run"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help(name: str) -> None:
    """The help shows an example of the command, and no line of it is broken by a terminal of 80 columns."""
    text = help_of(name, COLUMNS)
    assert re.search(r"^ +Examples?\b", text, re.MULTILINE)
    example = re.search(r"^ +Examples?\b.*?\n\n", text + "\n\n", re.MULTILINE | re.DOTALL)
    assert example is not None
    assert f"s3-uploader-cli {name} " in " ".join(example[0].split()) + " "
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_json(name: str) -> None:
    """What prints data prints it as JSON too."""
    found = command(name)
    below = list(found.commands.values()) if isinstance(found, click.Group) else [found]
    options = set.intersection(*({option for parameter in one.params for option in parameter.opts} for one in below))
    assert ("--json" in options) != (name in WITHOUT_JSON)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_explained(name: str) -> None:
    """No option is left without a word, or choices that speak for themselves."""
    for parameter in command(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help or isinstance(parameter.type, click.Choice), parameter.opts


@pytest.mark.parametrize("name", ["", *COMMANDS])
@pytest.mark.parametrize("columns", [40, 80])
def test_help_fits_the_terminal(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sentence is broken by the terminal; what is typed, and is wider, stays on its line to be copied."""
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = CliRunner().invoke(group, [name, "--help"] if name else ["--help"]).output
    wide = [line for line in shown.splitlines() if len(line) > columns]
    assert not [line for line in wide if columns == 80 or "s3-uploader-cli " not in line]
    assert "..." not in shown.partition("Commands:")[2]
