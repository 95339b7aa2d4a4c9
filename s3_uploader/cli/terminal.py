"""The terminal that a program was started at: whether there is one still, and whether its keys reach the program."""

from __future__ import annotations

import os
import sys


def has_terminal() -> bool:
    """Whether the program has a controlling terminal now: a service has none, nor has one whose window was closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def is_in_foreground() -> bool:
    """Whether Ctrl-C at the terminal reaches the program."""
    try:
        return sys.stderr.isatty() and os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
