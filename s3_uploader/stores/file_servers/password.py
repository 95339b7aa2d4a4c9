"""Finds a user's password in the configuration, a file, or the environment."""

from __future__ import annotations

import os

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.files import open_at_once
from s3_uploader.core.origins import Origin

_LONGEST = 4096
_SHORTEST_HIDDEN = 4
"""A shorter password may be part of any word."""


def find_password(
    user: str, *, variable: str, file_name: str | None, password: str | None, protocol: str = "FTP"
) -> str:
    """The given password, else the content of the file or the environment variable.

    :raises StoreError: if there is none.
    """
    if password is not None:
        return password
    if file_name is not None:
        try:
            with open_at_once(file_name) as file:
                found_there = file.read(4 * _LONGEST + 8).decode("utf-8", "surrogateescape").rstrip("\r\n")
        except OSError as error:
            raise StoreError(
                f"The password file {file_name} cannot be read: {(error.strerror or str(error)).lower()}.",
                code="NoPassword",
                origin=Origin.CREDENTIALS,
                scope=Scope.DESTINATION,
            ) from None
        if len(found_there) > _LONGEST:
            raise StoreError(
                f"The password file {file_name} has more than {_LONGEST:,} characters, so it does not hold a password.",
                code="NoPassword",
                origin=Origin.CREDENTIALS,
                scope=Scope.DESTINATION,
                hint="Correct password_file.",
            )
        return found_there
    found = os.environ.get(variable)
    if found is not None:
        return found
    if user == "anonymous":
        return "anonymous@"
    raise StoreError(
        f"There is no password for the {protocol} user {user}.",
        code="NoPassword",
        origin=Origin.CREDENTIALS,
        scope=Scope.DESTINATION,
        hint=f"Put it into the environment variable {variable}, or into a file named in password_file.",
    )


def without_password(text: str, password: str) -> str:
    """Hide the password in what the server says: some repeat the command that they refuse, or log attempts in words."""
    return text.replace(password, "***") if len(password) >= _SHORTEST_HIDDEN else text
