"""Servers that say too little, too early or too late: what is stored is found, and what is not is kept."""

from __future__ import annotations

import dataclasses

import pytest

from s3_uploader.core.errors import ConflictError, ProofError, Scope
from s3_uploader.stores.s3 import completing, conflict, proof
from tests.contracts.store_contract import pattern
from tests.integration.s3_support import MEBIBYTE, PART, Known, Station
from tests.servers.fault_errors import error_answer
from tests.servers.fault_script import Exchange, Fault, error, hang_up, no_proof, run_after_body
from tests.servers.fault_server import FaultServer
from tests.servers.fault_wire import Answer, Wire

LARGE = pattern(PART + 9)
PAGE = Answer(headers={"Content-Type": "text/html"}, body=b"<html>Please log in.</html>")
COMPLETE = ("CompleteMultipartUpload",)
LOOKS = ("HeadObject", "GetObject")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_PAUSES", (0.02, 0.02, 0.02))
    monkeypatch.setattr(completing, "_JOIN_AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(completing, "_LAST_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(conflict, "_TURN_SECONDS", 0.01)


def says_nothing(_: Exchange) -> Answer:
    """A success without a word, with nothing behind it."""
    return Answer()


def gives_up_waiting(_: Exchange, answer: Answer) -> Answer:
    """The answer of a proxy that did not wait for that of the server."""
    return Answer(status=504, headers={"Content-Type": "text/html"}, body=b"<html>504 Gateway Time-out</html>")


def fails_late(_: Exchange, answer: Answer) -> Answer:
    """The server has done it, and says that it has failed."""
    return error_answer("InternalError")


def is_missing(_: Exchange) -> Answer:
    """The object is not shown yet."""
    return error_answer("NoSuchKey")


def test_a_completion_that_says_nothing(fault_server: FaultServer, engine: str, station: Station) -> None:
    """An empty success after which there is no object: the parts are joined again, and none is sent twice."""
    fault_server.faults.add(Fault(name="says nothing", operations=COMPLETE, instead=says_nothing))
    station.put(station.store(fault_server.endpoint, engine), "large.dat", LARGE)
    assert fault_server.objects()["large.dat"] == LARGE
    assert fault_server.counts()["UploadPart"] == 2
    fault_server.assert_all_used()


def test_completions_that_never_say_anything(fault_server: FaultServer, engine: str, station: Station) -> None:
    """If the parts are never joined, they do not stay at the server."""
    fault_server.faults.add(Fault(name="says nothing", operations=COMPLETE, times=None, instead=says_nothing))
    failed = station.error(station.store(fault_server.endpoint, engine), "large.dat", LARGE)
    assert isinstance(failed, ProofError)
    assert fault_server.pending_uploads == []


def test_connections_that_end_without_a_word(
    fault_server: FaultServer, engine: str, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may close each connection after its answer, and not say so: parts are joined all the same."""
    serve_one = FaultServer._serve_one

    def serve_one_and_close(server: FaultServer, wire: Wire) -> bool:
        serve_one(server, wire)
        return False

    monkeypatch.setattr(FaultServer, "_serve_one", serve_one_and_close)
    store = station.store(fault_server.endpoint, engine)
    for key in ("large.dat", "next.dat"):
        station.put(store, key, LARGE)
        assert fault_server.objects()[key] == LARGE
    assert fault_server.pending_uploads == []


@pytest.mark.parametrize("then", ["InvalidPart", "OperationAborted"])
def test_a_completion_behind_a_gateway(fault_server: FaultServer, engine: str, station: Station, then: str) -> None:
    """A proxy gives up before the parts are joined, and the server refuses to join them twice: they are found."""
    fault_server.faults.add(
        Fault(name="gateway", operations=COMPLETE, before_answer=gives_up_waiting),
        error(then).only(operations=COMPLETE, times=None),
    )
    receipt = station.put(station.store(fault_server.endpoint, engine), "large.dat", LARGE)
    assert not receipt.already_there
    assert fault_server.objects()["large.dat"] == LARGE
    assert fault_server.counts()["UploadPart"] == 2


@pytest.mark.parametrize("size", [100, 100_000])
def test_content_that_may_have_been_there_before(
    fault_server: FaultServer, engine: str, station: Station, size: int
) -> None:
    """What is found after an attempt without an answer may be older: the receipt says so, and calls it not old."""
    store = station.store(fault_server.endpoint, engine)
    assert not station.put(store, "first.dat", b"first").may_be_the_file
    fault_server.faults.add(
        Fault(name="lost", operations=("PutObject", *COMPLETE), key="again.dat", before_answer=fails_late)
    )
    receipt = station.put(store, "again.dat", LARGE[:size])
    assert (receipt.already_there, receipt.after_lost_answer) == (False, True)
    assert receipt.may_be_the_file
    fault_server.assert_all_used()


@pytest.mark.parametrize("size", [100_000, len(LARGE)])
def test_a_page_is_no_conflict(fault_server: FaultServer, engine: str, station: Station, size: int) -> None:
    """A login page in the middle of an upload, which answers every look, is not taken for other content."""
    store = station.store(fault_server.endpoint, engine, memory=Known())
    station.put(store, "first.dat", b"first")
    page = Fault(name="page", operations=None, times=None, instead=lambda _: dataclasses.replace(PAGE))
    appears = run_after_body(lambda: fault_server.faults.add(page))
    if size < len(LARGE):
        fault_server.faults.add(appears.only(operations="PutObject") | hang_up("after_body"))
    else:
        fault_server.faults.add(appears.only(operations="UploadPart", part_number=2))
    failed = station.error(store, "it.dat", LARGE[:size])
    assert failed.code == "NotS3"
    assert failed.scope is Scope.DESTINATION
    fault_server.assert_all_used()


def test_an_object_that_is_shown_late(fault_server: FaultServer, engine: str, station: Station) -> None:
    """An object that proves nothing by its answer, and cannot be found at once, is looked up again."""
    store = station.store(fault_server.endpoint, engine)
    station.put(store, "first.dat", b"first")
    fault_server.faults.add(
        no_proof().only(operations=("PutObject",)),
        Fault(name="missing", operations=LOOKS, key="late.dat", times=2, instead=is_missing),
    )
    station.put(store, "late.dat", b"late")
    fault_server.assert_all_used()


def test_a_key_that_is_taken_and_free(fault_server: FaultServer, engine: str, station: Station) -> None:
    """A server that refuses a key as taken and does not show what is there gets time, and the blame."""
    store = station.store(fault_server.endpoint, engine, memory=Known())
    fault_server.put("twice.dat", b"twice")
    missing = Fault(name="missing", operations=LOOKS, key="twice.dat", times=3, instead=is_missing)
    fault_server.faults.add(missing)
    assert station.put(store, "twice.dat", b"twice").already_there
    fault_server.assert_all_used()
    fault_server.faults.add(missing.repeated())
    failed = station.error(store, "twice.dat", b"twice")
    assert isinstance(failed, ConflictError)
    assert "contradicts itself" in failed.message
    assert "another writer" not in failed.message


@pytest.mark.parametrize("limit", [None, 20_000])
def test_a_success_before_the_body(fault_server: FaultServer, station: Station, limit: int | None) -> None:
    """A success that comes before the body was read is not believed, even with the checksum that was announced.

    The server takes the rest of the body away. urllib3 reads no answer before that, so only the native engine can
    tell. With a limit of the bandwidth a small body is sent piece by piece, too.
    """

    def at_once(exchange: Exchange) -> Answer:
        name = "x-amz-checksum-crc32"
        return Answer(headers={"ETag": '"1"', name: exchange.request.headers.get(name, "")})

    content = pattern(4 * MEBIBYTE if limit is None else 20_000)
    store = station.store(fault_server.endpoint, "native", max_bandwidth=limit)
    station.put(store, "first.dat", b"first")
    fault_server.faults.add(Fault(name="at once", early=at_once))
    station.put(store, "second.dat", content)
    assert fault_server.objects()["second.dat"] == content
    fault_server.assert_all_used()


def test_an_archived_object(fault_server: FaultServer, engine: str, station: Station) -> None:
    """An object that would have to be restored to be compared is named as such; no permission is missing."""
    store = station.store(fault_server.endpoint, engine)
    fault_server.put("archived.dat", b"here")

    def frozen(_: Exchange) -> Answer:
        return Answer(status=403, headers={}, body=b"<Error><Code>InvalidObjectState</Code></Error>")

    def unknown(_: Exchange, answer: Answer) -> Answer:
        answer.headers["ETag"] = '"1-1"'
        return answer

    fault_server.faults.add(
        Fault(name="frozen", operations=("GetObject",), times=None, instead=frozen),
        Fault(name="unknown", operations=("HeadObject",), times=None, before_answer=unknown),
    )
    failed = station.error(store, "archived.dat", b"here")
    assert "archived" in failed.hint
    assert "s3:GetObject" not in failed.hint
