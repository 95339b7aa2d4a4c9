"""Writes the corpus anew from what the real servers of the tests send: ``python -m tests.fuzz.record``.

The files hold a choice of it: heads and short bodies, each kind of answer once.
"""

from __future__ import annotations

import contextlib
import ftplib
import io
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import BORDER, CORPUS
from tests.servers.base import S3Server
from tests.servers.ceph_rgw import CephServer
from tests.servers.dialects import AWS
from tests.servers.fault_server import FaultServer
from tests.servers.moto_server import MotoServer
from tests.servers.proftpd import ProftpdServer
from tests.servers.pyftpd import py_ftp_server
from tests.servers.rclone_s3 import RcloneServer
from tests.servers.swift_s3 import SwiftServer

_LONGEST = 4000


class Relay:
    """Passes connections on and keeps what the server sent."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.sent: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._upstream))
            threading.Thread(target=self._copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, True), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if keep:
                    self.sent.append(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def s3_answers(server: S3Server) -> list[bytes]:
    """What a server answers to good and bad requests."""
    endpoint = server.endpoint
    relay = Relay(int(endpoint.endpoint_url.rpartition(":")[2]))
    relayed = endpoint.replace(endpoint_url=f"http://127.0.0.1:{relay.port}")
    client: Any = relayed.client()
    bucket = endpoint.bucket
    requests = [
        lambda: client.put_object(Bucket=bucket, Key="a/b c", Body=b"content"),
        lambda: client.put_object(Bucket=bucket, Key="a/b c", Body=b"other", IfNoneMatch="*"),
        lambda: client.head_object(Bucket=bucket, Key="a/b c"),
        lambda: client.get_object(Bucket=bucket, Key="a/b c")["Body"].read(),
        lambda: client.get_object(Bucket=bucket, Key="missing"),
        lambda: client.list_objects_v2(Bucket=bucket, MaxKeys=1, EncodingType="url"),
        lambda: client.list_objects_v2(Bucket="no-such-bucket-here"),
        lambda: client.create_multipart_upload(Bucket=bucket, Key="m"),
        lambda: client.complete_multipart_upload(Bucket=bucket, Key="m", UploadId="nonsense"),
        lambda: client.delete_object(Bucket=bucket, Key="a/b c"),
    ]
    for request in requests:
        with contextlib.suppress(Exception):
            request()
    return [answer for answer in relay.sent if answer.startswith(b"HTTP/") and len(answer) < _LONGEST]


def ftp_answers(port: int, user: str, password: str) -> tuple[list[bytes], list[bytes]]:
    """Replies and listings of a server."""
    relay = Relay(port)
    ftp = ftplib.FTP()
    ftp.connect("127.0.0.1", relay.port, timeout=10)
    ftp.login(user, password)
    listings = []
    commands = ["FEAT", "PWD", "SYST", "OPTS UTF8 ON", "SIZE a b.dat", "MDTM a b.dat", "MLST a b.dat", "HASH a b.dat"]
    with contextlib.suppress(*ftplib.all_errors):
        ftp.storbinary("STOR a b.dat", io.BytesIO(b"content"))
        ftp.mkd("directory")
    for command in [*commands, "XSHA256 a b.dat", "XCRC a b.dat", "SIZE missing", "RNFR missing", "EPSV", "NOSUCH"]:
        with contextlib.suppress(*ftplib.all_errors):
            ftp.sendcmd(command)
    with contextlib.suppress(*ftplib.all_errors):
        listing = io.BytesIO()
        ftp.retrbinary("MLSD", listing.write)
        listings.append(listing.getvalue())
    ftp.close()
    return relay.sent, listings


def body_of(answer: bytes) -> bytes:
    """The body of an answer, where it is a document."""
    found = re.search(rb"<\?xml.*|<(?:Error|ListBucketResult).*", answer, re.DOTALL)
    return found[0] if found else b""


@contextlib.contextmanager
def ftp_servers() -> Iterator[list[tuple[int, str, str]]]:
    """Two FTP servers: port, user and password of each."""
    root = Path(tempfile.mkdtemp())
    with ProftpdServer() as proftpd, py_ftp_server(root) as small:
        yield [(proftpd.port, proftpd.username, proftpd.password), (small.port, "test", "testpw")]
    shutil.rmtree(root)


def keep(name: str, found: list[bytes]) -> None:
    """Write one file of the corpus."""
    distinct = list({re.sub(rb"[0-9a-f]", b"0", each): each for each in found if each and BORDER not in each}.values())
    (CORPUS / name).write_bytes(BORDER.join(distinct) + b"\n")
    print(f"{name}: {len(distinct)}")


def main() -> None:
    """Record what servers send."""
    answers: list[bytes] = []
    for make in (CephServer, SwiftServer, RcloneServer, MotoServer, lambda: FaultServer(dialect=AWS)):
        with make() as server:
            answers += s3_answers(server)
    keep("http", answers)
    keep("xml", list(map(body_of, answers)))
    sent: list[bytes] = []
    listings: list[bytes] = []
    with ftp_servers() as servers:
        for port, user, password in servers:
            found = ftp_answers(port, user, password)
            sent += found[0]
            listings += found[1]
    keep("ftp-reply", sent)
    keep("ftp-listing", listings)


if __name__ == "__main__":
    main()
