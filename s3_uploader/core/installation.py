"""The files of this program: whether an upgrade has replaced them since they were loaded; whether one is cut off."""

from __future__ import annotations

import contextlib
import os

_FILE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_version.py")
"""Each installation writes it anew, and it differs from version to version."""


def was_replaced() -> bool:
    """Whether the program that is installed now is another one than this process has loaded.

    Modules that the process has not imported yet, and processes that it starts, would be those of the other one.
    """
    return _identity() != _LOADED


def remove_cut_off(error: EOFError) -> str:
    """Remove the compiled module because of whose early end an import failed; returns its path, empty for other errors.

    Python does not notice if it cannot write a compiled module whole, because a disk is full or the size of files is
    limited (gh-126606), and from then on each import of it fails. Without it, the module is compiled anew.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = {} if traceback is None else traceback.tb_frame.f_locals
    path = place.get("bytecode_path")
    if not isinstance(path, str):
        return ""
    with contextlib.suppress(OSError):
        os.unlink(path)
    return path


def _identity() -> tuple[int, ...]:
    try:
        status = os.stat(_FILE)
    except OSError:
        return ()  # an upgrade is under way, or the program is in an archive
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_LOADED = _identity()
