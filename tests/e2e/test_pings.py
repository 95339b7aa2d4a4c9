"""Health checks in bad weather: whatever becomes of a ping, the run is as quick and its exit code the same."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.site import Site

SECRET = "4f1ad2f4-secret"


class Check:
    """A health check that treats each ping in its own way; it notes what it could read."""

    def __init__(self, manner: str) -> None:
        self.requests: list[str] = []
        self._manner = manner
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to ping."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/{SECRET}"

    @property
    def pings(self) -> int:
        """How many connections were made."""
        return len(self._open)

    def _serve(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(channel)
            if self._manner == "reset":
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                channel.close()
            elif self._manner != "hang":
                self.requests.append(self._read(channel))
                channel.sendall(f"HTTP/1.1 {self._manner} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                channel.close()

    def _read(self, channel: socket.socket) -> str:
        data = b""
        while b"\r\n\r\n" not in data:
            data += channel.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += channel.recv(65536)
        return f"{head.split(b' ')[1].decode()} {body.decode()}"

    def close(self) -> None:
        """Let go of everybody."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for channel in self._open:
            channel.close()


@pytest.fixture(params=["200", "500", "404", "reset", "hang"])
def check(request: pytest.FixtureRequest) -> Iterator[Check]:
    """Checks of each manner."""
    made = Check(request.param)
    yield made
    made.close()


def test_whatever_becomes_of_a_ping(site: Site, check: Check, request: pytest.FixtureRequest) -> None:
    """The run ships its files and ends with 0 soon; the warning says what happened and not the secret."""
    manner = request.node.callspec.params["check"]
    site.ship_to_directory()
    site.settings["ping_url"] = check.url
    site.file("hall/2020/11/29/20/01-topic.dat")
    finished = site.run()
    assert finished.code == 0
    assert site.left() == {}
    assert finished.seconds < 12  # the time-out is 5 s
    assert SECRET not in finished.stderr
    warnings = finished.sentences("WARNING")
    if manner == "200":
        assert warnings == []
        start, end = check.requests
        assert start.startswith(f"/{SECRET}/start?rid=")
        assert end.startswith(f"/{SECRET}?rid=")
        assert start.split(" ")[0].partition("rid=")[2] == end.split(" ")[0].partition("rid=")[2]
        assert "1 file (10 B) shipped" in end
        assert "01-topic.dat has been uploaded" in end
    else:
        assert warnings
        assert all(line.startswith("The health check at 127.0.0.1:") for line in warnings)


def test_a_name_that_does_not_exist(site: Site) -> None:
    """A health check whose name cannot be resolved is a warning."""
    site.ship_to_directory()
    site.settings["ping_url"] = f"http://nowhere.invalid/{SECRET}"
    finished = site.run()
    assert finished.code == 0
    assert SECRET not in finished.stderr
    assert "The health check at nowhere.invalid could not be pinged" in finished.stderr


def test_a_run_that_cannot_begin_is_a_failure(site: Site) -> None:
    """A state directory that cannot be used is told to the health check with exit code 2 and the message."""
    made = Check("200")
    try:
        site.ship_to_directory()
        (site.place / "file").write_text("")
        site.settings |= {"ping_url": made.url, "state_dir": str(site.place / "file" / "state")}
        assert site.run().code == 2
        (request,) = made.requests
        assert request.startswith(f"/{SECRET}/2 The state directory ")
    finally:
        made.close()


def test_a_signal_during_the_last_ping_ends_the_run(site: Site) -> None:
    """A run that has shipped everything and waits for its health check ends soon after a signal, with its exit code."""
    check = Check("hang")
    try:
        site.ship_to_directory()
        site.settings["ping_url"] = check.url
        site.file("hall/2020/11/29/20/01-topic.dat")
        running = site.start()
        running.wait_until(lambda: check.pings and not site.left(), "the file is shipped and the ping made")
        begun = time.monotonic()
        running.send(signal.SIGTERM)
        finished = running.wait(15)
        assert time.monotonic() - begun < 3
        assert finished.code in (0, 143)
        assert "The health check at 127.0.0.1:" in finished.stderr
        assert "Traceback" not in finished.stderr
    finally:
        check.close()
