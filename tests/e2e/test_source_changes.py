"""Files that change while they are uploaded, and servers that lie: the final bytes are never lost.

The server changes the source at a chosen moment and answers 200. Afterwards the final bytes are on the disk or they are
the object; and the next run, in which nothing changes, ships them.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.site import Site, settle
from tests.servers.dialects import AWS_KMS, BLIND, DIALECTS, OLD, Dialect
from tests.servers.fault_script import (
    Fault,
    error,
    error_in_success,
    lose_object,
    no_proof,
    run_before_answer,
    run_in_body,
    wrong_checksum,
    wrong_etag,
)
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import MakeFaultServer

PATH = "bedroom/2020/11/29/20/46-topic.dat"
SIZES = {"2kB": 2_000, "2MB": 2_000_000, "20MB": 20_000_000}
"""Of one request, of one that takes a while, and of three parts."""
EACH_SIZE = [pytest.param(size, id=name, marks=[pytest.mark.slow] * (size > 10**7)) for name, size in SIZES.items()]


def pattern(size: int, seed: bytes = b"before") -> bytes:
    """So many bytes that are not the same throughout."""
    block = hashlib.shake_256(seed).digest(min(size, 1 << 20))
    return (block * (size // len(block) + 1))[:size]


def append(file: Path) -> None:
    """Write more at the end."""
    with file.open("ab") as stream:
        stream.write(b"appended")


def overwrite(file: Path) -> None:
    """Write other bytes over a part."""
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(b"overwritten")


def overwrite_and_restore_mtime(file: Path) -> None:
    """The same, and put the modification time back."""
    before = file.stat()
    overwrite(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(file: Path) -> None:
    """Cut it in half."""
    os.truncate(file, file.stat().st_size // 2)


def replace(file: Path) -> None:
    """Put another file in its place by rename."""
    other = file.with_name("other.tmp")
    other.write_bytes(pattern(file.stat().st_size + 1, b"replaced"))
    other.replace(file)


def replace_alike(file: Path) -> None:
    """The same with another file of the same size and modification time."""
    before = file.stat()
    other = file.with_name("other.tmp")
    other.write_bytes(pattern(before.st_size, b"replaced"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)


def write_through_a_mapping(file: Path) -> None:
    """Write through a shared mapping, which is no system call that anybody could see."""
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapping:
        stream.close()
        mapping[-8:] = b"mappings"


CHANGES = (append, overwrite, overwrite_and_restore_mtime, truncate, replace, replace_alike, write_through_a_mapping)
MOMENTS = ("in the body", "before the answer")


def moment(when: str, size: int, change: Callable[[], None]) -> Fault:
    """The change, at this moment of the upload. For an upload in parts the moment is in its third part."""
    in_parts = size > 16 * 2**20
    fault = run_before_answer(change) if when == "before the answer" else run_in_body(change, after_bytes=size // 3)
    if in_parts:
        fault = run_before_answer(change) if when == "before the answer" else run_in_body(change, after_bytes=2_000_000)
        return fault.only(operations="UploadPart", part_number=3)
    return fault.only(operations="PutObject")


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("size", EACH_SIZE)
def test_the_final_bytes_survive(
    site: Site, fault_server: FaultServer, engine: str, size: int, change: Callable[[Path], None], when: str
) -> None:
    """However a file changes while it is uploaded, its final bytes stay, and the next run ships them."""
    site.ship_to(fault_server, engine=engine)
    file = site.file(PATH, pattern(size))
    final: list[bytes] = []

    def act() -> None:
        change(file)
        final.append(file.read_bytes())

    fault_server.faults.add(moment(when, size, act))
    finished = site.run()
    assert len(final) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    assert final[0] in (site.left().get(PATH), fault_server.objects().get(PATH)), finished.stderr
    fault_server.assert_all_used()
    if file.exists():
        # Some time later.
        settle(file)
        again = site.run()
        assert again.code == 0, again.stderr
    assert site.left() == {}
    assert fault_server.objects() == {PATH: final[0]}
    assert fault_server.pending_uploads == []


def test_between_the_parts_and_their_completion(site: Site, fault_server: FaultServer, engine: str) -> None:
    """The change may also come when all parts are there and the completion is answered."""
    site.ship_to(fault_server, engine=engine)
    file = site.file(PATH, pattern(SIZES["20MB"]))
    fault_server.faults.add(run_before_answer(lambda: append(file)).only(operations="CompleteMultipartUpload"))
    site.run()
    assert file.read_bytes().endswith(b"appended")
    settle(file)
    assert site.run().code == 0
    assert fault_server.objects()[PATH].endswith(b"appended")
    assert site.left() == {}


def test_a_change_in_every_run(site: Site, fault_server: FaultServer, engine: str) -> None:
    """A file that is touched in every upload is never lost, never a conflict, and shipped once it is left alone."""
    site.ship_to(fault_server, engine=engine)
    file = site.file(PATH, b"0")
    for number in range(1, 5):
        fault_server.faults.add(run_before_answer(lambda: append(file)).only(operations="PutObject"))
        finished = site.run()
        assert finished.code == 0, finished.stderr
        assert file.read_bytes() == b"0" + b"appended" * number
        settle(file, 3600 - number)
    assert site.run().code == 0
    assert site.left() == {}
    assert fault_server.objects() == {PATH: b"0" + b"appended" * 4}


class TestWriters:
    """Producers that have not closed their file."""

    def test_an_open_file_is_left(self, site: Site, fault_server: FaultServer) -> None:
        """A file that somebody has open for writing stays, however old it looks, and is shipped once it is closed."""
        site.ship_to(fault_server)
        file = site.file(PATH, b"half")
        with file.open("ab") as stream:
            finished = site.run("run", "-v")
            assert finished.code == 0
            assert file.read_bytes() == b"half"
            assert any(f"{file} was left: busy" in sentence for sentence in finished.sentences("DEBUG"))
            assert not fault_server.counts()
            stream.write(b" and half")
        settle(file)
        assert site.run().code == 0
        assert fault_server.objects() == {PATH: b"half and half"}

    def test_a_mapped_file_is_left(self, site: Site, fault_server: FaultServer) -> None:
        """So does one that is mapped for writing, though no descriptor of it is open any more."""
        site.ship_to(fault_server)
        file = site.file(PATH, b"x" * 4096)
        descriptor = os.open(file, os.O_RDWR)
        with mmap.mmap(descriptor, 4096) as mapping:
            os.close(descriptor)
            assert site.run().code == 0
            mapping[:5] = b"final"
            assert file.exists()
        settle(file)
        assert site.run().code == 0
        assert fault_server.objects() == {PATH: b"final" + b"x" * 4091}

    def test_a_file_that_is_opened_during_its_upload(self, site: Site, fault_server: FaultServer) -> None:
        """A writer that opens the file while it is uploaded, and writes after the answer, loses nothing."""
        site.ship_to(fault_server)
        file = site.file(PATH, b"half")
        streams = []
        fault_server.faults.add(run_before_answer(lambda: streams.append(file.open("ab"))))
        assert site.run().code == 0
        streams[0].write(b" and half")
        streams[0].close()
        assert file.read_bytes() == b"half and half"
        settle(file)
        assert site.run().code == 0
        assert fault_server.objects() == {PATH: b"half and half"}

    def test_a_producer_never_waits_for_the_uploader(self, site: Site, fault_server: FaultServer) -> None:
        """Opening a file for writing while it is uploaded takes no time: no lease is held."""
        site.ship_to(fault_server)
        file = site.file(PATH, b"half")
        took = []

        def open_it() -> None:
            began = time.monotonic()
            file.open("ab").close()
            took.append(time.monotonic() - began)

        fault_server.faults.add(run_before_answer(open_it))
        assert site.run().code == 0
        assert took[0] < 0.5


LIES = {
    "wrong ETag": wrong_etag,
    "wrong checksum": wrong_checksum,
    "no proof": no_proof,
    "lost": lambda: lose_object("0" * 32),
}
DECIDED_BY_READING = ("wrong ETag", "no proof")
"""What is read back after such an answer decides; a file whose bytes are there is shipped."""
READS = ("HeadObject", "GetObject")
WHOLE = ("PutObject", "CompleteMultipartUpload")


def damage(server: FaultServer, content: bytes) -> Fault:
    """Store something else than what was sent, as long as it and with the same beginning."""
    damaged = content[:-1] + bytes([content[-1] ^ 1])
    fault = run_before_answer(lambda: server.put(PATH, damaged))
    return fault.only(operations=WHOLE, times=None)


@pytest.mark.parametrize("size", EACH_SIZE)
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_deletes_nothing(site: Site, fault_server: FaultServer, engine: str, lie: str, size: int) -> None:
    """An answer that proves nothing or the contrary keeps the file, with a message that names path and key."""
    fault = LIES[lie]()
    if lie == "lost" and size > 16 * 2**20:
        pytest.skip("a lost object is a matter of one request")
    content = pattern(size)
    fault_server.faults.add(fault.repeated())
    if lie in DECIDED_BY_READING:
        # Neither may the answer carry a checksum beside it, nor may a second look find a proof.
        fault_server.dialect = BLIND if lie == "no proof" else OLD
        fault_server.faults.add(error("AccessDenied").only(operations=READS, times=None))
    site.ship_to(fault_server, engine=engine)
    file = site.file(PATH, content)
    finished = site.run(timeout=120)
    assert finished.code in (1, 3), finished.stderr
    assert file.read_bytes() == content
    warnings = finished.sentences("WARNING")
    assert any(f"Failed to upload {file} to {fault_server.bucket}/{PATH}: " in sentence for sentence in warnings)


@pytest.mark.parametrize("size", EACH_SIZE)
@pytest.mark.parametrize("lie", DECIDED_BY_READING)
@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
def test_what_is_there_decides(
    site: Site, fault_server: FaultServer, engine: str, lie: str, size: int, damaged: bool
) -> None:
    """After an answer that proves nothing the object is read: its bytes ship the file, others keep it."""
    content = pattern(size)
    fault_server.dialect = BLIND
    # Of a part that is answered like this the completion would not find the ETag.
    fault = LIES[lie]().only(operations=WHOLE, times=None)
    fault_server.faults.add(fault | damage(fault_server, content) if damaged else fault)
    site.ship_to(fault_server, engine=engine)
    file = site.file(PATH, content)
    finished = site.run(timeout=120)
    if damaged:
        assert finished.code in (1, 3), finished.stderr
        assert file.read_bytes() == content
        assert any(f"Failed to upload {file} to " in sentence for sentence in finished.sentences("WARNING"))
    else:
        assert finished.code == 0, finished.stderr
        assert site.left() == {}
        assert fault_server.objects() == {PATH: content}


@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
def test_an_error_in_a_200(site: Site, fault_server: FaultServer, engine: str, stored: bool) -> None:
    """A completion that answers 200 with an error in it is an error; later the file is shipped as ever."""
    content = pattern(SIZES["20MB"])
    fault_server.faults.add(error_in_success("InvalidArgument", stored=stored).repeated())
    site.ship_to(fault_server, engine=engine)
    file = site.file(PATH, content)
    finished = site.run(timeout=120)
    assert finished.code in (1, 3), finished.stderr
    assert file.read_bytes() == content
    assert any(str(file) in sentence for sentence in finished.sentences("WARNING"))
    assert fault_server.pending_uploads == []
    fault_server.faults.clear()
    settle(file, 1800)
    assert site.run().code == 0
    assert fault_server.objects() == {PATH: content}
    assert fault_server.replacements == []


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("size", [2_000, 20_000_000], ids=["2kB", "20MB"])
def test_every_dialect_of_s3(
    site: Site, make_fault_server: MakeFaultServer, engine: str, dialect: Dialect, size: int
) -> None:
    """Whatever kind of server it is, the file arrives whole and is deleted, or it stays and the run says why."""
    server = make_fault_server(dialect=dialect)
    # Who encrypts with KMS says so, and so does the server's answer: then no ETag is an MD5.
    site.ship_to(server, engine=engine, **({"sse": "aws:kms"} if dialect is AWS_KMS else {}))
    content = pattern(size)
    site.file(PATH, content)
    finished = site.run(timeout=120)
    assert finished.code == 0, finished.stderr
    assert server.objects() == {PATH: content}
    assert site.left() == {}
    assert server.pending_uploads == []
    assert server.replacements == []


@pytest.mark.parametrize("size", [2_000, 20_000_000], ids=["2kB", "20MB"])
def test_nothing_to_be_seen(site: Site, make_fault_server: MakeFaultServer, engine: str, size: int) -> None:
    """Where no answer proves the bytes and they may not be read, a file stays until minimum_proof is lowered."""
    server = make_fault_server(dialect=BLIND)
    server.faults.add(error("AccessDenied").only(operations="GetObject", times=None))
    site.ship_to(server, engine=engine)
    content = pattern(size)
    file = site.file(PATH, content)
    finished = site.run(timeout=120)
    assert finished.code in (1, 3), finished.stderr
    assert file.read_bytes() == content
    assert any("minimum_proof" in sentence for sentence in finished.sentences("WARNING"))
    site.settings["minimum_proof"] = "size"
    other = PATH.replace("46", "47")
    site.file(other, content)
    site.run(timeout=120)
    assert set(site.left()) <= {PATH}
    assert server.objects()[other] == content
