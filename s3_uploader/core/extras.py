"""How to install a library that only some configurations need."""

from __future__ import annotations

import sys

from s3_uploader._version import DISTRIBUTION


def installing(extra: str) -> str:
    """The command that installs the libraries of an extra where this program is installed."""
    import shlex

    python = f"{shlex.quote(sys.executable)} -m " if sys.executable else ""
    return f"{python}pip install '{DISTRIBUTION}[{extra}]'"
