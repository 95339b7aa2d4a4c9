"""Starts Python once more, for a part of this program that needs a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_FIND_MODULES = "import sys; sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]; "


def is_known() -> bool:
    """Whether the interpreter can be started once more.

    In a program that embeds Python (uWSGI, or one made by PyInstaller) the executable is that program, if any.
    """
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def python(program: str, *arguments: str) -> list[str]:
    """The command line that runs a line of Python, with this package and with the options of this interpreter.

    Started with ``-c`` or ``-m``, Python looks for each module in the current directory first. That may be the spool,
    or any directory with a ``json.py`` or ``queue.py`` in it; so it is left out.

    :raises ValueError: if the interpreter is not known.
    """
    if not is_known():
        raise ValueError(f"{sys.executable or 'this program'} is not Python")
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *options, "-c", _FIND_MODULES + program, _ROOT, *arguments]
