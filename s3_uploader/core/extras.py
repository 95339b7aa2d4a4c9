"""How to install a library that only some configurations need."""

from __future__ import annotations

from s3_uploader._version import DISTRIBUTION


def installing(extra: str) -> str:
    """The command that installs the libraries of an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
