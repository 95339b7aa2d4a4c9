"""The services that give credentials: instance metadata, containers, STS and SSO; scripted, on 127.0.0.1.

All of them are one server, which tells them apart by their paths. It notes what it was asked, and answers as its `mode`
says: with credentials, or in one of the ways in which such services fail.
"""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

Mode = Literal[
    "good", "nonsense", "page", "empty", "list", "500", "hang", "hang up", "endless", "no token", "hop limit"
]
"""`no token`: the metadata service knows only its first version; `hop limit`: the answer to a token never arrives."""

FAILURES: tuple[Mode, ...] = ("nonsense", "page", "empty", "list", "500", "hang", "hang up", "endless")
"""The ways in which every service may fail."""

_EXPIRES = "2099-01-01T00:00:00Z"
_STS = """\
<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>
<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>token-STS</SessionToken>
<Expiration>{expires}</Expiration></Credentials>
<AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>R:s</AssumedRoleId></AssumedRoleUser>
</{action}Result></{action}Response>"""

_BODIES: dict[str, tuple[int, str, bytes]] = {
    "nonsense": (200, "application/json", b"hello"),
    "page": (200, "text/html", b"<!doctype html><title>Please log in</title>"),
    "empty": (200, "application/json", b""),
    "list": (200, "application/json", b"[]"),
    "500": (500, "text/plain", b"out of order"),
}


class Asked(tuple[str, str, tuple[tuple[str, str], ...]]):
    """Method, path and parameters of a request, with the headers that carry tokens."""

    __slots__ = ()


class CredentialServices:
    """A context manager; `requests` is what was asked, in its order.

    `keys` are what all services give; without them each gives its own, so that they can be told apart. With `renews`
    the tokens of a container are numbered.
    """

    def __init__(self) -> None:
        self.mode: Mode = "good"
        self.keys: tuple[str, str] | None = None
        self.renews = False
        self.given = 0
        self.requests: list[Asked] = []
        self._stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            do_PUT = do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """Where all the services are."""
        return f"http://{self.address}"

    def __enter__(self) -> CredentialServices:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length).decode()
        url = urlsplit(handler.path)
        parameters = dict(parse_qsl(url.query) + parse_qsl(body))
        tokens = ("authorization", "x-aws-ec2-metadata-token", "x-amz-sso_bearer_token")
        headers = {name: value for name in tokens if (value := handler.headers.get(name)) and "Signature" not in value}
        self.requests.append(Asked((handler.command, url.path, tuple(sorted({**parameters, **headers}.items())))))
        with contextlib.suppress(OSError):
            self._send(handler, url.path, parameters)

    def _send(self, handler: BaseHTTPRequestHandler, path: str, parameters: dict[str, str]) -> None:
        is_token = path == "/latest/api/token"
        if self.mode == "hang" or (self.mode == "hop limit" and is_token):
            self._stopping.wait(120)
            return
        if self.mode == "hang up":
            handler.close_connection = True
            handler.connection.close()
            return
        if self.mode == "endless":
            handler.send_response(200)
            handler.end_headers()
            while not self._stopping.is_set():
                handler.wfile.write(b" " * 65536)
            return
        if self.mode == "no token" and is_token:
            status, kind, answer = 404, "text/plain", b"Not Found"
        else:
            status, kind, answer = _BODIES.get(self.mode) or self._good(path, parameters)
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _good(self, path: str, parameters: dict[str, str]) -> tuple[int, str, bytes]:
        if path == "/latest/api/token":
            return 200, "text/plain", b"metadata-token"
        if path == "/latest/meta-data/iam/security-credentials/":
            return 200, "text/plain", b"the-role"
        if path == "/latest/meta-data/iam/security-credentials/the-role":
            return self._json("INSTANCE", Code="Success", Type="AWS-HMAC")
        if path == "/container":
            self.given += 1
            return self._json("CONTAINER", **({"Token": f"token-{self.given}"} if self.renews else {}))
        if path == "/federation/credentials":
            key, secret = self._pair("SSO")
            credentials = {"accessKeyId": key, "secretAccessKey": secret, "sessionToken": "token-SSO"}
            whole = {"roleCredentials": {**credentials, "expiration": 4_070_908_800_000}}
            return 200, "application/json", json.dumps(whole).encode()
        if "Action" in parameters:
            key, secret = self._pair("STS")
            answer = _STS.format(action=parameters["Action"], key=key, secret=secret, expires=_EXPIRES)
            return 200, "text/xml", answer.encode()
        return 404, "text/plain", b"Not Found"

    def _json(self, name: str, **more: str) -> tuple[int, str, bytes]:
        key, secret = self._pair(name)
        answer = {"AccessKeyId": key, "SecretAccessKey": secret, "Token": f"token-{name}", "Expiration": _EXPIRES}
        return 200, "application/json", json.dumps({**answer, **more}).encode()

    def _pair(self, name: str) -> tuple[str, str]:
        return self.keys or (f"AKID{name}", f"secret-{name}")
