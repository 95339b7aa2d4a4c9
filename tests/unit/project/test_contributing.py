"""CONTRIBUTING names files and functions that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:[\w.]+/)+\w+\.\w+)`", PAGE)))
NAMED = sorted(set(re.findall(r"`(\w+)` (?:in|\() ?`([\w/]+\.py)`", PAGE)))


def found(path: str) -> Path:
    """A file as the page names it: from the root, or from the package."""
    return next((full for full in (ROOT / path, ROOT / "s3_uploader" / path) if full.exists()), ROOT / path)


@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_there(path: str) -> None:
    """Somebody who joins finds each file that the page sends them to."""
    assert found(path).exists()


@pytest.mark.parametrize(("name", "path"), NAMED)
def test_each_name_is_in_its_file(name: str, path: str) -> None:
    """What the page says to extend stands in the file that it names."""
    assert re.search(rf"\b{name}\b", found(path).read_text())


def test_there_is_something_to_look_for() -> None:
    """The patterns above still find what the page names."""
    assert {"run/assembly.py", "tests/contracts/day_layout.py"} <= set(PATHS)
    assert {name for name, _ in NAMED} >= {"build_store", "build_layout", "LocalDestination", "Store", "Layout"}
