"""One logged-in connection to an FTP server: its commands, its time limits, and what its answers mean."""

from __future__ import annotations

import contextlib
import re
import ssl
import time
from collections.abc import Callable, Iterable

import msgspec

from s3_uploader.stores.ftp.control import Control, raise_for
from s3_uploader.stores.ftp.data import CHUNK, DataConnection
from s3_uploader.stores.ftp.learned import Learned
from s3_uploader.stores.ftp.replies import (
    Features,
    Listed,
    Lost,
    Refused,
    fact,
    os_reason,
    parse_digest,
    parse_features,
    parse_listed,
    parse_passive,
    parse_time,
    parse_working_directory,
    shown_reply,
    wire,
)

__all__ = ["CHUNK", "Session", "Settings"]

_ABSENT = (450, 550, 553)
_UNKNOWN = (500, 502, 504)
_NO_PASSIVE = (425, 500, 501, 502, 504, 522)
"""Replies after which the other way to a data connection is worth a try."""

_KEEP_ALIVE_SECONDS = 20.0
"""So often the control connection gets a word while data go: what carries it on the way forgets the silent."""

_NO_ANSWER = (500, 501, 502, 503)
"""What servers say to NOOP that do not know it."""


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
    connect_timeout_seconds: float = 30

    def __repr__(self) -> str:
        return f"Settings({self.user}@{self.host}:{self.port}{self.path})"


class Session:
    """One connection, used by one thread at a time; only :meth:`interrupt` may come from another one.

    :param remaining: seconds that the current user of the session has left; no single wait is longer than that, nor
        than ``settings.timeout_seconds``.
    :param learned: what is known of the server, shared by all its sessions.
    """

    def __init__(self, settings: Settings, *, remaining: Callable[[], float], learned: Learned | None = None) -> None:
        self.remaining = remaining
        self.learned = Learned() if learned is None else learned
        self.last_used = time.monotonic()
        self.step = "connect"
        """How far the login came: ``connect``, ``tls``, ``login``, ``path`` or ``ready``."""
        self.welcome = ""
        """What the server said when we connected."""
        self.base = "/"
        """The directory under which files are stored, absolute."""
        self.features = Features(utf8=False, mlst=False, mdtm=False, hash_command="", algorithm="")
        self._settings = settings
        self._control: Control | None = None
        self._data: DataConnection | None = None
        self._context: ssl.SSLContext | None = None
        self._interrupted = False

    def connect(self) -> None:
        """Connect, log in and enter the directory.

        :raises Refused: if the server refuses the login, TLS or the path.
        :raises Lost: if there is no connection to be had.
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
        """Whether the connection is still of use."""
        return self._control is not None and self._control.usable

    @property
    def tls_version(self) -> str:
        """The version of TLS in use, empty without TLS."""
        encrypted = None if self._control is None else self._control.tls
        return "" if encrypted is None else encrypted.version() or ""

    def command(self, line: str, *, extra_seconds: float = 0.0) -> str:
        """Send one command and return its reply.

        :param extra_seconds: seconds to wait beyond the usual limit, for a command that takes the server long.
        """
        control = self._live()
        control.send(line, seconds=self._limit())
        return self._reply(line.partition(" ")[0], extra_seconds=extra_seconds)

    def size(self, path: str, *, thoroughly: bool = False) -> int | None:
        """Size of the file at ``path``, ``None`` if there is none.

        It is asked for with ``SIZE``; where that is unknown or answered without sense, with ``MLST``, at last with a
        listing of the directory.

        :param thoroughly: do not believe one command alone that there is none.
        """
        denied: list[str] = []
        for command in ("SIZE", "MLST"):
            if command in self.learned.lacks or (command == "MLST" and not self.features.mlst and denied):
                continue
            try:
                reply = self.command(f"{command} {wire(path)}")
            except Refused as refused:
                if refused.code in _ABSENT:
                    if not thoroughly:
                        return None
                    denied.append(command)
                elif refused.code in _UNKNOWN:
                    self.learned.lacks.add(command)
                elif refused.code != 501:
                    raise
                continue
            found = _size_in(reply, command)
            if found is None and fact(reply, "type").lower().endswith("dir"):
                return None
            if found is not None:
                # SIZE denied what MLST can see.
                self.learned.lacks.update(denied)
                self.learned.sees = True
                return found
        found = self._size_by_listing(path)
        if found is not None:
            self.learned.lacks.update(denied)
            self.learned.sees = True
        return found

    def other_size(self, path: str) -> int | None:
        """Size of the file at ``path`` by another command than :meth:`size` asks first, ``None`` if none tells."""
        if "SIZE" not in self.learned.lacks and "MLST" not in self.learned.lacks:
            with contextlib.suppress(Refused):
                return _size_in(self.command(f"MLST {wire(path)}"), "MLST")
        return self._size_by_listing(path)

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

    def remove_directory(self, path: str) -> None:
        """Remove one directory, which must be empty."""
        self.command(f"RMD {wire(path)}")

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
        words = _KeptAlive(self)
        try:
            for chunk in chunks:
                data.send(chunk, silence=self._limit, meanwhile=words.say)
            data.end_tls(self._limit)
        except OSError as error:
            # A server that runs out of space says so on the control connection and resets this one.
            self._close_data()
            raise self._reply_to_failure(error) from error
        except BaseException:
            self._close_data()
            self._skip_reply(words)
            raise
        self._close_data()
        words.end()

    def retrieve(
        self,
        path: str,
        consume: Callable[[bytes], None],
        *,
        command: str = "RETR",
        begin: int = 0,
        most: int | None = None,
    ) -> bool:
        """Read a file, or what another command sends of it, and hand the bytes to ``consume``.

        :param begin: bytes to pass over at the beginning.
        :param most: bytes after which to stop; the last piece may be a little longer.
        :returns: whether all was read.
        :raises Refused: with the verb ``REST`` if the server can only begin at the beginning.
        """
        data = self._open_data(f"{command} {wire(path)}" if path else command, begin=begin)
        words = _KeptAlive(self)
        received = 0
        try:
            while chunk := data.receive(silence=self._limit, meanwhile=words.say):
                received += len(chunk)
                consume(chunk)
                if most is not None and received > most:
                    self._close_data()
                    self._skip_reply(words)
                    return False
            data.end_tls(self._limit)
        except OSError as error:
            self._close_data()
            raise self._reply_to_failure(error) from error
        except BaseException:
            self._close_data()
            self._skip_reply(words)
            raise
        self._close_data()
        words.end()
        return True

    def listing(self, directory: str, consume: Callable[[Listed], None], *, most: int) -> bool:
        """Hand every entry of a directory to ``consume``: by ``MLSD``, or else what ``LIST`` shows.

        :param most: bytes of the listing after which to stop.
        :returns: whether all was read.
        :raises Refused: if the server lists nothing.
        """
        lines = _Lines(consume)
        if "MLSD" not in self.learned.lacks and self.features.mlst:
            try:
                whole = self.retrieve(directory, lines.take, command="MLSD", most=most)
            except Refused as refused:
                if refused.code not in _UNKNOWN:
                    raise
                self.learned.lacks.add("MLSD")
            else:
                return self._is_end(lines, whole)
        if "LIST" in self.learned.lacks:
            raise Refused("502 it lists nothing", "LIST")
        self.command(f"CWD {wire(directory)}")
        # With -a also what begins with a dot; entered first, because a path behind it is one in few servers.
        return self._is_end(lines, self.retrieve("", lines.take, command="LIST -a", most=most))

    def _is_end(self, lines: _Lines, whole: bool) -> bool:
        if not whole and not self.usable:
            # A listing without end that cannot be stopped either is asked for once in a run.
            self.learned.lacks.update(("MLSD", "LIST"))
        return lines.end() and whole

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
        """Make every blocking call of the session fail now, and every later one; from any thread."""
        self._interrupted = True
        data, control = self._data, self._control
        if data is not None:
            data.interrupt()
        if control is not None:
            control.interrupt()

    def quit(self, *, seconds: float = 1.0) -> None:
        """Take leave and close."""
        if self.usable:
            self.remaining = lambda: seconds
            with contextlib.suppress(Refused, Lost):
                self.command("QUIT")
        self.close()

    def close(self) -> None:
        """Close without a word."""
        self._close_data()
        if self._control is not None:
            self._control.close()

    # ------------------------------------------------------------------------------------------------ the login

    def _log_in(self) -> None:
        settings = self._settings
        try:
            self._control = Control(settings.host, settings.port, seconds=self._limit())
        except OSError as error:
            raise Lost(os_reason(error)) from error
        self.welcome = shown_reply(self._reply(""))
        if settings.tls:
            self.step = "tls"
            self._context = ssl.create_default_context(cafile=settings.ca_file)
            self.command("AUTH TLS")
            self._control.start_tls(self._context, settings.host, seconds=self._limit())
        self.step = "login"
        reply = self.command(f"USER {wire(settings.user)}")
        if reply[0] == "3":
            reply = self.command(f"PASS {wire(settings.password)}")
        if reply[0] != "2":
            # 332 asks for an account, which nobody has had for decades.
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
        # Absolute from here on: relative to the directory of the login where the path was relative.
        base = settings.path if settings.path.startswith("/") else self._working_directory()
        self.base = "/" + base.strip("/")
        self.step = "ready"

    def _negotiate(self) -> Features:
        try:
            features = parse_features(self.command("FEAT"))
        except Refused:
            # Servers without FEAT may know MLST all the same: it is tried when it is needed.
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
            raise self._live().out_of_step(reply)
        return found

    def _size_by_listing(self, path: str) -> int | None:
        directory, _, name = path.rpartition("/")
        found: list[int | None] = []

        def compare(listed: Listed) -> None:
            if listed.name == name and listed.kind != "dir":
                found.append(listed.size)

        if "LIST" in self.learned.lacks:
            return None
        try:
            self.listing(directory or "/", compare, most=_MOST_LISTED_BYTES)
        except Refused as refused:
            if refused.code in _UNKNOWN:
                self.learned.lacks.add("LIST")
            return None
        return found[0] if found else None

    # ------------------------------------------------------------------------------------------------ data

    def _open_data(self, command: str, *, begin: int = 0) -> DataConnection:
        control = self._live()
        self._data = self._passive(control)
        try:
            if begin:
                # Right before the command that it is for (RFC 959, 4.1.3).
                self.command(f"REST {begin}")
            reply = self.command(command)
            if reply[0] == "2":
                # Some servers answer 200 before the 150, in violation of the protocol.
                reply = self._reply(command.partition(" ")[0])
            if reply[0] != "1":
                raise control.out_of_step(reply)
            if self._context is not None and control.tls is not None:
                try:
                    self._data.start_tls(self._context, self._settings.host, control.tls.session, self._limit())
                except OSError as error:
                    self._close_data()
                    raise self._reply_to_failure(error) from error
        except BaseException:
            self._close_data()
            raise
        return self._data

    def _passive(self, control: Control) -> DataConnection:
        """A data connection, in one way or the other: behind some firewalls only one of them works."""
        ways = ["EPSV", "PASV"] if control.is_ipv6 else ["PASV", "EPSV"]
        if self.learned.passive in ways:
            ways.sort(key=lambda way: way != self.learned.passive)
        failed: Refused | Lost | None = None
        for number, way in enumerate(ways):
            try:
                reply = self.command(way)
            except Refused as refused:
                # What the first way met is what is told.
                failed = failed or refused
                if refused.code not in _NO_PASSIVE:
                    raise
                continue
            port = parse_passive(reply)
            limit = self._limit()
            try:
                if port is None:
                    raise OSError(f"the answer to {way} makes no sense")
                # Not the address of the answer: behind address translation it is wrong, and it may be anybody's.
                connection = DataConnection(control.peer, port, limit if number else limit / len(ways))
            except OSError as error:
                failed = failed or Lost(os_reason(error), data=True)
                continue
            if failed is not None:
                self.learned.passive = way
            return connection
        assert failed is not None
        if isinstance(failed, Lost):
            control.close()
        raise failed

    def _close_data(self) -> None:
        data, self._data = self._data, None
        if data is not None:
            data.close()

    def _reply_to_failure(self, error: OSError) -> Refused | Lost:
        """What the server says about a failed transfer, or that the connection is lost if it says nothing soon."""
        if not isinstance(error, TimeoutError) and self.usable:
            with contextlib.suppress(Lost):
                reply = self._live().reply(seconds=min(self._limit(), 5.0))
                if reply[0] in "45":
                    return Refused(reply)
        if self._control is not None:
            self._control.close()
        return Lost(os_reason(error))

    def _skip_reply(self, words: _KeptAlive) -> None:
        """Read the reply to a transfer that we ended, so that the connection stays in step."""
        with contextlib.suppress(Refused, Lost):
            words.end(at_most=1.0)

    # ------------------------------------------------------------------------------------------------ replies

    def _live(self) -> Control:
        if self._control is None or self._interrupted:
            raise Lost("it was closed")
        return self._control

    def _reply(self, verb: str, *, extra_seconds: float = 0.0, at_most: float | None = None) -> str:
        limit = self._limit(extra_seconds)
        reply = self._live().reply(seconds=limit if at_most is None else min(limit, at_most))
        self.last_used = time.monotonic()
        if reply[:3] == "421":
            # It announces that the server hangs up.
            self._live().usable = False
        return raise_for(reply, verb)

    def _limit(self, extra_seconds: float = 0.0) -> float:
        # Never 0, which would mean a socket that does not block.
        return max(0.05, min(self._settings.timeout_seconds + extra_seconds, self.remaining()))


_MOST_LISTED_BYTES = 16 << 20


class _KeptAlive:
    """The words on the control connection while data go on another one, and the replies that are still to come.

    Servers answer them at once, or all after the transfer, or some never. So at the end the working directory is asked
    for: its 257 is the reply of nothing else, and whatever comes before it is not.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said = 0
        self._next = time.monotonic() + _KEEP_ALIVE_SECONDS

    def say(self) -> None:
        """Say something, if it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _KEEP_ALIVE_SECONDS
            self._session._live().send("NOOP", seconds=self._session._limit())
            self._said += 1

    def end(self, *, at_most: float | None = None) -> None:
        """Take the reply to the transfer.

        :raises Refused: if the server refuses what it received, or to have sent all.
        """
        reply = self._first_of_transfer(at_most)
        if self._said:
            self._catch_up(at_most)
        raise_for(reply, "")
        if reply[0] != "2":
            raise self._session._live().out_of_step(reply)

    def _first_of_transfer(self, at_most: float | None) -> str:
        for _ in range(self._said + 1):
            try:
                reply = self._session._reply("", at_most=at_most)
            except Refused as refused:
                reply = refused.reply
            if not self._said or (reply[:3] != "200" and int(reply[:3]) not in _NO_ANSWER):
                break
        return reply

    def _catch_up(self, at_most: float | None) -> None:
        self._session._live().send("PWD", seconds=self._session._limit())
        for _ in range(self._said + 2):
            with contextlib.suppress(Refused):
                if self._session._reply("", at_most=at_most)[:3] == "257":
                    return
        raise self._session._live().out_of_step("replies to nothing")


class _Lines:
    """Takes a listing apart as it comes."""

    def __init__(self, consume: Callable[[Listed], None]) -> None:
        self._consume = consume
        self._rest = bytearray()
        self._is_whole = True

    def take(self, chunk: bytes) -> None:
        """Take the next piece."""
        # By the bytes: a name may hold what str.splitlines takes for the end of a line.
        *lines, rest = (bytes(self._rest) + chunk).split(b"\n")
        self._rest = bytearray(rest[:_LONGEST_LINE])
        for line in lines:
            self._one(line)

    def end(self) -> bool:
        """Take what is left; whether every line was one that could be."""
        if self._rest:
            self._one(bytes(self._rest))
        return self._is_whole

    def _one(self, line: bytes) -> None:
        if len(line) >= _LONGEST_LINE:
            self._is_whole = False
            return
        listed = parse_listed(line.removesuffix(b"\r"))
        if listed is not None:
            self._consume(listed)


_LONGEST_LINE = 8192
_SIZE = re.compile(r"213[ -]\s*([0-9]{1,19})\s*", re.ASCII)


def _size_in(reply: str, command: str) -> int | None:
    """The size in a reply to ``SIZE`` or ``MLST``, ``None`` if there is no number that could be one."""
    if command == "SIZE":
        found = _SIZE.fullmatch(reply)
        return int(found[1]) if found else None
    size = fact(reply, "size")
    return int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None
