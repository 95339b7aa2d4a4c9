"""Finds ledgers without a configuration: those of many machines, copied to one place, and names each.

A directory may hold ledgers at any depth (``host-7/spool-0123456789abcdef/ledger.sqlite3``) and under any name that
ends in ``.sqlite3``. The ledgers of shares belong to the instance in whose directory theirs lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import msgspec

from s3_uploader.core.errors import StateError
from s3_uploader.core.files import open_at_once
from s3_uploader.core.shares import Share, of_directory
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.read_only import has_log
from s3_uploader.ledger.schema import APPLICATION_ID
from s3_uploader.ledger.state_directory import LEDGER_NAME

_ENDING = ".sqlite3"
_MAGIC = b"SQLite format 3\x00"
_AT_APPLICATION_ID = 68
_DEEPEST = 32
_NAMED = 5
_MOST = 100_000


class Instance(msgspec.Struct, frozen=True):
    """One uploader: its name and its ledgers, one for each share (``None`` is the ledger of all files)."""

    name: str
    ledgers: dict[Share | None, str]

    @property
    def paths(self) -> list[str]:
        """Where its ledgers are."""
        return list(self.ledgers.values())


def ledgers_in(place: str, *, notice: Callable[[str], None], left_out: list[str] | None = None) -> list[Instance]:
    """Find the ledgers at a path: a ledger itself, or all in a directory. Links to directories are not followed.

    :param notice: called if files with the name of a ledger are passed over, such as one whose copy failed.
    :param left_out: collects the paths that are passed over and may be, or contain, a ledger; databases of other
        programs are not among them. Without it, a path that cannot be read is an error.
    :raises StateError: if something cannot be read, or if there are more or deeper directories than are plausible.
    """
    if not os.path.isdir(place):
        if not is_ledger(place):
            return []
        directory, name = os.path.split(os.path.abspath(place))
        return [Instance(os.path.basename(directory) if name == LEDGER_NAME else name, {None: place})]
    found: dict[str, dict[Share | None, str]] = {}
    passed_over: list[str] = []

    def refuse(error: StateError, path: str) -> None:
        if left_out is None or path == place:
            raise error
        left_out.append(path)
        notice(str(error))

    for number, path in enumerate(_walk(place, passed_over, refuse)):
        if number >= _MOST:
            raise StateError(f"{shown_name(place)} holds more than {_MOST:,} ledgers.", hint="Name parts of it.")
        directory, name = os.path.split(path)
        share = of_directory(os.path.basename(directory)) if name == LEDGER_NAME else None
        if share is not None:
            directory = os.path.dirname(directory)
        of = os.path.relpath(directory if name == LEDGER_NAME else path.removesuffix(_ENDING), place)
        found.setdefault(of, {})[share] = path
    if passed_over:
        names = ", ".join(map(shown_name, passed_over[:_NAMED]))
        more = f" and {len(passed_over) - _NAMED:,} more" if len(passed_over) > _NAMED else ""
        are = "are not ledgers and are" if len(passed_over) > 1 else "is not a ledger and is"
        notice(
            f"{names}{more} {are} not included. If a copy failed, repeat it, with the files beside it (-wal, -journal)."
        )
        if left_out is not None:
            left_out += (path for path in passed_over if not _is_foreign(path))
    return [Instance(_named(of, place), ledgers) for of, ledgers in sorted(found.items())]


def instances_in(places: Sequence[str], *, notice: Callable[[str], None], left_out: list[str]) -> list[Instance]:
    """Find the ledgers at several paths. If two have the same name, a number is appended to the later one.

    :param notice: see :func:`ledgers_in`, for ``left_out`` too.
    :raises StateError: if one of them has no ledger.
    """
    found: list[Instance] = []
    names: set[str] = set()
    for place in places:
        here = ledgers_in(place, notice=notice, left_out=left_out)
        if not here:
            raise StateError(
                f"{shown_name(place)} is not a ledger and contains none.",
                hint="Name a file ledger.sqlite3, or a directory that contains one.",
            )
        for each in here:
            name, number = each.name, 2
            while name in names:
                name, number = f"{each.name} ({number})", number + 1
            names.add(name)
            found.append(Instance(name, each.ledgers))
    return found


def is_ledger(path: str) -> bool:
    """Whether a run wrote this file, judged by its head. Opening it with SQLite might write beside it.

    If everything is still in its write-ahead log, only the name can tell.

    :raises StateError: if it cannot be read.
    """
    try:
        with open_at_once(path) as file:
            head = file.read(_AT_APPLICATION_ID + 4)
        if path.endswith(_ENDING) and has_log(path):
            return not head or head.startswith(_MAGIC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(error, path) from error
    return head.startswith(_MAGIC) and head[_AT_APPLICATION_ID:] == APPLICATION_ID.to_bytes(4, "big")


def _named(relative: str, place: str) -> str:
    return os.path.basename(os.path.abspath(place)) if relative == "." else relative


def _is_foreign(path: str) -> bool:
    """Whether this is the database of another program, not a damaged ledger."""
    try:
        with open_at_once(path) as file:
            head = file.read(_AT_APPLICATION_ID + 4)
    except OSError:
        return False
    return head.startswith(_MAGIC) and len(head) == _AT_APPLICATION_ID + 4 and os.path.basename(path) != LEDGER_NAME


def _walk(place: str, passed_over: list[str], refuse: Callable[[StateError, str], None]) -> Iterator[str]:
    depth = os.path.abspath(place).count(os.sep)

    def refuse_directory(error: OSError) -> None:
        refuse(_unreadable(error, place), error.filename or place)

    for directory, names, files in os.walk(place, onerror=refuse_directory):
        names.sort()
        if names and os.path.abspath(directory).count(os.sep) - depth >= _DEEPEST:
            raise StateError(f"{shown_name(directory)} lies too deep in {shown_name(place)}.", hint="Name parts of it.")
        for name in sorted(files):
            path = os.path.join(directory, name)
            if not name.endswith(_ENDING) or ".corrupt-" in name:
                continue
            try:
                is_one = is_ledger(path)
            except StateError as error:
                refuse(error, path)
                continue
            if is_one:
                yield path
            else:
                passed_over.append(path)


def _unreadable(error: OSError, path: str) -> StateError:
    return StateError(
        f"{shown_name(error.filename or path)} cannot be read: {error.strerror}.",
        hint="Make it readable for this user.",
    )
