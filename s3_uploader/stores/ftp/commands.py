"""A logged-in control connection to an FTP server: its commands, their replies and their timeouts."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable

import msgspec

from s3_uploader.core.errors import Scope, StoreError, lacks_descriptors
from s3_uploader.core.files import refuse_pipe
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name
from s3_uploader.stores.file_servers import server as file_servers
from s3_uploader.stores.file_servers.base import insist_on_descriptors
from s3_uploader.stores.ftp.control import Control, raise_for
from s3_uploader.stores.ftp.learned import FtpLearned
from s3_uploader.stores.ftp.replies import (
    Features,
    Lost,
    Refused,
    os_reason,
    parse_features,
    parse_working_directory,
    shown_reply,
    wire,
)


class Settings(file_servers.Settings, frozen=True, kw_only=True):
    """How to reach an FTP server."""

    tls: bool
    ca_file: str | None


class CommandConnection:
    """One connection. One thread uses it at a time; only :meth:`interrupt` may be called from another one.

    :param remaining: seconds that the current user of the session has left; no single wait is longer than that, nor
        than ``settings.timeout_seconds``.
    :param learned: what is known about the server, shared by all its sessions.
    """

    def __init__(
        self, settings: Settings, *, remaining: Callable[[], float], learned: FtpLearned | None = None
    ) -> None:
        self.remaining = remaining
        self.learned = FtpLearned() if learned is None else learned
        self.last_used = time.monotonic()
        self.step = "connect"
        """How far the login got: ``connect``, ``tls``, ``login``, ``path`` or ``ready``."""
        self.welcome = ""
        """The server's greeting."""
        self.base = "/"
        """The absolute path of the directory that files are stored in."""
        self.features = Features(utf8=False, mlst=False, mdtm=False, hash_command="", algorithm="")
        self._settings = settings
        self._control: Control | None = None
        self._context: ssl.SSLContext | None = None
        self._interrupted = False

    def connect(self) -> None:
        """Connect, log in and enter the directory.

        :raises Refused: if the server refuses the login, TLS or the path.
        :raises Lost: if no connection is possible.
        """
        given = self.remaining
        ends_at = time.monotonic() + self._settings.connect_timeout_seconds
        self.remaining = lambda: min(given(), ends_at - time.monotonic())
        try:
            self._log_in()
        except (Refused, Lost) as error:
            error.step = self.step
            self.close()
            raise
        except BaseException:
            self.close()
            raise
        self.remaining = given

    @property
    def usable(self) -> bool:
        """Whether the connection still works."""
        return self._control is not None and self._control.usable

    @property
    def tls_version(self) -> str:
        """The version of TLS in use, empty without TLS."""
        encrypted = None if self._control is None else self._control.tls
        return "" if encrypted is None else encrypted.version() or ""

    @property
    def algorithm(self) -> str:
        """The algorithm of the server's digests."""
        return self.features.algorithm

    def command(self, line: str, *, extra_seconds: float = 0.0) -> str:
        """Send one command and return its reply.

        :param extra_seconds: seconds to wait beyond the usual timeout, for a command that takes the server long.
        """
        control = self.live()
        control.skip_strays()
        control.send(line, seconds=self.limit())
        return self.reply(line.partition(" ")[0], extra_seconds=extra_seconds)

    def alive(self) -> bool:
        """Whether the server still answers after a pause, in which it may have closed the connection."""
        try:
            self.command("NOOP")
        except Refused:
            return True
        except Lost:
            return False
        return True

    def interrupt(self) -> None:
        """Make every current and later blocking call of the session fail. May be called on any thread."""
        self._interrupted = True
        control = self._control
        if control is not None:
            control.interrupt()

    def quit(self, *, seconds: float = 1.0) -> None:
        """Log out and close."""
        if self.usable:
            self.remaining = lambda: seconds
            with contextlib.suppress(Refused, Lost):
                self.command("QUIT")
        self.close()

    def close(self) -> None:
        """Close without logging out."""
        if self._control is not None:
            self._control.close()

    # For transfers that use another connection.

    def live(self) -> Control:
        """The connection, if it is open.

        :raises Lost: if it was closed.
        """
        if self._control is None or self._interrupted:
            raise Lost("it was closed")
        return self._control

    def reply(self, verb: str, *, extra_seconds: float = 0.0, at_most: float | None = None) -> str:
        """The next reply.

        :raises Refused: if it is a refusal.
        """
        limit = self.limit(extra_seconds)
        reply = self.live().reply(seconds=limit if at_most is None else min(limit, at_most))
        self.last_used = time.monotonic()
        if reply[:3] == "421":
            # The server announces that it closes the connection; at the login it may mean too many connections.
            self.live().usable = False
            if self.step == "ready":
                raise Lost(shown_reply(reply))
        return raise_for(reply, verb)

    def limit(self, extra_seconds: float = 0.0) -> float:
        """The timeout of the next wait."""
        # Never 0, which would make the socket non-blocking.
        return max(0.05, min(self._settings.timeout_seconds + extra_seconds, self.remaining()))

    # The login.

    def _log_in(self) -> None:
        settings = self._settings
        try:
            self._control = Control(settings.host, settings.port, seconds=self.limit())
        except OSError as error:
            raise _lost(error) from error
        self._control.password = wire(settings.password)
        greeting = self.reply("")
        if greeting[0] == "1":
            # "120 Service ready in nnn minutes" comes before the greeting, once (RFC 959, 5.4).
            greeting = self.reply("")
        if greeting[0] == "1":
            raise Lost(shown_reply(greeting))
        self.welcome = shown_reply(greeting)
        if settings.tls:
            self.step = "tls"
            self._context = _tls_context(settings.ca_file)
            self.command("AUTH TLS")
            self._control.start_tls(self._context, settings.host, seconds=self.limit())
        self.step = "login"
        reply = self.command(f"USER {wire(settings.user)}")
        if reply[0] == "3":
            reply = self.command(f"PASS {wire(settings.password)}")
        if reply[0] != "2":
            # 332 asks for an account, which no server has needed for decades.
            raise Refused(reply, "PASS")
        if settings.tls:
            self.step = "tls"
            self.command("PBSZ 0")
            self.command("PROT P")
        self.features = self._negotiate()
        self.step = "ready"
        self.command("TYPE I")
        self.step = "path"
        if settings.path not in ("", "/"):
            self.command(f"CWD {wire(settings.path)}")
        # Absolute from here on: a relative path is relative to the login directory.
        base = settings.path if settings.path.startswith("/") else self._working_directory()
        self.base = "/" + base.strip("/")
        self.step = "ready"

    def _negotiate(self) -> Features:
        try:
            features = parse_features(self.command("FEAT"))
        except Refused:
            # Servers without FEAT may support MLST: it is tried when it is needed.
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
        reply = self.command("PWD")
        found = parse_working_directory(reply)
        if not found.startswith("/"):
            raise self.live().out_of_step(reply)
        return found


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        # Without one OpenSSL would trust nobody, and not say why.
        insist_on_descriptors(1)
        if ca_file is not None:
            refuse_pipe(ca_file)
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        if lacks_descriptors(error):
            raise _lost(error) from error
        if ca_file is None:
            raise
        raise StoreError(
            f"The certificates in {shown_name(ca_file)} cannot be used: {os_reason(error)}.",
            code="InvalidCaBundle",
            origin=Origin.CERTIFICATE,
            scope=Scope.DESTINATION,
            hint="Correct ca_file. It holds the certificates of those who sign the server's, in PEM.",
        ) from None


def _lost(error: OSError) -> Lost:
    return Lost(os_reason(error), lacks_descriptors=lacks_descriptors(error))
