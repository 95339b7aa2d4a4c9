"""The local store: what it promises about files below its directory."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core import renaming
from s3_uploader.core.errors import (
    ConflictError,
    KeyRefused,
    NameTaken,
    OutOfResources,
    ProofError,
    Scope,
    SourceChanged,
    SourceUnreadable,
    StoreError,
    UploadCancelled,
)
from s3_uploader.core.findings import Severity
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.local import files as local_files
from s3_uploader.stores.local import store as module
from s3_uploader.stores.local.copying import FileCopy
from s3_uploader.stores.local.store import LocalStore


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An empty directory as destination."""
    directory = tmp_path / "archive"
    directory.mkdir()
    return directory


@pytest.fixture
def store(archive: Path) -> Iterator[LocalStore]:
    """An open store over the directory."""
    opened = LocalStore(path=str(archive), max_concurrency=3)
    opened.open()
    yield opened
    opened.close(timeout=10)


def begin(
    store: LocalStore,
    tmp_path: Path,
    key: str,
    content: bytes,
    *,
    on_conflict: OnConflict = OnConflict.FAIL,
    size: int | None = None,
    deadline: float = 60,
    replaces: str = "",
) -> PendingReceipt:
    """Start an upload of ``content``; the source stays open until the future is done."""
    path = tmp_path / f"source-{hashlib.sha256(content + key.encode(errors='replace')).hexdigest()}"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    future = store.put(
        key,
        Source(descriptor, len(content) if size is None else size),
        options=PutOptions(on_conflict=on_conflict, minimum_proof=Proof.CHECKSUM),
        deadline=time.monotonic() + deadline,
        replaces=replaces,
    )
    future.add_done_callback(lambda _: os.close(descriptor))
    return future


def put(store: LocalStore, tmp_path: Path, key: str, content: bytes, **options: object) -> Receipt:
    """Upload ``content`` and wait for the receipt."""
    return begin(store, tmp_path, key, content, **options).result(timeout=30)  # type: ignore[arg-type]


def files(archive: Path) -> dict[str, bytes]:
    """Every file below the archive."""
    return {str(path.relative_to(archive)): path.read_bytes() for path in archive.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_content_arrives(store: LocalStore, archive: Path, tmp_path: Path, size: int) -> None:
    """Every byte arrives under the key, with a checksum as proof and nothing else beside it."""
    content = os.urandom(size)
    receipt = put(store, tmp_path, "bedroom/2020/11/29/20/46-topic.dat", content)
    digest = hashlib.sha256(content).hexdigest()
    assert receipt == Receipt(
        key="bedroom/2020/11/29/20/46-topic.dat",
        size=size,
        proof=Proof.CHECKSUM,
        checksum=f"sha256:{digest}",
        etag=digest,
    )
    assert files(archive) == {"bedroom/2020/11/29/20/46-topic.dat": content}


def test_time_is_kept(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """The copy in the archive has the time of the original."""
    source = tmp_path / "source"
    source.write_bytes(b"old")
    os.utime(source, (1_000_000_000, 1_000_000_000))
    with open(source, "rb") as file:
        store.put("a", Source(file.fileno(), 3), options=PutOptions(), deadline=time.monotonic() + 60).result(30)
    assert (archive / "a").stat().st_mtime == 1_000_000_000


def test_only_the_promised_bytes_are_copied(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """A file that grew after it was opened is stored with the size it had then."""
    put(store, tmp_path, "a", b"0123456789", size=4)
    assert files(archive) == {"a": b"0123"}


def test_shrunken_source(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """A file that shrank is never stored, and leaves nothing behind."""
    with pytest.raises(SourceChanged, match="ends at byte 4, not 10"):
        put(store, tmp_path, "a", b"0123", size=10)
    assert files(archive) == {}


def test_unreadable_source(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """A source that cannot be read is told as such, and not as a fault of the destination."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        future = store.put("a", Source(descriptor, 5), options=PutOptions(), deadline=time.monotonic() + 60)
        with pytest.raises(SourceUnreadable, match="cannot be read at byte 0: is a directory"):
            future.result(30)
    finally:
        os.close(descriptor)
    assert files(archive) == {}


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../../b",
        "a/..",
        "./a",
        "a\0b",
        "x" * 256,
        "d/" + "é" * 128 + "/x",
        "\ud800",
    ],
)
def test_refused_keys(store: LocalStore, archive: Path, tmp_path: Path, key: str) -> None:
    """A key that would leave the directory, or is no path, is refused before anything is written."""
    with pytest.raises(KeyRefused):
        put(store, tmp_path, key, b"x")
    assert list(archive.iterdir()) == []


@pytest.mark.parametrize("key", ["x" * 255, "a b/ c ", "weiß/été.dat", "a\\b", "...", "-rf", "new\nline", "caf\udce9"])
def test_odd_keys(store: LocalStore, archive: Path, tmp_path: Path, key: str) -> None:
    """Every key that is a path is stored under exactly its bytes, undecodable ones included."""
    assert put(store, tmp_path, key, b"x").key == key
    assert (archive / key).read_bytes() == b"x"


def test_same_content_again(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """The same content under the same key again is success, and nothing is replaced."""
    put(store, tmp_path, "a/b", b"same")
    before = (archive / "a/b").stat()
    receipt = put(store, tmp_path, "a/b", b"same")
    assert receipt.already_there
    assert receipt.proof is Proof.CHECKSUM
    assert (archive / "a/b").stat().st_ino == before.st_ino


def test_conflict_fails(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """Other content under the key is never replaced by default; the error names what is there."""
    put(store, tmp_path, "a/b", b"first")
    with pytest.raises(ConflictError, match=r"a/b exists already with other content") as caught:
        put(store, tmp_path, "a/b", b"other")
    assert caught.value.existing == hashlib.sha256(b"first").hexdigest()
    assert files(archive) == {"a/b": b"first"}


def test_conflict_overwrites(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """With ``overwrite`` the new content takes the key."""
    put(store, tmp_path, "a/b", b"first")
    receipt = put(store, tmp_path, "a/b", b"other", on_conflict=OnConflict.OVERWRITE)
    assert not receipt.already_there
    assert files(archive) == {"a/b": b"other"}


def test_a_file_of_another_name_is_not_replaced(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system folds case, ``overwrite`` replaces a file of exactly that name and no other."""
    put(store, tmp_path, "a", b"that of A")
    real = FileCopy._copy

    def copy(self: FileCopy, descriptor: int) -> str:
        """Let the file system find the temporary name in capitals, too, and show the archived file as A."""
        digest = real(self, descriptor)
        os.link(archive / self._temporary, archive / self._temporary.upper())
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(FileCopy, "_copy", copy)
        patch.setattr(os, "listdir", lambda directory: ["A"])
        with pytest.raises(KeyRefused):
            put(store, tmp_path, "a", b"other", on_conflict=OnConflict.OVERWRITE)
    assert files(archive)["a"] == b"that of A"
    next(archive.glob(".*PART")).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(FileCopy, "_copy", copy)
        put(store, tmp_path, "a", b"next", on_conflict=OnConflict.OVERWRITE)
    assert files(archive)["a"] == b"next"


@pytest.mark.parametrize("policy", list(OnConflict))
@pytest.mark.parametrize(("name", "kept"), [("a.", "a"), ("b ", "b"), ("SHORT~1.DAT", "shortened.data")])
def test_a_name_that_is_not_kept_is_refused(
    name: str,
    kept: str,
    policy: OnConflict,
    store: LocalStore,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FAT has another name for the file, which may be that of another file of the spool: it would be replaced."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda directory: [kept])
        with pytest.raises(NameTaken, match="another name"):
            put(store, tmp_path, name, b"new", on_conflict=policy)
        assert files(archive) == {}
        (archive / name).write_bytes(b"new")
        with pytest.raises(NameTaken, match="another name"):
            put(store, tmp_path, name, b"new", on_conflict=policy)
    put(store, tmp_path, name, b"new", on_conflict=policy)
    assert files(archive) == {name: b"new"}


def test_a_directory_of_another_name_is_refused(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system folds case, the files below two directories would replace one another."""
    put(store, tmp_path, "2026/hall/a", b"of the hall")
    real = os.stat

    def folded(path: int | str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        """Look names up in small letters."""
        found = path.lower() if dir_fd is not None and isinstance(path, str) else path
        return real(found, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    (archive / "2026/HALL").symlink_to("hall")
    with monkeypatch.context() as patch:
        patch.setattr(os, "O_NOFOLLOW", 0)
        patch.setattr(os, "stat", folded)
        patch.setattr(os, "listdir", lambda directory: ["hall"])
        with pytest.raises(NameTaken, match="another name"):
            put(store, tmp_path, "2026/HALL/a", b"other", on_conflict=OnConflict.OVERWRITE)
        put(store, tmp_path, "2026/hall/b", b"beside it")
    (archive / "2026/HALL").unlink()
    put(store, tmp_path, "2026/HALL/a", b"other", on_conflict=OnConflict.OVERWRITE)
    assert files(archive) == {"2026/hall/a": b"of the hall", "2026/hall/b": b"beside it", "2026/HALL/a": b"other"}


def test_a_file_with_other_accents_is_not_replaced(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """Where the file system takes both ways to write an accent for one, ``overwrite`` replaces the same name only."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    put(store, tmp_path, composed, b"first")
    os.link(archive / composed, archive / decomposed)  # as such a file system finds it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", lambda directory: [composed])
        with pytest.raises(NameTaken, match="accent"):
            put(store, tmp_path, decomposed, b"another", on_conflict=OnConflict.OVERWRITE)
        assert (archive / composed).read_bytes() == b"first"
        put(store, tmp_path, composed, b"second", on_conflict=OnConflict.OVERWRITE)
    assert (archive / composed).read_bytes() == b"second"


def test_a_directory_with_other_accents(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """The files below two such directories do not replace one another; where nothing is replaced both are one."""
    composed, decomposed = "\ud55c", "\u1112\u1161\u11ab"
    put(store, tmp_path, f"{composed}/a", b"first")
    (archive / decomposed).symlink_to(composed)
    real = os.stat

    def alike(path: int | str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        """Find a directory under both names."""
        found = path.replace(decomposed, composed) if dir_fd is not None and isinstance(path, str) else path
        return real(found, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "O_NOFOLLOW", 0)
        patch.setattr(os, "stat", alike)
        patch.setattr(os, "listdir", lambda directory: [composed])
        put(store, tmp_path, f"{decomposed}/b", b"beside it")
        with pytest.raises(NameTaken, match="accent"):
            put(store, tmp_path, f"{decomposed}/a", b"other", on_conflict=OnConflict.OVERWRITE)
    assert (archive / composed / "a").read_bytes() == b"first"
    assert (archive / composed / "b").read_bytes() == b"beside it"


def test_a_disk_that_fails_is_not_called_unmounted(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk of the directory answers no more the run ends, and the message says what fails."""
    real = os.stat

    def fail(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if path == str(archive):
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(StoreError, match="cannot be examined: input/output error") as raised:
        put(store, tmp_path, "a", b"first")
    assert raised.value.scope is Scope.DESTINATION
    assert "dmesg" in raised.value.hint


def test_conflict_keeps_both(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """With ``keep-both`` other content is stored under a key derived from it, and is recognised there the next time."""
    put(store, tmp_path, "a/b.dat", b"first")
    derived = f"a/b~{hashlib.sha256(b'other').hexdigest()[:12]}.dat"
    first = put(store, tmp_path, "a/b.dat", b"other", on_conflict=OnConflict.KEEP_BOTH)
    second = put(store, tmp_path, "a/b.dat", b"other", on_conflict=OnConflict.KEEP_BOTH)
    assert (first.key, first.already_there) == (derived, False)
    assert (second.key, second.already_there) == (derived, True)
    assert files(archive) == {"a/b.dat": b"first", derived: b"other"}


def test_derived_key_taken_too(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """Where even the derived key holds other content, nothing is replaced."""
    derived = f"a~{hashlib.sha256(b'other').hexdigest()[:12]}"
    (archive / "a").write_bytes(b"first")
    (archive / derived).write_bytes(b"third")
    with pytest.raises(ConflictError):
        put(store, tmp_path, "a", b"other", on_conflict=OnConflict.KEEP_BOTH)
    assert files(archive) == {"a": b"first", derived: b"third"}


def test_superseded_content_is_replaced(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """The very content that an earlier run put there may be replaced, whatever the policy; no other may."""
    earlier = put(store, tmp_path, "a", b"half")
    put(store, tmp_path, "a", b"half and half", replaces=earlier.etag)
    assert files(archive) == {"a": b"half and half"}
    with pytest.raises(ConflictError):
        put(store, tmp_path, "a", b"third", replaces=earlier.etag)
    assert files(archive) == {"a": b"half and half"}


@pytest.mark.parametrize("policy", list(OnConflict))
def test_concurrent_uploads_of_one_key(store: LocalStore, archive: Path, tmp_path: Path, policy: OnConflict) -> None:
    """Of many uploads to one key at once, each either arrives whole or fails with a conflict."""
    contents = [bytes([65 + number]) * 300_000 for number in range(8)]
    futures = [begin(store, tmp_path, "d/k", content, on_conflict=policy) for content in contents]
    outcomes = [future.exception(timeout=30) or future.result() for future in futures]
    stored = files(archive)
    assert stored["d/k"] in contents
    assert set(stored.values()) <= set(contents)
    for content, outcome in zip(contents, outcomes, strict=True):
        if isinstance(outcome, Receipt):
            assert policy is OnConflict.OVERWRITE or stored[outcome.key] == content
        else:
            assert policy is OnConflict.FAIL
            assert isinstance(outcome, ConflictError)
    successes = sum(isinstance(outcome, Receipt) for outcome in outcomes)
    assert successes == (1 if policy is OnConflict.FAIL else 8)


def test_links_below_the_root_are_not_followed(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """A link in the archive leads nowhere: neither as a directory on the way nor as the target."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    (archive / "directory").symlink_to(outside)
    (archive / "file").symlink_to(outside / "file")
    for key in ("directory/new", "file"):
        for policy in (OnConflict.FAIL, OnConflict.KEEP_BOTH):
            if key == "directory/new" or policy is OnConflict.FAIL:
                with pytest.raises(ConflictError):
                    put(store, tmp_path, key, b"secret", on_conflict=policy)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"file": b"secret"}
    put(store, tmp_path, "file", b"mine", on_conflict=OnConflict.OVERWRITE)
    assert not (archive / "file").is_symlink()
    assert (outside / "file").read_bytes() == b"secret"


def test_root_may_be_a_link(archive: Path, tmp_path: Path) -> None:
    """The directory that the configuration names may itself be reached through a link."""
    (tmp_path / "link").symlink_to(archive)
    store = LocalStore(path=str(tmp_path / "link"))
    store.open()
    put(store, tmp_path, "a", b"x")
    store.close(timeout=10)
    assert files(archive) == {"a": b"x"}


def test_file_where_a_directory_is_needed(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """A file on the way to the target is a conflict that costs only this key."""
    (archive / "a").write_bytes(b"file")
    with pytest.raises(ConflictError, match="not a directory") as caught:
        put(store, tmp_path, "a/b", b"x")
    assert caught.value.scope is Scope.FILE
    assert files(archive) == {"a": b"file"}


@pytest.mark.parametrize("policy", list(OnConflict))
def test_special_files_as_target(store: LocalStore, archive: Path, tmp_path: Path, policy: OnConflict) -> None:
    """A directory or FIFO under the key is no content to compare with: no waiting, no reading."""
    (archive / "directory").mkdir()
    os.mkfifo(archive / "fifo")
    if policy is OnConflict.KEEP_BOTH:
        assert put(store, tmp_path, "directory", b"x", on_conflict=policy).key.startswith("directory~")
        assert put(store, tmp_path, "fifo", b"x", on_conflict=policy).key.startswith("fifo~")
    elif policy is OnConflict.FAIL:
        with pytest.raises(ConflictError, match="exists already and cannot be read"):
            put(store, tmp_path, "fifo", b"x", on_conflict=policy)
    if policy is not OnConflict.KEEP_BOTH:
        # To overwrite would not help.
        with pytest.raises(ConflictError, match="directory is a directory") as caught:
            put(store, tmp_path, "directory", b"x", on_conflict=policy)
        assert caught.value.hint == "Rename the file or the directory, or set on_conflict to keep-both."
    if policy is OnConflict.OVERWRITE:
        put(store, tmp_path, "fifo", b"x", on_conflict=policy)
        assert (archive / "fifo").read_bytes() == b"x"
    assert (archive / "directory").is_dir()


def temporary_name(key: str) -> str:
    """The name under which an upload of ``key`` is written."""
    return f".{hashlib.sha256(key.encode()).hexdigest()[:16]}.s3-uploader-part"


@pytest.mark.parametrize("arrived", [False, True])
def test_leftovers_of_a_killed_run(store: LocalStore, archive: Path, tmp_path: Path, arrived: bool) -> None:
    """What a killed run left half written is removed by the next upload of that file."""
    (archive / "d").mkdir()
    if arrived:
        (archive / "d/a").write_bytes(b"content")
        (archive / "d" / temporary_name("d/a")).hardlink_to(archive / "d/a")
    else:
        (archive / "d" / temporary_name("d/a")).write_bytes(b"con")
    assert put(store, tmp_path, "d/a", b"content").already_there is arrived
    assert files(archive) == {"d/a": b"content"}


def test_another_uploader_without_locks(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file system has no locks, the half copy of another uploader never gets the name in place of ours."""

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    real = FileCopy._copy

    def copy(self: FileCopy, descriptor: int) -> str:
        digest = real(self, descriptor)
        directory = os.open(archive, os.O_RDONLY)
        with local_files.exclusive_file(directory, temporary_name("x"), pause=time.sleep) as other:
            os.write(other, b"half of anoth")
            os.link(archive / temporary_name("x"), archive / "kept")
        os.rename(archive / "kept", archive / temporary_name("x"))
        os.close(directory)
        return digest

    monkeypatch.setattr("fcntl.flock", no_locks)
    monkeypatch.setattr(FileCopy, "_copy", copy)
    with pytest.raises(StoreError, match="another uploader") as raised:
        put(store, tmp_path, "x", b"content")
    assert raised.value.origin is Origin.OURS
    assert files(archive) == {temporary_name("x"): b"half of anoth"}


def test_waits_for_another_uploader(store: LocalStore, archive: Path, tmp_path: Path) -> None:
    """A temporary file that somebody is writing is left alone, and the upload waits for its turn."""
    directory = os.open(archive, os.O_RDONLY)
    with local_files.exclusive_file(directory, temporary_name("a"), pause=time.sleep) as descriptor:
        future = begin(store, tmp_path, "a", b"mine")
        with pytest.raises(UploadCancelled, match="deadline") as caught:
            put(store, tmp_path, "a", b"impatient", deadline=0.2)
        assert caught.value.code == "DeadlineExceeded"
        assert not future.done()
        os.write(descriptor, b"still here")
    assert future.result(timeout=30).size == 4
    os.close(directory)
    assert files(archive) == {"a": b"mine"}


@pytest.mark.parametrize("renames", [True, False])
def test_without_hard_links(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: bool
) -> None:
    """A file system without hard links keeps the same promises."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    if not renames:
        monkeypatch.setattr(renaming, "_system_call", lambda: None)
    put(store, tmp_path, "a", b"first")
    with pytest.raises(ConflictError):
        put(store, tmp_path, "a", b"other")
    directory = os.open(archive, os.O_RDONLY)
    (archive / "b").write_bytes(b"b")
    assert not local_files.move_without_replacing(directory, "b", "a")
    with pytest.raises(FileNotFoundError):
        local_files.move_without_replacing(directory, "missing", "c")
    os.close(directory)
    assert files(archive) == {"a": b"first", "b": b"b"}


def test_full_disk_ends_the_run(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is an error that every file would meet, and leaves no half file."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="no space left on device") as caught:
        put(store, tmp_path, "d/a", b"x" * 100)
    assert (caught.value.scope, caught.value.code) == (Scope.DESTINATION, "ENOSPC")
    assert files(archive) == {}


def test_lying_disk_is_found_out(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that come back other than they were written are no proof, and do not get the file's name."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, view: write(descriptor, b"\0" * len(view)))
    with pytest.raises(ProofError):
        put(store, tmp_path, "a", b"content")
    assert files(archive) == {}


def test_names_that_a_file_system_refuses(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that this very file system does not take is refused as a key."""
    opened = os.open

    def picky(path: str, flags: int, *rest: int, **options: int) -> int:
        if "colon:" in str(path):
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", picky)
    with pytest.raises(KeyRefused, match="not a name that this file system accepts"):
        put(store, tmp_path, "colon:/a", b"x")


def test_a_file_system_without_fsync(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be proven to be on the disk is not shipped, and its name is not called the cause."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match="cannot say when a file is on the disk") as caught:
        put(store, tmp_path, "a", b"content")
    assert not isinstance(caught.value, KeyRefused)
    assert files(archive) == {}


def test_missing_root() -> None:
    """A directory that is not there is one clear sentence about the destination, with what to do."""
    store = LocalStore(path="/nonexistent/archive")
    with pytest.raises(StoreError) as caught:
        store.open()
    assert caught.value.scope is Scope.DESTINATION
    assert str(caught.value) == (
        "The directory /nonexistent/archive cannot be opened: no such file or directory. "
        "Create it, or mount the file system that belongs there."
    )
    store.close(timeout=1)


def test_root_that_cannot_be_written(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory without permission to write is found out before the first file."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(StoreError, match="cannot be written") as caught:
        LocalStore(path=str(archive)).open()
    assert caught.value.scope is Scope.DESTINATION


def test_cancel(archive: Path, tmp_path: Path) -> None:
    """Cancelled uploads fail soon, running and queued ones alike, and the next ones work."""
    store = LocalStore(path=str(archive), max_concurrency=1)
    store.open()
    directory = os.open(archive, os.O_RDONLY)
    with local_files.exclusive_file(directory, temporary_name("a"), pause=time.sleep):
        futures = [begin(store, tmp_path, key, b"x") for key in ("a", "b", "c")]
        store.cancel()
        for future in futures:
            with pytest.raises(UploadCancelled, match="interrupted"):
                future.result(timeout=10)
    os.close(directory)
    assert put(store, tmp_path, "d", b"x").size == 1
    assert files(archive) == {"d": b"x"}
    store.close(timeout=10)
    store.close(timeout=10)


def test_deadline_of_a_queued_upload(archive: Path, tmp_path: Path) -> None:
    """The deadline holds for an upload that still waits for its turn."""
    store = LocalStore(path=str(archive), max_concurrency=1)
    store.open()
    directory = os.open(archive, os.O_RDONLY)
    with local_files.exclusive_file(directory, temporary_name("a"), pause=time.sleep):
        begin(store, tmp_path, "a", b"x")
        with pytest.raises(UploadCancelled) as caught:
            put(store, tmp_path, "b", b"x", deadline=0.1)
        assert caught.value.code == "DeadlineExceeded"
    os.close(directory)
    store.close(timeout=10)


def test_close_leaves_no_threads_and_descriptors(archive: Path, tmp_path: Path) -> None:
    """After ``close`` no thread and no descriptor is left."""
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    store = LocalStore(path=str(archive))
    store.open()
    for number in range(20):
        put(store, tmp_path, f"d{number}/a", b"x")
    store.close(timeout=10)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_name_and_address(store: LocalStore, archive: Path) -> None:
    """The store is called by its directory, and writes a key as a path."""
    assert store.name == str(archive)
    assert store.address("a/b") == f"{archive}/a/b"


def test_check(archive: Path, tmp_path: Path) -> None:
    """``check`` tries everything that a run needs, and leaves the directory as it was."""
    findings = LocalStore(path=str(archive)).check(now=time.time())
    assert {finding.severity for finding in findings} <= {Severity.OK, Severity.NOTE, Severity.WARNING}
    assert any("cannot be replaced" in finding.fact for finding in findings)
    assert list(archive.iterdir()) == []
    skewed = LocalStore(path=str(archive)).check(now=time.time() - 4000)
    assert any("clock differs from this machine's by +4000 s" in finding.fact for finding in skewed)
    (missing,) = LocalStore(path=str(tmp_path / "missing")).check(now=time.time())
    assert missing.severity is Severity.ERROR


def test_check_of_the_directories_of_prefixes(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``check`` says which directory of a prefix cannot be written, and where a link or a file is in the way."""
    (archive / "theirs").mkdir()
    (archive / "link").symlink_to("theirs")
    (archive / "file").touch()
    theirs = os.stat(archive / "theirs").st_ino
    given = os.open

    def refuse(path: str, flags: int, *rest: Any, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT and dir_fd is not None and os.fstat(dir_fd).st_ino == theirs:
            raise PermissionError(errno.EACCES, "Permission denied")
        return given(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    bad = ("warning", "error")
    prefixes = ["", "a-", "new/", "theirs/", "theirs/new/a-", "../x/", "link/", "file/new/"]
    findings = LocalStore(path=str(archive), key_prefixes=prefixes).check(now=time.time())
    wrong = {
        (each.subject, each.severity) for each in findings if "annot be" in each.fact and each.severity.value in bad
    }
    assert wrong == {
        (f"{archive}/theirs", Severity.WARNING),
        (f"{archive}/link", Severity.ERROR),
        (f"{archive}/file", Severity.ERROR),
    }
    assert sorted(os.listdir(archive)) == ["file", "link", "theirs"]


def test_an_append_only_directory(
    store: LocalStore, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files can be made and neither renamed nor removed, none can be stored: check and each upload say why."""

    def refuse(*names: object, **directories: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as forbidden:
        forbidden.setattr(os, "unlink", refuse)
        forbidden.setattr(os, "rename", refuse)
        forbidden.setattr(local_files, "rename_without_replacing", refuse)
        upload = begin(store, tmp_path, "key", b"content").exception(10)
        findings = LocalStore(path=str(archive)).check(now=time.time())
    assert isinstance(upload, StoreError)
    assert "lsattr" in upload.hint
    wrong = [found for found in findings if found.severity is Severity.ERROR and "cannot be removed" in found.fact]
    assert len(wrong) == 2
    assert all("lsattr" in found.meaning for found in wrong)


class TestFewDescriptors:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """So many copies find no free descriptor: the number in the list."""
        left = [0]
        copy = FileCopy.run

        def run(self: FileCopy) -> Receipt:
            if left[0] > 0:
                left[0] -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return copy(self)

        monkeypatch.setattr(FileCopy, "run", run)
        monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)
        return left

    def test_others_free_some(self, store: LocalStore, archive: Path, tmp_path: Path, failing: list[int]) -> None:
        """Without a free descriptor a copy waits until others are done, instead of failing its file."""
        failing[0] = 10
        uploads = [begin(store, tmp_path, f"d/{number}", b"x%d" % number) for number in range(3)]
        assert all(upload.result(10).proof is Proof.CHECKSUM for upload in uploads)
        assert failing == [0]
        assert sorted(path.name for path in (archive / "d").iterdir()) == ["0", "1", "2"]

    def test_nothing_frees_any(
        self, store: LocalStore, tmp_path: Path, failing: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If none becomes free in time, that is this machine's fault, and no file is recorded as failing."""
        failing[0] = 1_000_000
        monkeypatch.setattr(module, "_DESCRIPTOR_SECONDS", 0.0)
        error = begin(store, tmp_path, "a", b"x").exception(10)
        assert isinstance(error, OutOfResources)
        assert "too many open files" in error.message
        assert error.origin is Origin.MACHINE

    def test_cancelled(self, store: LocalStore, tmp_path: Path, failing: list[int]) -> None:
        """A copy that waits for a descriptor can be cancelled, also one that waits for its turn."""
        failing[0] = 1_000_000
        uploads = [begin(store, tmp_path, str(number), b"x") for number in range(3)]
        store.cancel()
        assert all(isinstance(upload.exception(10), UploadCancelled) for upload in uploads)
