"""One logged-in connection to an FTP server: its commands, its time limits, and what its answers mean.

Written with :mod:`ftplib`, which this module imports (with :mod:`ssl`: 20 ms); only an open store imports this module.

Names are bytes. The control connection is therefore read and written as Latin-1, which maps every byte to one
character, and a path is the bytes of :func:`os.fsencode` in that form (:func:`~s3_uploader.stores.ftp.replies.wire`).
``ftplib``'s default, strict UTF-8, breaks on the first umlaut in the welcome of an older server.
"""

from __future__ import annotations

import contextlib
import ftplib
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from s3_uploader.stores.ftp.replies import (
    Features,
    Lost,
    Refused,
    fact,
    os_reason,
    parse_digest,
    parse_features,
    parse_time,
    shown_reply,
    unwire,
    wire,
)

CHUNK = 1 << 16

_Result = TypeVar("_Result")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a server."""

    host: str
    port: int
    user: str
    password: str
    path: str
    tls: bool
    ca_file: str | None
    timeout_seconds: float

    def __repr__(self) -> str:
        return f"Settings({self.user}@{self.host}:{self.port}{self.path})"


class Session:
    """One connection, used by one thread at a time; only :meth:`interrupt` may come from another one.

    :param remaining: seconds that the current user of the session has left; no single wait is longer than that, nor
        than ``settings.timeout_seconds``.
    :raises Refused: if the server refuses the login, TLS or the path.
    :raises Lost: if there is no connection to be had.
    """

    def __init__(self, settings: Settings, *, remaining: Callable[[], float]) -> None:
        self.remaining = remaining
        self.usable = True
        self.last_used = time.monotonic()
        self._settings = settings
        self._data: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self.step = "connect"
        """How far the login came: ``connect``, ``tls``, ``login``, ``path`` or ``ready``."""
        self._ftp: ftplib.FTP = ftplib.FTP(encoding="latin-1")
        if settings.tls:
            self._context = ssl.create_default_context(cafile=settings.ca_file)
            self._ftp = ftplib.FTP_TLS(context=self._context, encoding="latin-1")
        try:
            self._log_in()
        except (Refused, Lost) as error:
            error.step = self.step
            self.close()
            raise

    @property
    def welcome(self) -> str:
        """What the server said when we connected."""
        return shown_reply(self._ftp.welcome or "")

    @property
    def tls_version(self) -> str:
        """The version of TLS in use, empty without TLS."""
        return (self._ftp.sock.version() or "") if isinstance(self._ftp.sock, ssl.SSLSocket) else ""

    def command(self, line: str, *, extra_seconds: float = 0.0) -> str:
        """Send one command and return its reply.

        :param extra_seconds: seconds to wait beyond the usual limit, for a command that takes the server long.
        """
        return self._guarded(lambda: self._ftp.sendcmd(line), verb=line.partition(" ")[0], extra_seconds=extra_seconds)

    def size(self, path: str) -> int | None:
        """Size of the file at ``path``, ``None`` if there is none."""
        try:
            reply = self.command(f"SIZE {wire(path)}")
        except Refused as refused:
            if refused.code not in (500, 501, 502, 504) or not self.features.mlst:
                if refused.code in (450, 550, 553):
                    return None
                raise
            return self._size_by_mlst(path)
        digits = reply[4:].strip()
        if not digits.isdigit():
            raise self._out_of_step(reply)
        return int(digits)

    def modified(self, path: str) -> float | None:
        """Time of the last change of ``path`` by the server's clock, in seconds since the epoch, if it tells."""
        with contextlib.suppress(Refused):
            return parse_time(self.command(f"MDTM {wire(path)}")[4:])
        if self.features.mlst:
            with contextlib.suppress(Refused):
                return parse_time(fact(self.command(f"MLST {wire(path)}"), "modify"))
        return None

    def digest(self, path: str, size: int) -> str:
        """The server's own digest of ``path`` in ``features.algorithm``; empty if it gives none."""
        command = self.features.hash_command
        if not command:
            return ""
        # The server reads the whole file before it answers; 10 MB/s is a slow disk.
        try:
            reply = self.command(f"{command.partition(' ')[0]} {wire(path)}", extra_seconds=size / 10e6)
        except Refused:
            return ""
        return parse_digest(reply, self.features.algorithm)

    def is_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory that can be entered."""
        try:
            self.command(f"CWD {wire(path)}")
        except Refused:
            return False
        return True

    def make_directory(self, path: str) -> None:
        """Make one directory; its parent must exist."""
        self.command(f"MKD {wire(path)}")

    def delete(self, path: str) -> bool:
        """Delete a file; ``False`` if the server refuses, mostly because there is none."""
        try:
            self.command(f"DELE {wire(path)}")
        except Refused:
            return False
        return True

    def rename(self, old: str, new: str) -> None:
        """Rename a file; most servers replace a file that is there already, without a word."""
        self.command(f"RNFR {wire(old)}")
        self.command(f"RNTO {wire(new)}")

    def store(self, path: str, chunks: Iterable[bytes], *, command: str = "STOR") -> None:
        """Send a file. An error raised by ``chunks`` ends the transfer and comes out; what was sent stays there."""
        data = self._open_data(f"{command} {wire(path)}")
        try:
            for chunk in chunks:
                data.settimeout(self._limit())
                data.sendall(chunk)
            self._end_tls(data)
        except OSError as error:
            # A server that runs out of space says so on the control connection and resets this one.
            self._close_data()
            raise self._reply_to_failure(error) from error
        except BaseException:
            self._close_data()
            self._skip_reply()
            raise
        self._close_data()
        self._guarded(self._ftp.voidresp)

    def retrieve(self, path: str, consume: Callable[[bytes], None], *, command: str = "RETR") -> None:
        """Read a file, or what another command sends of it, and hand the bytes to ``consume``."""
        data = self._open_data(f"{command} {wire(path)}")
        try:
            while True:
                data.settimeout(self._limit())
                chunk = data.recv(CHUNK)
                if not chunk:
                    break
                consume(chunk)
            self._end_tls(data)
        except OSError as error:
            self._close_data()
            raise self._reply_to_failure(error) from error
        except BaseException:
            self._close_data()
            self._skip_reply()
            raise
        self._close_data()
        self._guarded(self._ftp.voidresp)

    def alive(self) -> bool:
        """Whether the server still answers, after a pause in which it may have hung up."""
        try:
            self.command("NOOP")
        except Refused:
            return True
        except Lost:
            return False
        return True

    def interrupt(self) -> None:
        """Make every blocking call of the session fail now; from any thread."""
        for connection in (self._data, self._ftp.sock):
            if connection is not None:
                # Of the plain class: an SSLSocket's own shutdown() takes its TLS state away under the other thread.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self.usable = False

    def quit(self) -> None:
        """Take leave and close."""
        if self.usable:
            self.remaining = lambda: 2.0
            with contextlib.suppress(Refused, Lost):
                self.command("QUIT")
        self.close()

    def close(self) -> None:
        """Close without a word."""
        self.usable = False
        self._close_data()
        with contextlib.suppress(OSError):
            self._ftp.close()

    def _log_in(self) -> None:
        settings = self._settings
        self._guarded(lambda: self._ftp.connect(settings.host, settings.port, timeout=self._limit()))
        if isinstance(self._ftp, ftplib.FTP_TLS):
            self.step = "tls"
            self._guarded(self._ftp.auth)
        self.step = "login"
        # Not FTP_TLS.login, which would do AUTH again in some versions; wire() because names and passwords are bytes.
        self._guarded(lambda: ftplib.FTP.login(self._ftp, wire(settings.user), wire(settings.password)))
        self.step = "tls"
        if isinstance(self._ftp, ftplib.FTP_TLS):
            self._guarded(self._ftp.prot_p)
        self.features = self._negotiate()
        self.step = "ready"
        self.command("TYPE I")
        self.step = "path"
        if settings.path not in ("", "/"):
            self.command(f"CWD {wire(settings.path)}")
        # Absolute from here on: relative to the directory of the login where the path was relative.
        base = settings.path if settings.path.startswith("/") else self._working_directory()
        self.base = "/" + base.strip("/")
        self.step = "ready"

    def _negotiate(self) -> Features:
        try:
            features = parse_features(self.command("FEAT"))
        except Refused:
            return Features(utf8=False, mlst=False, mdtm=False, hash_command="", algorithm="")
        if features.utf8:
            with contextlib.suppress(Refused):
                self.command("OPTS UTF8 ON")
        if features.hash_command.startswith("HASH "):
            try:
                self.command(f"OPTS {features.hash_command}")
            except Refused:
                features = msgspec.structs.replace(features, hash_command="", algorithm="")
        return features

    def _working_directory(self) -> str:
        return unwire(ftplib.parse257(self.command("PWD")))

    def _size_by_mlst(self, path: str) -> int | None:
        try:
            facts = self.command(f"MLST {wire(path)}")
        except Refused as refused:
            if refused.code in (450, 550, 553):
                return None
            raise
        size = fact(facts, "size")
        return int(size) if size.isdigit() else None

    def _open_data(self, command: str) -> socket.socket:
        try:
            host, port = self._guarded(self._ftp.makepasv, verb="PASV")
            self._data = socket.create_connection((host, port), timeout=self._limit())
        except OSError as error:
            self.usable = False
            raise Lost(os_reason(error), data=True) from error
        try:
            reply = self.command(command)
            if reply[0] == "2":
                # Some servers answer 200 before the 150, in violation of the protocol.
                reply = self._guarded(self._ftp.getresp)
            if reply[0] != "1":
                raise self._out_of_step(reply)
            if self._context is not None:
                self._start_tls()
        except BaseException:
            self._close_data()
            raise
        return self._data

    def _start_tls(self) -> None:
        """TLS on the data connection, resuming the session of the control connection.

        vsftpd, ProFTPD and FileZilla Server demand that by default, as proof that both come from the same client;
        ``ftplib`` does not do it (bpo-19500).
        """
        assert self._context is not None
        assert isinstance(self._ftp.sock, ssl.SSLSocket)
        assert self._data is not None
        wrapped = self._context.wrap_socket(
            self._data,
            server_hostname=self._settings.host,
            session=self._ftp.sock.session,
            # The handshake comes when interrupt() can find the socket.
            do_handshake_on_connect=False,
        )
        self._data = wrapped
        try:
            wrapped.settimeout(self._limit())
            wrapped.do_handshake()
        except OSError as error:
            self._close_data()
            raise self._reply_to_failure(error) from error

    def _end_tls(self, data: socket.socket) -> None:
        """Say that the data end here: some servers take a TLS connection that just stops for a cut one."""
        if isinstance(data, ssl.SSLSocket):
            # What the server answers to it does not matter: the size, and the hash if there is one, decide.
            with contextlib.suppress(OSError, ValueError):
                data.settimeout(min(self._limit(), 5.0))
                self._data = data.unwrap()

    def _close_data(self) -> None:
        if self._data is not None:
            with contextlib.suppress(OSError):
                self._data.close()
            self._data = None

    def _reply_to_failure(self, error: OSError) -> Refused | Lost:
        """What the server says about a failed transfer, or that the connection is lost if it says nothing soon."""
        timed_out = isinstance(error, TimeoutError)
        if not timed_out and self.usable:
            try:
                self._set_limit(min(self._limit(), 5.0))
                self._ftp.getresp()
            except (ftplib.error_perm, ftplib.error_temp) as refused:
                return Refused(str(refused))
            except (OSError, EOFError, ftplib.Error, ValueError):
                pass
        self.usable = False
        return Lost(os_reason(error))

    def _skip_reply(self) -> None:
        """Read the reply to a transfer that we ended, so that the connection stays in step."""
        try:
            self._set_limit(min(self._limit(), 5.0))
            self._ftp.getresp()
        except (ftplib.error_perm, ftplib.error_temp):
            pass
        except (OSError, EOFError, ftplib.Error, ValueError):
            self.usable = False

    def _guarded(self, call: Callable[[], _Result], *, verb: str = "", extra_seconds: float = 0.0) -> _Result:
        if not self.usable:
            raise Lost("it was closed")
        try:
            self._set_limit(self._limit(extra_seconds))
            result = call()
        except (ftplib.error_perm, ftplib.error_temp) as error:
            # 421 announces that the server hangs up.
            if str(error)[:3] == "421":
                self.usable = False
            raise Refused(str(error), verb) from None
        except ftplib.Error as error:
            raise self._out_of_step(str(error)) from None
        except EOFError:
            self.usable = False
            raise Lost("the server hung up") from None
        except (OSError, ValueError) as error:
            # ValueError: what ssl says of a socket that was shut down by interrupt().
            self.usable = False
            raise Lost(os_reason(error)) from error
        self.last_used = time.monotonic()
        return result

    def _out_of_step(self, reply: str) -> Lost:
        self.usable = False
        return Lost(f"it does not speak FTP as expected ({shown_reply(reply)[:200]})")

    def _limit(self, extra_seconds: float = 0.0) -> float:
        # Never 0, which would mean a socket that does not block.
        return max(0.05, min(self._settings.timeout_seconds + extra_seconds, self.remaining()))

    def _set_limit(self, seconds: float) -> None:
        self._ftp.timeout = seconds
        if self._ftp.sock is not None:
            self._ftp.sock.settimeout(seconds)
