"""Starts Python once more, for a part of this program that needs a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_FIND_MODULES = (
    "import sys; found = sys.argv[2 : 2 + int(sys.argv[1])]; del sys.argv[1 : 2 + len(found)]; "
    "sys.path[:] = [*found, *(each for each in sys.path if each and each not in found)]; "
)


def is_known() -> bool:
    """Whether the interpreter can be started once more.

    In a program that embeds Python (uWSGI, or one made by PyInstaller) the executable is that program, if any.
    """
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def python(program: str, *arguments: str) -> list[str]:
    """The command line that runs a line of Python, with this package and with the options of this interpreter.

    Modules are looked for where this process looks for them: a program may have found some by a ``sys.path`` that it
    has made itself, as the scripts of zc.buildout do. But Python that was started with ``-c`` or ``-m`` looks in the
    current directory first. That may be the spool, or any directory with a ``json.py`` or ``queue.py`` in it; so it is
    left out.

    :raises ValueError: if the interpreter is not known.
    """
    if not is_known():
        raise ValueError(f"{sys.executable or 'this program'} is not Python")
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    places = [_ROOT, *_places_of_modules()]
    return [sys.executable, *options, "-c", _FIND_MODULES + program, str(len(places)), *places, *arguments]


def _places_of_modules() -> list[str]:
    try:
        current = os.path.realpath(os.getcwd())
    except OSError:
        current = ""  # it was removed
    return [place for place in sys.path if place and isinstance(place, str) and os.path.realpath(place) != current]
