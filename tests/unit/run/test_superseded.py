"""Objects of ours that are out of date: by what they are known, and what makes one."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import ConflictError
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.ledger import Ledger
from s3_uploader.run import superseded
from s3_uploader.run.superseded import Superseded, is_outdated, was_replaced
from s3_uploader.spool.open_file import OpenFile, open_candidate
from s3_uploader.spool.root import SpoolRoot
from tests.changes import append, overwrite, overwrite_and_put_mtime_back
from tests.fakes import FakeRecords, candidate, write


class TestSuperseded:
    def test_known_by_its_etag(self) -> None:
        """Only the very object that was put there is known as outdated."""
        superseded = Superseded(FakeRecords(), address=lambda key: f"bucket/{key}", now=lambda: 0.0)
        superseded.add(Receipt(key="a", size=1, proof=Proof.MD5, etag="1"))
        assert superseded.has("a", ConflictError("", existing="1"))
        assert not superseded.has("a", ConflictError("", existing="2"))
        assert not superseded.has("a", ConflictError(""))
        assert not superseded.has("b", ConflictError("", existing="1"))

    def test_forgotten(self) -> None:
        """Once the object is up to date, it is protected like any other."""
        records = FakeRecords()
        superseded = Superseded(records, address=str, now=lambda: 0.0)
        superseded.forget("a")
        assert records.facts == {}
        superseded.add(Receipt(key="a", size=1, proof=Proof.MD5, etag="1"))
        superseded.forget("a")
        assert not superseded.has("a", ConflictError("", existing="1"))
        assert not superseded.has("a", ConflictError(""))

    def test_stored_again_after_it_was_noted(self, tmp_path: Path) -> None:
        """An object that was stored again since is another delivery of the same content, and its only copy."""
        at = 1_600_000_000.0
        with Ledger.open(str(tmp_path / "ledger.sqlite3")) as ledger:
            Superseded(ledger, address=str, now=lambda: at).add(Receipt(key="a", size=1, proof=Proof.MD5, etag="1"))
            superseded = Superseded(ledger, address=str, now=lambda: at + 86400)
            for age in (90_000, 86_400, 86_200):
                assert superseded.has("a", ConflictError("", existing="1", age=age))
            for age in (-3600, 0, 82_800):
                assert not superseded.has("a", ConflictError("", existing="1", age=age))
            assert superseded.has("a", ConflictError("", existing="1"))

    def test_no_etag(self) -> None:
        """A destination without ETags has nothing to be known by."""
        records = FakeRecords()
        Superseded(records, address=str, now=lambda: 0.0).add(Receipt(key="a", size=1, proof=Proof.MD5))
        assert records.facts == {}


CONTENT = b"data"
RECEIPTS: dict[str, dict[str, Any]] = {
    "md5 in the ETag": {"etag": hashlib.md5(CONTENT).hexdigest()},
    "crc32": {"checksum": "crc32:" + base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode(), "etag": "u-1"},
    "sha256": {"checksum": "sha256:" + hashlib.sha256(CONTENT).hexdigest()},
    "md5": {"checksum": "md5:" + hashlib.md5(CONTENT).hexdigest().upper()},
}


class TestOutdated:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A file of the spool."""
        (tmp_path / "spool").mkdir()
        return write(tmp_path / "spool/x", "data")

    @pytest.fixture
    def file(self, path: Path) -> Iterator[OpenFile]:
        """The same, as it was opened for its upload."""
        root = SpoolRoot(str(path.parent))
        opened = open_candidate(root, candidate("x"))
        assert isinstance(opened, OpenFile)
        yield opened
        opened.close()
        root.close()

    @pytest.mark.parametrize("receipt", RECEIPTS.values(), ids=RECEIPTS)
    def test_other_content(self, path: Path, file: OpenFile, receipt: dict[str, Any]) -> None:
        """A write makes the object outdated, also one whose time was put back."""
        overwrite_and_put_mtime_back(path)
        assert is_outdated(file, Receipt(key="x", size=4, proof=Proof.MD5, **receipt))

    @pytest.mark.parametrize("receipt", RECEIPTS.values(), ids=RECEIPTS)
    def test_the_same_content(self, path: Path, file: OpenFile, receipt: dict[str, Any]) -> None:
        """Neither a rename nor new permissions make it outdated: what was sent is what the file held."""
        path.chmod(0o600)
        path.rename(path.with_name("y"))
        assert not is_outdated(file, Receipt(key="x", size=4, proof=Proof.MD5, **receipt))

    @pytest.mark.parametrize("change", [append, overwrite, os.utime])
    def test_the_times_tell(self, path: Path, file: OpenFile, change: object) -> None:
        """Another size or mtime is enough, whatever the receipt says."""
        change(path)  # type: ignore[operator]
        assert is_outdated(file, Receipt(key="x", size=4, proof=Proof.SIZE))

    def test_a_writer_is_enough(self, path: Path, file: OpenFile) -> None:
        """Somebody who has the file open for writing is about to make it outdated."""
        with path.open("r+b"):
            assert is_outdated(file, Receipt(key="x", size=4, proof=Proof.SIZE))

    @pytest.mark.parametrize(
        "receipt",
        [
            {},
            {"etag": "0123-2"},
            {"etag": "d41d8cd98f00b204e9800998ecf8427z"},
            {"checksum": "crc64nvme:AAAAAAAAAAA="},
            {"checksum": "crc32:AAAAAA==", "encoding": "gzip"},
        ],
    )
    def test_in_doubt_it_is_not(self, path: Path, file: OpenFile, receipt: dict[str, Any]) -> None:
        """Where the receipt says nothing about the file's own bytes, the object is protected like any other."""
        overwrite_and_put_mtime_back(path)
        assert not is_outdated(file, Receipt(key="x", size=4, proof=Proof.MD5, **receipt))

    def test_large_files_are_not_read_again(self, path: Path, file: OpenFile, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look at the content is bounded; a file above that is not outdated."""
        monkeypatch.setattr("s3_uploader.run.superseded._MOST_READ", 3)
        overwrite_and_put_mtime_back(path)
        assert not is_outdated(file, Receipt(key="x", size=4, proof=Proof.MD5, etag="0" * 32))

    def test_a_file_that_cannot_be_read(self, path: Path, file: OpenFile, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that fails makes nothing outdated."""

        def fail(*arguments: object) -> bytes:
            raise OSError(5, "Input/output error")

        overwrite_and_put_mtime_back(path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", fail)
            outdated = is_outdated(file, Receipt(key="x", size=4, proof=Proof.MD5, etag="0" * 32))
            patch.setattr(os, "fstat", fail)
            outdated = outdated or is_outdated(file, Receipt(key="x", size=4, proof=Proof.SIZE))
        assert not outdated


class TestReplaced:
    """A file in whose place its producer puts another one, and what only looks like that."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Iterator[OpenFile]:
        """A file of the spool that is under way."""
        write(tmp_path / "spool/x", "first")
        write(tmp_path / "new", "second")
        root = SpoolRoot(str(tmp_path))
        opened = open_candidate(root, candidate("spool/x"))
        assert isinstance(opened, OpenFile)
        yield opened
        opened.close()
        root.close()

    def test_by_a_rename(self, file: OpenFile, tmp_path: Path) -> None:
        """A rename over its name is told from the two files, whatever times the new one has."""
        os.utime(tmp_path / "new", (0, 0))
        assert not was_replaced(file)
        (tmp_path / "new").rename(tmp_path / "spool/x")
        assert was_replaced(file)

    def test_not_after_another_uploader(self, file: OpenFile, tmp_path: Path) -> None:
        """What is removed under a private name was delivered, however soon the next file of its name comes."""
        (tmp_path / "spool/x").rename(tmp_path / "spool/private")
        (tmp_path / "spool/private").unlink()
        (tmp_path / "new").rename(tmp_path / "spool/x")
        assert not was_replaced(file)

    def test_not_by_a_later_file(self, file: OpenFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that comes a while after the first was removed is a file of its own."""
        (tmp_path / "spool/x").unlink()
        assert not was_replaced(file)
        (tmp_path / "new").rename(tmp_path / "spool/x")
        # Any two system calls are further apart than this.
        monkeypatch.setattr(superseded, "_ONE_TICK_NS", 0)
        assert not was_replaced(file)

    def test_not_by_whole_seconds(self, file: OpenFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the file system counts seconds, equal times are no trace of one rename."""

        class WholeSeconds:
            st_mode, st_nlink, st_dev, st_ino, st_size = stat.S_IFREG, 0, 1, 2, 3
            st_mtime_ns = st_ctime_ns = 1_700_000_000_000_000_000

        (tmp_path / "new").rename(tmp_path / "spool/x")
        assert was_replaced(file)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", lambda descriptor: WholeSeconds)
            patch.setattr(SpoolRoot, "stat", lambda *_: WholeSeconds)
            is_replaced = was_replaced(file)
        assert not is_replaced

    def test_not_while_it_has_a_name(self, file: OpenFile, tmp_path: Path) -> None:
        """As long as the first file is somewhere, and where a directory has its name, nothing has replaced it."""
        os.link(tmp_path / "spool/x", tmp_path / "other")
        (tmp_path / "new").rename(tmp_path / "spool/x")
        assert not was_replaced(file)
        (tmp_path / "other").unlink()
        (tmp_path / "spool/x").unlink()
        (tmp_path / "spool/x").mkdir()
        assert not was_replaced(file)
