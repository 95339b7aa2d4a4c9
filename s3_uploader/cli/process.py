"""What the process needs before anything else: its standard streams, and names of files that are read as UTF-8."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Make a new process sound. To be called once, before anything is opened; may start the program anew."""
    _open_standard_streams()
    # In another encoding "größe" would arrive as other bytes: a key in S3 is UTF-8, and so is the name on the disk.
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8") and not sys.flags.utf8_mode:
        _start_anew_in_utf8()


def _open_standard_streams() -> None:
    """Open closed ones as ``/dev/null``: else the ledger could get the number, and a warning be written into it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _start_anew_in_utf8() -> None:
    """The same program in Python's UTF-8 mode, which is chosen before a start; what is printed keeps its encoding."""
    shown = (sys.stdout.encoding or "ascii") + ":backslashreplace"
    environment = {"PYTHONIOENCODING": shown} | dict(os.environ) | {"PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
