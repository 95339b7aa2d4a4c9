"""HAProxy as a proxy that makes faults, in front of any of the servers; the knobs turn while it runs."""

from __future__ import annotations

import csv
import io
import socket
from typing import Literal

from tests.servers import debian
from tests.servers.base import S3Endpoint, S3Server
from tests.servers.process import free_ports, wait_until

_SLOW = """\
core.register_action("slow", {"http-req"}, function(txn)
  core.msleep(tonumber(txn:get_var("proc.slow_milliseconds")) or 0)
end)
"""

_HEAD = """\
global
  maxconn 4096
  stats socket {directory}/control mode 600 level admin
  lua-load {directory}/slow.lua
  set-var proc.slow_down int(0)
  set-var proc.fail_after_storing int(0)
  set-var proc.close int(0)
  set-var proc.drop int(0)
  set-var proc.slow int(0)
  set-var proc.down int(0)
  set-var proc.slow_milliseconds int(0)
  set-var proc.retry_after int(1)
defaults
  mode {mode}
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  retries 0
frontend front
  bind 127.0.0.1:{port}
  default_backend back
"""

# Host is passed on unchanged, so signatures stay valid.
_HTTP = """\
  http-request set-var(txn.slow_down) rand(1000),sub(proc.slow_down)
  http-request set-var(txn.drop) rand(1000),sub(proc.drop)
  http-request set-var(txn.close) rand(1000),sub(proc.close)
  http-request set-var(txn.fail_after_storing) rand(1000),sub(proc.fail_after_storing)
  http-request reject if {{ var(proc.down) -m int gt 0 }}
  http-request lua.slow if {{ rand(1000),sub(proc.slow) lt 0 }}
  http-request return status 503 {xml} {retry_after} string "{slow_down}" if {{ var(txn.slow_down) -m int lt 0 }}
  http-request silent-drop if {{ var(txn.drop) -m int lt 0 }}
  http-request reject if {{ var(txn.close) -m int lt 0 }}
  http-response return status 500 {xml} string "{internal_error}" if {{ var(txn.fail_after_storing) -m int lt 0 }}
"""

_TCP = "  tcp-request connection reject if { rand(1000),sub(proc.close) lt 0 }\n"


class HaproxyFault(S3Server):
    """The proxy; it takes endpoint, credentials and bucket over from the server behind it, but for its own URL.

    A share is that of the requests that are hit, from 0 to 1. `clear` turns everything off. With ``mode="tcp"``, which
    is for servers with TLS or without HTTP, only `close`, `cut_connections`, `go_down` and `come_up` work.
    """

    name = "haproxy"

    def __init__(self, upstream: S3Endpoint | S3Server, *, mode: Literal["http", "tcp"] = "http") -> None:
        super().__init__()
        self._upstream = upstream.endpoint if isinstance(upstream, S3Server) else upstream
        self._mode = mode

    def _launch(self) -> None:
        debian.require("haproxy")
        program = debian.find_program("haproxy")
        assert program is not None
        (port,) = free_ports()
        scheme, _, address = self._upstream.endpoint_url.partition("://")
        (self.directory / "slow.lua").write_text(_SLOW)
        configuration = self.directory / "haproxy.cfg"
        configuration.write_text(
            _HEAD.format(directory=self.directory, mode=self._mode, port=port)
            + (
                _HTTP.format(
                    xml="content-type application/xml",
                    retry_after='hdr retry-after "%[var(proc.retry_after)]"',
                    slow_down=_document("SlowDown", "Please reduce your request rate."),
                    internal_error=_document("InternalError", "We encountered an internal error. Please try again."),
                )
                if self._mode == "http"
                else _TCP
            )
            + f"backend back\n  server upstream {address}\n"
        )
        process = self._run("haproxy", [program, "-db", "-f", configuration])
        control = self.directory / "control"
        wait_until(control.is_socket, what="haproxy listened", processes=[process])
        self.endpoint = self._upstream.replace(endpoint_url=f"{scheme}://127.0.0.1:{port}")

    def command(self, line: str) -> str:
        """Send a line to HAProxy's runtime interface and return its answer."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self.directory / "control"))
            control.sendall(line.encode() + b"\n")
            answer = b""
            while data := control.recv(65536):
                answer += data
        return answer.decode().strip()

    def refusals(self) -> int:
        """How many requests were answered with a 5xx so far, by the proxy or by what is behind it."""
        rows = csv.DictReader(io.StringIO(self.command("show stat").removeprefix("# ")))
        return sum(int(row["hrsp_5xx"] or 0) for row in rows if row["svname"] == "FRONTEND")

    def slow_down(self, share: float = 1.0, *, retry_after: int = 1) -> None:
        """Answer 503 SlowDown with Retry-After; the request does not reach the server."""
        self._set("retry_after", retry_after)
        self._set_share("slow_down", share)

    def fail_after_storing(self, share: float = 1.0) -> None:
        """Answer 500 InternalError in place of the server's own answer: the object is stored."""
        self._set_share("fail_after_storing", share)

    def close(self, share: float = 1.0) -> None:
        """Close the connection without an answer: after the request's head, in tcp mode when it connects."""
        self._set_share("close", share)

    def drop(self, share: float = 1.0) -> None:
        """Kill the connection without FIN; on loopback the client sees ECONNRESET."""
        self._set_share("drop", share)

    def slow(self, milliseconds: int, share: float = 1.0) -> None:
        """Pass requests on so much later; 60,000 is a hang for most clients."""
        self._set("slow_milliseconds", milliseconds)
        self._set_share("slow", share)

    def cut_connections(self) -> None:
        """Cut everything that is under way between client and server, also in the middle of a body.

        Idle connections stay, and so does what `slow` holds back: it has not reached the server yet.
        """
        self.command("shutdown sessions server back/upstream")

    def go_down(self) -> None:
        """Refuse new connections and cut the old ones; an idle one is closed when its client uses it."""
        self._set("down", 1)
        self.command("disable frontend front")
        self.cut_connections()

    def come_up(self) -> None:
        """Accept connections again."""
        self._set("down", 0)
        self.command("enable frontend front")

    def clear(self) -> None:
        """Turn every fault off."""
        for knob in ("slow_down", "fail_after_storing", "close", "drop", "slow"):
            self._set(knob, 0)
        self.come_up()

    def _set_share(self, knob: str, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"a share is from 0 to 1, not {share}")
        self._set(knob, round(share * 1000))

    def _set(self, knob: str, value: int) -> None:
        # Setting a variable is marked experimental in the HAProxy of Debian 12.
        answer = self.command(f"experimental-mode on; set var proc.{knob} int({value})")
        if "rror" in answer or "nknown" in answer:
            raise RuntimeError(f"haproxy did not set {knob}: {answer}")


def _document(code: str, message: str) -> str:
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return text.replace('"', '\\"')
