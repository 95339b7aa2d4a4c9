"""Finds out whether the program has a terminal, and whether Ctrl-C reaches it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def has_terminal() -> bool:
    """Whether the program has a controlling terminal now.

    A service has none, and neither has a program whose terminal window was closed.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def watched() -> Callable[[], bool]:
    """A function that says whether the program has lost the terminal that it has now."""
    had_terminal = has_terminal()
    return lambda: had_terminal and not has_terminal()


def is_in_foreground() -> bool:
    """Whether Ctrl-C at the terminal reaches the program."""
    try:
        return sys.stderr.isatty() and os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
