"""Renames that never replace a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core import renaming
from s3_uploader.core.renaming import rename_without_replacing
from tests.fakes import paths_below, write


class TestRenameWithoutReplacing:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Iterator[int]:
        """A directory with a file ``a``."""
        write(tmp_path / "a", "content")
        descriptor = os.open(tmp_path, os.O_RDONLY)
        yield descriptor
        os.close(descriptor)

    @pytest.mark.parametrize("has_links", [True, False])
    @pytest.mark.parametrize("has_renameat2", [True, False])
    def test_renames(
        self, tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch, has_links: bool, has_renameat2: bool
    ) -> None:
        """Every way leads to the new name, and never over another file."""
        if not has_links:
            monkeypatch.setattr(os, "link", self.refuse)
        if not has_renameat2:
            monkeypatch.setattr(renaming, "_renameat2", lambda *_: False)
        rename_without_replacing(directory, "a", directory, "b")
        assert paths_below(tmp_path) == {"b"}
        write(tmp_path / "a", "new")
        with pytest.raises(FileExistsError):
            rename_without_replacing(directory, "a", directory, "b")
        assert (tmp_path / "b").read_text() == "content"

    def refuse(self, *_: Any, **__: Any) -> None:
        """What a file system without hard links does."""
        raise OSError(errno.EPERM, "Operation not permitted")

    def test_failures(self, directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is not about links or names is an error."""
        with pytest.raises(FileNotFoundError):
            rename_without_replacing(directory, "gone", directory, "b")
        monkeypatch.setattr(renaming, "_renameat2", lambda *_: False)
        with pytest.raises(FileNotFoundError):
            rename_without_replacing(directory, "gone", directory, "b")
