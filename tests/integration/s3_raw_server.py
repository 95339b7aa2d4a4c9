"""A TCP server that says whatever bytes a test wants, for what no HTTP library would send."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Callable

from tests.servers.base import S3Endpoint


class RawRequest:
    """One request as it came: its first line's parts, headers in lower case, body, and how many came before it."""

    def __init__(self, head: bytes, body: bytes, connection: int, number: int) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ", 2)
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.body = body
        self.connection = connection
        self.number = number

    @property
    def key(self) -> str:
        """What comes after the bucket."""
        return self.target.split("?")[0].rpartition("/")[2]

    def good(self, extra: str = "") -> bytes:
        """The answer that proves a PUT, or says that there is nothing for anything else."""
        if self.method != "PUT":
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        etag = hashlib.md5(self.body).hexdigest()
        return f'HTTP/1.1 200 OK\r\nETag: "{etag}"\r\nContent-Length: 0\r\n{extra}\r\n'.encode()


Answer = Callable[[RawRequest, socket.socket], "bytes | None"]


class RawServer:
    """Answers each request with what the function returns, and closes the connection where it returns ``None``.

    The function may send by itself; it is called when head and body are there, with ``early`` when the head is. A
    ``greeting`` is what it says to the first bytes of every connection, before it closes it.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        early: bool = False,
        greeting: bytes = b"",
    ) -> None:
        self._answer = answer
        self._tls = tls
        self._early = early
        self._greeting = greeting
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._host = f"[{host}]" if ":" in host else host
        self._open: set[socket.socket] = set()
        self.connections = 0
        self.requests: list[RawRequest] = []
        self.errors: list[Exception] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port = self._listener.getsockname()[1]
        assert isinstance(port, int)
        return port

    @property
    def endpoint(self) -> S3Endpoint:
        """The server as an S3 endpoint with a bucket."""
        return self.endpoint_at(self._host)

    def endpoint_at(self, host: str) -> S3Endpoint:
        """The same under another name."""
        scheme = "http" if self._tls is None else "https"
        return S3Endpoint(
            endpoint_url=f"{scheme}://{host}:{self.port}",
            access_key="AKIAEXAMPLE",
            secret_key="secret",
            bucket="bucket",
        )

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._open.add(connection)
            buffer = b""
            if self._greeting:
                connection.recv(65536)
                connection.sendall(self._greeting)
                return
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = connection.recv(65536)
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                length = re.search(rb"(?im)^content-length: *(\d+)", head)
                size = int(length[1]) if length and not self._early else 0
                if size and b"100-continue" in head.lower():
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                while len(buffer) < size:
                    data = connection.recv(65536)
                    if not data:
                        return
                    buffer += data
                body, buffer = buffer[:size], buffer[size:]
                request = RawRequest(head, body, number, len(self.requests))
                self.requests.append(request)
                answer = self._answer(request, connection)
                if answer is None:
                    return
                connection.sendall(answer)
        except OSError:
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            self._open.discard(connection)
            connection.close()
