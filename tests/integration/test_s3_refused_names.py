"""What is refused for one file is that file's fault, and said to be: a name, or uploads in parts."""

from __future__ import annotations

from collections import Counter

import pytest

from s3_uploader.core.errors import Scope
from s3_uploader.stores.retry import RetryPolicy
from tests.integration.s3_support import PART, Station
from tests.servers.dialects import WEAK
from tests.servers.fault_script import Exchange, Fault, error
from tests.servers.fault_server import FaultServer
from tests.servers.fault_wire import Answer
from tests.servers.fixtures import MakeFaultServer

ODD = "tab\tinside.dat"
LOOKS = ("HeadObject", "GetObject")


def test_a_look_at_one_name_is_denied(make_fault_server: MakeFaultServer, engine: str, station: Station) -> None:
    """Where nothing may be written unseen, a name that may not be looked at is refused if a plain one may be."""
    server = make_fault_server(dialect=WEAK)
    store = station.store(server.endpoint, engine)
    station.put(store, "first.dat", b"content")
    server.faults.add(*(error("AccessDenied").only(operations=name, key=ODD).repeated() for name in LOOKS))
    refusal = station.error(store, ODD, b"content")
    assert (refusal.code, refusal.scope) == ("KeyRefused", Scope.FILE)
    assert "Rename the file" in refusal.hint
    station.put(store, "second.dat", b"content")
    assert set(server.objects()) == {"first.dat", "second.dat"}


def test_every_look_is_denied(make_fault_server: MakeFaultServer, engine: str, station: Station) -> None:
    """The same of every name is a missing permission, which ends the run, whatever the name is that shows it."""
    server = make_fault_server(dialect=WEAK)
    store = station.store(server.endpoint, engine)
    station.put(store, "first.dat", b"content")
    server.faults.add(*(error("AccessDenied").only(operations=name).repeated() for name in LOOKS))
    refusal = station.error(store, ODD, b"content")
    assert (refusal.code, refusal.scope) == ("AccessDenied", Scope.DESTINATION)
    assert "s3:GetObject" in refusal.hint


def test_a_name_that_leads_to_a_web_page(fault_server: FaultServer, engine: str, station: Station) -> None:
    """A page instead of an answer to one name is no reason to doubt that this is an S3 server."""

    def page(_: Exchange) -> Answer:
        return Answer(status=404, headers={"Content-Type": "text/html"}, body=b"<!doctype html><title>404</title>")

    store = station.store(fault_server.endpoint, engine)
    station.put(store, "first.dat", b"content")
    fault_server.faults.add(Fault(name="page", key=ODD, times=None, instead=page))
    refusal = station.error(store, ODD, b"content")
    assert (refusal.code, refusal.scope) == ("KeyRefused", Scope.FILE)
    assert refusal.message.startswith("The PutObject operation was answered with a web page")


def test_a_server_that_cannot_store_is_not_a_name(fault_server: FaultServer, engine: str, station: Station) -> None:
    """An error that a server calls its own is not said to be the name's, and never once an upload of it was begun."""
    store = station.store(fault_server.endpoint, engine, retry=RetryPolicy(max_attempts=1))
    fault_server.faults.add(error("InternalError").only(operations=("PutObject", "UploadPart"), times=None))
    small, large = (station.error(store, ODD, b"x" * size) for size in (1, PART + 1))
    assert small.hint.startswith(
        "This server answers for plain names. It may not accept this one, or it cannot store anything"
    )
    assert (large.code, "name" in large.hint) == ("InternalError", False)


def test_many_names_that_break_a_server(fault_server: FaultServer, engine: str, station: Station) -> None:
    """After a few refused names further ones are not retried, so that hundreds of them take little time."""
    store = station.store(fault_server.endpoint, engine)
    station.put(store, "first.dat", b"content")
    names = [f"caf\u00e9-{number}.dat" for number in range(8)]
    fault_server.faults.add(*(error("InternalError").only(operations=None, key=name, times=None) for name in names))
    assert {station.error(store, name, b"content").code for name in names} == {"KeyRefused"}
    sent = Counter(request.key for request in fault_server.requests if request.operation == "PutObject")
    assert [sent[name] for name in names] == [RetryPolicy().max_attempts] * 4 + [1] * 4
    # A name that is accepted shows that the others may be, too.
    station.put(store, "na\u00efve.dat", b"content")
    assert station.error(store, names[0], b"content").code == "KeyRefused"
    assert sent[names[0]] + RetryPolicy().max_attempts == sum(
        request.operation == "PutObject" and request.key == names[0] for request in fault_server.requests
    )


@pytest.mark.rotated("code")
@pytest.mark.parametrize(("status", "code"), [(400, ""), (404, ""), (405, "MethodNotAllowed"), (501, "NotImplemented")])
def test_a_server_without_uploads_in_parts(
    fault_server: FaultServer, engine: str, station: Station, status: int, code: str
) -> None:
    """A large file costs itself, also as the first of a run, and it is said which setting lets it go in one piece."""
    document = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""

    def refuse(_: Exchange) -> Answer:
        return Answer(status=status, headers={}, body=document)

    fault_server.faults.add(Fault(name="no parts", operations=("CreateMultipartUpload",), times=None, instead=refuse))
    store = station.store(fault_server.endpoint, engine)
    refusal = station.error(store, "large.dat", b"x" * (PART + 1))
    assert refusal.scope is Scope.FILE
    assert "multipart_threshold" in refusal.hint
    station.put(store, "small.dat", b"content")
    whole = station.store(fault_server.endpoint, engine, multipart_threshold=2 * PART)
    station.put(whole, "large.dat", b"x" * (PART + 1))
    assert set(fault_server.objects()) == {"small.dat", "large.dat"}
