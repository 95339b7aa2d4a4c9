"""Keys at destinations whose keys are paths: refused keys, and the key for other content under a taken key.

Pure functions; S3, where a key is any text, has rules of its own.
"""

from __future__ import annotations

import os
import posixpath

from s3_uploader.core.errors import ConflictError, KeyRefused
from s3_uploader.core.text import shown_name

MAXIMUM_NAME_BYTES = 255
"""Longest name of one file or directory on every file system in wide use (``NAME_MAX``, ``limits.h(0p)``)."""

UNLESS_BELOW = "Only files whose directory below it is there already can be shipped, if that can be written."
"""What it means if no file can be made in the directory of a prefix."""


def is_directory(address: str) -> ConflictError:
    """The error of a key that a directory has."""
    return ConflictError(
        f"{address} is a directory.", hint="Rename the file or the directory, or set on_conflict to keep-both."
    )


def path_segments(key: str) -> list[str]:
    """Split a key into the names of a path that cannot leave its root directory.

    :raises KeyRefused: if the key is empty or absolute, has an empty, ``.`` or ``..`` segment, a NUL, a name of more
        than 255 bytes, or cannot be encoded as a file name.
    """
    shown = shown_name(key)
    try:
        encoded = os.fsencode(key)
    except UnicodeEncodeError:
        raise KeyRefused(f"The key {shown} cannot be written as a file name.") from None
    if b"\0" in encoded:
        raise KeyRefused(f"The key {shown} contains a NUL character, which no file name can.")
    segments = key.split("/")
    for segment in segments:
        if segment == "":
            raise KeyRefused(f"The key {shown} begins or ends with a slash or has two in a row, so it is not a path.")
        if segment in (".", ".."):
            raise KeyRefused(f"The key {shown} has a segment {segment!r}, which could lead out of the destination.")
        if len(os.fsencode(segment)) > MAXIMUM_NAME_BYTES:
            raise KeyRefused(f"The key {shown} has a name of more than {MAXIMUM_NAME_BYTES} bytes.")
    return segments


def derived_key(key: str, digest: str) -> str:
    """The key for other content than the one already there: ``a/b.dat`` becomes ``a/b~0123456789ab.dat``.

    It depends on key and content alone, so that putting the same content again finds it under the same key.

    :param digest: hexadecimal SHA-256 of the content; its first twelve digits are used.
    """
    directory, slash, name = key.rpartition("/")
    stem, extension = posixpath.splitext(name)
    mark = f"~{digest[:12]}"
    if len(os.fsencode(extension)) > MAXIMUM_NAME_BYTES // 2:
        stem, extension = name, ""
    room = MAXIMUM_NAME_BYTES - len(os.fsencode(mark + extension))
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return f"{directory}{slash}{stem}{mark}{extension}"
