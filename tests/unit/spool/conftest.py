"""What the tests of the spool share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.spool.root import SpoolRoot


@pytest.fixture
def root(tmp_path: Path) -> Iterator[SpoolRoot]:
    """A spool with one directory."""
    (tmp_path / "d").mkdir()
    opened = SpoolRoot(str(tmp_path))
    yield opened
    opened.close()
