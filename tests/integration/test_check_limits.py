"""``check`` and audit of servers whose answers have no end: no step takes longer than an upload may."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.stores.base import CheckLimits
from s3_uploader.stores.ftp.store import FtpStore
from s3_uploader.stores.s3.listing import S3Inventory
from tests.integration.s3_raw_server import RawRequest, RawServer
from tests.integration.s3_support import ENGINES, Known, Station
from tests.servers.odd_ftp import OddFtpServer, Oddities, OddSession, odd_ftp_server

SECONDS = 1.0
"""The limit of a step; the removal of what was stored has a second more,"""
TOLERANCE = 20.0
"""and these are for a busy machine."""


def trickle(connection: socket.socket, piece: bytes) -> None:
    """Send something now and then until the other side has left."""
    ends_at = time.monotonic() + 30
    with contextlib.suppress(OSError):
        while time.monotonic() < ends_at:
            connection.sendall(piece)
            time.sleep(0.05)


def errors(findings: list[Finding]) -> list[str]:
    """The facts of the errors."""
    return [finding.fact for finding in findings if finding.severity is Severity.ERROR]


def after(good: int) -> Callable[[RawRequest, socket.socket], bytes | None]:
    """Answer so many requests, and the next ones without an end."""

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        if request.number < good:
            return request.good()
        connection.sendall(b"HTTP/1.1 200 OK\r\na: ")
        trickle(connection, b"b")
        return None

    return answer


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("good", [0, 1, 2])
def test_s3(engine: str, good: int) -> None:
    """The first request that takes too long ends the check of a bucket, also when objects are to be removed."""
    with RawServer(after(good)) as server, Station() as station:
        store = station.store(server.endpoint, engine, memory=Known())
        began = time.monotonic()
        found = errors(store.check(now=time.time(), limits=CheckLimits(SECONDS)))
        assert time.monotonic() - began < SECONDS + 1 + TOLERANCE
    assert any("got no answer in 1.0 s" in fact for fact in found)


def test_s3_within_the_time_of_a_run() -> None:
    """The whole check takes no longer than a run may."""
    with RawServer(lambda request, _: request.good()) as server, Station() as station:
        store = station.store(server.endpoint, "native", memory=Known())
        limits = CheckLimits(SECONDS, time.monotonic() - 1)
        assert errors(store.check(now=time.time(), limits=limits)) == [
            "The check took longer than a run may take (max_runtime_seconds)."
        ]
    assert not server.requests


@pytest.mark.parametrize("engine", ENGINES)
def test_audit_of_a_bucket(engine: str) -> None:
    """Neither does a page of a listing, nor a look at an object."""
    with RawServer(after(0)) as server, Station() as station:
        inventory = S3Inventory(station.store(server.endpoint, engine, memory=Known()), seconds=SECONDS)
        inventory.open()
        began = time.monotonic()
        with pytest.raises(StoreError, match="got no answer in 1 s") as caught:
            list(inventory.entries("", wanted=lambda: ""))
        assert caught.value.scope is Scope.DESTINATION
        with pytest.raises(StoreError, match="got no answer in 1 s"):
            inventory.look("key", content=True)
        assert time.monotonic() - began < 2 * SECONDS + TOLERANCE


def test_audit_of_a_bucket_whose_pages_are_empty() -> None:
    """A listing of empty pages ends, also where only later keys are wanted."""

    def empty(request: RawRequest, _: socket.socket) -> bytes:
        body = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>"
        body = body % request.number + b"</ListBucketResult>"
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    with RawServer(empty) as server, Station() as station:
        inventory = S3Inventory(station.store(server.endpoint, "native", memory=Known()), seconds=20)
        inventory.open()
        with pytest.raises(StoreError, match="again and again"):
            list(inventory.entries("", wanted=lambda: "later/file.dat"))
        assert len(server.requests) < 150


def on_the_control_connection(session: OddSession) -> None:
    """A reply without an end."""
    session.connection.sendall(b"213-")
    trickle(session.connection, b"x")


def on_a_data_connection(session: OddSession) -> None:
    """A file or listing without an end."""
    with contextlib.suppress(OSError), session.data() as connection:
        trickle(connection, b"type=file;size=1; a\r\n")


@pytest.mark.parametrize("limits", ["of an upload", "of a run"])
@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("SIZE", on_the_control_connection),
        ("DELE", on_the_control_connection),
        ("MLSD", on_a_data_connection),
        ("RETR", on_a_data_connection),
    ],
)
def test_ftp(tmp_path: Path, command: str, how: Callable[[OddSession], None], limits: str) -> None:
    """Whatever an FTP server never finishes, the step ends in time, and with it the check."""

    def before(session: OddSession, sent: str, _: bytes) -> bool:
        if sent == command:
            how(session)
        return sent == command

    with odd_ftp_server(tmp_path, Oddities(before=before)) as server:
        began = time.monotonic()
        given = CheckLimits(SECONDS) if limits == "of an upload" else CheckLimits(ends_at=began + SECONDS)
        assert errors(new_ftp_store(server).check(now=time.time(), limits=given))
        assert time.monotonic() - began < SECONDS + 1 + TOLERANCE


def test_ftp_with_late_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers late each time passes: the time of a step is for one answer, not for several."""
    say = OddSession.say
    transfers = []

    def say_late(session: OddSession, reply: str) -> None:
        if reply == session.server.odd.done:
            transfers.append(reply)
            if len(transfers) > 2:
                time.sleep(0.6)
        say(session, reply)

    monkeypatch.setattr(OddSession, "say", say_late)
    with odd_ftp_server(tmp_path, Oddities()) as server:
        assert not errors(new_ftp_store(server).check(now=time.time(), limits=CheckLimits(1.5)))
        assert len(transfers) == 8


def new_ftp_store(server: OddFtpServer) -> FtpStore:
    """A store on a server, not open."""
    return FtpStore(host="127.0.0.1", port=server.port, user="u", password="p")
