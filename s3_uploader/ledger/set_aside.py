"""Loss of a ledger during a run: sets damaged ones aside for people to examine, keeps the newest few, and says it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator

from s3_uploader.core.errors import StateError
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.state_directory import COMPANIONS, directory_locked, identity_of
from s3_uploader.ledger.trouble import FILES_ARE_KEPT

_SET_ASIDE_KEPT = 3


def set_aside(
    path: str, *, reason: str, opened: tuple[int, int] | None, now: float, notice: Callable[[str], None]
) -> None:
    """Rename a damaged ledger, unless another process was faster.

    :param opened: the identity of the file that was found damaged.
    :param now: wall-clock time, for the name.
    :param notice: called with a sentence if it was renamed.
    :raises StateError: if that is not possible.
    """
    directory, name = os.path.split(path)
    stem = name.removesuffix(".sqlite3")
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    try:
        with directory_locked(directory, fcntl.LOCK_EX):
            if opened is None or identity_of(path) != opened:
                return  # what is there now is the other one's new ledger
            taken = set(os.listdir(directory))
            base = f"{stem}.corrupt-{moment}"
            target = next(each for each in _numbered(base) if each not in taken)
            os.rename(path, os.path.join(directory, target))
            for companion in COMPANIONS:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(path + companion, os.path.join(directory, target + companion))
            _forget_oldest(directory, stem)
    except OSError as error:
        raise StateError(
            f"The ledger {shown_name(path)} is damaged ({reason}) and cannot be set aside: {error.strerror}.",
            hint=f"Move it away by hand. {FILES_ARE_KEPT}",
        ) from error
    notice(
        f"The ledger was damaged ({reason}); it is now {shown_name(os.path.join(directory, target))} and a new one has "
        "been started. No file is lost by this, only the history."
    )


def say_lost(path: str, opened: tuple[int, int] | None, notice: Callable[[str], None]) -> None:
    """Say that the ledger that was opened is no longer in its place."""
    if _was_set_aside(path, opened):
        return  # by another process, which has said it
    notice(
        f"The ledger {shown_name(path)} was removed or replaced during the run, which goes on with the one in its "
        "place. No file is lost by this, only the history. Stop all runs before you move the state directory or "
        "restore it."
    )


def _was_set_aside(path: str, opened: tuple[int, int] | None) -> bool:
    directory, name = os.path.split(path)
    stem = name.removesuffix(".sqlite3")
    with contextlib.suppress(OSError):
        beside = [each for each in os.listdir(directory) if each.startswith(f"{stem}.corrupt-")]
        return any(identity_of(os.path.join(directory, each)) == opened for each in beside)
    return False


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base}-{number}"
        number += 1


def _forget_oldest(directory: str, stem: str) -> None:
    """Keep only the newest ledgers that were set aside, so that a failing disk does not fill up."""
    pattern = re.compile(re.escape(stem) + r"\.corrupt-\d{8}T\d{6}Z(-\d+)?")
    found = sorted(name for name in os.listdir(directory) if pattern.fullmatch(name))
    for name in found[:-_SET_ASIDE_KEPT]:
        for companion in ("", *COMPANIONS):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name + companion))
