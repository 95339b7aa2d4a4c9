"""A ledger of its own for each test, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.ledger import Ledger
from tests.ledger_values import NOW


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the ledger is."""
    return str(tmp_path / "ledger.sqlite3")


@pytest.fixture
def notices() -> list[str]:
    """What the ledger said."""
    return []


@pytest.fixture
def ledger(path: str, notices: list[str]) -> Iterator[Ledger]:
    """An open ledger that waits for nobody."""
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW, busy_seconds=0) as opened:
        yield opened
