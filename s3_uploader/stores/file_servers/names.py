"""Whether a server stores a name as it is given: tried in a directory of its own, where nothing can be replaced.

Servers write names in their own way: pure-ftpd replaces characters, others fold case, compose accents or cut after so
many bytes. Where two names become one, the second file would replace the first. What becomes of plain names is found
out once for a server; every other name is tried before its file gets it.
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
    """Whether a name has only letters, digits, dots, hyphens and underscores, inside, and is not long."""
    return _PLAIN.fullmatch(name) is not None


def learn_names(session: FileSession, directory: str, parts: PartNames, *, hidden: bool, renames: bool) -> Names:
    """Find out what the server makes of plain names, by storing one in a new directory below ``directory``.

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
            return Names.KEPT if session.size(f"{scratch}/{_SAMPLE.swapcase()}") is None else Names.FOLDED
        finally:
            # By their names, in case that nothing is listed there.
            with contextlib.suppress(Lost):
                if not session.delete(path):
                    session.delete(first)


def try_directory_name(session: FileSession, directory: str, name: str, parts: PartNames, *, hidden: bool) -> None:
    """Make sure that a directory can have that name.

    :raises KeyRefused: if the server gives it another one.
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
    """A new directory, removed afterwards with all that is in it; ``None`` if none can be made."""
    path = f"{directory.rstrip('/')}/{parts.new(hidden=hidden, kind=NAMES)}"
    try:
        session.make_directory(path)
    except Refused:
        yield None
        return
    except Lost:
        parts.leave_behind(path)  # it may have been made, and only the answer is lost
        raise
    try:
        yield path
    finally:
        parts.leave_behind(path)
        parts.remove_leftovers(session)


def is_stored_as(session: FileSession, scratch: str, name: str) -> bool:
    """Whether the one thing in a directory has exactly that name.

    Where nothing may be listed it is asked for by the name: then no other can be replaced, because each is looked for
    before it is stored.
    """
    found = _has_name(session, scratch, name)
    if found is None:
        return session.size(f"{scratch}/{name}", thoroughly=True) is not None
    return found


def stands_exactly(session: FileSession, key: str) -> bool | None:
    """Whether what is found under ``key`` has exactly that name, directories included; ``None`` if nobody can tell."""
    directory = session.base.rstrip("/")
    for name in key.split("/"):
        found = _has_name(session, directory or "/", name)
        if not found:
            return found
        directory = f"{directory}/{name}"
    return True


def _has_name(session: FileSession, directory: str, name: str) -> bool | None:
    """Whether a directory lists exactly that name; ``None`` if it cannot be listed to its end."""
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
    """The error of a name that the server does not keep."""
    return KeyRefused(
        f"The server stores {address} under another name, where another file may be.",
        hint="Give the file a name of plain letters and digits, or change the server's rules for names.",
    )
