"""The frame of every command: its configuration is loaded, and its errors become messages and exit codes.

A configuration is the file, overridden by the environment, overridden by ``--set``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from s3_uploader.cli.names import COMMANDS, Form
from s3_uploader.config import loading
from s3_uploader.core.errors import ConfigError, UsageProblem

if TYPE_CHECKING:
    from s3_uploader.cli import parameters as take
    from s3_uploader.config import Config


def guarded(work: Callable[[], int], *, form: Form = Form.TEXT, name: str = "") -> int:
    """Do the work of a command. Errors of this program become messages and exit codes, never tracebacks.

    :param name: of the configuration that it is about, where there are several.
    """
    try:
        return work()
    except Exception as error:
        from s3_uploader.cli.exit_codes import ended_by  # few commands fail

        code = ended_by(error, form, name)
        if code is None:
            raise
        return code


class FileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of each command that reads configuration files.

    :param foreign: environment variables in which other files of the command expect their passwords; no option.
    """

    # Annotations are text until a command line is parsed, so a run without one does not load what they name.
    settings: take.Settings = ()
    foreign: frozenset[str] = frozenset()

    @property
    def overrides(self) -> tuple[str, ...]:
        """Everything that the command line says over the files, in the form of ``--set``."""
        return self.settings


class ShareOptions(FileOptions, frozen=True, kw_only=True):
    """The options of each command that ships files."""

    share: take.ShareOfFiles = None
    share_by: take.ShareBy = None

    @property
    def overrides(self) -> tuple[str, ...]:
        """``--share`` and ``--share-by`` override ``--set``."""
        own = (("share", self.share), ("share_by", self.share_by))
        return (*self.settings, *(f"{key}={value}" for key, value in own if value is not None))


Options = TypeVar("Options", bound=FileOptions)


def together(options: Options, config_files: Sequence[str]) -> Options:
    """The options for files that share one environment, in which each may name a variable for its password."""
    return msgspec.structs.replace(options, foreign=frozenset(loading.password_variables(config_files)))


def load(config_file: str, options: FileOptions, *, environ: Mapping[str, str] | None = None) -> Config:
    """Read a configuration file; see :func:`s3_uploader.config.load`."""
    included: list[str] = []
    try:
        config = loading.load(
            config_file, environ=environ, settings=options.overrides, foreign=options.foreign, included=included
        )
    except ConfigError:
        if os.path.isdir(config_file):
            raise UsageProblem(
                f"{config_file} is a directory, and this command takes one configuration file.",
                hint="Every command but forget, init and ledger merge takes a directory.",
            ) from None
        nearest = nearest_command(config_file)
        if nearest:
            raise UsageProblem(
                f"{config_file} is neither a command nor a configuration file.", hint=f"Did you mean {nearest}?"
            ) from None
        raise
    base = os.path.join(os.path.realpath(config.base_dir), "")
    for path in (config_file, *included):
        if os.path.realpath(path).startswith(base):
            from s3_uploader.run.place import refuse_to_ship  # rarely needed

            refuse_to_ship(config, "The configuration", path)
    return config


def load_destination(config_file: str | None, options: FileOptions) -> Config:
    """The configuration for a command that may do without a file, where ``--set`` names the destination."""
    return loading.without_file(options.overrides) if config_file is None else load(config_file, options)


def nearest_command(word: str) -> str:
    """The command or option that a word misspells; empty if there is none, or if the word is a path or a command."""
    if os.path.lexists(word) or os.sep in word or "." in word or word in COMMANDS:
        return ""
    import difflib

    known = (*COMMANDS, "--help", "--version")
    return next(iter(difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)), "")
