"""What an SFTP server may do wrong: nothing is lost by it, replaced by it, or held up by it."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from s3_uploader.core.errors import (
    ConflictError,
    DestinationBusy,
    KeyRefused,
    NameTaken,
    OutOfResources,
    ProofError,
    Scope,
    StoreError,
    UploadCancelled,
)
from s3_uploader.core.meanings import meaning_of
from s3_uploader.core.model import OnConflict, Proof
from s3_uploader.core.origins import Origin
from s3_uploader.stores.file_servers import listing
from s3_uploader.stores.file_servers.base import Lost
from s3_uploader.stores.listing import CannotList
from s3_uploader.stores.sftp import known_hosts, loop
from tests.integration.sftp_support import Bench, bench_on
from tests.servers import scripted_sftp as scripted_sftp_server
from tests.servers.process import wait_until
from tests.servers.scripted_sftp import Request, ScriptedSftpServer, hang, hang_up, hang_up_afterwards, refuse

CONTENT = os.urandom(200_000)
LARGE = os.urandom(3_000_000)
UNSUPPORTED = refuse(asyncssh.SFTPOpUnsupported("no such extension"))
DENIED = refuse(asyncssh.SFTPPermissionDenied("Permission denied"))
FAILURE = refuse(asyncssh.SFTPFailure("Failure"))


@pytest.fixture
def bench(scripted_sftp: ScriptedSftpServer, tmp_path: Path) -> Iterator[Bench]:
    """Stores on the scripted server."""
    with bench_on(scripted_sftp, tmp_path) as one:
        yield one


# ---------------------------------------------------------------------------------------------- what vanishes


@pytest.mark.parametrize("temporary_names", ["auto", "none"])
@pytest.mark.parametrize("key", ["d/e/f/new", "d/e/f2/new"])
def test_directory_that_another_program_removes(
    scripted_sftp: ScriptedSftpServer, bench: Bench, temporary_names: str, key: str
) -> None:
    """A consumer that takes files together with their directories costs no file: the directories are made again."""
    store = bench.opened(temporary_names=temporary_names)
    bench.put(store, "d/e/f/old", CONTENT)
    shutil.rmtree(scripted_sftp.root / "d")
    bench.put(store, key, CONTENT)
    assert scripted_sftp.files() == {key: CONTENT}


@pytest.mark.parametrize("temporary_names", ["auto", "none"])
def test_root_that_vanishes(scripted_sftp: ScriptedSftpServer, bench: Bench, temporary_names: str) -> None:
    """Every file would meet that, so it ends the run, and no file is blamed."""
    (scripted_sftp.root / "base").mkdir()
    store = bench.opened(path="base", temporary_names=temporary_names)
    bench.put(store, "d/old", CONTENT)
    (scripted_sftp.root / "base").rename(scripted_sftp.root / "elsewhere")
    with pytest.raises(StoreError, match="has vanished during the run") as caught:
        bench.put(store, "d/new", CONTENT)
    assert (caught.value.scope, caught.value.origin) == (Scope.DESTINATION, Origin.DIRECTORY)


def test_unfinished_file_that_another_program_takes(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """It is sent again, and the file is not blamed, so that on_failure does not delete it."""

    async def take(request: Request) -> Any:
        for part in scripted_sftp.root.glob("*part"):
            part.unlink()
        return await request.carry_out()

    store = bench.opened()
    bench.put(store, "first", CONTENT)
    scripted_sftp.once("link", take)
    bench.put(store, "key", CONTENT)
    assert scripted_sftp.files() == {"first": CONTENT, "key": CONTENT}


# ---------------------------------------------------------------------------------------------- few descriptors


@pytest.mark.parametrize("file", ["the key", "known hosts", "the usual known hosts", "the socket"])
def test_too_few_descriptors_for_another_connection(
    scripted_sftp: ScriptedSftpServer, bench: Bench, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Whatever cannot be opened for it, the connection that is there takes all files; no host key is called unknown."""

    def refuse(*given: Any, **options: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    store = bench.opened(max_concurrency=4)
    if file == "the key":
        monkeypatch.setattr(asyncssh, "load_keypairs", refuse)
    elif file == "the socket":
        monkeypatch.setattr(socket, "create_connection", refuse)
    else:
        monkeypatch.setattr(known_hosts, "open_at_once", refuse)
    uploads = [bench.begin(store, f"key{number}", CONTENT) for number in range(8)]
    for upload in uploads:
        upload.result(60)
    assert len(scripted_sftp.files()) == 8
    alone = bench.new_store(**({"known_hosts_file": None} if file == "the usual known hosts" else {}))
    with pytest.raises(StoreError, match="too many files open for another connection to 127") as caught:
        alone.open()
    assert isinstance(caught.value, OutOfResources)


def test_too_few_descriptors_for_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's loop is begun only if it gets all of its descriptors: half begun it would print a traceback."""

    def refuse(count: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(loop, "insist_on_descriptors", refuse)
    with pytest.raises(StoreError, match="too many files open for another connection to 127"):
        bench.new_store().open()


@pytest.mark.parametrize("request_name", ["mkdir", "open", "write", "rename"])
@pytest.mark.parametrize(("free_inodes", "free_bytes"), [(3, 1 << 30), (1000, 4096)])
def test_a_disk_that_was_full_a_moment_ago(
    scripted_sftp: ScriptedSftpServer, bench: Bench, request_name: str, free_inodes: int, free_bytes: int
) -> None:
    """A failure without a reason on a disk on which hardly anything is free is a full disk, and no file's fault."""

    async def room(request: Request) -> Any:
        return asyncssh.SFTPVFSAttrs(
            bsize=1, frsize=1, blocks=1 << 40, bfree=free_bytes, bavail=free_bytes, files=1 << 20, ffree=free_inodes,
            favail=free_inodes, fsid=1, flags=0, namemax=255,
        )  # fmt: skip

    store = bench.opened()
    bench.put(store, "before", b"x")
    scripted_sftp.always("statvfs", room)
    scripted_sftp.always("link", FAILURE)
    scripted_sftp.always(request_name, FAILURE)
    with pytest.raises(StoreError, match="nothing is free there") as caught:
        bench.put(store, "d/a", CONTENT)
    assert caught.value.origin is Origin.FULL
    assert not meaning_of(caught.value.origin).blames_file


# ---------------------------------------------------------------------------------------------- lost on the way


@pytest.mark.parametrize("request_name", ["open", "write", "close", "stat", "fsync"])
@pytest.mark.parametrize("fault", [hang_up, hang_up_afterwards, hang])
def test_a_connection_that_breaks_costs_an_attempt(
    scripted_sftp: ScriptedSftpServer, bench: Bench, request_name: str, fault: Any
) -> None:
    """Whatever a server was doing when it hung up or fell silent, the file comes through, and nothing else stays."""
    store = bench.opened()
    bench.put(store, "before", b"x")  # so that nothing but an upload is under way
    scripted_sftp.once(request_name, fault)
    receipt = bench.put(store, "key", CONTENT)
    assert receipt.proof >= Proof.SIZE
    assert scripted_sftp.files() == {"before": b"x", "key": CONTENT}


@pytest.mark.parametrize("fault", [hang_up, hang_up_afterwards])
@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_that_was_given_without_an_answer(
    scripted_sftp: ScriptedSftpServer, bench: Bench, fault: Any, has_links: bool
) -> None:
    """A file whose naming got no answer is looked for, and is there once, whether the server had done it or not."""
    if not has_links:
        scripted_sftp.always("link", UNSUPPORTED)
    store = bench.opened()
    bench.put(store, "before", b"x")
    scripted_sftp.once("link" if has_links else "rename", fault)
    bench.put(store, "key", CONTENT)
    assert scripted_sftp.files() == {"before": b"x", "key": CONTENT}


def test_a_file_at_its_name_without_an_answer(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A file that was sent straight to its name is not taken for a failed upload when it is found there."""
    store = bench.opened(temporary_names="none")
    bench.put(store, "before", b"x")
    scripted_sftp.once("close", hang_up_afterwards)
    assert bench.put(store, "key", CONTENT).already_there
    store.close(timeout=3)
    assert scripted_sftp.files() == {"before": b"x", "key": CONTENT}


def test_a_replacement_without_an_answer(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """So is one that takes the place of an older file of the same length, of which the length says nothing."""
    store = bench.opened()
    bench.put(store, "key", CONTENT[::-1])
    scripted_sftp.once("posix_rename", hang_up_afterwards)
    bench.put(store, "key", CONTENT, on_conflict=OnConflict.OVERWRITE)
    assert scripted_sftp.files() == {"key": CONTENT}


def test_a_server_that_never_answers_again(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """Silence ends an attempt after the time limit, and the upload after its attempts."""
    scripted_sftp.always("write", hang)
    store = bench.opened(timeout_seconds=0.3, retry_attempts=2)
    begun = time.monotonic()
    with pytest.raises(StoreError, match="no answer for") as caught:
        bench.put(store, "key", CONTENT)
    assert caught.value.retryable
    assert time.monotonic() - begun < 20


def test_asyncio_adds_no_lines_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What the library's loop says about a cut connection would reach cron's mail; what other loops say still does."""
    thread = loop.LoopThread(name="test-loop")
    log = logging.getLogger("asyncio")
    filters = [*log.filters]

    async def warn() -> None:
        log.warning("of our loop")

    thread.begin(warn()).result(5)
    log.warning("of another loop")
    thread.stop(timeout=5)
    assert [record.message for record in caplog.records] == ["of another loop"]
    assert log.filters == filters


def test_a_slow_server_is_no_silent_one(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """What goes slowly goes on, also if the whole takes much longer than the silence that is allowed."""

    async def slowly(request: Request) -> Any:
        await asyncio.sleep(0.04)
        return await request.carry_out()

    scripted_sftp.always("write", slowly)
    store = bench.opened(timeout_seconds=0.8)
    bench.put(store, "key", LARGE)
    assert scripted_sftp.files() == {"key": LARGE}


def test_memory_is_bounded_while_a_server_does_not_take_anything(
    scripted_sftp: ScriptedSftpServer, bench: Bench
) -> None:
    """No more than 2 MiB are on their way to a server that confirms nothing."""
    scripted_sftp.always("write", hang)
    store = bench.opened(timeout_seconds=60)
    upload = bench.begin(store, "key", os.urandom(8_000_000))
    wait_until(lambda: "write" in scripted_sftp.requests, what="the server was written to")
    time.sleep(0.5)
    assert 0 < scripted_sftp.requests.count("write") <= 80
    store.cancel()
    with pytest.raises(UploadCancelled):
        upload.result(5)


@pytest.mark.parametrize("request_name", ["open", "write", "stat", "link", "fsync"])
def test_cancelling_does_not_wait_for_the_server(
    scripted_sftp: ScriptedSftpServer, bench: Bench, request_name: str
) -> None:
    """An upload that waits for a server that hangs ends in a moment when the run ends, and so does the store."""
    store = bench.opened(timeout_seconds=60)
    bench.put(store, "before", b"x")
    scripted_sftp.always(request_name, hang)
    scripted_sftp.requests.clear()
    upload = bench.begin(store, "key", CONTENT)
    wait_until(lambda: request_name in scripted_sftp.requests, what="the server was asked")
    begun = time.monotonic()
    store.cancel()
    with pytest.raises(UploadCancelled):
        upload.result(5)
    store.close(timeout=1)
    assert time.monotonic() - begun < 8


def test_a_server_that_stays_silent_gets_no_second_chance_at_the_end(
    scripted_sftp: ScriptedSftpServer, bench: Bench
) -> None:
    """Where an upload was cut for silence, one new connection that meets the same is enough: the lock file stays."""
    store = bench.opened(timeout_seconds=60, lock_file="write")
    scripted_sftp.always("stat", hang)
    looks = scripted_sftp.requests.count("stat")
    upload = bench.begin(store, "key", CONTENT)
    ends_at = time.monotonic() + 30
    while scripted_sftp.requests.count("stat") == looks and time.monotonic() < ends_at:
        time.sleep(0.02)
    store.cancel()
    with pytest.raises(UploadCancelled):
        upload.result(5)
    store.close(timeout=5)
    assert scripted_sftp.connections == 2
    assert "write" in scripted_sftp.files()


def test_a_lock_names_its_owner_from_the_first_moment(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A run that is killed while it makes the lock leaves none of which nobody could tell whose it was."""
    seen: list[bytes] = []

    async def look(request: Request) -> Any:
        lock = scripted_sftp.root / "write"
        if lock.exists():
            seen.append(lock.read_bytes())
        return await request.carry_out()

    for name in ("open", "write", "close", "link", "remove"):
        scripted_sftp.always(name, look)
    bench.opened(lock_file="write")
    assert seen
    assert all(content.startswith(b"s3-uploader ") and content.endswith(b"\n") for content in seen)
    assert list(scripted_sftp.files()) == ["write"]


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_lock_where_there_are_no_links(scripted_sftp: ScriptedSftpServer, bench: Bench, is_taken: bool) -> None:
    """A server that cannot link creates the lock only if there is none, and nothing is left beside it."""
    scripted_sftp.always("link", UNSUPPORTED)
    store = bench.new_store(lock_file="write")
    if is_taken:
        (scripted_sftp.root / "write").write_bytes(b"somebody else")
        with pytest.raises(DestinationBusy):
            store.open()
    else:
        store.open()
        assert scripted_sftp.files()["write"].startswith(b"s3-uploader ")
    store.close(timeout=3)
    assert list(scripted_sftp.files()) == ["write"] * is_taken


def test_an_empty_lock_where_there_are_no_links(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """There a lock whose making broke off before its line arrived is removed by the next run of the spool."""
    scripted_sftp.always("link", UNSUPPORTED)

    async def hang_up_in_the_lock(request: Request) -> Any:
        if (scripted_sftp.root / "write").exists():
            return await hang_up(request)
        return await request.carry_out()

    scripted_sftp.always("write", hang_up_in_the_lock)
    store = bench.new_store(lock_file="write", identity="spool")
    with pytest.raises(StoreError, match="cannot be made"):
        store.open()
    assert scripted_sftp.files()["write"] == b""
    scripted_sftp.always("write", Request.carry_out)
    store.open()
    assert scripted_sftp.files()["write"].startswith(b"s3-uploader ")
    store.close(timeout=3)
    assert "write" not in scripted_sftp.files()


def test_the_deadline_of_an_upload(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A deadline ends an upload, however the server behaves."""
    scripted_sftp.always("open", hang)
    store = bench.opened(timeout_seconds=60)
    with pytest.raises(UploadCancelled, match="deadline"):
        bench.put(store, "key", CONTENT, seconds=0.5)


@pytest.mark.parametrize("direction", ["write", "read"])
def test_a_transfer_that_never_falls_silent(scripted_sftp: ScriptedSftpServer, bench: Bench, direction: str) -> None:
    """A server that answers every request at once holds a transfer no longer than its time, in either direction."""
    begun = time.monotonic()

    def pieces() -> Iterator[bytes]:
        while time.monotonic() - begun < 20:
            time.sleep(0.01)
            yield b"x" * (1 << 18)

    async def full(request: Request) -> Any:
        return b"x" * request.arguments[2]

    scripted_sftp.always("read", full)
    (scripted_sftp.root / "read").write_bytes(b"x")
    server = bench.new_store(timeout_seconds=60)._sftp
    session = server.connect(lambda: begun + 0.7 - time.monotonic())
    path = f"{session.base.rstrip('/')}/{direction}"
    transfer: Callable[[], object] = functools.partial(session.retrieve, path, lambda _: None)
    if direction == "write":
        transfer = functools.partial(session.store, path, pieces())
    with pytest.raises(Lost, match=r"did not finish in time|no answer for"):
        transfer()
    assert time.monotonic() - begun < 15
    server.stop()


def test_a_server_that_hangs_up_between_two_files(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """The next file goes over a new connection."""
    store = bench.opened()
    bench.put(store, "one", b"1")
    scripted_sftp.hang_up_on_all()
    bench.put(store, "two", b"2")
    assert scripted_sftp.files() == {"one": b"1", "two": b"2"}


# ---------------------------------------------------------------------------------------------- refusals


def test_a_server_without_extensions(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """Plain SFTP of version 3 does: without hard links, fsync and replacing renames."""
    for name in ("link", "posix_rename", "fsync", "statvfs"):
        scripted_sftp.always(name, UNSUPPORTED)
    store = bench.opened()
    bench.put(store, "key", b"old")
    with pytest.raises(ConflictError):
        bench.put(store, "key", CONTENT)
    bench.put(store, "key", CONTENT, on_conflict=OnConflict.OVERWRITE)
    assert scripted_sftp.files() == {"key": CONTENT}


def test_a_server_that_lets_nobody_rename(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """That would meet every file, so it ends the run, with the way out; what was sent is removed."""
    scripted_sftp.always("link", DENIED)
    scripted_sftp.always("rename", DENIED)
    with pytest.raises(StoreError, match="does not permit the rename") as caught:
        bench.put(bench.opened(), "key", CONTENT)
    assert caught.value.scope is Scope.DESTINATION
    assert "temporary_names" in caught.value.hint
    assert scripted_sftp.files() == {}
    bench.put(bench.opened(temporary_names="none"), "key", CONTENT)
    assert scripted_sftp.files() == {"key": CONTENT}


def test_a_full_disk(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """OpenSSH says no more than "failure"; where not even one byte finds room, the disk is full, and the run ends."""
    scripted_sftp.always("write", FAILURE)
    with pytest.raises(StoreError) as caught:
        bench.put(bench.opened(), "key", CONTENT)
    assert (caught.value.code, caught.value.scope) == ("DiskFull", Scope.DESTINATION)
    assert scripted_sftp.files() == {}


def test_a_file_that_is_too_large(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """Where a small file still finds room, a failure is about the one file."""

    async def up_to_a_limit(request: Request) -> Any:
        if request.arguments[1] > 100_000:
            raise asyncssh.SFTPFailure("Failure")
        return await request.carry_out()

    scripted_sftp.always("write", up_to_a_limit)
    store = bench.opened()
    with pytest.raises(StoreError) as caught:
        bench.put(store, "large", CONTENT)
    assert caught.value.scope is Scope.FILE
    bench.put(store, "small", b"small")
    assert scripted_sftp.files() == {"small": b"small"}


def test_a_connection_that_is_cut_is_no_full_disk(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """If the test whether there is room gets no answer, the refusal stays that of one file."""
    scripted_sftp.once("write", refuse(asyncssh.SFTPFailure("odd")), hang_up)
    with pytest.raises(StoreError, match="write: odd") as caught:
        bench.put(bench.opened(retry_attempts=1), "key", b"content")
    assert (caught.value.code, caught.value.scope) == ("Failure", Scope.FILE)


def test_a_directory_that_cannot_be_written_to(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A right that is missing is that of every file until one is accepted, and then of the files there."""
    scripted_sftp.always("mkdir", DENIED)
    store = bench.opened()
    for scope in (Scope.DESTINATION, Scope.FILE):
        with pytest.raises(StoreError, match="mkdir: Permission denied") as caught:
            bench.put(store, "forbidden/key", CONTENT)
        assert (caught.value.code, caught.value.scope) == ("PermissionDenied", scope)
        bench.put(store, "key", CONTENT)


def test_a_right_that_is_missing_for_one_directory(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """If a test file is accepted elsewhere, the error is one of the file, and nothing is left of the test."""
    scripted_sftp.once("mkdir", DENIED)
    store = bench.opened()
    with pytest.raises(StoreError, match="mkdir: Permission denied") as caught:
        bench.put(store, "forbidden/key", CONTENT)
    assert caught.value.scope is Scope.FILE
    assert scripted_sftp.files() == {}
    assert not any(scripted_sftp.root.iterdir())


def test_what_cannot_be_removed_is_told_once(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A part that stays is named in a warning, and the file is tried again."""
    told: list[str] = []
    scripted_sftp.always("remove", DENIED)
    scripted_sftp.always("write", DENIED)
    store = bench.opened(notice=lambda _, sentence: told.append(sentence))
    for key in ("one", "two"):
        with pytest.raises(StoreError, match="Permission denied"):
            bench.put(store, key, CONTENT)
    assert len([each for each in told if "of a failed upload to" in each]) == 1


def test_the_text_of_a_refusal(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """What a server says may be of any length and hold anything; in messages it is short and on one line."""
    scripted_sftp.always("open", refuse(asyncssh.SFTPPermissionDenied("\x1b[31m\n" + "long " * 100_000)))
    with pytest.raises(StoreError) as caught:
        bench.put(bench.opened(), "key", CONTENT)
    assert len(str(caught.value)) < 1500
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------------------------------------- lies


def test_a_wrong_length_is_no_proof(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """Where the server tells of fewer bytes than were sent, the content decides; without it the file is not there."""

    async def one_less(request: Request) -> Any:
        found = await request.carry_out()
        if isinstance(found, os.stat_result):
            found = asyncssh.SFTPAttrs.from_local(found)
        if found.size:
            found.size -= 1
        return found

    scripted_sftp.always("stat", one_less)
    store = bench.opened(retry_attempts=2)
    assert bench.put(store, "read", CONTENT).proof is Proof.CHECKSUM
    scripted_sftp.always("read", DENIED)
    with pytest.raises(StoreError, match="199999 bytes of the 200000") as caught:
        bench.put(store, "key", CONTENT)
    assert caught.value.code == "Truncated"
    assert scripted_sftp.files() == {"read": CONTENT}


def test_a_server_that_drops_bytes(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A write that is confirmed and not done is found by the length, and the file is sent anew."""

    async def swallow(request: Request) -> Any:
        return len(request.arguments[2])

    store = bench.opened()
    bench.put(store, "before", b"x")
    scripted_sftp.once("write", *[swallow] * 7)
    bench.put(store, "key", CONTENT)
    assert scripted_sftp.files()["key"] == CONTENT


def test_other_bytes_are_found_by_reading_back(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """With more asked for than the length, what was stored is read back and compared."""

    async def garble(request: Request) -> Any:
        file, offset, data = request.arguments
        return await request.carry_out(file, offset, bytes(len(data)))

    scripted_sftp.always("write", garble)
    with pytest.raises(StoreError, match=r"returned other bytes of .* than were sent") as caught:
        bench.put(bench.opened(retry_attempts=2), "key", CONTENT, minimum_proof=Proof.CHECKSUM)
    assert caught.value.code == "BadDigest"
    assert scripted_sftp.files() == {}


def test_what_cannot_be_read_back_is_not_proven(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A server that gives nothing back proves the length and no more, and the sentence says what to do."""
    scripted_sftp.always("read", DENIED)
    store = bench.opened()
    with pytest.raises(ProofError, match="minimum_proof") as caught:
        bench.put(store, "key", CONTENT, minimum_proof=Proof.CHECKSUM)
    assert caught.value.code == "NotProven"
    assert bench.put(store, "key", CONTENT).proof is Proof.SIZE


def test_a_server_that_sends_more_than_it_was_asked_for(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """It costs the connection, and no memory."""

    async def more(request: Request) -> Any:
        return bytes(1_000_000)

    scripted_sftp.always("read", more)
    with pytest.raises(StoreError):
        bench.put(bench.opened(retry_attempts=1), "key", CONTENT, minimum_proof=Proof.CHECKSUM)


def test_a_listing_without_end(
    scripted_sftp: ScriptedSftpServer,
    bench: Bench,
    effort: Callable[[int, int], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A directory that never ends holds up neither an upload nor an audit."""
    monkeypatch.setattr(listing, "_MOST_LISTED_BYTES", effort(4 << 20, listing._MOST_LISTED_BYTES))

    async def without_end() -> Any:
        number = 0
        while True:
            number += 1
            yield asyncssh.SFTPName(f"{number:0200}".encode(), attrs=asyncssh.SFTPAttrs(size=1, permissions=0o100644))

    scripted_sftp.always("scandir", lambda request: without_end())
    store = bench.opened()
    bench.put(store, "key", CONTENT)
    inventory = store.inventory()
    inventory.open()
    with pytest.raises(CannotList, match="does not end"):
        list(inventory.entries("", wanted=lambda: ""))
    inventory.close()


def test_a_listing_in_drops(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A directory of which a name comes now and then is waited for as long as one upload may take."""

    async def drops() -> Any:
        number = 0
        while True:
            await asyncio.sleep(0.05)
            number += 1
            yield asyncssh.SFTPName(f"{number}".encode(), attrs=asyncssh.SFTPAttrs(size=1, permissions=0o100644))

    scripted_sftp.always("scandir", lambda request: drops())
    inventory = bench.new_store(timeout_seconds=60, connect_timeout_seconds=60).inventory(seconds=2)
    inventory.open()
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"did not finish its answer about .* in 2 s"):
        list(inventory.entries("", wanted=lambda: ""))
    assert time.monotonic() - begun < 30
    inventory.close()


# ---------------------------------------------------------------------------------------------- permissions


def test_audit_of_what_may_not_be_listed(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """It says which permission it needs."""

    async def denied() -> AsyncIterator[asyncssh.SFTPName]:
        raise asyncssh.SFTPPermissionDenied("no")
        yield

    scripted_sftp.always("scandir", lambda request: denied())  # type: ignore[arg-type, return-value]
    inventory = bench.new_store().inventory()
    inventory.open()
    with pytest.raises(StoreError, match="refuses to look up") as caught:
        list(inventory.entries("", wanted=lambda: ""))
    assert "permission to list" in caught.value.hint
    inventory.close()


def test_inventory_where_one_directory_may_not_be_listed(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """The rest is listed. Of what is expected in that directory, nobody says that it is missing."""

    def listed(request: Request) -> AsyncIterator[asyncssh.SFTPName]:
        async def denied() -> AsyncIterator[asyncssh.SFTPName]:
            raise asyncssh.SFTPPermissionDenied("no")
            yield

        is_locked = request.arguments[0].endswith(b"/locked")
        return denied() if is_locked else asyncssh.SFTPServer.scandir(request._server, *request.arguments)

    store = bench.opened()
    for key in ("a/1", "locked/2", "z/3"):
        bench.put(store, key, CONTENT)
    scripted_sftp.always("scandir", listed)  # type: ignore[arg-type]
    inventory = bench.new_store().inventory()
    inventory.open()
    assert [entry.key for entry in inventory.entries("", wanted=lambda: "")] == ["a/1", "z/3"]
    seen = inventory.look("locked/2", content=False)
    assert seen is not None
    assert seen.size == len(CONTENT)
    with pytest.raises(StoreError, match="nobody knows whether it holds this file") as caught:
        inventory.look("locked/4", content=False)
    assert caught.value.scope is Scope.FILE
    assert inventory.look("z/4", content=False) is None
    inventory.close()


def test_check_of_an_open_store_with_a_lock(bench: Bench) -> None:
    """The lock file is held by the store itself, and that is a finding too."""
    found = bench.opened(lock_file="write").check(now=time.time())
    assert [each.fact for each in found if "lock file" in each.fact] == ["the lock file write was made"]


@pytest.mark.parametrize(
    ("requests", "right"),
    [
        (("open",), "write"),
        (("link", "rename"), "rename"),
        (("remove",), "delete"),
        (("mkdir",), "make directories"),
        (("read",), "read"),
        (("scandir",), "list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_check_of_missing_rights(
    scripted_sftp: ScriptedSftpServer, bench: Bench, requests: tuple[str, ...], right: str
) -> None:
    """``check`` names each permission that is missing."""

    async def nothing() -> AsyncIterator[asyncssh.SFTPName]:
        raise asyncssh.SFTPPermissionDenied("Permission denied")
        yield

    for name in requests:
        action: Any = (lambda _: nothing()) if name == "scandir" else DENIED
        scripted_sftp.always(name, action)
    findings = bench.new_store().check(now=time.time())
    assert f"permission to {right}" in " | ".join(finding.meaning for finding in findings)


# ---------------------------------------------------------------------------------------------- names


def test_a_server_that_folds_case(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """Where two names are one, the second file does not get it, not even with the same content or with overwrite."""
    fold_names(scripted_sftp, bytes.lower)
    store = bench.opened()
    bench.put(store, "sample", CONTENT)
    for options in ({}, {"on_conflict": OnConflict.OVERWRITE}):
        with pytest.raises(NameTaken, match="as the name of another file"):
            bench.put(store, "SAMPLE", CONTENT, **options)
    with pytest.raises(KeyRefused):
        bench.put(store, "Sample", b"other", on_conflict=OnConflict.OVERWRITE)
    assert scripted_sftp.files() == {"sample": CONTENT}


def test_a_server_that_stores_under_other_names(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """A name that the server changes is found out where it can replace nothing, and the file stays here."""
    fold_names(scripted_sftp, lambda path: path.replace(b" ", b"_"))
    store = bench.opened()
    bench.put(store, "a_b", b"older")
    with pytest.raises(KeyRefused):
        bench.put(store, "a b", CONTENT, on_conflict=OnConflict.OVERWRITE)
    assert scripted_sftp.files() == {"a_b": b"older"}


def fold_names(server: ScriptedSftpServer, change: Any) -> None:
    """Let the server take names for others."""

    async def changed(request: Request) -> Any:
        arguments = [change(each) if isinstance(each, bytes) else each for each in request.arguments]
        return await request.carry_out(*arguments)

    for name in ("open", "stat", "lstat", "link", "rename", "posix_rename", "remove", "mkdir", "rmdir"):
        server.always(name, changed)


def test_a_file_that_comes_between_look_and_name(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """Another writer's file that appears right before the naming is not replaced."""

    async def somebody_is_quicker(request: Request) -> Any:
        (scripted_sftp.root / "key").write_bytes(b"somebody's")
        return await request.carry_out()

    store = bench.opened()
    bench.put(store, "before", b"x")
    scripted_sftp.once("link", somebody_is_quicker)
    with pytest.raises(ConflictError):
        bench.put(store, "key", CONTENT)
    assert scripted_sftp.files() == {"before": b"x", "key": b"somebody's"}


def test_a_link_that_leads_nowhere(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """Nor is a link at which no file is found, by a rename where no second name can be given."""
    (scripted_sftp.root / "key").symlink_to("nowhere")
    store = bench.opened()
    bench.put(store, "before", b"x")
    with pytest.raises(ConflictError, match="symbolic link"):
        bench.put(store, "key", CONTENT)
    assert (scripted_sftp.root / "key").is_symlink()
    assert scripted_sftp.files() == {"before": b"x"}


def test_directly_to_a_name_that_somebody_takes(scripted_sftp: ScriptedSftpServer, bench: Bench) -> None:
    """Without temporary names the server creates the file only if it is not there; somebody's file stays."""

    async def somebody_is_quicker(request: Request) -> Any:
        (scripted_sftp.root / "key").write_bytes(b"somebody's")
        return await request.carry_out()

    store = bench.opened(temporary_names="none", retry_attempts=1)
    bench.put(store, "before", b"x")
    scripted_sftp.once("open", somebody_is_quicker)
    with pytest.raises(StoreError):
        bench.put(store, "key", CONTENT)
    assert scripted_sftp.files() == {"before": b"x", "key": b"somebody's"}


@pytest.mark.parametrize("error", [asyncssh.PermissionDenied, asyncssh.ProtocolError])
def test_password_that_the_server_repeats(
    scripted_sftp: ScriptedSftpServer, bench: Bench, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A server that repeats the password as it hangs up does not bring it into a message."""

    def repeat(_: object, user: str, password: str) -> bool:
        raise error(f"{user} may not log in with {password}")

    monkeypatch.setattr(scripted_sftp_server._SshServer, "validate_password", repeat)
    with pytest.raises(StoreError, match=r"may not log in with \*\*\*") as caught:
        bench.opened(private_key_file=None, password="of nobody else")
    assert "of nobody else" not in str(caught.value)
