"""The configuration as the command line means it: the file, the environment over it, and ``--set`` over both."""

from __future__ import annotations

from collections.abc import Sequence

from s3_uploader import config

_settings: tuple[str, ...] = ()


def set_over_files(settings: Sequence[str]) -> None:
    """Take note of what ``--set`` says; like the environment it holds for the whole process."""
    global _settings
    _settings = tuple(settings)


def load(config_file: str) -> config.Config:
    """Read a configuration file; see :func:`s3_uploader.config.load`."""
    return config.load(config_file, settings=_settings)
