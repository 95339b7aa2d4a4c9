"""The FTP store on Pure-FTPd and vsftpd, set up as people set them up."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import ConflictError, DestinationBusy, KeyRefused, Scope, StoreError
from s3_uploader.core.findings import Severity
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.ftp.store import FtpStore
from tests.integration.lock_support import kill_while_locking
from tests.servers.debian import Unavailable
from tests.servers.other_ftpds import PureFtpd, Vsftpd
from tests.servers.process import wait_until

Put = Callable[..., Receipt]

NAMES = [
    "plain.txt",
    "a b",
    " lead",
    "caf\u00e9",
    'q"uote',
    "x*y",
    "-dash",
    "sub dir/f",
    "semi;colon",
    "a:b",
    "7" * 200,
    "#hash",
    "%41",
    "[a]",
    "$HOME",
    "~",
    "~root",
]


@contextlib.contextmanager
def running(server: PureFtpd | Vsftpd) -> Iterator[None]:
    """The server, started; where this machine does not have it the test is skipped."""
    try:
        server.start()
    except Unavailable as missing:
        pytest.skip(str(missing))
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def opened(server: PureFtpd | Vsftpd, **options: Any) -> Iterator[FtpStore]:
    """An open store on a server."""
    store = new_store(server, **options)
    store.open()
    try:
        yield store
    finally:
        store.close(timeout=5)


def new_store(server: PureFtpd | Vsftpd, **options: Any) -> FtpStore:
    """A store on a server, not open."""
    given = {"path": "/upload" if isinstance(server, Vsftpd) else "/", "jitter": lambda: 0.02, **options}
    return FtpStore(host=server.host, port=server.port, user=server.username, password=server.password, **given)


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Uploads, and waits for it."""

    def upload(store: FtpStore, key: str, content: bytes, **options: Any) -> Receipt:
        path = tmp_path / f"source-{time.monotonic_ns()}"
        path.write_bytes(content)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            given = PutOptions(**{"minimum_proof": Proof.SIZE, **options})
            source = Source(descriptor, len(content))
            return store.put(key, source, options=given, deadline=time.monotonic() + 60).result(60)
        finally:
            os.close(descriptor)

    return upload


@pytest.mark.parametrize("options", [(), ("-x",), ("-r",)], ids=["stock", "no names with a dot", "keeps old files"])
def test_pure_ftpd(put: Put, options: tuple[str, ...]) -> None:
    """Odd names arrive as they are, or their files stay here; what was delivered is never replaced by another file."""
    server = PureFtpd(*options)
    with running(server):
        with opened(server, lock_file="write") as store:
            for name in NAMES:
                put(store, name, name.encode())
            put(store, "name_", b"delivered")
            for changed in ("name ", "tab\tx", "name_ "):
                with pytest.raises(KeyRefused, match="under another name"):
                    put(store, changed, b"another")
            with pytest.raises(ConflictError):
                put(store, "plain.txt", b"other")
            put(store, "plain.txt", b"a second", on_conflict=OnConflict.OVERWRITE)
            assert put(store, "plain.txt", b"a second").already_there
        expected = {name: name.encode() for name in NAMES} | {"plain.txt": b"a second", "name_": b"delivered"}
        assert server.files() == expected
        findings = new_store(server).check(now=time.time())
        assert not [finding for finding in findings if finding.severity is Severity.ERROR]
        assert not [finding for finding in findings if "cannot be listed" in finding.fact]
        assert server.files() == expected


def test_pure_ftpd_does_not_list_everything(put: Put) -> None:
    """That a name is missing in a listing that was cut off does not mean that it is the name of another file."""
    server = PureFtpd("-L", "3:8")
    keys = [f"name {number}" for number in range(8)]
    with running(server), opened(server) as store:
        for key in keys:
            put(store, key, key.encode())
        assert all(put(store, key, key.encode()).already_there for key in keys)
        with pytest.raises(ConflictError, match="exists already with other content"):
            put(store, keys[-1], b"other")
        inventory = new_store(server).inventory()
        inventory.open()
        assert len(list(inventory.entries("", wanted=str))) == 3  # an audit looks up each that is not among them
        assert all(inventory.look(key, content=False) for key in keys)
        inventory.close()
        assert server.files() == {key: key.encode() for key in keys}


def test_pure_ftpd_makes_deep_directories(put: Put) -> None:
    """It lets each look for a directory that is missing wait for a second, and hangs up after many."""
    server = PureFtpd()
    deep = "/".join("d" * 100)
    with running(server), opened(server) as store:
        began = time.monotonic()
        put(store, f"{deep}/file", b"x")
        assert time.monotonic() - began < 30
        assert server.files() == {f"{deep}/file": b"x"}


def test_pure_ftpd_without_rename(put: Put) -> None:
    """Where renames are switched off it is said, and ``temporary_names: none`` does without."""
    server = PureFtpd("-G")
    with running(server):
        with opened(server) as store, pytest.raises(StoreError, match="permission to rename") as caught:
            put(store, "a", b"x")
        assert caught.value.scope is Scope.DESTINATION
        findings = new_store(server).check(now=time.time())
        assert any("cannot be renamed" in finding.fact for finding in findings if finding.severity is Severity.ERROR)
        with opened(server, temporary_names="none") as store:
            put(store, "a b", b"x")
        assert server.files() == {"a b": b"x"}


def test_pure_ftpd_without_deletes(put: Put) -> None:
    """Where nothing can be deleted no lock is made; without one files are shipped."""
    server = PureFtpd("-K")
    with running(server):
        with pytest.raises(StoreError, match="has no permission to delete files"):
            new_store(server, lock_file="write").open()
        assert "write" not in server.files()
        with opened(server) as store:
            put(store, "a", b"x")
        assert server.files()["a"] == b"x"


@pytest.mark.parametrize("kind", ["Pure-FTPd", "vsftpd"])
def test_empty_lock(put: Put, kind: str) -> None:
    """A run that is killed while the server creates its lock does not stop the next run."""
    permissions = ("anon_mkdir_write_enable=YES", "anon_other_write_enable=YES")
    server = PureFtpd() if kind == "Pure-FTPd" else Vsftpd(*permissions)
    path = "/upload" if isinstance(server, Vsftpd) else "/"
    lock = f"{path}/write".strip("/")
    with running(server):
        login = {"host": server.host, "port": server.port, "user": server.username, "password": server.password}
        kill_while_locking(**login, path=path, lock_file="write", identity="spool")
        wait_until(lambda: server.files().get(lock) == b"", what="the lock was created")
        with pytest.raises(DestinationBusy):
            new_store(server, lock_file="write", identity="another").open()
        with opened(server, lock_file="write", identity="spool") as store:
            put(store, "a", b"x")
        assert server.files() == {f"{path}/a".strip("/"): b"x"}


def test_vsftpd(put: Put) -> None:
    """With full permissions every name arrives, also where the server takes one connection and no names with a dot."""
    permissions = ("anon_mkdir_write_enable=YES", "anon_other_write_enable=YES")
    server = Vsftpd(*permissions, "deny_file={.*}", "max_per_ip=1")
    with running(server):
        with opened(server, max_concurrency=3) as store:
            for name in (*NAMES, "name ", "name_", "tab\tx"):
                put(store, name, name.encode())
            assert not [each for each in store.check(now=time.time()) if each.severity is Severity.ERROR]
        assert server.files() == {f"upload/{name}": name.encode() for name in (*NAMES, "name ", "name_", "tab\tx")}


def test_vsftpd_for_anonymous_uploads(put: Put) -> None:
    """With stock permissions for anonymous uploads nothing may be renamed, deleted or made: files go to their names."""
    server = Vsftpd()
    with running(server):
        with opened(server) as store, pytest.raises(StoreError, match="permission to rename"):
            put(store, "a", b"x")
        with opened(server, temporary_names="none") as store:
            put(store, "a", b"x")
            assert put(store, "a", b"x").already_there
            with pytest.raises(ConflictError):
                put(store, "a", b"y")
        assert server.files()["upload/a"] == b"x"


def test_vsftpd_drop_box(put: Put) -> None:
    """A drop box that lists and gives nothing is shipped to where its word is taken."""
    server = Vsftpd("dirlist_enable=NO", "download_enable=NO", "cmds_denied=SIZE,MDTM")
    with running(server):
        with opened(server, temporary_names="none") as store:
            options = {"minimum_proof": Proof.NONE, "on_conflict": OnConflict.OVERWRITE}
            assert put(store, "a b", b"x", **options).proof is Proof.NONE
        with opened(server, temporary_names="none") as store, pytest.raises(StoreError, match="does not report"):
            put(store, "b", b"x")
        assert server.files()["upload/a b"] == b"x"
        assert "upload/b" not in server.files()
