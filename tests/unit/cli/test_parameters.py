"""Options of the command line are stated once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_type_hints

import click
import msgspec
import pytest
from click.testing import CliRunner

from s3_uploader.cli import arguments, commands, parameters
from s3_uploader.cli.commands import command, group
from s3_uploader.cli.names import COMMANDS
from s3_uploader.cli.parameters import Parameter
from s3_uploader.cli.run import RunOptions

OWN = [each for each in vars(arguments).values() if getattr(each, "__module__", "") == arguments.__name__]
STRUCTS: list[Any] = [RunOptions, *OWN]
NO_OPTION = {"foreign"}
"""A field that the command line does not fill."""


def stated() -> dict[str, Parameter]:
    """Every option that is stated, by the name of its statement."""
    return {
        name: value.__metadata__[0] for name, value in vars(parameters).items() if getattr(value, "__metadata__", None)
    }


def taken(options: Any) -> list[Parameter]:
    """The options that a struct names."""
    hints = get_type_hints(options, localns={"take": parameters}, include_extras=True)
    return [hints[name].__metadata__[0] for name in options.__struct_fields__ if name not in NO_OPTION]


def test_every_option_that_is_stated_is_taken() -> None:
    """No option is stated for nobody, and every field of a command's options is one that is stated."""
    used = [parameter for options in STRUCTS for parameter in taken(options)]
    assert {id(parameter) for parameter in stated().values()} == {id(parameter) for parameter in used}
    assert all(parameter.help for parameter in used)


def test_only_one_place_makes_options() -> None:
    """A command's module declares no option by itself."""
    sources = Path(commands.__file__).parent.glob("*.py")
    assert [path.name for path in sources if re.search(r"click\.option\(", path.read_text(encoding="utf-8"))] == []


def every_command() -> list[click.Command]:
    """The commands, and in place of a group its own."""
    found = [command(name) for name in sorted(COMMANDS)]
    return [one for each in found for one in (each.commands.values() if isinstance(each, click.Group) else [each])]


def test_a_command_has_the_options_of_its_struct() -> None:
    """What click offers is what the structs of the commands state, no more and no less."""
    offered = [
        {option for each in one.params if isinstance(each, click.Option) for option in each.opts} - {"--help"}
        for one in every_command()
    ]
    named = [
        {part for parameter in taken(options) for name in parameter.names for part in name.split("/")[:1]}
        for options in STRUCTS
    ]
    assert sorted(map(sorted, filter(None, offered))) == sorted(map(sorted, named))


def test_what_may_be_left_out_stands_in_brackets() -> None:
    """The usage of a command shows which of its arguments have to be given."""
    for one in every_command():
        for each in one.params:
            if isinstance(each, click.Argument):
                assert each.required != each.make_metavar(click.Context(one)).startswith("["), (one.name, each.name)


def test_who_reads_a_file_says_that_it_cannot_be_read() -> None:
    """A file that this user may not read is told in the form of the command: as JSON, or as a state that is unknown."""
    paths = [each.type for one in every_command() for each in one.params if isinstance(each.type, click.Path)]
    assert paths
    assert not any(path.readable for path in paths)


def parsed(*words: str) -> Any:
    """What a command line makes of its options, without the command's work."""
    with group.make_context("s3-uploader-cli", list(words)) as outer:
        name, found, rest = group.resolve_command(outer, [words[0], *words[1:]])
        assert found is not None
        return found.make_context(name, rest, parent=outer).params


def test_defaults_and_limits() -> None:
    """An option that is not given has the default of its field, and a number out of its range is refused."""
    defaults = {name: value for name, value in msgspec.structs.asdict(RunOptions()).items() if name not in NO_OPTION}
    assert {name: parsed("run", "c.json")[name] for name in defaults} == defaults
    assert parsed("watch", "c.json", "--set", "a=1", "--set", "b=2", "--share", "1/2")["settings"] == ("a=1", "b=2")
    assert parsed("run", "c.json", "--no-progress", "--max-runtime", "5")["max_runtime_seconds"] == 5.0
    for words in (
        ("--share", "2/2"),
        ("--share", "half"),
        ("--share-by", "size"),
        ("--max-runtime", "0"),
        ("--wait-for-lock", "-1"),
        ("--simulate-failures", "2"),
    ):
        with pytest.raises(click.BadParameter):
            parsed("run", "c.json", *words)
    with pytest.raises(click.BadParameter):
        parsed("history", "c.json", "--limit", "0")
    with pytest.raises(click.BadParameter, match="'10m' is not a valid number"):
        parsed("run", "c.json", "--max-runtime", "10m")
    with pytest.raises(click.BadParameter, match="'ten' is not a valid whole number"):
        parsed("history", "c.json", "--limit", "ten")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--quiet", "--verbose"),
        ("watch", "-q", "-v"),
        ("status", "--json", "--watch"),
        ("status", "--plugin", "--json"),
    ],
    ids=" ".join,
)
def test_contradictions(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Options that contradict each other are refused before anything is done."""
    assert commands.command_line([words[0], "nowhere.json", *words[1:]]) == 2
    assert "contradict each other." in capsys.readouterr().err


def test_a_command_line_holds_for_its_own_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What one call sets, another call in the same process knows nothing of."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"base_dir": str(tmp_path), "bucket": "bucket"}))
    assert commands.command_line(["run", str(path), "--dry-run", "--set", "settle_seconds=never"]) == 2
    assert commands.command_line(["run", str(path), "--dry-run"]) == 0
    assert commands.command_line(["run", str(path), "--dry-run", "--set", "share=9/9"]) == 2
    assert commands.command_line(["run", str(path), "--dry-run", "--share", "0/2", "--set", "share=9/9"]) == 0
    assert "share" in capsys.readouterr().err


def test_not_a_number() -> None:
    """``nan`` is refused wherever a number is expected."""
    floats = [
        (each, option.opts[-1])
        for each in every_command()
        for option in each.params
        if isinstance(option.type, click.types.FloatParamType)
    ]
    assert floats
    for each, option in floats:
        done = CliRunner().invoke(each, ["x.json", option, "nan"])
        assert (done.exit_code, "is not a number" in done.output) == (2, True)
