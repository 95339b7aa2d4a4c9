"""The SFTP store on OpenSSH and on ProFTPD: who is trusted, who we are, what may be done, and what is left."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from s3_uploader.core.errors import ConflictError, DestinationBusy, KeyRefused, Scope, StoreError
from s3_uploader.core.findings import Severity
from s3_uploader.core.model import OnConflict, Proof
from s3_uploader.core.origins import Origin
from tests.integration.sftp_support import Bench, bench_on
from tests.servers.fixtures import or_skip
from tests.servers.openssh import OpensshServer
from tests.servers.process import wait_until
from tests.servers.proftpd_sftp import ProftpdSftpServer
from tests.servers.scripted_sftp import ScriptedSftpServer

OpensshServers = Callable[[str], OpensshServer]


class Here:
    """A directory of its own on a server that others use too."""

    def __init__(self, server: OpensshServer, name: str) -> None:
        self.server = server
        self.root = server.root / name
        self.root.mkdir()
        self._path = f"{server.path}/{name}"

    def settings(self) -> dict[str, Any]:
        """The keys of the destination, but for its type."""
        return {**self.server.settings(), "path": self._path}

    def files(self) -> dict[str, bytes]:
        """Every file by its path."""
        return {os.path.relpath(each, self.root): each.read_bytes() for each in self.root.rglob("*") if each.is_file()}


@pytest.fixture
def here(openssh_servers: OpensshServers, request: pytest.FixtureRequest) -> Here:
    """A fresh directory on OpenSSH."""
    return Here(openssh_servers("internal"), f"{abs(hash(request.node.nodeid)):x}")


@pytest.fixture
def bench(here: Here, tmp_path: Path) -> Iterator[Bench]:
    """Stores there."""
    with bench_on(here, tmp_path) as one:
        yield one


# ---------------------------------------------------------------------------------------------- whom we trust


def test_an_unknown_host_key(bench: Bench, here: Here, tmp_path: Path) -> None:
    """Nobody is trusted at first sight; the sentence has the fingerprint, and the line that would trust it does."""
    known = tmp_path / "known"
    known.write_text("# nobody\nnonsense\n")
    with pytest.raises(StoreError, match="is not known: ssh-ed25519 SHA256:") as caught:
        bench.new_store(known_hosts_file=str(known)).open()
    assert (caught.value.code, caught.value.scope) == ("HostKeyUnknown", Scope.DESTINATION)
    known.write_text(caught.value.hint.partition(f"{known}: ")[2] + "\n")
    bench.put(bench.opened(known_hosts_file=str(known)), "key", b"content")
    assert here.files() == {"key": b"content"}


def test_a_fingerprint(bench: Bench, here: Here) -> None:
    """A host key whose fingerprint is configured is trusted, and no other."""
    public = asyncssh.read_public_key(str(here.server.directory / "host_key.pub"))
    bench.opened(known_hosts_file=None, host_key_fingerprints=[public.get_fingerprint()])
    other = asyncssh.generate_private_key("ssh-ed25519").get_fingerprint()
    with pytest.raises(StoreError, match="another host key than is configured") as caught:
        bench.new_store(known_hosts_file=None, host_key_fingerprints=[other]).open()
    assert caught.value.code == "HostKeyChanged"


def test_another_host_key(tmp_path: Path) -> None:
    """A server that shows another key than it had is not logged in to, and the sentence names the danger."""
    server = or_skip(OpensshServer().start)
    try:
        with bench_on(server, tmp_path) as bench:
            bench.opened()
            server.new_host_key()
            server.restart()
            with pytest.raises(StoreError, match="another host key than is known") as caught:
                bench.new_store().open()
            assert caught.value.code == "HostKeyChanged"
            assert "intercepting the connection" in caught.value.hint
    finally:
        server.stop()


def test_revoked_keys_and_hashed_names(bench: Bench, here: Here, tmp_path: Path) -> None:
    """known_hosts is read as OpenSSH reads it: names may be hashed, and a revoked key is no key."""
    known = tmp_path / "known"
    known.write_bytes(here.server.known_hosts.read_bytes())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert "127.0.0.1" not in known.read_text()
    bench.opened(known_hosts_file=str(known))
    known.write_text("@revoked * " + here.server.known_hosts.read_text().split(" ", 1)[1])
    with pytest.raises(StoreError, match="revoked"):
        bench.new_store(known_hosts_file=str(known)).open()


# ---------------------------------------------------------------------------------------------- who we are


def test_a_key_that_the_server_does_not_know(bench: Bench, tmp_path: Path) -> None:
    """It is said to be that, at once, and not tried again."""
    stranger = tmp_path / "stranger"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(stranger))
    with pytest.raises(StoreError, match="refuses the user") as caught:
        bench.new_store(private_key_file=str(stranger)).open()
    assert (caught.value.code, caught.value.retryable) == ("AuthenticationFailed", False)
    assert str(stranger) in caught.value.hint


def test_a_key_that_is_a_pipe(bench: Bench, tmp_path: Path) -> None:
    """Nobody waits for whoever may write it."""
    os.mkfifo(tmp_path / "key")
    with pytest.raises(StoreError, match="cannot be used: is a named pipe") as caught:
        bench.new_store(private_key_file=str(tmp_path / "key")).open()
    assert caught.value.code == "PrivateKeyUnusable"


def test_a_key_with_a_passphrase(bench: Bench, here: Here, tmp_path: Path) -> None:
    """Its passphrase opens it; without, or with another one, the sentence names the file and not the passphrase."""
    locked = tmp_path / "locked"
    # Each round is work for whoever opens it, which is what the usual 128 are for.
    asyncssh.read_private_key(str(here.server.private_key)).write_private_key(
        str(locked), passphrase="open sesame", rounds=1, ignore_few_rounds=True
    )
    bench.opened(private_key_file=str(locked), passphrase="open sesame")
    for passphrase in ("", "HUSH"):
        with pytest.raises(StoreError, match="cannot be used") as caught:
            bench.new_store(private_key_file=str(locked), passphrase=passphrase).open()
        assert caught.value.code == "PrivateKeyUnusable"
        assert "HUSH" not in str(caught.value)


def test_an_agent(bench: Bench, here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a key file the keys of the agent log in."""
    address = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL) as agent:
        try:
            wait_until(address.exists, what="the agent was there")
            monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
            monkeypatch.setenv("HOME", str(tmp_path))
            subprocess.run(["ssh-add", "-q", here.server.private_key], check=True, capture_output=True)
            bench.put(bench.opened(private_key_file=None), "key", b"content")
        finally:
            agent.terminate()
    assert here.files() == {"key": b"content"}


def test_an_agent_that_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its silence is not blamed on the server alone, which has answered everything."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        with pytest.raises(StoreError, match="no answer for 1 s, of the server or of the agent at SSH_AUTH_SOCK"):
            bench.new_store(private_key_file=None, timeout_seconds=1).open()


def test_a_broken_key_among_the_usual_ones(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is wrong is the file, not the way to the server."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes(b"no key")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(StoreError, match=r"A private key in ~/\.ssh cannot be used") as caught:
        bench.new_store(private_key_file=None).open()
    assert (caught.value.code, caught.value.retryable) == ("PrivateKeyUnusable", False)


def test_a_key_that_is_not_there(bench: Bench, tmp_path: Path) -> None:
    """The advice is about the file: no passphrase would help."""
    with pytest.raises(StoreError, match="cannot be used: no such file") as caught:
        bench.new_store(private_key_file=str(tmp_path / "none")).open()
    assert "private_key_file" in caught.value.hint
    assert "passphrase" not in caught.value.hint


def test_a_user_without_a_name(bench: Bench, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with a user of any number, who has neither a name nor a home, files are shipped as elsewhere."""

    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "")
    bench.put(bench.opened(), "key", b"content")
    assert here.files() == {"key": b"content"}
    with pytest.raises(StoreError):
        bench.new_store(private_key_file=None).open()


def test_a_password(scripted_sftp: ScriptedSftpServer, tmp_path: Path) -> None:
    """A password logs in; a wrong one is said to be that, and stands in no message."""
    with bench_on(scripted_sftp, tmp_path) as bench:
        bench.put(bench.opened(private_key_file=None, password=scripted_sftp.password), "key", b"content")
        with pytest.raises(StoreError, match="refuses the user tester") as caught:
            bench.new_store(private_key_file=None, password="HUSH").open()
        assert caught.value.code == "AuthenticationFailed"
        assert "HUSH" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- what may be done


def test_a_read_only_server(openssh_servers: OpensshServers, tmp_path: Path) -> None:
    """What cannot be written is said to be a permission that is missing, by a run and by `check`."""
    with bench_on(openssh_servers("read-only"), tmp_path) as bench:
        store = bench.opened()
        with pytest.raises(StoreError, match="Permission denied") as caught:
            bench.put(store, "key", b"content")
        assert caught.value.code == "PermissionDenied"
        assert (caught.value.scope, caught.value.origin) == (Scope.DESTINATION, Origin.DIRECTORY)
        assert "Nothing can be written in " in caught.value.hint
        assert "read-only" in caught.value.hint
        findings = bench.new_store().check(now=time.time())
        assert any("cannot be written" in each.fact for each in findings if each.severity is Severity.ERROR)


def test_a_server_that_runs_something_else(openssh_servers: OpensshServers, tmp_path: Path) -> None:
    """A login whose other end is a shell, or no SFTP at all, ends the run with a sentence."""
    with bench_on(openssh_servers("shell"), tmp_path) as bench:
        with pytest.raises(StoreError, match="does not offer SFTP") as caught:
            bench.new_store().open()
        assert (caught.value.code, caught.value.scope) == ("NotSftp", Scope.DESTINATION)


@pytest.mark.parametrize("path", ["nowhere", "/nowhere/at/all"])
def test_a_directory_that_is_not_there(bench: Bench, path: str) -> None:
    """A path that does not exist is not made; it ends the run."""
    with pytest.raises(StoreError, match="cannot be entered: stat: there is no such directory") as caught:
        bench.new_store(path=path).open()
    assert caught.value.code == "NoSuchDirectory"


def test_nobody_listens(bench: Bench) -> None:
    """A port that is closed is told as it is."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        with pytest.raises(StoreError, match=r"Cannot connect to the SFTP server .*: connection refused"):
            bench.new_store(port=one.getsockname()[1]).open()


def test_a_server_that_says_nothing(bench: Bench) -> None:
    """A server that takes the connection and is silent ends the login after the time for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(StoreError, match="Cannot connect"):
            bench.new_store(port=silent.getsockname()[1], connect_timeout_seconds=0.5).open()
        assert time.monotonic() - begun < 5


def test_fewer_connections_than_asked_for(tmp_path: Path) -> None:
    """A server that turns away one login too many gets the files over those that it has taken."""
    server = or_skip(OpensshServer(startups="2:100:2").start)
    try:
        with bench_on(server, tmp_path) as bench:
            store = bench.opened(max_concurrency=6)
            uploads = [bench.begin(store, f"{number}", b"content %d" % number) for number in range(30)]
            for upload in uploads:
                upload.result(60)
        assert len(list(server.root.iterdir())) == 30
    finally:
        server.stop()


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk_behind_openssh(tmp_path: Path) -> None:
    """OpenSSH has no words for a full disk; the store finds it out, leaves nothing, and ends the run."""
    server = or_skip(OpensshServer().start)
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(server.root)]
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("this user may not mount anything here")
        try:
            with bench_on(server, tmp_path) as bench:
                store = bench.opened()
                with pytest.raises(StoreError) as caught:
                    bench.put(store, "a/large", os.urandom(3_000_000))
                # What is too large for the disk leaves it free again.
                assert caught.value.code in ("DiskFull", "Failure")
                (server.root / "filler").write_bytes(bytes(900_000))
                fill(server.root / "rest")
                with pytest.raises(StoreError, match="nothing is free there") as caught:
                    bench.put(store, "key", b"content")
                assert (caught.value.code, caught.value.scope) == ("DiskFull", Scope.DESTINATION)
                assert sorted(each.name for each in server.root.rglob("*") if each.is_file()) == ["filler", "rest"]
        finally:
            subprocess.run(["umount", "--lazy", str(server.root)], check=False)
    finally:
        server.stop()


# ---------------------------------------------------------------------------------------------- content and names


@pytest.mark.rotated("how")
@pytest.mark.parametrize("how", ["program", "internal", "chroot", "forced"])
def test_sizes_at_the_borders(openssh_servers: OpensshServers, tmp_path: Path, how: str) -> None:
    """Files of every length around that of a request, of a packet and of a block arrive byte for byte."""
    borders = (32 * 1024, 64 * 1024, 256 * 1024, 64 * 32 * 1024)
    sizes = [0, 1, *(border + off for border in borders for off in (-1, 0, 1))]
    place = Here(openssh_servers(how), f"borders-{how}")
    with bench_on(place, tmp_path) as bench:
        store = bench.opened()
        contents = {f"{size}": os.urandom(size) for size in sizes}
        uploads = [bench.begin(store, key, content, minimum_proof=Proof.CHECKSUM) for key, content in contents.items()]
        for upload in uploads:
            assert upload.result(60).proof is Proof.CHECKSUM
    assert place.files() == contents


def test_odd_names(bench: Bench, here: Here, effort: Callable[..., int]) -> None:
    """Names of any bytes, text or not, arrive as they are, each with its own content; none takes another's place."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    letters = [bytes([number]) for number in range(1, 256) if number != 0x2F] + ["é".encode(), "日".encode()]
    names = {
        "Größe",
        "GROSSE",
        "e\u0301",
        "\u00e9",
        ".hidden",
        "~",
        "a\nb",
        "\\x41",
        "A",
        "a",
        os.fsdecode(b"\xff\xfe"),
    }
    while len(names) < effort(40, 300):
        name = os.fsdecode(b"".join(chance.choices(letters, k=chance.randint(1, 60))))
        if name not in (".", "..") and len(os.fsencode(name)) <= 200:
            names.add(name)
    store = bench.opened(max_concurrency=4)
    uploads = {name: bench.begin(store, f"d/{name}", os.fsencode(name)) for name in sorted(names)}
    for upload in uploads.values():
        upload.result(60)
    found = {os.path.basename(key): content for key, content in here.files().items()}
    assert found == {name: os.fsencode(name) for name in names}


@pytest.mark.parametrize("in_the_way", ["directory", "fifo", "parent is a file", "dangling link", "parent is one"])
def test_what_is_no_file(bench: Bench, here: Here, in_the_way: str) -> None:
    """What is there and is no file costs one file, is not opened, and stays as it is."""
    place = here.root / "key"
    key = "key"
    if in_the_way == "directory":
        place.mkdir()
    elif in_the_way == "fifo":
        os.mkfifo(place)
    elif in_the_way == "parent is a file":
        place.write_bytes(b"file")
        key = "key/below"
    else:
        place.symlink_to("/nonexistent")
        key = "key/below" if in_the_way == "parent is one" else "key"
    before = os.lstat(place)
    store = bench.opened()
    with pytest.raises(StoreError) as caught:
        bench.put(store, key, b"content")
    assert caught.value.code != "DiskFull"
    assert caught.value.scope is not Scope.DESTINATION
    assert isinstance(caught.value, ConflictError) == (in_the_way in ("directory", "dangling link"))
    assert (caught.value.code == "FileInTheWay") == (in_the_way == "parent is a file")
    assert caught.value.origin is not Origin.FILE, "nothing is wrong with the file, so on_failure: delete keeps it"
    bench.put(store, "other", b"content")
    assert os.lstat(place).st_ino == before.st_ino
    assert sorted(os.listdir(here.root)) == ["key", "other"]


def test_second_and_other_content(bench: Bench, here: Here) -> None:
    """The same content again is success; other content is as on_conflict says, for each of its values."""
    store = bench.opened()
    bench.put(store, "key", b"one")
    assert bench.put(store, "key", b"one").already_there
    with pytest.raises(ConflictError):
        bench.put(store, "key", b"two")
    second = bench.put(store, "key", b"two", on_conflict=OnConflict.KEEP_BOTH)
    assert here.files() == {"key": b"one", second.key: b"two"}
    assert bench.put(store, "key", b"two", on_conflict=OnConflict.KEEP_BOTH).already_there
    bench.put(store, "key", b"six", on_conflict=OnConflict.OVERWRITE)
    assert here.files() == {"key": b"six", second.key: b"two"}


def test_a_directory_in_the_place_of_a_file(bench: Bench, here: Here) -> None:
    """With keep-both the file is stored beside it, and found there again; otherwise the sentence says what to do."""
    (here.root / "key").mkdir()
    store = bench.opened()
    for on_conflict in (OnConflict.FAIL, OnConflict.OVERWRITE):
        with pytest.raises(ConflictError, match="key is a directory") as caught:
            bench.put(store, "key", b"one", on_conflict=on_conflict)
        assert "Rename the file or the directory" in caught.value.hint
    receipt = bench.put(store, "key", b"one", on_conflict=OnConflict.KEEP_BOTH)
    assert here.files() == {receipt.key: b"one"}
    assert bench.put(store, "key", b"one", on_conflict=OnConflict.KEEP_BOTH).already_there
    assert here.files() == {receipt.key: b"one"}


def test_two_stores_want_one_name(bench: Bench, here: Here) -> None:
    """Of many writers of one name one gets it, and the others are told; nobody's bytes are mixed or lost."""
    stores = [bench.opened() for _ in range(4)]
    for number in range(5):
        uploads = [bench.begin(store, f"{number}", b"%d" % index) for index, store in enumerate(stores)]
        errors = [upload.exception(60) for upload in uploads]
        assert sum(error is None for error in errors) == 1
        assert all(error is None or isinstance(error, ConflictError) for error in errors)
        winner = next(index for index, error in enumerate(errors) if error is None)
        assert here.files()[f"{number}"] == b"%d" % winner


def test_a_file_system_without_links(openssh_servers: OpensshServers, tmp_path: Path) -> None:
    """On vfat a rename has to do, and still replaces nothing; upper and lower case are one name there."""
    server = or_skip(OpensshServer().start)
    image = tmp_path / "image"
    image.write_bytes(bytes(8 << 20))
    try:
        commands = (["mkfs.vfat", str(image)], ["mount", "-o", "loop,utf8", str(image), str(server.root)])
        try:
            done = os.geteuid() == 0 and all(
                subprocess.run(command, check=False, capture_output=True).returncode == 0 for command in commands
            )
        except FileNotFoundError:
            done = False
        if not done:
            pytest.skip("vfat cannot be mounted here")
        try:
            with bench_on(server, tmp_path) as bench:
                store = bench.opened()
                bench.put(store, "sub/sample", b"one")
                with pytest.raises(ConflictError):
                    bench.put(store, "sub/sample", b"two")
                with pytest.raises(KeyRefused):
                    bench.put(store, "sub/SAMPLE", b"two", on_conflict=OnConflict.OVERWRITE)
                assert (server.root / "sub" / "sample").read_bytes() == b"one"
                assert [each.name for each in server.root.rglob("*") if each.is_file()] == ["sample"]
        finally:
            subprocess.run(["umount", "--lazy", str(server.root)], check=False)
    finally:
        server.stop()


# ---------------------------------------------------------------------------------------------- locks and leftovers


def test_many_uploaders_one_lock(bench: Bench, here: Here) -> None:
    """Of many uploaders that want the lock at once exactly one gets it, and removes it when it is done."""
    stores = [bench.new_store(lock_file="write") for _ in range(6)]
    outcomes: list[object] = [None] * len(stores)

    def open_one(index: int) -> None:
        try:
            stores[index].open()
            outcomes[index] = "open"
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=open_one, args=(index,)) for index in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    winners = [index for index, outcome in enumerate(outcomes) if outcome == "open"]
    assert len(winners) == 1
    assert all(isinstance(each, DestinationBusy) for index, each in enumerate(outcomes) if index not in winners)
    assert (here.root / "write").read_text().startswith("s3-uploader ")
    for store in stores:
        store.close(timeout=3)
    assert list(here.root.iterdir()) == []


def test_locks_of_others(bench: Bench, here: Here) -> None:
    """A lock of others keeps us out and stays, unless it is as old as is configured."""
    lock = here.root / "write"
    lock.write_text("Lock file")
    with pytest.raises(DestinationBusy, match="as 'write' lockfile exists") as caught:
        bench.new_store(lock_file="write").open()
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(lock.stat().st_mtime))
    assert f"It is from {since} UTC by the server's clock. If its owner no longer runs, remove it" in caught.value.hint
    line = f"s3-uploader elsewhere {'0' * 32} boot pids 12 34 nonce"
    lock.write_text(f"{line}\n")
    with pytest.raises(DestinationBusy) as caught:
        bench.new_store(lock_file="write", lock_stale_seconds=3600).open()
    assert caught.value.hint.startswith("It is that of process 12 on elsewhere. It is from ")
    assert caught.value.hint.endswith("It is removed when it is 60 min old.")
    assert lock.read_text() == f"{line}\n"
    os.utime(lock, (time.time() - 7200, time.time() - 7200))
    bench.opened(lock_file="write", lock_stale_seconds=3600)
    assert lock.read_text().startswith("s3-uploader ")


_KILLED = """
import os, sys, time
from s3_uploader.core.model import Proof
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.sftp.store import SftpStore
store = SftpStore(lock_file="write", identity="spool", **eval(sys.argv[1]))
store.open()
descriptor = os.open(sys.argv[2], os.O_RDONLY)
size = os.fstat(descriptor).st_size
store.put("key", Source(descriptor, size), options=PutOptions(minimum_proof=Proof.SIZE), deadline=time.monotonic() + 60)
print("begun", flush=True)
time.sleep(60)
"""


def test_what_a_killed_run_leaves(bench: Bench, here: Here, tmp_path: Path) -> None:
    """Lock and parts of a run that was killed are removed by the next one of the same spool; nothing is lost."""
    large = tmp_path / "large"
    large.write_bytes(os.urandom(30_000_000))
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, repr(here.settings()), str(large)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        ends_at = time.monotonic() + 20
        while not any(here.root.glob(".*-part")) and time.monotonic() < ends_at:
            time.sleep(0.01)
        with pytest.raises(DestinationBusy):
            bench.new_store(lock_file="write", identity="spool").open()
    finally:
        process.kill()
        process.wait()
    stale = list(here.root.glob(".*-part"))
    assert stale or (here.root / "key").exists()
    store = bench.opened(lock_file="write", identity="spool")
    bench.put(store, "key", large.read_bytes())
    store.close(timeout=3)
    assert here.files() == {"key": large.read_bytes()}


# ---------------------------------------------------------------------------------------------- ProFTPD


def test_a_server_with_hashes(proftpd_sftp_server: ProftpdSftpServer, tmp_path: Path) -> None:
    """Where the server computes hashes they are the proof, and nothing is read back; its `check` says so."""
    with bench_on(proftpd_sftp_server, tmp_path) as bench:
        store = bench.opened()
        content = os.urandom(300_000)
        receipt = bench.put(store, "a/key", content)
        assert (receipt.proof, receipt.checksum) == (Proof.CHECKSUM, receipt.etag)
        assert (proftpd_sftp_server.root / "a" / "key").read_bytes() == content
        assert bench.put(store, "a/key", content).already_there
        with pytest.raises(ConflictError):
            bench.put(store, "a/key", content[::-1])
        bench.put(store, "a/key", content[::-1], on_conflict=OnConflict.OVERWRITE)
        assert (proftpd_sftp_server.root / "a" / "key").read_bytes() == content[::-1]
        facts = [each.fact for each in bench.new_store().check(now=time.time())]
        assert "computes checksums (sha256)" in facts
        assert [each.name for each in proftpd_sftp_server.root.rglob("*") if each.is_file()] == ["key"]
