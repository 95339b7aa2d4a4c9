"""Loads configurations for commands: the file, overridden by the environment, overridden by ``--set``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from s3_uploader import config
from s3_uploader.cli.names import COMMANDS
from s3_uploader.core.errors import ConfigError, UsageProblem

_settings: tuple[str, ...] = ()
_share: tuple[str, ...] = ()
_share_by: tuple[str, ...] = ()
_foreign: frozenset[str] = frozenset()


def set_over_files(settings: Sequence[str]) -> None:
    """Remember the values of ``--set``; like the environment they hold for the whole process."""
    global _settings, _foreign
    _settings = tuple(settings)
    _foreign = frozenset()


def set_share(share: str | None) -> None:
    """Remember the value of ``--share``; it overrides ``--set``."""
    global _share
    _share = () if share is None else (f"share={share}",)


def set_share_by(rule: str | None) -> None:
    """Take note of what ``--share-by`` says; it comes over ``--set`` too."""
    global _share_by
    _share_by = () if rule is None else (f"share_by={rule}",)


def settings_given() -> tuple[str, ...]:
    """What ``--set`` said, and ``--share`` in the same form."""
    return (*_settings, *_share, *_share_by)


def load_together(config_files: Sequence[str]) -> None:
    """Remember that these files share one environment, in which each may name a variable for its password."""
    global _foreign
    _foreign = frozenset(config.password_variables(config_files))


def load(config_file: str) -> config.Config:
    """Read a configuration file; see :func:`s3_uploader.config.load`."""
    try:
        return config.load(config_file, settings=settings_given(), foreign=_foreign)
    except ConfigError:
        if os.path.isdir(config_file):
            raise UsageProblem(
                f"{config_file} is a directory, and this command takes one configuration file.",
                hint="Every command but forget and init takes a directory.",
            ) from None
        nearest = nearest_command(config_file)
        if nearest:
            raise UsageProblem(
                f"{config_file} is neither a command nor a configuration file.", hint=f"Did you mean {nearest}?"
            ) from None
        raise


def load_destination(config_file: str | None) -> config.Config:
    """The configuration for a command that may do without a file, where ``--set`` names the destination."""
    return config.without_file(settings_given()) if config_file is None else load(config_file)


def nearest_command(word: str) -> str:
    """The command that a word misspells; empty if there is none, or if the word is a path."""
    if os.path.lexists(word) or os.sep in word or "." in word:
        return ""
    import difflib

    return next(iter(difflib.get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.6)), "")
