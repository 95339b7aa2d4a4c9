"""The servers as pytest fixtures; a conftest makes them its own with ``from tests.servers.fixtures import *``.

Servers live as long as the session, buckets as long as a test. Swift, Ceph and moto are one for all processes of a run
(`tests.servers.shared`); `shared_server` gives them by name. A server that cannot run on this machine skips the tests
that want it, with the reason; where the environment says CI=true they fail instead, because there everything is
installed.

=====================  ==========================================================================================
fixture                what it is
=====================  ==========================================================================================
`rclone_s3`            `S3Endpoint` with a fresh bucket on rclone (weak dialect); `rclone_server` the server itself
`swift_s3`             the same on Swift (new dialect); `swift_server`
`ceph_s3`              the same on Ceph (old dialect); `ceph_server`
`moto_s3`              the same on moto; `moto_server`
`real_s3`              each of rclone, Swift and Ceph in turn; its `dialect` says what to expect
`fault_server`         a fresh `FaultServer`; its faults must all have happened when the test ends
`make_fault_server`    a function that starts further ones: ``make_fault_server(dialect=OLD, tls=True)``
`make_fault_proxy`     a function that puts HAProxy before a server or an endpoint
`proftpd_server`       the FTP server
`proftpd_sftp_server`   ProFTPD's SFTP server
`openssh_servers`      a function: way to serve -> OpenSSH's server, running
`scripted_sftp`        a fresh SFTP server that does what a test tells it
`nginx_sink`           the benchmarks' sink
`clock_offset`         a function: seconds -> variables for a subprocess whose clock is off
=====================  ==========================================================================================
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from tests.outcomes import was_skipped
from tests.servers.base import S3Endpoint, S3Server, Server
from tests.servers.ceph_rgw import CephServer
from tests.servers.debian import Unavailable
from tests.servers.dialects import AWS, Dialect
from tests.servers.faketime import clock_offset_environment
from tests.servers.fault_server import FaultServer
from tests.servers.haproxy_fault import HaproxyFault
from tests.servers.nginx_sink import NginxSink
from tests.servers.openssh import OpensshServer
from tests.servers.proftpd import ProftpdServer
from tests.servers.proftpd_sftp import ProftpdSftpServer
from tests.servers.rclone_s3 import RcloneServer
from tests.servers.swift_s3 import SwiftServer

__all__ = [
    "ceph_s3",
    "ceph_server",
    "clock_offset",
    "fault_server",
    "make_fault_proxy",
    "make_fault_server",
    "moto_s3",
    "moto_server",
    "nginx_sink",
    "openssh_servers",
    "proftpd_server",
    "proftpd_sftp_server",
    "rclone_s3",
    "rclone_server",
    "real_s3",
    "scripted_sftp",
    "swift_s3",
    "swift_server",
]

if TYPE_CHECKING:
    from tests.servers.scripted_sftp import ScriptedSftpServer

_S = TypeVar("_S", bound=Server)
_T = TypeVar("_T")


class MakeFaultServer(Protocol):
    """Starts a fault server that lives as long as the test."""

    def __call__(
        self, *, dialect: Dialect = AWS, tls: bool = False, versioned: bool = False, keep_bodies: bool = False
    ) -> FaultServer:
        """Start it."""


class MakeFaultProxy(Protocol):
    """Starts a HAProxy that lives as long as the test."""

    def __call__(self, upstream: S3Endpoint | S3Server) -> HaproxyFault:
        """Start it in front of a server."""


def or_skip(action: Callable[[], _T]) -> _T:
    """Call something that needs software of the machine; skip the test when it is not there, in CI fail it."""
    try:
        return action()
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


def _running(server: _S) -> Iterator[_S]:
    or_skip(server.start)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[RcloneServer]:
    """Rclone's S3 server."""
    yield from _running(RcloneServer())


@pytest.fixture(scope="session")
def swift_server(shared_server: Callable[[str], S3Server]) -> S3Server:
    """OpenStack Swift."""
    return or_skip(lambda: shared_server("swift"))


@pytest.fixture(scope="session")
def ceph_server(shared_server: Callable[[str], S3Server]) -> S3Server:
    """Ceph's gateway, with http and https."""
    return or_skip(lambda: shared_server("ceph"))


@pytest.fixture(scope="session")
def moto_server(shared_server: Callable[[str], S3Server]) -> S3Server:
    """Moto in a process of its own."""
    return or_skip(lambda: shared_server("moto"))


@pytest.fixture(scope="session")
def proftpd_server() -> Iterator[ProftpdServer]:
    """The FTP server."""
    yield from _running(ProftpdServer())


@pytest.fixture(scope="session")
def proftpd_sftp_server() -> Iterator[ProftpdSftpServer]:
    """ProFTPD's SFTP server."""
    yield from _running(ProftpdSftpServer())


@pytest.fixture(scope="session")
def openssh_servers() -> Iterator[Callable[[str], OpensshServer]]:
    """OpenSSH's server in each of its ways (`openssh.HOW`), started when it is first asked for."""
    running: dict[str, OpensshServer] = {}

    def serving(how: str) -> OpensshServer:
        if how == "chroot" and os.geteuid() != 0:
            pytest.skip("only root can have an SSH server that chroots")
        if how not in running:
            running[how] = or_skip(OpensshServer(how).start)
        return running[how]

    yield serving
    for server in running.values():
        server.stop()


@pytest.fixture
def scripted_sftp() -> Iterator[ScriptedSftpServer]:
    """An SFTP server in this process, with nothing on it."""
    from tests.servers.scripted_sftp import ScriptedSftpServer

    with ScriptedSftpServer() as server:
        yield server


@pytest.fixture(scope="session")
def nginx_sink() -> Iterator[NginxSink]:
    """The sink that stores nothing."""
    yield from _running(NginxSink())


@pytest.fixture
def rclone_s3(rclone_server: RcloneServer) -> S3Endpoint:
    """A fresh bucket on rclone."""
    return rclone_server.new_bucket()


@pytest.fixture
def swift_s3(swift_server: SwiftServer) -> S3Endpoint:
    """A fresh bucket on Swift."""
    return swift_server.new_bucket()


@pytest.fixture
def ceph_s3(ceph_server: CephServer) -> S3Endpoint:
    """A fresh bucket on Ceph."""
    return ceph_server.new_bucket()


@pytest.fixture
def moto_s3(moto_server: S3Server) -> S3Endpoint:
    """A fresh bucket on moto."""
    return moto_server.new_bucket()


@pytest.fixture(params=["rclone", "swift", "ceph"])
def real_s3(request: pytest.FixtureRequest) -> S3Endpoint:
    """A fresh bucket on each of the real servers in turn."""
    endpoint = request.getfixturevalue(f"{request.param}_s3")
    assert isinstance(endpoint, S3Endpoint)
    return endpoint


@pytest.fixture
def make_fault_server(request: pytest.FixtureRequest) -> Iterator[MakeFaultServer]:
    """Start fault servers; in the end every fault that was queued must have happened, unless the test was skipped."""
    servers: list[FaultServer] = []
    with ExitStack() as stack:

        def make(
            *, dialect: Dialect = AWS, tls: bool = False, versioned: bool = False, keep_bodies: bool = False
        ) -> FaultServer:
            server = FaultServer(dialect=dialect, tls=tls, versioned=versioned, keep_bodies=keep_bodies)
            servers.append(stack.enter_context(server))
            return server

        yield make
        for server in () if was_skipped(request.node) else servers:
            server.assert_all_used()


@pytest.fixture
def fault_server(make_fault_server: MakeFaultServer) -> FaultServer:
    """A fault server that speaks Amazon's dialect."""
    return make_fault_server()


@pytest.fixture
def make_fault_proxy() -> Iterator[MakeFaultProxy]:
    """Put HAProxy before servers."""
    with ExitStack() as stack:
        yield lambda upstream: or_skip(lambda: stack.enter_context(HaproxyFault(upstream)))


@pytest.fixture
def clock_offset() -> Callable[[float], dict[str, str]]:
    """Return the variables that put the clock of a subprocess so many seconds ahead."""
    return lambda seconds: or_skip(lambda: clock_offset_environment(seconds))
