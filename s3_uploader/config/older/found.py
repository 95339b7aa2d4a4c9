"""What is taken over from the configuration of an older program, and the notes for a person about the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import msgspec

SECRETS = "The credentials were not taken over. Put them into the environment or into ~/.aws/credentials."
SECRET_NAMES = frozenset({"access_key_id", "secret_access_key", "aws_access_key_id", "aws_secret_access_key"})
REPLACED = (
    "It replaced an object whose key was taken. This program keeps such a file and reports it; to replace the object, "
    'set "on_conflict": "overwrite".'
)


class Older(msgspec.Struct, frozen=True):
    """The program whose configuration was found, the keys for this one, and notes for the user.

    :param is_service: it ran for ever, as ``watch`` does.
    :param unread: notes about values that are needed and could not be read.
    """

    program: str
    settings: dict[str, Any]
    notes: list[str]
    is_service: bool = False
    unread: list[str] = []


def ignored(names: Iterable[str]) -> list[str]:
    """A note about what was not taken over, if anything."""
    found = ", ".join(sorted(names))
    return [f"Not taken over, because it has no meaning here: {found}."] if found else []


def unknown(name: str, why: str, value: str) -> str:
    """A note about a value that only another program could compute.

    :param why: completes "is not known here, because".
    """
    return f"{name} is not known here, because {why}: {value}. Write out its value."


def relative(paths: Iterable[str | None]) -> list[str]:
    """A note about directories that depend on where the program was started, if there are any."""
    found = ", ".join(path for path in paths if path and not path.startswith(("/", "~")))
    if not found:
        return []
    return [f"Relative directories are taken from the current one: {found}. If it was started elsewhere, correct them."]


def absolute(text: str) -> str:
    """An absolute path; ``~`` is the home directory, as a shell or a person means it."""
    return os.path.abspath(os.path.expanduser(text))
