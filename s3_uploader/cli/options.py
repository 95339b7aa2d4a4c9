"""Makes click's arguments and options from the declared ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import click
import msgspec

from s3_uploader.cli import parameters
from s3_uploader.cli.names import Form
from s3_uploader.cli.parameters import Parameter
from s3_uploader.core.errors import UsageProblem

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def configurations(incomplete: str) -> list[CompletionItem]:
    """The completion item that lets the shell offer configuration files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="json")]


class ConfigFile(click.Path):
    """The type of a configuration file or a directory of them, for completion.

    Whether it can be read is found out by who reads it, and said in the form of the command.
    """

    def __init__(self) -> None:
        super().__init__(readable=False)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the completion items, for click."""
        return configurations(incomplete)


def takes(options: type[msgspec.Struct]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options that a struct names; it is called with them as one value, ``options``."""
    hints = get_type_hints(options, localns={"take": parameters}, include_extras=True)
    fields = list(options.__struct_fields__)
    defaults = dict(zip(fields, options.__struct_defaults__, strict=True))
    declared = {name: parameter for name in fields for parameter in getattr(hints[name], "__metadata__", ())}

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def call(**values: Any) -> int:
            given = {name: values.pop(name) for name in declared}
            _refuse_contradictions(declared, given)
            return command(**values, options=options(**given))

        for name, parameter in reversed(declared.items()):
            kind = hints[name].__origin__
            click.option(*parameter.names, name, default=defaults[name], **_settings_of(parameter, kind))(call)
        return call

    return decorate


class _NumberRange(click.FloatRange):
    """A range of numbers without ``nan``, which is neither below nor above any limit."""

    name = "number"  # in messages: "float range" means nothing to somebody who wrote 10m

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert what was typed.

        :raises click.BadParameter: if it is not a number in the range.
        """
        number = float(super().convert(value, param, ctx))
        if number != number:
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class _WholeNumberRange(click.IntRange):
    """A range of whole numbers."""

    name = "whole number"


def _settings_of(parameter: Parameter, kind: Any) -> dict[str, Any]:
    """What click is told about an option besides its names and its default."""
    told: dict[str, Any] = {"help": parameter.help, "show_default": parameter.shows_default}
    of = [each for each in (get_args(kind) or (kind,)) if each is not NoneType]
    if get_origin(kind) is tuple:
        told["multiple"] = True
    if of == [bool]:
        return told if "/" in parameter.names[-1] else told | {"is_flag": True}
    least = parameter.least if parameter.above is None else parameter.above
    if parameter.choices:
        told["type"] = click.Choice(parameter.choices)
    elif of == [int]:
        told["type"] = _WholeNumberRange(min=None if least is None else int(least))
    elif of == [float]:
        told["type"] = _NumberRange(min=least, min_open=parameter.above is not None, max=parameter.most)
    elif parameter.takes:
        told["type"] = click.Path(file_okay=parameter.takes != "directory", readable=False)
    if parameter.check is not None:
        told["callback"] = functools.partial(_checked, parameter.check)
    return told | {"metavar": parameter.metavar}


def _checked(
    check: Callable[[str], object], context: click.Context, option: click.Parameter, value: str | None
) -> str | None:
    if value is not None:
        try:
            check(value)
        except UsageProblem as problem:
            raise click.BadParameter(str(problem), context, option) from None
    return value


def _refuse_contradictions(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> None:
    chosen = {parameter.names[-1]: parameter for name, parameter in declared.items() if given[name]}
    for name, parameter in chosen.items():
        for other in parameter.not_with:
            if other in chosen:
                raise click.UsageError(f"{name} and {other} contradict each other.")


def configured(command: Callable[..., int]) -> Callable[..., int]:
    """Add the argument CONFIG_FILE."""
    return click.argument("config_file", type=ConfigFile())(command)


def configured_or_ledgers(command: Callable[..., int]) -> Callable[..., int]:
    """The same for a command that can do without a file if it is given ledgers."""
    return click.argument("config_file", type=ConfigFile(), required=False)(command)


def insist_on_one(config_file: str | None, ledgers: tuple[str, ...]) -> None:
    """Refuse a command line that names neither a configuration nor ledgers."""
    if config_file is None and not ledgers:
        raise click.UsageError("Missing argument 'CONFIG_FILE', or --ledgers.", click.get_current_context())


def several_configured(command: Callable[..., int]) -> Callable[..., int]:
    """The same for a command that takes several files or directories."""
    return click.argument("config_files", type=ConfigFile(), nargs=-1, required=True, metavar="CONFIG_FILE...")(command)


def form_of(as_json: bool) -> Form:
    """The form of error messages of a command with ``--json``."""
    return Form.JSON if as_json else Form.TEXT
