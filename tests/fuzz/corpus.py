"""The examples that inputs are made from: one file for each parser, examples apart by a line ``--8<--``."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).with_name("examples")
BORDER = b"\n--8<--\n"


def examples(name: str) -> list[bytes]:
    """What stands in a file of the corpus."""
    return (CORPUS / name).read_bytes().removesuffix(b"\n").split(BORDER)
