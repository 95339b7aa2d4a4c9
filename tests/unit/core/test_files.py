"""Durable steps on files: names made durable, renames that never replace."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core import files
from s3_uploader.core.files import rename_without_replacing
from tests.fakes import paths_below, write


@pytest.mark.parametrize(("number", "is_let_off"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_directories_that_cannot_be_synced(monkeypatch: pytest.MonkeyPatch, number: int, is_let_off: bool) -> None:
    """A file system that cannot make names durable is let off; one that fails is not."""

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if is_let_off:
        files.sync_directory(0)
    else:
        with pytest.raises(OSError, match="Input/output"):
            files.sync_directory(0)


class TestUnnamedFile:
    def test_no_directory_has_to_be_writable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file is in memory: where nothing may be written, as in a container, there is one all the same."""
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
        with files.unnamed_file(b"content") as file:
            assert os.pread(file.fileno(), 100, 0) == b"content"

    def test_it_is_on_disk_where_a_python_knows_none_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A Python that was built for older systems writes a temporary file."""
        monkeypatch.delattr(os, "memfd_create", raising=False)
        with files.unnamed_file(b"content") as file:
            assert os.pread(file.fileno(), 100, 0) == b"content"

    def test_it_is_closed_if_it_cannot_be_filled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without room for its content nothing stays open."""
        full = open("/dev/full", "wb")  # noqa: SIM115 - it is closed by what is tested.
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        with pytest.raises(OSError, match="No space"):
            files.unnamed_file(b"content")
        assert full.closed


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
            monkeypatch.setattr(files, "_renameat2", lambda *_: False)
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
        monkeypatch.setattr(files, "_renameat2", lambda *_: False)
        with pytest.raises(FileNotFoundError):
            rename_without_replacing(directory, "gone", directory, "b")
