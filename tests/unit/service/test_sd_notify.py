"""What a service manager is told, word for word as sd_notify(3) has it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.service.sd_notify import ServiceManager
from tests.fakes import FakeClock


class Manager:
    """The other end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """What has been said since the last time."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A service manager at a path, or at an abstract address."""
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@s3_uploader-test-{os.getpid()}")
    yield made
    made.socket.close()


def test_states(manager: Manager) -> None:
    """Ready, reloading with the time, stopping, and a status on one line."""
    service = ServiceManager(manager.address, clock=lambda: 12.345678)
    service.ready()
    service.reloading()
    service.stopping()
    service.status("two\nlines, and \udcff")
    assert manager.heard() == [
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=12345678",
        "STOPPING=1",
        "STATUS=two lines, and \\udcff",
    ]


def test_watchdog(manager: Manager) -> None:
    """A sign of life is given three times in the time that the watchdog allows, and no more often."""
    clock = FakeClock()
    service = ServiceManager(manager.address, watchdog_seconds=30, clock=clock.read)
    for _ in range(100):
        service.beat()
        clock.seconds += 1
    assert manager.heard() == ["WATCHDOG=1"] * 10


def test_no_watchdog(manager: Manager) -> None:
    """Where none is wanted no sign of life is given."""
    ServiceManager(manager.address).beat()
    assert manager.heard() == []


@pytest.mark.parametrize(
    ("environ", "beats"),
    [
        ({"WATCHDOG_USEC": "3000000"}, True),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "42"}, True),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "43"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({}, False),
    ],
)
def test_environment(manager: Manager, environ: dict[str, str], beats: bool) -> None:
    """The environment says where the service manager is and whether it wants signs of life from this process."""
    ServiceManager.of({"NOTIFY_SOCKET": manager.address, **environ}, pid=42).beat()
    assert manager.heard() == ["WATCHDOG=1"] * beats


@pytest.mark.parametrize("address", [None, "", "vsock:2:1", "/nonexistent/notify"])
def test_nobody_there(address: str | None) -> None:
    """Without a service manager, or with one that is gone, nothing is told and nothing fails."""
    ServiceManager(address).ready()
