"""The entries of a claim directory: the claims, each with its spool, and what others have left there."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Iterator

from s3_uploader.core.files import try_flock
from s3_uploader.core.procfs import is_alive
from s3_uploader.core.text import shown_name
from s3_uploader.spool.root import SpoolRoot

LOCK = "lock"
"""The file of a claim that its uploader has locked."""
FILES = "files"
"""The directory of a claim that has the files."""
UNFINISHED = "."
"""The prefix of a claim that is just being made and has no files."""
_OURS = re.compile(r"\.?(.+?)(?:\.([0-9a-f]{16}))?\.(\d+)\.[0-9a-f]{8}", re.DOTALL)
"""The name of a claim, and in it host, spool and process. Those of earlier versions do not name the spool."""
_ANY_SPOOL = ""
_MOST_STRANGERS = 5


def mark_of(claim_dir: str, spool: SpoolRoot) -> str:
    """The spool in the name of a claim.

    A rename needs both directories in one mount. The way from one to the other is the same wherever it is mounted.
    """
    way = os.path.relpath(os.path.realpath(spool.base_dir), os.path.realpath(claim_dir))
    return hashlib.sha256(os.fsencode(way)).hexdigest()[:16]


def _entries(claim_dir: str) -> Iterator[tuple[str, str | None]]:
    """Each entry with the spool in its name, ``None`` if it is not a claim."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(claim_dir)
    for name in names:
        found = _OURS.fullmatch(name)
        yield name, None if found is None else found[2] or _ANY_SPOOL


def uploader_of(claim: str) -> tuple[str, int]:
    """The host and the process that the name of a claim names."""
    found = _OURS.fullmatch(claim)
    assert found is not None
    return found[1], int(found[3])


def _is_left_behind(claim: str) -> bool:
    """Whether the uploader of a claim has ended and left files."""
    try:
        lock = os.open(os.path.join(claim, LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return bool(try_flock(lock, shared=True) and os.listdir(os.path.join(claim, FILES)))
        finally:
            os.close(lock)
    except OSError:
        return False


def claims_in(claim_dir: str, spool: SpoolRoot) -> list[str]:
    """The names of all claims on files of a spool, sorted. Empty if the directory cannot be read."""
    return claims_with(claim_dir, mark_of(claim_dir, spool))


def claims_with(claim_dir: str, mark: str) -> list[str]:
    """:func:`claims_in` for the spool of a mark."""
    return sorted(name for name, of in _entries(claim_dir) if of in (mark, _ANY_SPOOL))


def left_by_others(claim_dir: str, spool: SpoolRoot) -> list[str]:
    """The paths of claims on the spool whose uploader, a process of another user on this host, was killed.

    Only that user and root can look into them and put back their files. Of other hosts' uploaders it is unknown whether
    they live.
    """
    found = []
    for name in claims_in(claim_dir, spool):
        path = os.path.join(claim_dir, name)
        try:
            os.close(os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
        except PermissionError:
            if name.startswith(f"{os.uname().nodename}.") and is_alive(int(name.split(".")[-2])) is False:
                found.append(path)
        except OSError:
            pass
    return found


def is_claimed(claim_dir: str, path: str) -> bool:
    """Whether any uploader has claimed the file with this path, relative to the spool.

    :raises OSError: if it cannot be found out.
    """
    return any(os.path.lexists(os.path.join(claim_dir, name, FILES, path)) for name in os.listdir(claim_dir))


def strangers(claim_dir: str, spool: SpoolRoot) -> list[str]:
    """The names of entries that no uploader of the spool has made, in their printable form, at most a few.

    Another program that took files by a rename may have left them. Nobody ships them, and whether that program still
    works with them is not known, so they are not touched. So are the files of another spool that a killed uploader has
    left, for example of this one under an earlier name. Empty if the directory cannot be read.
    """
    mark = mark_of(claim_dir, spool)
    found = (
        name
        for name, of in _entries(claim_dir)
        if not name.startswith(UNFINISHED)
        and (of is None or (of not in (mark, _ANY_SPOOL) and _is_left_behind(os.path.join(claim_dir, name))))
    )
    return [shown_name(name) for name in itertools.islice(found, _MOST_STRANGERS)]


def strangers_in_words(claim_dir: str, names: list[str]) -> tuple[str, str]:
    """The sentence about them, which begins with the directory, and what to do."""
    more = " and others" if len(names) >= _MOST_STRANGERS else ""
    fact = f"{shown_name(claim_dir)} contains entries that no uploader of this spool has put there: "
    remedy = (
        "If the program that put them there has stopped, move them back to their spool; otherwise give each program "
        "its own directory."
    )
    return f"{fact}{', '.join(names)}{more}. They are not shipped.", remedy
