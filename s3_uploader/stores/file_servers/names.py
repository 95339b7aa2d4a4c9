"""Whether a server stores a name unchanged: tried in a new directory, where nothing can be overwritten.

Some servers change names: pure-ftpd replaces characters, others fold case, compose accents or truncate long names.
If two names become one, the second file would overwrite the first. How plain names are stored is determined once for
each server; every other name is tried before a file is renamed to it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from s3_uploader.core.errors import KeyRefused
from s3_uploader.core.text import shown_name
from s3_uploader.stores.file_servers.base import FileSession, Listed, Lost, Refused
from s3_uploader.stores.file_servers.learned import Names
from s3_uploader.stores.file_servers.parts import NAMES, PartNames

_SAMPLE = "Sample.of-a_Plain.name-0123456789-AbcdefghijklmnopqrstuvwxyZ.Dat"
_PLAIN = re.compile(rf"[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,{len(_SAMPLE) - 2}}}[A-Za-z0-9])?")
_MOST_LISTED_BYTES = 8 << 20


def is_plain(name: str) -> bool:
    """Whether a name is short and has only letters, digits and, inside, dots, hyphens and underscores."""
    return _PLAIN.fullmatch(name) is not None


def learn_names(session: FileSession, directory: str, parts: PartNames, *, hidden: bool, renames: bool) -> Names:
    """Find out how the server stores plain names, by storing one in a new directory below ``directory``.

    :param renames: whether files get their names by a rename.
    """
    with scratch_directory(session, directory, parts, hidden=hidden) as scratch:
        if scratch is None:
            return Names.UNKNOWN
        if not session.is_directory(scratch):
            return Names.CHANGED
        path, first = f"{scratch}/{_SAMPLE}", f"{scratch}/{_SAMPLE[::-1]}"
        try:
            session.store(first if renames else path, [b"\n"])
            if renames:
                session.rename(first, path)
            if not is_stored_as(session, scratch, _SAMPLE):
                return Names.CHANGED
            # A server that shows files only in listings finds it by the other name when it deletes it.
            other = f"{scratch}/{_SAMPLE.swapcase()}"
            return Names.FOLDED if session.size(other) is not None or session.delete(other) else Names.KEPT
        finally:
            # By their names, in case the server lists nothing.
            with contextlib.suppress(Lost):
                if not session.delete(path):
                    session.delete(first)


def try_directory_name(session: FileSession, directory: str, name: str, parts: PartNames, *, hidden: bool) -> None:
    """Check that a directory can have that name.

    :raises KeyRefused: if the server gives it another name.
    """
    with scratch_directory(session, directory, parts, hidden=hidden) as scratch:
        if scratch is None:
            return
        try:
            session.make_directory(f"{scratch}/{name}")
            if not is_stored_as(session, scratch, name):
                raise name_changed(shown_name(name))
        finally:
            with contextlib.suppress(Refused, Lost):
                session.remove_directory(f"{scratch}/{name}")


@contextlib.contextmanager
def scratch_directory(session: FileSession, directory: str, parts: PartNames, *, hidden: bool) -> Iterator[str | None]:
    """A new directory, removed afterwards with its content; ``None`` if none can be made."""
    path = f"{directory.rstrip('/')}/{parts.new(hidden=hidden, kind=NAMES)}"
    try:
        session.make_directory(path)
    except Refused:
        yield None
        return
    except Lost:
        parts.leave_behind(path)  # it may have been made even though the answer was lost
        raise
    try:
        yield path
    finally:
        parts.leave_behind(path)
        parts.remove_leftovers(session)


def is_stored_as(session: FileSession, scratch: str, name: str) -> bool:
    """Whether the only entry in a directory has exactly that name.

    Without listings the name itself is looked up. That is enough there, because each name is looked up before it is
    stored, so no file can be overwritten.
    """
    found = _has_name(session, scratch, name)
    if found is None:
        return session.size(f"{scratch}/{name}", thoroughly=True) is not None
    return found


def stands_exactly(session: FileSession, key: str) -> bool | None:
    """Whether the file found under ``key`` has exactly that name, directories included; ``None`` if unknown."""
    directory = session.base.rstrip("/")
    for name in key.split("/"):
        found = _has_name(session, directory or "/", name)
        if not found:
            return found
        directory = f"{directory}/{name}"
    return True


def _has_name(session: FileSession, directory: str, name: str) -> bool | None:
    """Whether a directory lists exactly that name; ``None`` if it cannot be listed completely."""
    found: list[str] = []

    def compare(listed: Listed) -> None:
        if listed.name == name and not found:
            found.append(name)

    try:
        whole = session.listing(directory, compare, most=_MOST_LISTED_BYTES)
    except Refused:
        return None
    return True if found else False if whole else None


def name_changed(address: str) -> KeyRefused:
    """The error for a name that the server changes."""
    return KeyRefused(
        f"The server stores {address} under another name, which may be that of another file.",
        hint="Rename the file to plain letters and digits, or change the server's rules for names.",
    )
