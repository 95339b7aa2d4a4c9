"""Data connections to an FTP server: a file or a listing on its way, and the reply to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from s3_uploader.stores.file_servers.base import Listed
from s3_uploader.stores.ftp.commands import CommandConnection, Settings
from s3_uploader.stores.ftp.control import Control
from s3_uploader.stores.ftp.data import DataConnection
from s3_uploader.stores.ftp.entries import Lines
from s3_uploader.stores.ftp.keep_alive import KeepAlive
from s3_uploader.stores.ftp.learned import FtpLearned
from s3_uploader.stores.ftp.replies import UNKNOWN_COMMAND, Lost, Refused, os_reason, parse_passive, wire

_NO_PASSIVE = (425, 500, 501, 502, 504, 522)
"""Replies after which the other way to a data connection is worth a try."""


class _Enough(Exception):
    """What is wanted of a transfer has come."""


class TransferConnection(CommandConnection):
    """A connection that opens others for data."""

    def __init__(
        self, settings: Settings, *, remaining: Callable[[], float], learned: FtpLearned | None = None
    ) -> None:
        super().__init__(settings, remaining=remaining, learned=learned)
        self._data: DataConnection | None = None

    def store(self, path: str, chunks: Iterable[bytes], *, command: str = "STOR") -> None:
        """Send a file. An error raised by ``chunks`` ends the transfer and comes out; what was sent stays there."""
        with self._transfer(f"{command} {wire(path)}") as (data, say):
            for chunk in chunks:
                data.send(chunk, silence=self.limit, meanwhile=say)

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
        received = 0
        try:
            with self._transfer(f"{command} {wire(path)}" if path else command, begin=begin) as (data, say):
                while chunk := data.receive(silence=self.limit, meanwhile=say):
                    received += len(chunk)
                    consume(chunk)
                    if most is not None and received > most:
                        raise _Enough
        except _Enough:
            return False
        return True

    def listing(self, directory: str, consume: Callable[[Listed], None], *, most: int) -> bool:
        """Hand every entry of a directory to ``consume``: by ``MLSD``, or else what ``LIST`` shows.

        :param most: bytes of the listing after which to stop.
        :returns: whether all was read.
        :raises Refused: if the server lists nothing.
        """
        lines = Lines(consume)
        if "MLSD" not in self.learned.lacks and self.features.mlst:
            try:
                whole = self.retrieve(directory, lines.take, command="MLSD", most=most)
            except Refused as refused:
                if refused.code not in UNKNOWN_COMMAND:
                    raise
                self.learned.lacks.add("MLSD")
            else:
                return self._is_end(lines, whole)
        if "LIST" in self.learned.lacks:
            raise Refused("502 it lists nothing", "LIST")
        self.command(f"CWD {wire(directory)}")
        # With -a also what begins with a dot; entered first, because a path behind it is one in few servers.
        return self._is_end(lines, self.retrieve("", lines.take, command="LIST -a", most=most))

    def _is_end(self, lines: Lines, whole: bool) -> bool:
        if not whole and not self.usable:
            # A listing without end that cannot be stopped either is asked for once in a run.
            self.learned.lacks.update(("MLSD", "LIST"))
        return lines.end() and whole

    def interrupt(self) -> None:
        """Make every blocking call of the session fail now, and every later one; from any thread."""
        data = self._data
        # First of all, or what fails on the data connection would wait for a reply.
        self._interrupted = True
        if data is not None:
            data.interrupt()
        super().interrupt()

    def close(self) -> None:
        """Close without a word."""
        self._close_data()
        super().close()

    @contextlib.contextmanager
    def _transfer(self, command: str, *, begin: int = 0) -> Iterator[tuple[DataConnection, Callable[[], None]]]:
        """A data connection for the bytes, what to call meanwhile, and in the end the reply, whatever became of it."""
        data = self._open_data(command, begin=begin)
        words = KeepAlive(self)
        try:
            yield data, words.say
            data.end_tls(self.limit)
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

    def _open_data(self, command: str, *, begin: int = 0) -> DataConnection:
        control = self.live()
        self._data = self._passive(control)
        try:
            if begin:
                # Right before the command that it is for (RFC 959, 4.1.3).
                self.command(f"REST {begin}")
            reply = self.command(command)
            if reply[0] == "2":
                # Some servers answer 200 before the 150, in violation of the protocol.
                reply = self.reply(command.partition(" ")[0])
            if reply[0] != "1":
                raise control.out_of_step(reply)
            if self._context is not None and control.tls is not None:
                try:
                    self._data.start_tls(self._context, self._settings.host, control.tls.session, self.limit())
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
            limit = self.limit()
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
                reply = self.live().reply(seconds=min(self.limit(), 5.0))
                if reply[0] in "45":
                    return Refused(reply)
        if self._control is not None:
            self._control.close()
        return Lost(os_reason(error))

    def _skip_reply(self, words: KeepAlive) -> None:
        """Read the reply to a transfer that we ended, so that the connection stays in step."""
        with contextlib.suppress(Refused, Lost):
            words.end(at_most=1.0)
