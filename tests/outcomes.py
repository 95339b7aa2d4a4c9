"""What became of a test, for the fixtures that are torn down after it."""

from __future__ import annotations

from typing import Any

import pytest

_SKIPPED = pytest.StashKey[bool]()


def note_outcome(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """Remember that a test, or a fixture of it, has said that it cannot run here."""
    if call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception):
        item.stash[_SKIPPED] = True


def was_skipped(item: pytest.Item) -> bool:
    """Whether the test did not do all that it is for."""
    return item.stash.get(_SKIPPED, False)
