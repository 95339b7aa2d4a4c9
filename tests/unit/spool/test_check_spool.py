"""``check`` tries in the spool what a run does there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.findings import Severity
from s3_uploader.spool.check import check_spool
from s3_uploader.spool.root import SpoolRoot


@pytest.mark.parametrize(
    ("step", "fact", "removes"),
    [("rename", "renamed", True), ("rename", "renamed", False), ("unlink", "removed", True)],
)
def test_files_that_can_be_made_but_not_removed(
    tmp_path: Path, root: SpoolRoot, monkeypatch: pytest.MonkeyPatch, step: str, fact: str, removes: bool
) -> None:
    """Some mounts take new files, and refuse to rename or remove them: no file could be removed after its upload."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        found = check_spool(root, layout="tree", removes=removes)[0]
    assert found.severity is (Severity.ERROR if removes else Severity.WARNING)
    assert f"cannot be {fact}: Operation not permitted" in found.fact
    left = set(os.listdir(tmp_path)) - {"d"}
    # One that cannot be removed is named.
    assert all(name in found.fact for name in left) if step == "unlink" else not left


@pytest.mark.parametrize("number", [0, errno.ENOSPC])
def test_nothing_is_left(tmp_path: Path, root: SpoolRoot, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The test file is gone afterwards, also where there is no room for another name."""
    real = os.rename

    def rename(*arguments: Any, **options: Any) -> None:
        if number:
            raise OSError(number, os.strerror(number))
        real(*arguments, **options)

    monkeypatch.setattr(os, "rename", rename)
    assert check_spool(root, layout="tree")[0].severity is Severity.OK
    assert os.listdir(tmp_path) == ["d"]
