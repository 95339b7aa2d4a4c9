"""Which spools the ledger commands lock: all that may still have a run at work on them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from s3_uploader.cli.ledger import _is_gone


def test_only_a_spool_that_is_not_there_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be looked at is there, as that on a dead mount."""
    (tmp_path / "file").touch()
    assert _is_gone(str(tmp_path / "none"))
    assert _is_gone(str(tmp_path / "file" / "spool"))
    assert not _is_gone(str(tmp_path))

    def refuse(path: str) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)

    monkeypatch.setattr(os, "lstat", refuse)
    assert not _is_gone(str(tmp_path))
