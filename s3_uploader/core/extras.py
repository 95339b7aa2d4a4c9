"""How somebody gets a library that only some configurations need."""

from __future__ import annotations

from s3_uploader._version import DISTRIBUTION


def installing(extra: str) -> str:
    """The command that brings the libraries of an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
