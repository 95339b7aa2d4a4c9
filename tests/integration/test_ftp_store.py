"""The FTP store against pyftpdlib with faults on order, and against ProFTPD."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.config.destinations import FtpDestination
from s3_uploader.config.schema import Config
from s3_uploader.core import procfs
from s3_uploader.core.errors import (
    ConflictError,
    DestinationBusy,
    KeyRefused,
    OutOfResources,
    ProofError,
    Scope,
    SourceChanged,
    StoreError,
    UploadCancelled,
)
from s3_uploader.core.findings import Severity
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.ledger.state_directory import create_state_directory, own_state_directory
from s3_uploader.run.assembly import build_store
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.file_servers import holder, parts
from s3_uploader.stores.ftp import control, transfers
from s3_uploader.stores.ftp.data import DataConnection
from s3_uploader.stores.ftp.replies import Lost
from s3_uploader.stores.ftp.replies import Refused as FtpRefused
from s3_uploader.stores.ftp.session import Session
from s3_uploader.stores.ftp.store import FtpStore
from tests.integration.lock_support import kill_while_locking
from tests.servers.fixtures import *  # noqa: F403
from tests.servers.process import wait_until
from tests.servers.proftpd import ProftpdServer
from tests.servers.pyftpd import PyFtpServer, py_ftp_server

LARGE = 3_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory behind the server."""
    directory = tmp_path / "ftp"
    directory.mkdir()
    return directory


@pytest.fixture
def server(root: Path) -> Iterator[PyFtpServer]:
    """A server whose faults must all have happened when the test ends."""
    with py_ftp_server(root) as running:
        yield running


def new_store(server: PyFtpServer, **options: Any) -> FtpStore:
    """A store on ``server``, not open, that does not dawdle between attempts."""
    given = {"user": "test", "password": "testpw", "timeout_seconds": 5, "jitter": lambda: 0.02, **options}
    return FtpStore(host="127.0.0.1", port=server.port, **given)


@pytest.fixture
def opened(server: PyFtpServer) -> Iterator[Callable[..., FtpStore]]:
    """Opens stores and closes them afterwards."""
    stores: list[FtpStore] = []

    def open_store(on: PyFtpServer = server, **options: Any) -> FtpStore:
        store = new_store(on, **options)
        store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close(timeout=5)


def begin(
    store: FtpStore,
    tmp_path: Path,
    key: str,
    content: bytes,
    *,
    proof: Proof = Proof.SIZE,
    on_conflict: OnConflict = OnConflict.FAIL,
    deadline: float = 60,
    size: int | None = None,
    replaces: str = "",
) -> PendingReceipt:
    """Start an upload."""
    path = tmp_path / f"source-{time.monotonic_ns()}"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    future = store.put(
        key,
        Source(descriptor, len(content) if size is None else size),
        options=PutOptions(on_conflict=on_conflict, minimum_proof=proof),
        deadline=time.monotonic() + deadline,
        replaces=replaces,
    )
    future.add_done_callback(lambda _: os.close(descriptor))
    return future


def put(store: FtpStore, tmp_path: Path, key: str, content: bytes, **options: Any) -> Receipt:
    """Upload and wait."""
    return begin(store, tmp_path, key, content, **options).result(60)


def pattern(size: int) -> bytes:
    """Bytes that look random."""
    return hashlib.shake_128(b"ftp").digest(size)


# ---------------------------------------------------------------------------------------------- the seed's scenarios


def test_export(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """Files arrive, the lock file is there meanwhile and gone afterwards."""
    store = opened(lock_file="write")
    assert (server.root / "write").exists()
    put(store, tmp_path, "a-file", b"This is the A file")
    put(store, tmp_path, "b-file", b"This is the B file")
    store.close(timeout=5)
    assert server.files() == {"a-file": b"This is the A file", "b-file": b"This is the B file"}


def test_nothing_to_export(root: Path) -> None:
    """A store that is not opened makes no connection."""
    with py_ftp_server(root) as server:
        store = new_store(server, lock_file="write")
        assert store.address("key").startswith(store.name)
        store.close(timeout=1)
        assert server.commands == []


def test_lock_file_exists(server: PyFtpServer) -> None:
    """Somebody else's lock file keeps us out, whatever is in it, and stays."""
    (server.root / "write").write_text("Lock file")
    with pytest.raises(DestinationBusy) as caught:
        new_store(server, lock_file="write").open()
    assert caught.value.message == f"Cannot access 127.0.0.1:{server.port} as 'write' lockfile exists."
    assert "UTC by the server's clock. If its owner no longer runs, remove it by hand" in caught.value.hint
    assert server.files() == {"write": b"Lock file"}


def test_wrong_port() -> None:
    """A port where nobody listens is one clear sentence about the destination."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(StoreError) as caught:
        FtpStore(host="127.0.0.1", port=port).open()
    assert caught.value.scope is Scope.DESTINATION
    assert caught.value.message == f"Cannot connect to the FTP server 127.0.0.1:{port}: connection refused."


def test_wrong_host() -> None:
    """A host that does not exist is one clear sentence about the destination."""
    with pytest.raises(StoreError, match="the host name cannot be resolved") as caught:
        FtpStore(host="nosuchhost.invalid").open()
    assert caught.value.scope is Scope.DESTINATION


def test_wrong_password(server: PyFtpServer) -> None:
    """A wrong password is one clear sentence about the destination, and does not show the password."""
    with pytest.raises(StoreError, match="refuses the user test: 530") as caught:
        new_store(server, password="secret").open()
    assert caught.value.scope is Scope.DESTINATION
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("USER", "450 Busy."),
        ("PASS", "421 Too many users, auth service is full."),
        ("PASS", "451 The database of users does not answer."),
        ("PASS", "530 Sorry, the maximum number of clients (10) for this user already connected."),
        ("USER", "530 Connection limit reached for your address, try later."),
    ],
)
def test_login_that_is_refused_for_now(server: PyFtpServer, command: str, reply: str) -> None:
    """A 4xx in answer to a login is temporary: it is tried again, and called neither a wrong password nor a setting."""
    server.fault(command, "reply", reply, times=3)
    with pytest.raises(StoreError, match=f"does not accept the user test at the moment: {reply[:3]}") as caught:
        new_store(server).open()
    assert caught.value.retryable
    assert caught.value.scope is Scope.DESTINATION
    assert caught.value.origin is Origin.UNREACHABLE
    assert "password" not in str(caught.value)
    server.fault(command, "reply", reply, times=2)
    store = new_store(server)
    store.open()
    store.close(timeout=5)


def test_second_login_that_is_refused_for_now(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path
) -> None:
    """A server that takes one login for now gets all files over that one."""
    store = opened(max_concurrency=2)
    server.fault("PASS", "reply", "450 Busy.", times=100)
    futures = [begin(store, tmp_path, f"file-{number}", b"x" * 100_000) for number in range(6)]
    assert [future.result(60).size for future in futures] == [100_000] * 6


def test_too_many_wrong_passwords(server: PyFtpServer) -> None:
    """A maximum of attempts is no maximum of users."""
    server.fault("PASS", "reply", "530 Maximum login attempts (3) exceeded: too many failures.", times=3)
    with pytest.raises(StoreError, match="refuses the user test: 530") as caught:
        new_store(server).open()
    assert caught.value.origin is Origin.CREDENTIALS


def test_wrong_path(server: PyFtpServer) -> None:
    """A directory that is not there is one clear sentence about the destination."""
    with pytest.raises(StoreError, match=r"/nonexistent on the FTP server .* cannot be entered: 550") as caught:
        new_store(server, path="/nonexistent").open()
    assert caught.value.scope is Scope.DESTINATION


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_no_ftp_server(greeting: bytes) -> None:
    """A server of another kind, or one that hangs up at once, is told from an FTP server."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        connection.sendall(greeting)
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(StoreError, match=r"it does not speak FTP|the server hung up") as caught:
        FtpStore(host="127.0.0.1", port=listener.getsockname()[1], timeout_seconds=5).open()
    assert caught.value.scope is Scope.DESTINATION
    thread.join()
    listener.close()


def test_silent_server() -> None:
    """A server that accepts the connection and says nothing costs no more than the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begun = time.monotonic()
        with pytest.raises(StoreError, match="no answer in time"):
            FtpStore(host="127.0.0.1", port=listener.getsockname()[1], timeout_seconds=0.5).open()
        assert time.monotonic() - begun < 5


# ----------------------------------------------------------------------------------------------------- the lock file


def test_two_uploaders_one_lock(server: PyFtpServer) -> None:
    """Of many uploaders that want the lock at once exactly one gets it, and removes it when it is done."""
    for _ in range(5):
        stores = [new_store(server, lock_file="write") for _ in range(6)]
        outcomes: list[object] = []
        barrier = threading.Barrier(len(stores))

        def compete(store: FtpStore, barrier: threading.Barrier = barrier, outcomes: list[object] = outcomes) -> None:
            barrier.wait()
            try:
                store.open()
            except DestinationBusy as busy:
                outcomes.append(busy)
            else:
                outcomes.append(store)

        threads = [threading.Thread(target=compete, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [outcome for outcome in outcomes if isinstance(outcome, FtpStore)]
        assert len(outcomes) == len(stores)
        assert len(winners) == 1
        assert "write" in server.files()
        winners[0].close(timeout=5)
        assert server.files() == {}


def test_stale_lock(server: PyFtpServer) -> None:
    """A lock of others is removed only where an age is configured, and only when it is that old."""
    lock = server.root / "write"
    lock.write_text("Lock file")
    with pytest.raises(DestinationBusy):
        new_store(server, lock_file="write", lock_stale_seconds=3600).open()
    os.utime(lock, (time.time() - 7200, time.time() - 7200))
    with pytest.raises(DestinationBusy):
        new_store(server, lock_file="write").open()
    store = new_store(server, lock_file="write", lock_stale_seconds=3600)
    store.open()
    assert lock.read_text().startswith("s3-uploader ")
    store.close(timeout=5)
    assert server.files() == {}


def test_a_directory_in_the_place_of_a_file(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path
) -> None:
    """What is said is that, and not a missing permission; with keep-both the file is stored beside it."""
    (server.root / "key").mkdir()
    store = opened()
    with pytest.raises(ConflictError, match="key is a directory"):
        put(store, tmp_path, "key", b"one")
    receipt = put(store, tmp_path, "key", b"one", on_conflict=OnConflict.KEEP_BOTH)
    assert server.files() == {receipt.key: b"one"}
    assert put(store, tmp_path, "key", b"one", on_conflict=OnConflict.KEEP_BOTH).already_there


def test_lock_from_the_future(server: PyFtpServer) -> None:
    """It would never be old enough, so somebody is asked to look at it."""
    lock = server.root / "write"
    lock.write_text("Lock file")
    os.utime(lock, (time.time() + 7200, time.time() + 7200))
    with pytest.raises(DestinationBusy) as caught:
        new_store(server, lock_file="write", lock_stale_seconds=3600).open()
    assert "later than now" in caught.value.hint
    assert "remove it by hand" in caught.value.hint
    assert lock.read_text() == "Lock file"


def test_lock_of_a_killed_run(server: PyFtpServer) -> None:
    """The lock that a killed run of this machine left behind is removed by the next run; that of a live one stays."""
    program = (
        "import sys, time\nfrom s3_uploader.stores.ftp.store import FtpStore\n"
        f"store = FtpStore(host='127.0.0.1', port={server.port}, user='test', password='testpw', lock_file='write')\n"
        "store.open()\nprint('open', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(DestinationBusy):
            new_store(server, lock_file="write").open()
        process.kill()
    store = new_store(server, lock_file="write")
    store.open()
    store.close(timeout=5)
    assert server.files() == {}


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where this machine, whose identifier is known, notes its locks."""
    for module in (holder, parts):
        monkeypatch.setattr(module, "machine_id", lambda: "a" * 32)
    return str(tmp_path / "notes")


def test_lock_from_before_a_reboot(server: PyFtpServer, notes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock that this machine left before a reboot is removed; that of a clone at work stays, however alike."""
    with monkeypatch.context() as earlier:
        earlier.setattr(procfs, "boot_id", lambda: "earlier")
        new_store(server, lock_file="write", lock_notes=holder.LockNotes(notes)).open()
    with pytest.raises(DestinationBusy, match="before its last boot, or on a clone of this machine"):
        new_store(server, lock_file="write", lock_notes=holder.LockNotes(f"{notes}-of-the-clone")).open()
    with pytest.raises(DestinationBusy):
        new_store(server, lock_file="write").open()
    store = new_store(server, lock_file="write", lock_notes=holder.LockNotes(notes))
    store.open()
    store.close(timeout=5)
    assert server.files() == {}
    assert not os.path.exists(notes)


def test_lock_of_a_container_before_its_restart(
    server: PyFtpServer, notes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a container left when it was killed is removed when it is started again, but not where others may run."""
    with monkeypatch.context() as before:
        before.setattr(procfs, "pid_namespace", lambda: "pid:[1]")
        new_store(server, lock_file="write", lock_notes=holder.LockNotes(notes)).open()
    with pytest.raises(DestinationBusy):
        new_store(server, lock_file="write", lock_notes=holder.LockNotes(notes)).open()
    store = new_store(server, lock_file="write", lock_notes=holder.LockNotes(notes, is_alone=True))
    store.open()
    store.close(timeout=5)
    assert server.files() == {}


def test_a_run_notes_its_lock(server: PyFtpServer, tmp_path: Path) -> None:
    """A run notes its lock in the state directory of its spool before it makes it, and then forgets it."""
    destination = FtpDestination(host="127.0.0.1", port=server.port, user="test", password="testpw", lock_file="write")
    config = Config(base_dir=str(tmp_path), state_dir=str(tmp_path / "state"), destination=destination)
    state_dir = own_state_directory(config)
    create_state_directory(state_dir)
    store = build_store(config, notice=lambda level, sentence: None, memory=None)
    store.open()
    line = (server.root / "write").read_text().rstrip("\n")
    assert holder.LockNotes(f"{state_dir}/{holder.NOTES_NAME}").has(line)
    store.close(timeout=5)
    assert os.listdir(state_dir) == []


def test_empty_lock_of_a_clone(server: PyFtpServer, notes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that a clone of this machine is about to make is not taken for one that a killed run of ours left."""
    with monkeypatch.context() as earlier:
        earlier.setattr(procfs, "boot_id", lambda: "earlier")
        intent = parts.PartNames("spool").new(hidden=False, kind=parts.INTENT)
    for name in ("write", intent):
        (server.root / name).touch()
    with pytest.raises(DestinationBusy):
        new_store(server, lock_file="write", lock_notes=holder.LockNotes(notes), identity="spool").open()
    assert server.files() == {"write": b"", intent: b""}
    holder.LockNotes(notes).add("a line", intent)
    new_store(server, lock_file="write", lock_notes=holder.LockNotes(notes), identity="spool").open()
    assert not (server.root / intent).exists()


def test_lock_of_a_living_process_does_not_grow_old(server: PyFtpServer, notes: str) -> None:
    """A run that takes longer than the age from which locks are removed keeps its lock on this machine."""
    held = new_store(server, lock_file="write", lock_notes=holder.LockNotes(notes))
    held.open()
    os.utime(server.root / "write", (time.time() - 7200, time.time() - 7200))
    with pytest.raises(DestinationBusy, match=f"Process {os.getpid()} of this machine holds it"):
        new_store(server, lock_file="write", lock_stale_seconds=3600).open()
    held.close(timeout=5)
    assert server.files() == {}


@pytest.fixture
def empty_lock(server: PyFtpServer) -> Path:
    """The lock of a run that was killed before its line arrived."""
    login = {"host": "127.0.0.1", "port": server.port, "user": "test", "password": "testpw"}
    kill_while_locking(**login, lock_file="write", identity="spool")
    wait_until(lambda: server.files().get("write") == b"", what="the lock was created")
    return server.root / "write"


def test_empty_lock_of_a_killed_run(server: PyFtpServer, empty_lock: Path) -> None:
    """A lock whose maker was killed before its line arrived is removed by the next run of the same spool."""
    store = new_store(server, lock_file="write", identity="spool")
    store.open()
    assert empty_lock.read_text().startswith("s3-uploader ")
    store.close(timeout=5)
    assert server.files() == {}


def test_empty_lock_of_another_spool(server: PyFtpServer, empty_lock: Path) -> None:
    """A run of another spool leaves it, because it cannot tell whether that run still exists."""
    with pytest.raises(DestinationBusy) as caught:
        new_store(server, lock_file="write", identity="another").open()
    assert "It is empty, so nobody can tell whose it is." in caught.value.hint
    assert empty_lock.exists()


@pytest.mark.parametrize("seconds", [-60, 60])
def test_empty_lock_of_another_program(server: PyFtpServer, empty_lock: Path, seconds: int) -> None:
    """An empty lock that was not made when the killed run made its own is another program's, and stays."""
    made = empty_lock.stat().st_mtime + seconds
    os.utime(empty_lock, (made, made))
    with pytest.raises(DestinationBusy):
        new_store(server, lock_file="write", identity="spool").open()
    # Nor is it taken for ours later: what the killed run left is gone.
    assert server.files() == {"write": b""}


@pytest.mark.parametrize("created", [None, b"", b"whole"])
def test_lock_whose_making_lost_the_connection(server: PyFtpServer, monkeypatch: Any, created: bytes | None) -> None:
    """A process that goes on, such as watch, removes what it made of a lock before the connection broke."""
    store_file = Session.store

    def broken(session: Session, path: str, chunks: Any, **options: Any) -> None:
        if not options:
            store_file(session, path, chunks)
            return
        if created is not None:
            (server.root / "write").write_bytes(b"".join(chunks) if created else b"")
        session.close()
        raise Lost("it was cut")

    store = new_store(server, lock_file="write", identity="spool")
    with monkeypatch.context() as patched:
        patched.setattr(Session, "store", broken)
        with pytest.raises(StoreError, match="cannot be made"):
            store.open()
    store.open()
    assert server.files()["write"].startswith(b"s3-uploader ")
    with pytest.raises(DestinationBusy):
        new_store(server, lock_file="write", identity="spool").open()
    store.close(timeout=5)
    assert "write" not in server.files()


def test_lock_that_no_connection_could_remove(server: PyFtpServer, monkeypatch: Any) -> None:
    """A lock that had to be left, because the server was out of reach at the end of a pass, does not stop the next."""
    store = new_store(server, lock_file="write", identity="spool")
    store.open()

    def out_of_reach(_: Session) -> None:
        raise Lost("unreachable")

    with monkeypatch.context() as patched:
        patched.setattr(Session, "connect", out_of_reach)
        patched.setattr(Session, "retrieve", lambda session, *_, **__: out_of_reach(session))
        store.close(timeout=5)
    assert list(server.files()) == ["write"]
    store.open()
    store.close(timeout=5)
    assert server.files() == {}


def test_lock_taken_over_by_others(server: PyFtpServer, opened: Callable[..., FtpStore]) -> None:
    """A lock file that is not ours any more is not removed, and that it was removed or replaced is said."""
    told: list[str] = []
    for content in ("mine now", ""):
        store = opened(lock_file="write", notice=lambda _, sentence: told.append(sentence))
        (server.root / "write").write_text(content)
        store.close(timeout=5)
        assert server.files() == {"write": content.encode()}
        (server.root / "write").unlink()
    store = opened(lock_file="write", notice=lambda _, sentence: told.append(sentence))
    (server.root / "write").unlink()
    store.close(timeout=5)
    assert len(told) == 3
    assert all("was removed or replaced by another client while files were uploaded" in each for each in told)


def test_lock_whose_removal_is_not_answered(
    opened: Callable[..., FtpStore], server: PyFtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that was removed, though the answer was lost, is not called another client's doing."""
    removed: list[str] = []
    remove = Session.remove

    def unanswered(self: Session, path: str) -> None:
        remove(self, path)
        removed.append(path)
        if path.endswith("/write"):
            raise Lost("the connection is lost")

    monkeypatch.setattr(Session, "remove", unanswered)
    told: list[str] = []
    opened(lock_file="write", notice=lambda _, sentence: told.append(sentence)).close(timeout=5)
    assert "/write" in [path[-6:] for path in removed]
    assert server.files() == {}
    assert told == []


def test_lock_is_removed_after_a_lost_connection(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path
) -> None:
    """The lock is removed even if the connection that made it has gone."""
    store = opened(lock_file="write")
    server.fault("SIZE", "hang up")
    put(store, tmp_path, "a", b"x")
    server.fault("DELE", "hang up")
    store.close(timeout=5)
    assert server.files() == {"a": b"x"}


def test_lock_without_append(root: Path, tmp_path: Path) -> None:
    """A server that refuses to append gets its lock file by a plain upload."""
    with py_ftp_server(root, permissions="elrdfmw") as server:
        store = new_store(server, lock_file="write")
        store.open()
        assert b"s3-uploader" in server.files()["write"]
        with pytest.raises(DestinationBusy):
            new_store(server, lock_file="write").open()
        store.close(timeout=5)
        assert server.files() == {}


def test_lock_that_cannot_be_made(root: Path) -> None:
    """Without permission to make the lock file nothing is uploaded, and the sentence says why."""
    with (
        py_ftp_server(root, permissions="elr") as server,
        pytest.raises(StoreError, match=r"The lock file write on .* cannot be made: 550") as caught,
    ):
        new_store(server, lock_file="write").open()
    assert caught.value.scope is Scope.DESTINATION


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("size", [100_000, LARGE])
@pytest.mark.parametrize("action", ["lose", "reset"])
def test_cut_in_mid_file(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, action: str, size: int
) -> None:
    """A file of which the server has only a part is found out, even if the server says that all is well."""
    server.fault("DATA", action, after=size // 6)
    content = pattern(size)
    receipt = put(opened(), tmp_path, "d/large", content)
    assert (receipt.size, receipt.already_there) == (size, False)
    assert server.files() == {"d/large": content}


@pytest.mark.parametrize("command", ["SIZE", "PASV", "STOR", "RNFR", "RNTO", "MKD", "CWD"])
def test_connection_lost_at_any_command(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, command: str
) -> None:
    """A connection that is cut at any step costs a retry, not the file, and leaves nothing behind."""
    server.fault(command, "hang up")
    put(opened(), tmp_path, "d/file", b"content")
    assert server.files() == {"d/file": b"content"}


@pytest.mark.parametrize("command", ["SIZE", "PASV", "STOR", "RETR", "RNFR", "RNTO"])
def test_server_that_takes_its_leave(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, command: str
) -> None:
    """A reply that announces the end of the connection is no refusal of what was asked, whatever that was."""
    (server.root / "file").write_bytes(b"older content")
    store = opened(max_concurrency=1)
    server.fault(command, "reply", "421 Service not available, closing control connection.")
    receipt = put(store, tmp_path, "file", b"newer content", on_conflict=OnConflict.OVERWRITE)
    assert not receipt.already_there
    assert server.files() == {"file": b"newer content"}


@pytest.mark.parametrize("reply", ["421 Service not available, closing control connection.", "450 Busy."])
def test_lock_is_removed_by_a_busy_server(server: PyFtpServer, reply: str) -> None:
    """A lock whose removal is refused for a moment only does not stay, where it would keep everybody out."""
    told: list[str] = []
    store = new_store(server, lock_file="write", notice=lambda level, sentence: told.append(sentence))
    store.open()
    server.fault("DELE", "reply", reply)
    store.close(timeout=5)
    assert server.files() == {}
    assert told == []


@pytest.mark.parametrize("action", ["hang up", "do and hang up"])
@pytest.mark.parametrize("command", ["MKD", "CWD", "RNFR", "RNTO", "RMD"])
def test_connection_lost_while_a_name_is_tried(server: PyFtpServer, tmp_path: Path, command: str, action: str) -> None:
    """The same for a name that is tried first, whether or not the server has done what it did not answer."""
    store = new_store(server, max_concurrency=1)
    store.open()
    put(store, tmp_path, "plain", b"before")  # how the server treats plain names is known from here on
    server.commands.clear()
    server.fault(command, action)
    put(store, tmp_path, "größe 1", b"content")
    store.close(timeout=5)
    assert {path.name: path.read_bytes() for path in server.root.rglob("*")} == {
        "plain": b"before",
        "größe 1": b"content",
    }
    assert len([line for line in server.commands if line.startswith("STOR")]) == 1


def test_answer_to_the_rename_is_lost(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the connection is lost after the rename was done, the file is found in its place."""
    from s3_uploader.stores.ftp.replies import Lost
    from s3_uploader.stores.ftp.session import Session

    rename = Session.rename
    lost: list[str] = []

    def rename_and_lose(session: Session, old: str, new: str) -> None:
        rename(session, old, new)
        if new == "/file" and not lost:
            lost.append(new)
            session.interrupt()
            raise Lost("cut")

    monkeypatch.setattr(Session, "rename", rename_and_lose)
    receipt = put(opened(), tmp_path, "file", b"content")
    assert lost == ["/file"]
    assert not receipt.already_there
    assert server.files() == {"file": b"content"}


def test_hanging_server(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A server that goes silent in mid-file is noticed after the timeout; the file is sent anew."""
    server.fault("DATA", "stall", after=500_000)
    content = pattern(20_000_000)
    put(opened(timeout_seconds=0.5), tmp_path, "large", content)
    assert server.files() == {"large": content}


@pytest.mark.parametrize("command", ["SIZE", "STOR", "RNTO"])
def test_silent_at_a_command(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, command: str
) -> None:
    """A server that does not answer a command is noticed after the timeout."""
    server.fault(command, "stall")
    put(opened(timeout_seconds=0.3), tmp_path, "a", b"x")
    assert server.files() == {"a": b"x"}


def test_deadline_with_a_hanging_server(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """The deadline holds even when the server hangs in mid-file."""
    server.fault("DATA", "stall", after=500_000)
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        put(opened(timeout_seconds=30), tmp_path, "large", pattern(20_000_000), deadline=0.7)
    # An attempt that ends a moment before it says what it ran into.
    assert caught.value.code in ("DeadlineExceeded", "ConnectionLost")
    assert time.monotonic() - begun < 5


def test_cancel_with_a_hanging_server(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """Cancelling ends an upload soon even when the server hangs, and what it left is removed later."""
    server.fault("DATA", "stall", after=500_000)
    store = opened(timeout_seconds=30)
    future = begin(store, tmp_path, "large", pattern(20_000_000))
    while not server.faults[0].used:
        time.sleep(0.01)
    begun = time.monotonic()
    store.cancel()
    with pytest.raises(UploadCancelled, match="interrupted"):
        future.result(10)
    assert time.monotonic() - begun < 3
    put(store, tmp_path, "next", b"x")
    store.close(timeout=5)
    assert server.files() == {"next": b"x"}


def test_cancel_leaves_nothing(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A cancelled upload to a server that works is removed before its future fails."""
    store = opened()
    future = begin(store, tmp_path, "large", pattern(50_000_000))
    while not any(command.startswith("STOR") for command in server.commands):
        time.sleep(0.001)
    store.cancel()
    assert isinstance(future.exception(10), UploadCancelled)
    assert server.files() == {}


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("STOR", "452 Insufficient storage space."),
        ("STOR", "552 Quota exceeded."),
        ("STOR", "550 /d/.x: No space left on device"),  # no inodes: ProFTPD
        ("STOR", "553 Can't open that file: No space left on device"),  # Pure-FTPd
        ("STOR", "451 /d/x: Disk quota exceeded"),
        ("MKD", "550 /d: No space left on device"),
    ],
)
def test_full_server(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, command: str, reply: str
) -> None:
    """A server without room for even a byte ends the run, with a hint, and keeps no half file."""
    server.fault(command, "reply", reply, times=100)
    with pytest.raises(StoreError, match="Make room there") as caught:
        put(opened(), tmp_path, "d/a", b"x" * 100)
    assert (caught.value.scope, caught.value.code) == (Scope.DESTINATION, reply[:3])
    assert caught.value.origin is Origin.FULL
    assert server.files() == {}


def test_a_name_that_speaks_of_room(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """What a server says of a file is its reason, not the name before it."""
    server.fault("MKD", "reply", "550 /no space left on device: Permission denied", times=100)
    with pytest.raises(StoreError, match="Check the permissions of the FTP user") as caught:
        put(opened(), tmp_path, "no space left on device/a", b"x")
    assert caught.value.origin is not Origin.FULL


def test_full_in_mid_file(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A server that runs full in the middle of a file is understood, and a file that is too large costs only itself."""
    server.fault("DATA", "reply", "552 Exceeded storage allocation.", after=500_000, times=100)
    with pytest.raises(StoreError, match="552 Exceeded storage allocation") as caught:
        put(opened(), tmp_path, "large", pattern(20_000_000))
    assert caught.value.scope is Scope.FILE
    assert server.files() == {}


def test_refused_directory(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A directory that the server does not let us make costs the files in it, not the others."""
    store = opened()
    server.fault("MKD", "reply", "550 Permission denied.")
    with pytest.raises(StoreError, match=r"550 Permission denied\. Check the permissions") as caught:
        put(store, tmp_path, "d/a", b"x")
    assert caught.value.scope is Scope.FILE
    put(store, tmp_path, "b", b"x")
    assert server.files() == {"b": b"x"}


def test_file_where_a_directory_is_needed(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A file on the way to the target costs this file only, and is named."""
    (server.root / "a").write_bytes(b"file")
    with pytest.raises(StoreError, match="No directory can be made at /a on the server, because a file has") as caught:
        put(opened(), tmp_path, "a/b/c", b"x")
    assert (caught.value.scope, caught.value.origin) == (Scope.FILE, Origin.CONFLICT), "nothing is wrong with the file"
    assert server.files() == {"a": b"file"}


def test_directory_where_the_file_should_go(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path
) -> None:
    """A directory under the key costs this file only, and stays."""
    (server.root / "a").mkdir()
    with pytest.raises(StoreError) as caught:
        put(opened(), tmp_path, "a", b"x", on_conflict=OnConflict.OVERWRITE)
    assert caught.value.scope is Scope.FILE
    assert (server.root / "a").is_dir()
    assert server.files() == {}


def test_directory_that_vanished(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A directory that somebody removed between two uploads is made again."""
    store = opened()
    put(store, tmp_path, "d/e/a", b"x")
    (server.root / "d/e/a").unlink()
    (server.root / "d/e").rmdir()
    put(store, tmp_path, "d/e/b", b"x")
    assert server.files() == {"d/e/b": b"x"}


@pytest.mark.parametrize("reply", ["421 Try later.", "425 No data connection.", "450 Busy.", "451 Local error."])
def test_passing_trouble(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, reply: str) -> None:
    """What the server says is only for now is tried again."""
    server.fault("STOR", "reply", reply, times=2)
    put(opened(), tmp_path, "a", b"x")
    assert server.files() == {"a": b"x"}


def test_trouble_that_does_not_pass(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """Attempts are bounded in number."""
    server.fault("STOR", "reply", "451 Local error.", times=100)
    with pytest.raises(StoreError, match="451 Local error") as caught:
        put(opened(retry_attempts=3), tmp_path, "a", b"x")
    assert caught.value.scope is Scope.FILE
    assert server.faults[0].used == 3


def test_attempts_are_bounded_in_time(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """Attempts are bounded in time as well."""
    server.fault("STOR", "reply", "451 Local error.", times=10_000)
    begun = time.monotonic()
    with pytest.raises(StoreError):
        put(opened(retry_attempts=10_000, retry_seconds=0.5), tmp_path, "a", b"x")
    assert time.monotonic() - begun < 3


def test_server_that_always_loses_bytes(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A server that never has the whole file gets no name for it and the upload fails."""
    server.fault("DATA", "lose", after=1, times=100)
    with pytest.raises(StoreError, match="65536 bytes of the 100000 bytes sent") as caught:
        put(opened(retry_attempts=2), tmp_path, "large", pattern(100_000))
    assert caught.value.code == "Truncated"
    assert server.files() == {}


def assert_takes_twenty_files(store: FtpStore, server: PyFtpServer, place: Path) -> None:
    """Assert that all of twenty files arrive that are sent at once."""
    futures = [begin(store, place, f"f{number}", pattern(100_000 + number)) for number in range(20)]
    for future in futures:
        future.result(60)
    store.close(timeout=5)
    assert len(server.files()) == 20


def test_fewer_connections_than_wanted(root: Path, tmp_path: Path) -> None:
    """A server that takes fewer connections than configured gets fewer; no file fails for it."""
    with py_ftp_server(root, most_connections=2) as server:
        store = new_store(server, max_concurrency=6)
        store.open()
        assert_takes_twenty_files(store, server, tmp_path)


EMFILE = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("what", ["control", "data"])
def test_fewer_descriptors_than_wanted(
    server: PyFtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Where this process gets no descriptors for more than two connections at once, two are enough for all files."""
    kept: list[socket.socket] = []
    connect = control._connect

    def few(host: str, port: int, seconds: float) -> socket.socket:
        kept[:] = [each for each in kept if each.fileno() >= 0]
        if len(kept) >= 2:
            raise EMFILE
        kept.append(connect(host, port, seconds))
        return kept[-1]

    class Few(DataConnection):
        def __init__(self, host: str, port: int, seconds: float) -> None:
            self._socket = few(host, port, seconds)
            self._interrupted = False

    store = new_store(server, max_concurrency=6)
    if what == "control":
        monkeypatch.setattr(control, "_connect", few)
    else:
        monkeypatch.setattr(transfers, "DataConnection", Few)
    store.open()
    assert_takes_twenty_files(store, server, tmp_path)


@pytest.mark.parametrize("what", ["control", "certificates", "data"])
def test_no_descriptors_at_all(server: PyFtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The lack is said to be this machine's: no file is blamed, no server, and no firewall."""

    def refuse(*given: Any, **options: Any) -> Any:
        raise EMFILE

    store = new_store(server, retry_attempts=2, tls=what == "certificates")
    module, name = {
        "control": (control, "_connect"),
        "certificates": (os, "open"),
        "data": (transfers, "DataConnection"),
    }[what]
    if what == "data":
        store.open()
    monkeypatch.setattr(module, name, refuse)
    with pytest.raises(StoreError, match="too many files open for another connection to 127") as caught:
        put(store, tmp_path, "a", b"x") if what == "data" else store.open()
    monkeypatch.undo()
    store.close(timeout=5)
    assert isinstance(caught.value, OutOfResources)
    assert "ulimit -n" in caught.value.hint
    assert server.files() == {}


def test_server_that_restarts(root: Path, tmp_path: Path) -> None:
    """A server that was away between two uploads is connected to anew."""
    with py_ftp_server(root) as server:
        store = new_store(server)
        store.open()
        put(store, tmp_path, "a", b"x")
    with py_ftp_server(root, port=server.port):
        put(store, tmp_path, "b", b"x")
        store.close(timeout=5)
    assert server.files() == {"a": b"x", "b": b"x"}


def test_server_that_stays_away(root: Path, tmp_path: Path) -> None:
    """A server that does not come back ends the run, not file after file."""
    with py_ftp_server(root) as server:
        store = new_store(server, retry_attempts=3)
        store.open()
        put(store, tmp_path, "a", b"x")
    with pytest.raises(StoreError, match="Cannot connect") as caught:
        put(store, tmp_path, "b", b"x")
    assert caught.value.scope is Scope.DESTINATION
    store.close(timeout=1)


def test_shrunken_source(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A file that shrank is never completed, and its connection goes on to serve."""
    store = opened(max_concurrency=1)
    with pytest.raises(SourceChanged):
        put(store, tmp_path, "a", pattern(100_000), size=100_001)
    put(store, tmp_path, "b", b"x")
    assert server.files() == {"b": b"x"}
    assert sum(command.startswith("USER") for command in server.commands) == 1


# -------------------------------------------------------------------------------------------------- conflict and proof


def test_same_size_other_content(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """Without hashes, a file of the same size is read before it is called the same."""
    store = opened()
    put(store, tmp_path, "a", b"one")
    assert put(store, tmp_path, "a", b"one").already_there
    with pytest.raises(ConflictError, match="other content") as caught:
        put(store, tmp_path, "a", b"two")
    assert caught.value.existing == f"sha256:{hashlib.sha256(b'one').hexdigest()}"


def test_content_that_cannot_be_read(root: Path, tmp_path: Path) -> None:
    """Where we may write but not read, content of the same size is not taken on trust."""
    with py_ftp_server(root, permissions="eladfmw") as server:
        store = new_store(server)
        store.open()
        put(store, tmp_path, "a", b"one")
        with pytest.raises(ConflictError, match="cannot be read"):
            put(store, tmp_path, "a", b"one")
        with pytest.raises(ProofError, match="does not permit reading it back"):
            put(store, tmp_path, "b", b"one", proof=Proof.MD5)
        store.close(timeout=5)
        assert server.files() == {"a": b"one"}


def test_proof_by_reading_back(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """Where a checksum is asked for and the server computes none, everything is read back and compared."""
    store = opened()
    assert put(store, tmp_path, "a", b"one").proof is Proof.SIZE
    assert not any(command.startswith("RETR") for command in server.commands)
    receipt = put(store, tmp_path, "b", b"one", proof=Proof.CHECKSUM)
    assert receipt.proof is Proof.CHECKSUM
    assert receipt.checksum == f"sha256:{hashlib.sha256(b'one').hexdigest()}"


@pytest.mark.parametrize("replaces", [True, False])
def test_overwrite_on_a_server_that_does_not_replace(root: Path, tmp_path: Path, replaces: bool) -> None:
    """``overwrite`` works whether or not a rename replaces a file that is there."""
    with py_ftp_server(root, replaces=replaces) as server:
        store = new_store(server)
        store.open()
        put(store, tmp_path, "a", b"one")
        put(store, tmp_path, "a", b"other", on_conflict=OnConflict.OVERWRITE)
        store.close(timeout=5)
        assert server.files() == {"a": b"other"}


def test_rename_finds_the_name_taken(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not replace tells us of a file that appeared after our last look."""
    from s3_uploader.stores.ftp.session import Session

    rename = Session.rename
    with py_ftp_server(root, replaces=False) as server:

        def too_late(session: Session, old: str, new: str) -> None:
            (root / new.lstrip("/")).write_bytes(b"theirs")
            rename(session, old, new)

        monkeypatch.setattr(Session, "rename", too_late)
        store = new_store(server)
        store.open()
        with pytest.raises(ConflictError):
            put(store, tmp_path, "a", b"ours")
        assert put(store, tmp_path, "b", b"theirs").already_there
        store.close(timeout=5)
        assert server.files() == {"a": b"theirs", "b": b"theirs"}


def test_superseded_content_is_replaced(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """The very content that an earlier run put there may be replaced, whatever the policy; no other may."""
    store = opened()
    earlier = put(store, tmp_path, "a", b"half")
    put(store, tmp_path, "a", b"half and half", replaces=earlier.etag)
    assert server.files() == {"a": b"half and half"}
    with pytest.raises(ConflictError):
        put(store, tmp_path, "a", b"third", replaces=earlier.etag)


def test_leftovers_of_a_killed_run(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """What killed runs of the same spool left is removed by the next upload there; what others left is not."""
    program = (
        "import os, sys, time\nfrom s3_uploader.stores.base import PutOptions, Source\n"
        "from s3_uploader.core.model import Proof\nfrom s3_uploader.stores.ftp.store import FtpStore\n"
        "descriptor = os.open(sys.argv[1], os.O_RDONLY)\n"
        f"store = FtpStore(host='127.0.0.1', port={server.port}, user='test', password='testpw',\n"
        "                 identity=sys.argv[2])\n"
        "store.open()\nstore.put('d/a', Source(descriptor, 50_000_000), options=PutOptions(minimum_proof=Proof.SIZE),\n"
        "          deadline=time.monotonic() + 60).result()\n"
    )
    source = tmp_path / "source"
    source.write_bytes(pattern(50_000_000))
    for identity in ("/spool", "/spool", "/other"):
        before = len(server.files())
        server.fault("DATA", "stall", after=100_000)
        with subprocess.Popen([sys.executable, "-c", program, str(source), identity]) as process:
            while not server.faults[-1].used:
                time.sleep(0.01)
            process.kill()
        # The run before it was one of the same spool, and had left its part.
        assert len(server.files()) == (2 if identity == "/other" else 1), before
    put(opened(identity="/spool"), tmp_path, "d/a", b"content")
    files = server.files()
    assert files.pop("d/a") == b"content"
    assert len(files) == 1


# ------------------------------------------------------------------------------------------------------ names and text


def test_names_of_an_old_server(root: Path, tmp_path: Path) -> None:
    """A server without UTF-8 gets the bytes of the name as they are, and its umlauts do not break the session."""
    with py_ftp_server(root, utf8=False, welcome="Grüß Gott.") as server:
        store = new_store(server)
        store.open()
        assert put(store, tmp_path, "caf\udce9", b"x").key == "caf\udce9"
        store.close(timeout=5)


def test_name_that_is_no_utf8(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path) -> None:
    """A server that speaks UTF-8 gets no name that is none."""
    with pytest.raises(KeyRefused, match="is not UTF-8"):
        put(opened(), tmp_path, "caf\udce9", b"x")


@pytest.mark.parametrize("key", ["write", "write/below"])
@pytest.mark.parametrize("on_conflict", ["overwrite", "keep-both"])
def test_file_named_like_the_lock(
    server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, on_conflict: str, key: str
) -> None:
    """A file never takes the place of the lock file, where it would keep everybody out for ever."""
    store = opened(lock_file="write")
    with pytest.raises(KeyRefused, match="would take the place of the lock file"):
        put(store, tmp_path, key, b"x", on_conflict=on_conflict)
    put(store, tmp_path, "written", b"y")
    store.close(timeout=5)
    assert server.files() == {"written": b"y"}


@pytest.mark.parametrize("key", ["a\r\nDELE b", "a\nb", "../a", "/a", "", "a//b"])
def test_refused_keys(server: PyFtpServer, opened: Callable[..., FtpStore], tmp_path: Path, key: str) -> None:
    """A key that would be a command or leave the directory is refused before anything is sent."""
    store = opened()
    before = len(server.commands)
    with pytest.raises(KeyRefused):
        put(store, tmp_path, key, b"x")
    assert len(server.commands) == before


def test_server_without_size(root: Path, tmp_path: Path) -> None:
    """A server without SIZE is asked with MLST."""
    with py_ftp_server(root, without=("SIZE",)) as server:
        store = new_store(server)
        store.open()
        put(store, tmp_path, "d/a", b"content")
        with pytest.raises(ConflictError):
            put(store, tmp_path, "d/a", b"other")
        store.close(timeout=5)
        assert server.files() == {"d/a": b"content"}


# --------------------------------------------------------------------------------------------------------------- check


def test_check(server: PyFtpServer) -> None:
    """``check`` tries what a run needs and leaves nothing behind."""
    findings = new_store(server, lock_file="write").check(now=time.time())
    assert not [finding for finding in findings if finding.severity is Severity.ERROR]
    facts = " | ".join(finding.fact for finding in findings)
    for expected in ("logged in", "nothing is encrypted", "size confirmed", "no checksums", "rename replaces"):
        assert expected in facts
    assert server.files() == {}
    store = new_store(server, lock_file="write")
    store.open()
    own = [finding.fact for finding in store.check(now=time.time()) if "lock file" in finding.fact]
    assert own == ["the lock file write was made"]
    store.close(timeout=5)
    (server.root / "write").write_text("x")
    findings = new_store(server, lock_file="write").check(now=time.time() - 3600)
    facts = " | ".join(finding.fact for finding in findings)
    assert "the lock file write exists" in facts
    assert "its clock differs from ours by +3" in facts


@pytest.mark.parametrize(
    ("letter", "right"),
    [
        ("w", "write"),
        ("f", "rename"),
        ("d", "delete"),
        ("m", "make directories"),
        ("r", "read"),
        ("l", "list"),
    ],
)
def test_check_of_missing_rights(root: Path, letter: str, right: str) -> None:
    """``check`` names each permission that is missing, and no other."""
    with py_ftp_server(root, permissions="elradfmw".replace(letter, "")) as server:
        findings = new_store(server).check(now=time.time())
    advice = " | ".join(finding.meaning for finding in findings)
    assert f"permission to {right}" in advice
    if letter not in "lw":
        assert advice.count("permission to ") == 1


@pytest.mark.parametrize("temporary_names", ["auto", "hidden", "none"])
def test_check_of_a_full_server(server: PyFtpServer, monkeypatch: pytest.MonkeyPatch, temporary_names: str) -> None:
    """``check`` says that a full server is full, and leaves none of the empty files that are all it takes."""
    store = Session.store

    def without_room(self: Session, path: str, chunks: Any, **options: Any) -> None:
        store(self, path, [b""], **options)
        raise FtpRefused("452 No space left on device", "STOR")

    monkeypatch.setattr(Session, "store", without_room)
    findings = new_store(server, temporary_names=temporary_names).check(now=time.time())
    (error,) = (finding for finding in findings if finding.severity is Severity.ERROR)
    assert error.meaning == "Make room there."
    assert server.files() == {}


def test_check_of_a_right_that_proof_needs(root: Path) -> None:
    """Without permission to read nothing can be shipped where more than the length is to be proven."""
    with py_ftp_server(root, permissions="eladfmw") as server:
        findings = new_store(server, minimum_proof="checksum").check(now=time.time())
    (found,) = (finding for finding in findings if "permission to read" in finding.meaning)
    assert found.severity is Severity.ERROR


@pytest.mark.parametrize("makes_directories", [False, True])
def test_check_where_no_directory_can_be_made(root: Path, makes_directories: bool) -> None:
    """Where files lie in a directory for each hour, a server that makes none is not ready; elsewhere it may do."""
    with py_ftp_server(root, permissions="elradfw") as server:
        findings = new_store(server, makes_directories=makes_directories).check(now=time.time())
    (found,) = (finding for finding in findings if "permission to make directories" in finding.meaning)
    assert found.severity is (Severity.ERROR if makes_directories else Severity.WARNING)


def test_check_of_an_unreachable_server(server: PyFtpServer) -> None:
    """``check`` turns an error into a finding."""
    (finding,) = new_store(server, password="wrong").check(now=time.time())
    assert finding.severity is Severity.ERROR
    assert "refuses the user test" in finding.fact


# --------------------------------------------------------------------------------------------------------- real server


@pytest.fixture
def real(proftpd_server: ProftpdServer) -> Iterator[Callable[..., FtpStore]]:
    """Makes stores on ProFTPD, which is empty again afterwards."""
    stores: list[FtpStore] = []

    def make(**options: Any) -> FtpStore:
        given = {
            "user": proftpd_server.username,
            "password": proftpd_server.password,
            "jitter": lambda: 0.02,
            **options,
        }
        store = FtpStore(host="127.0.0.1", port=proftpd_server.port, **given)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close(timeout=5)
    for path in sorted(proftpd_server.root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_real_export_over_tls(proftpd_server: ProftpdServer, real: Callable[..., FtpStore], tmp_path: Path) -> None:
    """On a real server, over TLS, with a lock: files arrive, proven by the server's own SHA-256."""
    store = real(tls=True, ca_file=str(proftpd_server.ca_bundle), lock_file="write")
    store.open()
    content = pattern(LARGE)
    receipt = put(store, tmp_path, "a/b/large", content)
    assert receipt.proof is Proof.CHECKSUM
    assert receipt.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"
    with pytest.raises(DestinationBusy):
        real(lock_file="write").open()
    store.close(timeout=5)
    assert proftpd_server.files() == {"a/b/large": content}


def test_real_lock_has_one_winner(proftpd_server: ProftpdServer, real: Callable[..., FtpStore]) -> None:
    """On a real server too, exactly one of many uploaders gets the lock."""
    stores = [real(lock_file="write") for _ in range(4)]
    outcomes: list[bool] = []
    barrier = threading.Barrier(4)

    def compete(store: FtpStore) -> None:
        barrier.wait()
        try:
            store.open()
        except DestinationBusy:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=compete, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, False, False, True]


def test_real_stale_lock(proftpd_server: ProftpdServer, real: Callable[..., FtpStore]) -> None:
    """On a real server a lock that is old enough is removed."""
    lock = proftpd_server.root / "write"
    lock.write_text("Lock file")
    lock.chmod(0o666)
    os.utime(lock, (time.time() - 7200, time.time() - 7200))
    store = real(lock_file="write", lock_stale_seconds=3600)
    store.open()
    store.close(timeout=5)
    assert proftpd_server.files() == {}


@pytest.mark.parametrize("tls", [False, True])
def test_real_empty_lock(proftpd_server: ProftpdServer, real: Callable[..., FtpStore], tls: bool) -> None:
    """On a real server too, also over TLS, the empty lock of a killed run does not stop the next one."""
    options: dict[str, Any] = {"lock_file": "write", "identity": "spool", "tls": tls}
    if tls:
        options["ca_file"] = str(proftpd_server.ca_bundle)
    login = {"user": proftpd_server.username, "password": proftpd_server.password}
    kill_while_locking(host=proftpd_server.host, port=proftpd_server.port, **login, **options)
    wait_until(lambda: proftpd_server.files().get("write") == b"", what="the lock was created")
    store = real(**options)
    store.open()
    store.close(timeout=5)
    assert proftpd_server.files() == {}


def test_untrusted_certificate(proftpd_server: ProftpdServer, real: Callable[..., FtpStore]) -> None:
    """A certificate that nobody trusts keeps us out, before the password is sent."""
    with pytest.raises(StoreError, match="the certificate is not trusted") as caught:
        real(tls=True).open()
    assert caught.value.scope is Scope.DESTINATION
    assert "ca_file" in caught.value.hint


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "pipe"])
def test_certificates_that_cannot_be_used(server: PyFtpServer, tmp_path: Path, kind: str) -> None:
    """The error names the file, is one of the destination, and does not wait for the writer of a pipe."""
    file = tmp_path / "ca.pem"
    if kind == "directory":
        file.mkdir()
    elif kind == "empty":
        file.touch()
    elif kind == "pipe":
        os.mkfifo(file)
    with pytest.raises(StoreError, match=f"The certificates in {file} cannot be used: ") as caught:
        new_store(server, tls=True, ca_file=str(file)).open()
    assert (caught.value.scope, caught.value.origin) == (Scope.DESTINATION, Origin.CERTIFICATE)
    assert "ca_file" in caught.value.hint
    assert not any(command.startswith(("USER", "PASS")) for command in server.commands)


def test_tls_is_not_offered(server: PyFtpServer) -> None:
    """A server without TLS gets no password where TLS is configured."""
    with pytest.raises(StoreError, match="does not offer TLS"):
        new_store(server, tls=True).open()
    assert not any(command.startswith(("USER", "PASS")) for command in server.commands)


def test_real_check(proftpd_server: ProftpdServer, real: Callable[..., FtpStore]) -> None:
    """``check`` finds the checksums and the TLS of a real server."""
    findings = real(tls=True, ca_file=str(proftpd_server.ca_bundle)).check(now=time.time())
    facts = " | ".join(finding.fact for finding in findings)
    assert "computes checksums (sha256)" in facts
    assert "TLSv1" in facts
    assert proftpd_server.files() == {}
