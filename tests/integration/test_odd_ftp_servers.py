"""What odd FTP servers may do: nothing is lost by it, replaced by it, or held up by it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3_uploader.core.errors import ConflictError, DestinationBusy, KeyRefused, NameTaken, ProofError, Scope, StoreError
from s3_uploader.core.findings import Severity
from s3_uploader.core.model import OnConflict, Proof
from s3_uploader.core.origins import Origin
from s3_uploader.ledger.queries import EndpointMemory
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.file_servers import conflict, listing
from s3_uploader.stores.file_servers.holder import Holder
from s3_uploader.stores.ftp import keep_alive
from s3_uploader.stores.ftp import session as ftp_session
from s3_uploader.stores.ftp.replies import Lost
from s3_uploader.stores.ftp.store import FtpStore
from s3_uploader.stores.listing import CannotList
from tests.servers.odd_ftp import OddFtpServer, Oddities, OddSession, odd_ftp_server
from tests.servers.process import wait_until

Begin = Callable[..., PendingReceipt]
NO_SIZES = {"SIZE": "550 Permission denied."}
ONLY_LISTINGS = {**NO_SIZES, "MLST": "502 not implemented", "MLSD": "502 not implemented"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory behind the server."""
    directory = tmp_path / "ftp"
    directory.mkdir()
    return directory


@contextlib.contextmanager
def opened(server: OddFtpServer, **options: Any) -> Iterator[FtpStore]:
    """An open store on a server."""
    store = new_store(server, **options)
    store.open()
    try:
        yield store
    finally:
        store.close(timeout=5)


def new_store(server: OddFtpServer, **options: Any) -> FtpStore:
    """A store on a server that does not dawdle between attempts."""
    given = {"password": "p", "timeout_seconds": 2, "jitter": lambda: 0.01, "max_concurrency": 1, **options}
    return FtpStore(host="127.0.0.1", port=server.port, user="u", **given)


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Starts an upload."""

    def start(store: FtpStore, key: str, content: bytes, **options: Any) -> PendingReceipt:
        given = {"minimum_proof": Proof.SIZE, **options}
        path = tmp_path / f"source-{time.monotonic_ns()}"
        path.write_bytes(content)
        descriptor = os.open(path, os.O_RDONLY)
        future = store.put(
            key, Source(descriptor, len(content)), options=PutOptions(**given), deadline=time.monotonic() + 60
        )
        future.add_done_callback(lambda _: os.close(descriptor))
        return future

    return start


@pytest.mark.parametrize("done", ["226 done\r\n226 Closing the data connection.", "226-done\r\n226 done\r\n200 OK"])
def test_a_transfer_that_is_confirmed_twice(root: Path, begin: Begin, done: str) -> None:
    """A reply that nothing asked for is taken for that to the next command by nobody."""
    with odd_ftp_server(root, Oddities(done=done)) as server, opened(server) as store:
        for number in range(3):
            receipt = begin(store, f"d/{number}", b"x" * 10, minimum_proof=Proof.CHECKSUM).result(60)
            assert receipt.proof is Proof.CHECKSUM
        assert len(server.sent("USER")) == 1
    assert server.files() == {f"d/{number}": b"x" * 10 for number in range(3)}


# --------------------------------------------------------------------------------------------------------------- names


def blank_to_underscore(name: bytes) -> bytes:
    """What some do to a blank at the end."""
    return name[:-1] + b"_" if name.endswith(b" ") else name


def cut(name: bytes) -> bytes:
    """What servers with short names do."""
    return name[:70]


def composed(name: bytes) -> bytes:
    """What file systems do that compose accents."""
    return name.replace("e\u0301".encode(), "é".encode())


REWRITERS = [
    (blank_to_underscore, "name_", "name "),
    (bytes.upper, "NAME.CSV", "name.csv"),
    (cut, "n" * 70, "n" * 71),
    (composed, "caf\u00e9", "cafe\u0301"),
]


@pytest.mark.parametrize("also_looks", [False, True], ids=["stored", "stored and looked up"])
@pytest.mark.parametrize(("rewrite", "delivered", "other"), REWRITERS, ids=["blank", "case", "length", "accents"])
@pytest.mark.parametrize("on_conflict", list(OnConflict))
def test_two_names_that_are_one(
    root: Path,
    begin: Begin,
    rewrite: Callable[[bytes], bytes],
    delivered: str,
    other: str,
    on_conflict: OnConflict,
    also_looks: bool,
) -> None:
    """A file whose name the server changes costs only itself: what was delivered under that name is never replaced."""
    odd = Oddities(stored_as=rewrite, looked_up_as=rewrite if also_looks else bytes)
    with odd_ftp_server(root, odd) as server:
        with opened(server) as store:
            begin(store, delivered, b"delivered", on_conflict=on_conflict).result(60)
            with pytest.raises((KeyRefused, ConflictError)):
                begin(store, other, b"the second", on_conflict=on_conflict).result(60)
        # In the next run too, that knows nothing of this one.
        with opened(server) as store, pytest.raises((KeyRefused, ConflictError)):
            begin(store, other, b"the second", on_conflict=on_conflict).result(60)
        assert server.files() == {delivered: b"delivered"}
    assert [entry.name for entry in root.iterdir()] == [delivered]


def test_changed_name_without_a_second_file(root: Path, begin: Begin) -> None:
    """A file is not taken for delivered that stands there under another name, also if the server finds it."""
    odd = Oddities(stored_as=blank_to_underscore, looked_up_as=blank_to_underscore)
    with odd_ftp_server(root, odd) as server, opened(server) as store:
        with pytest.raises(KeyRefused, match="under another name"):
            begin(store, "name ", b"x").result(60)
        with pytest.raises(KeyRefused, match="under another name"):
            begin(store, "directory /name", b"x").result(60)
        assert server.files() == {}


def test_changed_name_where_no_directory_can_be_made(root: Path, begin: Begin) -> None:
    """Without permission to make directories a name is tried all the same before it may replace anything."""
    odd = Oddities(stored_as=blank_to_underscore, refuses={"MKD": "550 no"})
    (root / "name_").write_bytes(b"delivered")
    with odd_ftp_server(root, odd) as server, opened(server) as store:
        with pytest.raises(KeyRefused, match="under another name"):
            begin(store, "name ", b"x").result(60)
        begin(store, "an odd, but kept name.csv", b"x").result(60)
    assert (root / "name_").read_bytes() == b"delivered"
    assert (root / "an odd, but kept name.csv").read_bytes() == b"x"


@pytest.mark.parametrize(
    "key",
    ["a b.csv", " leading", "trailing ", ".hidden", "caf\u00e9", "d e/f g", "-x", "x" * 200, "a;b", "5 Jan  1 00:00 x"],
)
def test_odd_names_that_are_kept(root: Path, begin: Begin, key: str) -> None:
    """Names of every kind arrive at a server that keeps them, and nothing else stays there."""
    with odd_ftp_server(root, Oddities()) as server, opened(server) as store:
        begin(store, key, b"x").result(60)
        assert begin(store, key, b"x").result(60).already_there
        assert server.files() == {key: b"x"}


def test_two_at_once_whose_case_is_one(root: Path, begin: Begin) -> None:
    """Two uploads at once whose names differ in case do not replace one another where case makes no difference."""
    fold = bytes.lower
    with odd_ftp_server(root, Oddities(stored_as=fold, looked_up_as=fold)) as server:
        with opened(server, max_concurrency=4) as store:
            futures = [begin(store, name, name.encode()) for name in ("data", "DATA", "Data", "daTa")]
            outcomes = [future.exception(60) for future in futures]
        assert outcomes[0] is None
        assert all(isinstance(each, KeyRefused) for each in outcomes[1:])
        assert server.files() == {"data": b"data"}


@pytest.mark.parametrize("on_conflict", list(OnConflict))
@pytest.mark.parametrize("temporary_names", ["auto", "none"])
def test_case_that_makes_no_difference_and_only_listings(
    root: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch, on_conflict: OnConflict, temporary_names: str
) -> None:
    """A file whose name differs in case is not replaced where names are seen in listings only, which keep the case."""

    def path(session: OddSession, name: bytes, *, is_new: bool = False) -> Path:
        found = root
        for step in os.fsdecode(os.path.join(session._directory, name)).strip("/").split("/"):
            names = os.listdir(found) if found.is_dir() else []
            found /= next((each for each in names if each.lower() == step.lower()), step)
        return found

    monkeypatch.setattr(OddSession, "path", path)
    odd = Oddities(refuses=ONLY_LISTINGS, features=())
    with odd_ftp_server(root, odd) as server, opened(server, temporary_names=temporary_names) as store:
        begin(store, "Log", b"content").result(60)
        with pytest.raises(KeyRefused):
            begin(store, "log", b"another", on_conflict=on_conflict).result(60)
        assert server.files() == {"Log": b"content"}


def test_an_odd_name_where_nothing_can_be_listed(root: Path, begin: Begin) -> None:
    """What may be another file is not replaced, and the error says that this is not certain."""
    unlisted = {"MLSD": "550 Permission denied.", "LIST": "550 Permission denied."}
    with odd_ftp_server(root, Oddities(refuses=unlisted)) as server, opened(server) as store:
        begin(store, "a b", b"old").result(60)
        error = begin(store, "a b", b"new", on_conflict=OnConflict.OVERWRITE).exception(60)
        assert server.files() == {"a b": b"old"}
    assert isinstance(error, NameTaken)
    assert "may have another name" in error.message
    assert "cannot be listed" in error.message


def test_byte_255_in_a_name(root: Path, begin: Begin) -> None:
    """The byte that is Telnet's escape goes doubled, so that the server has the name that we have."""
    with odd_ftp_server(root, Oddities(features=("SIZE", "MLST size*;"))) as server, opened(server) as store:
        begin(store, "a\udcff\udcffb", b"x").result(60)
        assert server.files() == {"a\udcff\udcffb": b"x"}


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("was", [b"", b"old one"])
def test_lost_answer_to_a_rename(root: Path, begin: Begin, was: bytes) -> None:
    """A rename whose answer was lost is found done by the content, not by a length that was there before."""
    odd = Oddities(silent_after_rename=1)
    if was:
        (root / "status").write_bytes(was)
    with odd_ftp_server(root, odd) as server, opened(server, timeout_seconds=0.5) as store:
        receipt = begin(store, "status", b"new one", on_conflict=OnConflict.OVERWRITE).result(60)
        assert receipt.size == 7
        assert server.files() == {"status": b"new one"}
        assert len(server.sent("STOR")) <= 3  # the file once, and the sample of a name


def test_rename_that_did_not_come_through(root: Path, begin: Begin) -> None:
    """If nobody answers a rename and it was not done, an older file of equal length proves nothing."""
    (root / "status").write_bytes(b"old one")
    dropped: list[bytes] = []

    def drop(session: OddSession, command: str, argument: bytes) -> bool:
        if command == "RNTO" and argument == b"/status" and not dropped:
            dropped.append(argument)
            session.connection.shutdown(socket.SHUT_RDWR)
            return True
        return False

    with odd_ftp_server(root, Oddities(before=drop)) as server, opened(server) as store:
        begin(store, "status", b"new one", on_conflict=OnConflict.OVERWRITE).result(60)
        assert server.files() == {"status": b"new one"}


def test_rename_that_is_answered_and_not_done(root: Path, begin: Begin) -> None:
    """A server that says yes and does nothing is found out under the final name, and the file is not delivered."""

    def pretend(session: OddSession, command: str, argument: bytes) -> bool:
        if command == "RNTO" and b"s3-uploader" not in argument:
            session.say("250 ok")
            return True
        return False

    (root / "status").write_bytes(b"old one")
    with odd_ftp_server(root, Oddities(before=pretend)) as server, opened(server) as store:
        with pytest.raises(StoreError, match="no file under that name"):
            begin(store, "new", b"content").result(60)
        with pytest.raises(StoreError, match=r"returned other bytes of .* than were sent"):
            begin(store, "status", b"new one", on_conflict=OnConflict.OVERWRITE).result(60)
        assert server.files() == {"status": b"old one"}


def test_answer_to_a_whole_file_is_lost(root: Path, begin: Begin) -> None:
    """A file that arrived in full before the connection died is found, not sent again."""
    odd = Oddities(silent_after_data=1)
    with odd_ftp_server(root, odd) as server, opened(server, timeout_seconds=0.5) as store:
        begin(store, "large", b"x" * 100_000).result(60)
        assert server.files() == {"large": b"x" * 100_000}
        assert len([command for command in server.sent("STOR") if "names" not in command]) == 1


@pytest.mark.parametrize("attempts", [1, 5])
def test_answer_to_a_whole_file_at_its_name_is_lost(root: Path, begin: Begin, attempts: int) -> None:
    """A file that was sent straight to its name is not taken for a failed upload later, in this upload or the next."""
    options = {"temporary_names": "none", "timeout_seconds": 0.5, "retry_attempts": attempts}
    with odd_ftp_server(root, Oddities(silent_after_data=1)) as server:
        with opened(server, **options) as store:
            if attempts == 1:
                with pytest.raises(StoreError, match="connection was lost"):
                    begin(store, "large", b"x" * 100_000).result(60)
            assert begin(store, "large", b"x" * 100_000).result(60).already_there
            assert server.files() == {"large": b"x" * 100_000}
        assert server.files() == {"large": b"x" * 100_000}


def test_directly_to_a_name_that_somebody_takes(root: Path, begin: Begin) -> None:
    """What the server refuses to replace is not removed either, where files are sent straight to their names."""

    def somebody_is_quicker(session: OddSession, command: str, argument: bytes) -> bool:
        if command != "STOR" or argument != b"/a":
            return False
        (root / "a").write_bytes(b"somebody's")
        session.say("553 a file of that name exists")
        return True

    odd = Oddities(before=somebody_is_quicker)
    with odd_ftp_server(root, odd) as server, opened(server, temporary_names="none") as store:
        with pytest.raises(StoreError, match="a file of that name exists"):
            begin(store, "a", b"content").result(60)
        assert server.files() == {"a": b"somebody's"}


def test_two_at_once_directly_to_one_name(root: Path, begin: Begin) -> None:
    """Of two uploads that go straight to one name, the second does not replace the first."""
    both_look = threading.Barrier(2, timeout=1)

    def wait(session: OddSession, command: str, argument: bytes) -> bool:
        if command == "SIZE" and argument == b"/a":
            with contextlib.suppress(threading.BrokenBarrierError):
                both_look.wait()
        return False

    options = {"temporary_names": "none", "max_concurrency": 2}
    with odd_ftp_server(root, Oddities(before=wait)) as server, opened(server, **options) as store:
        begin(store, "before", b"x").result(60)
        contents = [b"one", b"two"]
        errors = [upload.exception(60) for upload in [begin(store, "a", content) for content in contents]]
        assert [type(error) for error in errors if error] == [ConflictError]
        assert server.files() == {"before": b"x", "a": contents[errors.index(None)]}


def test_existing_file_of_which_a_command_says_it_is_busy(root: Path, begin: Begin) -> None:
    """A 450 to SIZE does not say that there is no such file, so that none is replaced."""

    def is_busy(session: OddSession, command: str, argument: bytes) -> bool:
        if command != "SIZE" or argument != b"/a":
            return False
        session.say("450 busy")
        return True

    (root / "a").write_bytes(b"other")
    with odd_ftp_server(root, Oddities(before=is_busy)) as server, opened(server) as store:
        with pytest.raises(ConflictError):
            begin(store, "a", b"content").result(60)
        assert server.files() == {"a": b"other"}


@pytest.mark.parametrize("reply", ["425 no data connection", "426 transfer aborted", "451 local error"])
def test_listing_that_breaks_off_shows_no_absence(root: Path, begin: Begin, reply: str) -> None:
    """Where only listings show files, nothing is replaced while the server cannot list."""
    (root / "a").write_bytes(b"other")
    refuses = dict.fromkeys(("SIZE", "MLST", "MLSD"), "502 not implemented")
    odd = Oddities(refuses=refuses, features=())
    options = {"temporary_names": "none", "retry_attempts": 2}
    with odd_ftp_server(root, odd) as server, opened(server, **options) as store:
        begin(store, "before", b"x").result(60)
        refuses["LIST"] = reply
        with pytest.raises(StoreError, match=reply[4:]):
            begin(store, "a", b"content").result(60)
        assert server.files() == {"a": b"other", "before": b"x"}


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("temporary_names", ["auto", "none"])
def test_listing_that_is_too_long_shows_no_absence(
    root: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch, temporary_names: str, stops: bool
) -> None:
    """Where only listings show files, one that is not read to its end makes no name free."""
    monkeypatch.setattr(ftp_session, "_MOST_LISTED_BYTES", 1000)
    (root / "d").mkdir()
    (root / "d/z").write_bytes(b"other")

    def list_many(session: OddSession, command: str, argument: bytes) -> bool:
        if command != "LIST" or not (root / "d/many").exists():
            return False
        with session.data() as connection:
            connection.sendall(b"-rw-r--r--   1 u        g    1 Jan  1 00:00 a-long-name\r\n" * 100)
        if stops:
            session.say("226 done")
        return True

    refuses = dict.fromkeys(("SIZE", "MLST", "MLSD"), "502 not implemented")
    odd = Oddities(refuses=refuses, features=(), before=list_many)
    with odd_ftp_server(root, odd) as server, opened(server, temporary_names=temporary_names) as store:
        begin(store, "d/a", b"content").result(60)
        (root / "d/many").touch()
        with pytest.raises(StoreError):
            begin(store, "d/z", b"content").result(60)
        assert server.files()["d/z"] == b"other"


@pytest.mark.rotated("without")
@pytest.mark.parametrize(
    "told",
    [
        lambda size, times: None if times < 6 else size,
        lambda size, times: size // 2 if times < 4 else size,
        lambda size, times: size + size // 3,
        lambda size, times: None,
    ],
    ids=["late", "growing", "wrong", "denied"],
)
@pytest.mark.parametrize("without", [(), ("MLST",), ("MLST", "MLSD")])
def test_sizes_that_are_late_or_wrong(
    root: Path, begin: Begin, told: Callable[[int, int], int | None], without: tuple[str, ...]
) -> None:
    """A length that comes late, or is wrong, is asked for again and in other ways; the file does not suffer."""
    refuses = dict.fromkeys(without, "500 unknown")
    odd = Oddities(size_told=told, refuses=refuses)
    with odd_ftp_server(root, odd) as server, opened(server) as store:
        begin(store, "a", b"content" * 100).result(60)
        begin(store, "b", b"content" * 100).result(60)
        assert server.files() == {"a": b"content" * 100, "b": b"content" * 100}
        if told(100, 100) is not None or without:
            with pytest.raises(ConflictError):
                begin(store, "a", b"CONTENT" * 100).result(60)
        assert server.files()["a"] == b"content" * 100


@pytest.mark.parametrize("temporary_names", ["auto", "none"])
@pytest.mark.parametrize("without", [(), ("MLST", "MLSD")])
def test_the_size_of_one_file_is_denied(
    root: Path, begin: Begin, without: tuple[str, ...], temporary_names: str
) -> None:
    """A file that the user may not look at is there. It is not replaced, whether it comes first or later in a run."""
    (root / "there").write_bytes(b"theirs")

    def deny(session: OddSession, command: str, argument: bytes) -> bool:
        if command == "SIZE" and argument.endswith(b"/there"):
            session.say("550 /there: Permission denied")
            return True
        return False

    odd = Oddities(before=deny, refuses=dict.fromkeys(without, "500 unknown"))
    with odd_ftp_server(root, odd) as server, opened(server, temporary_names=temporary_names) as store:
        for other in ("a", "b"):
            with pytest.raises(ConflictError):
                begin(store, "there", b"ours").result(60)
            begin(store, other, b"x").result(60)
        assert server.files() == {"there": b"theirs", "a": b"x", "b": b"x"}


def test_store_beside_what_is_there(root: Path, begin: Begin) -> None:
    """Where the server keeps old files and stores new ones beside them, each file still arrives under its own name."""
    odd = Oddities(stores_beside=True)
    with odd_ftp_server(root, odd) as server:
        for temporary_names in ("auto", "none"):
            with opened(server, temporary_names=temporary_names) as store:
                for content in (b"content 1", b"content 2"):
                    begin(store, temporary_names, content, on_conflict=OnConflict.OVERWRITE).result(60)
        assert server.files() == {"auto": b"content 2", "none": b"content 2"}


# -------------------------------------------------------------------------------------------------------- permissions


def memory() -> EndpointMemory:
    """What a ledger remembers."""
    return EndpointMemory({})


def test_no_dots(root: Path, begin: Begin) -> None:
    """That a server takes no names with a dot is found out once, and remembered for the next run."""
    known = memory()
    with odd_ftp_server(root, Oddities(takes_no_dots=True)) as server:
        for key in ("a", "b"):
            server.commands.clear()
            with opened(server, memory=known) as store:
                begin(store, key, b"x").result(60)
        assert not [command for command in server.sent("STOR") if "/." in command]
        assert server.files() == {"a": b"x", "b": b"x"}
        with opened(server, temporary_names="hidden") as store, pytest.raises(StoreError, match="553 Prohibited"):
            begin(store, "c", b"x").result(60)


def test_names_with_a_dot_that_are_busy(root: Path, begin: Begin) -> None:
    """A refusal that may pass does not show that the server takes no names with a dot."""
    known = memory()
    busy: list[str] = []

    def be_busy(session: OddSession, command: str, argument: bytes) -> bool:
        if command == "STOR" and not busy:
            busy.append("once")
            session.say("450 busy")
            return True
        return False

    with odd_ftp_server(root, Oddities(before=be_busy)) as server, opened(server, memory=known) as store:
        begin(store, "a", b"x").result(60)
        assert busy
        assert all(command.startswith("STOR /.") for command in server.sent("STOR"))


def test_no_rename(root: Path, begin: Begin) -> None:
    """Without permission to rename the run ends with a sentence that names it; ``none`` does without."""
    known = memory()
    odd = Oddities(refuses={"RNFR": "550 Permission denied."})
    with odd_ftp_server(root, odd) as server:
        with opened(server, memory=known) as store:
            with pytest.raises(StoreError, match="permission to rename, or set temporary_names to none") as caught:
                begin(store, "a", b"x").result(60)
            assert caught.value.scope is Scope.DESTINATION
        with opened(server, temporary_names="none") as store:
            begin(store, "a", b"x").result(60)
            assert begin(store, "a", b"x").result(60).already_there
            with pytest.raises(ConflictError):
                begin(store, "a", b"y").result(60)
            begin(store, "a", b"z", on_conflict=OnConflict.OVERWRITE).result(60)
        assert server.files() == {"a": b"z"}


def test_a_file_that_is_busy_for_now(root: Path, begin: Begin) -> None:
    """A rename that is refused for the moment is tried again, and is no missing permission, however long it lasts."""
    busy = iter(range(2))

    def is_scanned(session: OddSession, command: str, _: bytes) -> bool:
        if command != "RNFR" or next(busy, None) is None:
            return False
        session.say("450 File is busy")
        return True

    known = memory()
    with odd_ftp_server(root, Oddities(before=is_scanned)) as server:
        with opened(server, memory=known) as store:
            begin(store, "a", b"x").result(60)
        server.odd.refuses["RNFR"] = "450 File is busy"
        with opened(server, memory=known) as store:
            refusal = begin(store, "b", b"y").exception(60)
        assert isinstance(refusal, StoreError)
        assert refusal.retryable
        assert "permission" not in refusal.hint
        server.odd.refuses.clear()
        with opened(server, memory=known) as store:
            begin(store, "b", b"y").result(60)
        assert server.files() == {"a": b"x", "b": b"y"}


def test_a_greeting_that_promises_one(root: Path, begin: Begin) -> None:
    """A "ready in a minute" comes before the greeting, and is not taken for it."""
    odd = Oddities(greeting=lambda connection: connection.sendall(b"120 ready in 1 minute\r\n220 now\r\n"))
    with odd_ftp_server(root, odd) as server, opened(server) as store:
        begin(store, "a", b"x").result(60)
    assert server.files() == {"a": b"x"}


def test_a_greeting_that_only_promises(root: Path) -> None:
    """A server that is never ready is given up, however often it says that it soon will be."""

    def promise(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"120 ready in 1 minute\r\n")

    with (
        odd_ftp_server(root, Oddities(greeting=promise)) as server,
        pytest.raises(StoreError, match="ready in 1 minute"),
        opened(server),
    ):
        pass


def test_no_rename_and_no_delete(root: Path, begin: Begin) -> None:
    """Where what was sent can neither be renamed nor deleted, it is sent once and not with every run."""
    known = memory()
    odd = Oddities(refuses={"RNFR": "550 Permission denied.", "DELE": "550 Permission denied."})
    told: list[str] = []
    with odd_ftp_server(root, odd) as server:
        options: dict[str, Any] = {"memory": known, "notice": lambda _, sentence: told.append(sentence)}
        with opened(server, **options) as store, pytest.raises(StoreError, match="permission to rename"):
            begin(store, "a", b"content").result(60)
        assert "permission to delete" in "".join(told)
        before = server.files()
        for _ in range(2):
            with pytest.raises(StoreError, match="permission to rename"):
                new_store(server, memory=known).open()
        assert server.files() == before
        odd.refuses.clear()
        with opened(server, memory=known) as store:
            begin(store, "a", b"content").result(60)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning of a file counts as left after a moment."""
    monkeypatch.setattr(conflict, "_UNCHANGED_SECONDS", 2.0)


@pytest.mark.usefixtures("no_patience")
def test_beginning_of_a_killed_upload(root: Path, begin: Begin) -> None:
    """Where files go straight to their names, what a killed run left is their beginning, and is replaced."""
    (root / "a").write_bytes(b"con")
    (root / "b").write_bytes(b"other")
    (root / "c").touch()
    with odd_ftp_server(root, Oddities()) as server, opened(server, temporary_names="none") as store:
        begin(store, "a", b"content").result(60)
        begin(store, "c", b"content").result(60)
        with pytest.raises(ConflictError):
            begin(store, "b", b"content").result(60)
        assert server.files() == {"a": b"content", "b": b"other", "c": b"content"}


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize("beginning", [b"", b"con"])
def test_beginning_that_another_client_sends(root: Path, begin: Begin, beginning: bytes) -> None:
    """A file that grows is not what a killed run left, although it is the beginning of ours so far."""
    (root / "a").write_bytes(beginning)
    with odd_ftp_server(root, Oddities()) as server, opened(server, temporary_names="none") as store:
        ours = begin(store, "a", b"content")
        wait_until(lambda: bool(server.sent("RETR")), what="the file was examined")
        (root / "a").write_bytes(b"contact")
        with pytest.raises(ConflictError):
            ours.result(60)
        assert server.files() == {"a": b"contact"}


@pytest.mark.parametrize("lock_file", [None, "lock"])
@pytest.mark.parametrize(("refuses", "features"), [(NO_SIZES, Oddities.features), (ONLY_LISTINGS, ())])
def test_direct_upload_where_every_size_is_denied(
    root: Path, begin: Begin, refuses: dict[str, str], features: tuple[str, ...], lock_file: str | None
) -> None:
    """That SIZE is refused (vsftpd: cmds_denied) makes no name free: what other commands show is not replaced."""
    (root / "a").write_bytes(b"other")
    odd = Oddities(refuses=refuses, features=features)
    with odd_ftp_server(root, odd) as server, opened(server, temporary_names="none", lock_file=lock_file) as store:
        with pytest.raises(ConflictError):
            begin(store, "a", b"content").result(60)
        assert server.files()["a"] == b"other"
        begin(store, "b", b"content").result(60)
        assert server.files()["b"] == b"content"


def test_file_of_which_the_server_says_it_is_empty(root: Path, begin: Begin) -> None:
    """A wrong length of 0 does not make another's file the beginning of ours."""
    (root / "a").write_bytes(b"other")
    odd = Oddities(size_told=lambda size, _: 0 if size == 5 else size, refuses={"MLST": "500 unknown"})
    with odd_ftp_server(root, odd) as server, opened(server, temporary_names="none") as store:
        with pytest.raises(ConflictError):
            begin(store, "a", b"content").result(60)
        assert server.files() == {"a": b"other"}


@pytest.mark.parametrize("temporary_names", ["auto", "none"])
@pytest.mark.parametrize("key", ["d/e/f/new", "d/e/f2/new"])
def test_directory_that_another_program_removes(root: Path, begin: Begin, temporary_names: str, key: str) -> None:
    """A consumer that takes files together with their directories costs no file: the directories are made again."""
    with odd_ftp_server(root, Oddities()) as server, opened(server, temporary_names=temporary_names) as store:
        begin(store, "d/e/f/old", b"content").result(60)
        shutil.rmtree(root / "d")
        begin(store, key, b"content").result(60)
        assert server.files() == {key: b"content"}


@pytest.mark.parametrize("temporary_names", ["auto", "none"])
def test_root_that_vanishes(root: Path, begin: Begin, temporary_names: str) -> None:
    """Every file would meet that, so it ends the run, and no file is blamed."""
    (root / "base").mkdir()
    with (
        odd_ftp_server(root, Oddities()) as server,
        opened(server, path="/base", temporary_names=temporary_names) as store,
    ):
        begin(store, "d/old", b"content").result(60)
        (root / "base").rename(root / "elsewhere")
        with pytest.raises(StoreError, match="has vanished during the run") as caught:
            begin(store, "d/new", b"content").result(60)
        assert (caught.value.scope, caught.value.origin) == (Scope.DESTINATION, Origin.DIRECTORY)
        (root / "elsewhere").rename(root / "base")
        begin(store, "d/new", b"content").result(60)


def test_unfinished_file_that_another_program_takes(root: Path, begin: Begin) -> None:
    """It is sent again, and nothing asks for permissions."""
    taken: list[str] = []

    def take(session: OddSession, command: str, argument: bytes) -> bool:
        if command == "RNFR" and not taken and b"part" in argument:
            taken.append(str(session.path(argument).rename(root / "taken")))
        return False

    with odd_ftp_server(root, Oddities(before=take)) as server, opened(server) as store:
        (root / "x").touch()
        begin(store, "a", b"content").result(60)
        assert len(taken) == 1
        assert server.files() == {"a": b"content", "taken": b"content", "x": b""}


DROP_BOX = dict.fromkeys(
    ("SIZE", "MLST", "MLSD", "LIST", "DELE", "RNFR", "MKD", "RETR", "MDTM"), "550 Permission denied."
)


def test_drop_box(root: Path, begin: Begin) -> None:
    """A server that shows nothing is refused with a sentence, unless the configuration takes its word."""
    with odd_ftp_server(root, Oddities(refuses=DROP_BOX)) as server:
        with opened(server, temporary_names="none") as store, pytest.raises(ProofError, match="drop box"):
            begin(store, "a", b"content").result(60)
        assert "a" not in server.files()
        with opened(server, temporary_names="none") as store:
            options = {"minimum_proof": Proof.NONE, "on_conflict": OnConflict.OVERWRITE}
            receipt = begin(store, "a", b"content", **options).result(60)
            assert receipt.proof is Proof.NONE
        assert server.files()["a"] == b"content"


SHOWS_NOTHING = ("SIZE", "MLST", "MLSD", "LIST", "NLST")


@pytest.mark.parametrize("reply", ["502 not implemented", "550 Permission denied."])
@pytest.mark.parametrize("temporary_names", ["auto", "none"])
def test_server_that_shows_nothing(root: Path, begin: Begin, reply: str, temporary_names: str) -> None:
    """Every file would meet that, so it ends the run; nothing is replaced or left behind, and nothing is concluded."""
    root.joinpath("a").write_bytes(b"other")
    known = memory()
    odd = Oddities(refuses=dict.fromkeys(SHOWS_NOTHING, reply), features=())
    options = {"temporary_names": temporary_names, "memory": known}
    with odd_ftp_server(root, odd) as server:
        with opened(server, **options) as store, pytest.raises(ProofError, match="drop box") as caught:
            begin(store, "a", b"content").result(60)
        assert caught.value.scope is Scope.DESTINATION
        assert server.files() == {"a": b"other"}
        odd.refuses.clear()
        with opened(server, **options) as store:
            begin(store, "b", b"content").result(60)
            server.commands.clear()
            begin(store, "c", b"content").result(60)
            assert server.sent("MKD") == [], "no name is tried"
        assert server.files() == dict.fromkeys("bc", b"content") | {"a": b"other"}


def lists_nothing(session: OddSession, command: str, argument: bytes) -> bool:
    """Hides all files: a listing is empty, and what is asked for is not there."""
    if command not in ("LIST", "NLST", "MLSD"):
        return False
    with session.data():
        pass
    session.say("226 done")
    return True


def test_server_that_hides_files(root: Path, begin: Begin) -> None:
    """An empty listing is believed only where the server has shown a file before: what it hides is not replaced."""
    root.joinpath("a").write_bytes(b"other")
    known = memory()
    refuses = dict.fromkeys(("SIZE", "MLST", "MKD", "RETR"), "550 no such file")
    odd = Oddities(refuses=dict(refuses), features=(), before=lists_nothing)
    options = {"temporary_names": "none", "memory": known}
    with odd_ftp_server(root, odd) as server:
        for _ in range(2):
            with opened(server, **options) as store, pytest.raises(ProofError, match="does not report"):
                begin(store, "a", b"content").result(60)
            assert server.files() == {"a": b"other"}
        root.joinpath("a").unlink()
        odd.refuses, odd.before = {}, lambda *_: False
        for tests in (1, 0):
            server.commands.clear()
            with opened(server, **options) as store:
                begin(store, f"b{tests}", b"content").result(60)
            assert len([name for name in server.sent("STOR") if name.endswith("-part")]) == tests
            root.joinpath(f"b{tests}").unlink()


@pytest.mark.parametrize("reply", ["502 not implemented", "550 Permission denied."])
@pytest.mark.parametrize("temporary_names", ["auto", "none"])
def test_check_of_a_server_that_shows_nothing(root: Path, reply: str, temporary_names: str) -> None:
    """``check`` says so once, says nothing of names that it could not see, and leaves no test file there."""
    odd = Oddities(refuses=dict.fromkeys(SHOWS_NOTHING, reply), features=())
    with odd_ftp_server(root, odd) as server:
        findings = new_store(server, temporary_names=temporary_names).check(now=time.time())
        errors = [finding.fact for finding in findings if finding.severity is Severity.ERROR]
        assert errors == ["does not show a file that was just written"]
        assert not [finding for finding in findings if "name" in finding.fact]
        assert server.files() == {}


def test_lock_that_is_busy_when_it_is_read(root: Path) -> None:
    """While the server refuses for a moment to show whose lock it is, nobody believes to hold it."""
    odd = Oddities(refuses={"RETR": "450 busy"})

    def somebody_is_quicker(session: OddSession, command: str, argument: bytes) -> bool:
        if command == "APPE":
            (root / "lock").write_bytes(b"somebody's\n")
        return False

    odd.before = somebody_is_quicker
    with odd_ftp_server(root, odd) as server:
        store = new_store(server, lock_file="lock")
        with pytest.raises(StoreError, match="cannot be made: 450 busy"):
            store.open()
        odd.refuses.clear()
        with pytest.raises(DestinationBusy):
            store.open()
        assert server.files()["lock"].startswith(b"somebody's\n")


@pytest.mark.parametrize(
    ("reply", "stays"), [("550 Permission denied.", True), ("450 busy", False), ("502 not implemented", False)]
)
def test_lock_that_cannot_be_read_in_the_end(root: Path, reply: str, stays: bool) -> None:
    """A lock that could be read, and now may not be, is another user's; what was never readable is taken for ours."""
    told: list[str] = []
    odd = Oddities(refuses={"RETR": reply} if reply.startswith("502") else {})
    with odd_ftp_server(root, odd) as server:
        with opened(server, lock_file="lock", notice=lambda _, text: told.append(text)):
            odd.refuses["RETR"] = reply
        assert list(server.files()) == (["lock"] if stays else [])
        assert any("removed or replaced by another client" in each for each in told) == stays


@pytest.mark.parametrize(("refuses", "features"), [(NO_SIZES, Oddities.features), (ONLY_LISTINGS, ())])
def test_lock_where_every_size_is_denied(root: Path, refuses: dict[str, str], features: tuple[str, ...]) -> None:
    """A lock that SIZE does not show is seen: one of a killed run is removed, an empty one of another program stays."""
    with odd_ftp_server(root, Oddities(refuses=refuses, features=features)) as server:
        (root / "lock").touch()
        with pytest.raises(DestinationBusy, match="empty"):
            new_store(server, lock_file="lock").open()
        assert server.files() == {"lock": b""}
        left = Holder.current()
        left = msgspec.structs.replace(left, started=str(int(left.started) - 1))
        (root / "lock").write_text(left.line("nonce") + "\n")
        with opened(server, lock_file="lock"):
            assert len(server.files()["lock"].splitlines()) == 1
        assert server.files() == {}


def test_lock_that_could_not_be_removed(root: Path) -> None:
    """Where nothing can be deleted no lock is made, and the sentence names the permission."""
    known = memory()
    with odd_ftp_server(root, Oddities(refuses={"DELE": "550 Permission denied."})) as server:
        for _ in range(2):
            with pytest.raises(StoreError, match="has no permission to delete files") as caught:
                new_store(server, lock_file="write", memory=known).open()
            assert caught.value.scope is Scope.DESTINATION
        assert len(server.files()) == 1
        assert "write" not in server.files()
        server.odd.refuses.clear()
        with opened(server, lock_file="write", memory=known):
            pass
        assert server.files() == {}


@pytest.mark.parametrize(
    ("odd", "severity", "fact"),
    [
        (Oddities(refuses={"RNFR": "550 no"}), Severity.ERROR, "cannot be renamed: 550 no"),
        (Oddities(refuses={"RNTO": "553 no"}), Severity.ERROR, "cannot be renamed: 553 no"),
        (Oddities(refuses={"STOR": "550 no"}), Severity.ERROR, "cannot be written: 550 no"),
        (Oddities(refuses={"DELE": "550 no"}), Severity.WARNING, "cannot be deleted: 550 no"),
        (Oddities(refuses=DROP_BOX), Severity.ERROR, "does not show a file"),
        (Oddities(takes_no_dots=True), Severity.NOTE, "no names that begin with a dot"),
        (Oddities(stored_as=bytes.upper), Severity.ERROR, "not there under its new name"),
        (Oddities(stored_as=bytes.lower, looked_up_as=bytes.lower), Severity.WARNING, "under other names"),
    ],
)
def test_check_of_odd_servers(root: Path, odd: Oddities, severity: Severity, fact: str) -> None:
    """``check`` says what a run would meet."""
    with odd_ftp_server(root, odd) as server:
        findings = new_store(server).check(now=time.time())
    assert [finding for finding in findings if finding.severity is severity and fact in finding.fact], findings


@pytest.mark.parametrize("prefix", ["theirs/", "theirs/new/", "theirs-"])
def test_check_of_the_directory_of_a_prefix(root: Path, prefix: str) -> None:
    """``check`` says that the directory of ``key_prefix`` cannot be written, and leaves nothing there."""

    def deny(session: OddSession, command: str, path: bytes) -> bool:
        is_denied = command == "STOR" and path.startswith(b"/theirs/")
        if is_denied:
            session.say("550 Permission denied.")
        return is_denied

    (root / "theirs").mkdir()
    with odd_ftp_server(root, Oddities(before=deny)) as server:
        findings = new_store(server, key_prefixes=[prefix, "ours/"]).check(now=time.time())
        server.odd.before = lambda *_: False
        assert not [each for each in new_store(server, key_prefixes=[prefix]).check(now=0) if "theirs" in each.fact]
        assert server.files() == {}
    found = [finding for finding in findings if "no file can be written to theirs: 550" in finding.fact]
    assert [finding.severity for finding in found] == [Severity.WARNING] * prefix.startswith("theirs/")


# -------------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize("missing", ["PASV", "EPSV"])
def test_either_way_to_a_data_connection(root: Path, begin: Begin, missing: str) -> None:
    """Where one command for data connections is refused the other is taken, and remembered."""
    known = memory()
    with odd_ftp_server(root, Oddities(refuses={missing: "502 not here"})) as server:
        for _ in range(2):
            server.commands.clear()
            with opened(server, memory=known) as store:
                begin(store, "a", b"x").result(60)
        assert server.sent(missing) == []


def test_no_way_to_a_data_connection(root: Path, begin: Begin) -> None:
    """A server that refuses both commands ends the run, and the advice names what to enable there."""
    missing = {"PASV": "502 not here", "EPSV": "500 what?"}
    with odd_ftp_server(root, Oddities(refuses=missing)) as server, opened(server) as store:
        refusal = begin(store, "a", b"x").exception(60)
    assert isinstance(refusal, StoreError)
    assert refusal.scope is Scope.DESTINATION
    assert "Enable passive mode (PASV or EPSV) at the server" in refusal.hint


def test_data_port_that_is_closed(root: Path, begin: Begin) -> None:
    """Where the port of the one command cannot be reached the other one is tried."""

    def elsewhere(session: OddSession, command: str, _: bytes) -> bool:
        if command == "PASV":
            session.say("227 Entering Passive Mode (127,0,0,1,0,1)")
        return command == "PASV"

    with odd_ftp_server(root, Oddities(before=elsewhere)) as server, opened(server) as store:
        begin(store, "a", b"x").result(60)
        assert server.files() == {"a": b"x"}


@pytest.mark.parametrize("noop", ["200 ok", "500 what?", ""])
@pytest.mark.parametrize("at_once", [True, False])
def test_word_while_a_large_file_goes(
    root: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch, noop: str, at_once: bool
) -> None:
    """The control connection gets a word while data go, and whenever it is answered the session stays in step."""
    monkeypatch.setattr(keep_alive, "KEEP_ALIVE_SECONDS", 0.05)
    said: list[str] = []

    def answer(session: OddSession, command: str, _: bytes) -> bool:
        if command == "NOOP":
            said.append(noop)
            if noop:
                session.say(noop)
        return command == "NOOP"

    odd = Oddities(before=answer, seconds_a_chunk=0.002)
    with odd_ftp_server(root, odd) as server, opened(server) as store:
        if at_once:
            _answer_during_transfers(server)
        begin(store, "large", b"x" * 9_000_000).result(60)
        begin(store, "next", b"x").result(60)
        assert said
        assert sorted(server.files()) == ["large", "next"]
        assert len(server.sent("USER")) == 1


def _answer_during_transfers(server: OddFtpServer) -> None:
    """Commands that come while data come are answered at once, on a thread of its own."""
    plain = OddSession._do_stor

    def store(session: OddSession, name: bytes, mode: str = "wb") -> None:
        threading.Thread(target=plain, args=(session, name, mode), daemon=True).start()

    server.odd.before = _chained(server.odd.before, store)


def _chained(
    first: Callable[[OddSession, str, bytes], bool], store: Callable[[OddSession, bytes], None]
) -> Callable[[OddSession, str, bytes], bool]:
    def before(session: OddSession, command: str, argument: bytes) -> bool:
        if first(session, command, argument):
            return True
        if command == "STOR":
            store(session, argument)
            return True
        return False

    return before


def test_server_that_hangs_up_on_a_second_connection(root: Path, begin: Begin) -> None:
    """A server that takes one connection and hangs up on others without a word gets one, and no file fails for it."""
    with odd_ftp_server(root, Oddities(most_connections=1)) as server, opened(server, max_concurrency=4) as store:
        futures = [begin(store, f"f{number}", b"x" * 10_000) for number in range(8)]
        for future in futures:
            future.result(60)
        assert len(server.files()) == 8


def test_check_with_one_connection(root: Path) -> None:
    """``check`` does with the connection that there is, where the server takes only one."""
    with odd_ftp_server(root, Oddities(most_connections=1)) as server, opened(server) as store:
        findings = store.check(now=time.time())
        assert not [finding for finding in findings if finding.severity is Severity.ERROR]
        assert not [finding for finding in store.check(now=time.time()) if finding.severity is Severity.ERROR]
        assert server.files() == {}


def test_audit_with_one_connection(root: Path) -> None:
    """Several threads that look at a server take turns where it takes only one connection."""
    for number in range(20):
        (root / f"{number}").write_bytes(b"x" * number)
    with odd_ftp_server(root, Oddities(most_connections=1)) as server:
        inventory = new_store(server, max_concurrency=4).inventory()
        inventory.open()
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda number: inventory.look(str(number), content=True), range(20)))
        assert [entry.size for entry in found if entry is not None] == list(range(20))
        assert len(list(inventory.entries("", wanted=lambda: ""))) == 20
        inventory.close()


@pytest.mark.parametrize(("refuses", "features"), [(NO_SIZES, Oddities.features), (ONLY_LISTINGS, ())])
def test_audit_where_every_size_is_denied(root: Path, refuses: dict[str, str], features: tuple[str, ...]) -> None:
    """A file that SIZE does not show is not called missing."""
    (root / "a").write_bytes(b"content")
    with odd_ftp_server(root, Oddities(refuses=refuses, features=features)) as server:
        inventory = new_store(server).inventory()
        inventory.open()
        try:
            assert inventory.look("b", content=True) is None
            entry = inventory.look("a", content=True)
            assert entry is not None
            assert entry.size == 7
            assert inventory.look("b", content=True) is None
        finally:
            inventory.close()


def test_direct_upload_without_the_right_to_delete(root: Path, begin: Begin) -> None:
    """Where nothing can be deleted or renamed, run after run leaves no more there than the files and one probe."""
    known = memory()
    refuses = dict.fromkeys(("DELE", "RNFR", "MKD", "LIST", "MLSD"), "550 Permission denied.")
    with odd_ftp_server(root, Oddities(refuses=refuses)) as server:
        for number in range(3):
            with opened(server, memory=known, temporary_names="none") as store:
                begin(store, f"a {number}", b"x").result(60)
                with pytest.raises(ConflictError):
                    begin(store, f"a {number}", b"y").result(60)
        files = server.files()
    assert {name: content for name, content in files.items() if "part" not in name} == {
        "a 0": b"x",
        "a 1": b"x",
        "a 2": b"x",
    }
    assert len(files) == 4


# ------------------------------------------------------------------------------------------------------------- bounds


def drip(connection: socket.socket) -> None:
    """A greeting of one byte every tenth of a second."""
    connection.sendall(b"220-")
    while True:
        connection.sendall(b"a")
        time.sleep(0.1)


def flood(connection: socket.socket) -> None:
    """A greeting without end."""
    while True:
        connection.sendall(b"220-" + b"a" * 1000 + b"\r\n")


def one_line(connection: socket.socket) -> None:
    """A line without end."""
    while True:
        connection.sendall(b"2" * 65536)


@pytest.mark.parametrize("greeting", [drip, flood, one_line])
def test_greeting_without_end(root: Path, greeting: Callable[[socket.socket], None]) -> None:
    """However a greeting goes on for ever, it costs no more than the timeout."""
    with odd_ftp_server(root, Oddities(greeting=greeting)) as server:
        begun = time.monotonic()
        with pytest.raises(StoreError, match=r"no answer in time|does not speak FTP") as caught:
            new_store(server, timeout_seconds=1).open()
        assert time.monotonic() - begun < 5
        assert len(str(caught.value)) < 500


def test_close_while_it_opens(root: Path) -> None:
    """A store that is being opened on another thread can be closed, and is not open afterwards."""
    with odd_ftp_server(root, Oddities(greeting=drip)) as server:
        store = new_store(server, timeout_seconds=60)
        failed: list[StoreError] = []

        def work() -> None:
            try:
                store.open()
            except StoreError as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.3)
        begun = time.monotonic()
        store.close(timeout=5)
        thread.join(5)
        assert time.monotonic() - begun < 3
        assert failed


def test_lock_file_without_end(root: Path) -> None:
    """Of somebody else's lock file no more is read than a line of ours is long."""

    def endless(session: OddSession, command: str, _: bytes) -> bool:
        if command != "RETR":
            return False
        with contextlib.suppress(OSError), session.data() as connection:
            while True:
                connection.sendall(b"A" * 65536)
        session.say("426 cut")
        return True

    (root / "write").write_bytes(b"x")
    with odd_ftp_server(root, Oddities(before=endless)) as server:
        begun = time.monotonic()
        with pytest.raises(Exception, match="lockfile exists"):
            new_store(server, lock_file="write").open()
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("command", ["SIZE", "STOR", "MKD", "RNTO"])
def test_reply_without_end(root: Path, begin: Begin, command: str) -> None:
    """A reply that never ends costs the file that it is about, and is not kept in memory."""

    def endless(session: OddSession, given: str, _: bytes) -> bool:
        if given != command:
            return False
        with contextlib.suppress(OSError):
            session.say(f"550-{'x' * 60}")
            while True:
                session.say("550-" + "x" * 5000)
        return True

    with odd_ftp_server(root, Oddities(before=endless)) as server, opened(server, retry_attempts=2) as store:
        with pytest.raises(StoreError) as caught:
            begin(store, "d/a", b"x").result(60)
        assert len(str(caught.value)) < 1000


def test_long_message(root: Path, begin: Begin) -> None:
    """Of what a server says no more than 500 characters are told, with what drives a terminal escaped."""
    odd = Oddities(refuses={"STOR": "550 \x1b[2J" + "long " * 2000})
    with odd_ftp_server(root, odd) as server, opened(server) as store:
        with pytest.raises(StoreError) as caught:
            begin(store, "a", b"x").result(60)
        assert len(str(caught.value)) < 800
        assert "\x1b" not in str(caught.value)


def test_transfer_that_never_falls_silent(root: Path) -> None:
    """A server that takes every piece at once holds a transfer no longer than its time, although it is never silent."""
    begun = time.monotonic()

    def endless() -> Iterator[bytes]:
        while time.monotonic() - begun < 20:
            time.sleep(0.001)
            yield b"x"

    with odd_ftp_server(root, Oddities()) as server:
        session = new_store(server, timeout_seconds=60)._ftp.connect(lambda: begun + 1 - time.monotonic())
        with pytest.raises(Lost, match="no answer in time"):
            session.store("a", endless())
        assert time.monotonic() - begun < 10
        session.close()


@pytest.mark.parametrize("command", ["MLSD", "RETR", "SIZE"])
def test_audit_of_answers_in_drops(root: Path, command: str) -> None:
    """An answer of a few bytes a second is waited for as long as one upload may take, and only once."""

    def drops(session: OddSession, given: str, _: bytes) -> bool:
        if given != command:
            return False
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            connection = session.connection if command == "SIZE" else stack.enter_context(session.data())
            while True:
                connection.sendall(b"213-" if command == "SIZE" else b"type=file;size=1; a\r\n")
                time.sleep(0.05)
        return True

    (root / "a").write_bytes(b"x" * 10_000)
    with odd_ftp_server(root, Oddities(before=drops)) as server:
        inventory = new_store(server, timeout_seconds=60, connect_timeout_seconds=60).inventory(seconds=2)
        inventory.open()
        begun = time.monotonic()
        entries = inventory.entries("", wanted=lambda: "")
        ask = (lambda: next(entries)) if command == "MLSD" else (lambda: inventory.look("a", content=True))
        with pytest.raises(StoreError, match=r"did not finish its answer about .* in 2 s") as caught:
            ask()
        assert time.monotonic() - begun < 30
        assert caught.value.scope is Scope.DESTINATION
        assert len(server.sent(command)) <= 1
        inventory.close()


@pytest.mark.parametrize("command", ["MLSD", "RETR"])
def test_audit_of_answers_that_outlast_it(root: Path, command: str) -> None:
    """The end of the whole audit also ends an answer whose bytes arrive quickly enough."""

    def stream(session: OddSession, given: str, _: bytes) -> bool:
        if given != command:
            return False
        with contextlib.suppress(OSError), session.data() as connection:
            while True:
                connection.sendall(b"type=file;size=1; a\r\n" * 100)
                time.sleep(0.01)
        return True

    (root / "a").write_bytes(b"x" * 10_000_000)
    with odd_ftp_server(root, Oddities(before=stream)) as server:
        begun = time.monotonic()
        inventory = new_store(server, timeout_seconds=60).inventory(seconds=60, until=begun + 2)
        inventory.open()
        entries = inventory.entries("", wanted=lambda: "")
        ask = (lambda: next(entries)) if command == "MLSD" else (lambda: inventory.look("a", content=True))
        with pytest.raises(StoreError, match="before the time of the whole audit was over") as caught:
            ask()
        assert time.monotonic() - begun < 15
        assert caught.value.scope is Scope.DESTINATION
        inventory.close()


def test_listing_without_end(
    root: Path, begin: Begin, effort: Callable[[int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing without end neither holds up an upload nor fills the memory, and ``audit`` is told of it."""
    monkeypatch.setattr(listing, "_MOST_LISTED_BYTES", effort(4 << 20, listing._MOST_LISTED_BYTES))

    def endless(session: OddSession, command: str, _: bytes) -> bool:
        if command not in ("MLSD", "LIST"):
            return False
        line = b"type=file;size=5;modify=20260101000000; " + b"f" * 60 + b"\r\n"
        with contextlib.suppress(OSError), session.data() as connection:
            while True:
                connection.sendall(line * 1000)
        session.say("426 cut")
        return True

    with odd_ftp_server(root, Oddities(before=endless)) as server:
        with opened(server) as store:
            begin(store, "a", b"x").result(60)
            assert server.files() == {"a": b"x"}
        inventory = new_store(server).inventory()
        inventory.open()
        with pytest.raises(CannotList, match="does not end"):
            list(inventory.entries("", wanted=lambda: ""))
        entry = inventory.look("a", content=True)
        assert entry is not None
        assert entry.size == 1
        inventory.close()


@pytest.mark.parametrize("verb", ["USER", "PASS", "TYPE", "STOR"])
@pytest.mark.parametrize(
    "reply",
    ["500 'PASS our s\xe9cret': command not understood", "530-no\r\n530-u/our s\xe9cret\r\n530 end", "our s\xe9cret"],
    ids=["a line", "lines", "no reply"],
)
def test_password_that_the_server_repeats(root: Path, begin: Begin, verb: str, reply: str) -> None:
    """Servers that repeat what they refuse do not bring the password into a message."""
    password = b"our s\xe9cret".decode("utf-8", "surrogateescape")
    server = OddFtpServer(root, Oddities(refuses={verb: reply}))
    try:
        with pytest.raises(StoreError, match=r"\*\*\*") as caught, opened(server, password=password) as store:
            begin(store, "f", b"content").result(30)
    finally:
        server.stop()
    assert "our s" not in str(caught.value)
