"""Transfers over data connections to an FTP server: files and listings, and the replies to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from s3_uploader.core.errors import lacks_descriptors
from s3_uploader.stores.file_servers.base import Listed
from s3_uploader.stores.ftp.commands import CommandConnection, Settings
from s3_uploader.stores.ftp.control import Control
from s3_uploader.stores.ftp.data import DataConnection
from s3_uploader.stores.ftp.entries import Lines
from s3_uploader.stores.ftp.keep_alive import KeepAlive
from s3_uploader.stores.ftp.learned import FtpLearned
from s3_uploader.stores.ftp.replies import UNKNOWN_COMMAND, Lost, Refused, os_reason, parse_passive, wire

_NO_PASSIVE = (425, 500, 501, 502, 504, 522)
"""Replies after which the other way to open a data connection is tried."""

ENDLESS = "the end of a listing"
"""Noted in ``Learned.lacks``."""


class _Enough(Exception):
    """Enough of a transfer has arrived."""


class TransferConnection(CommandConnection):
    """A control connection that opens data connections."""

    def __init__(
        self, settings: Settings, *, remaining: Callable[[], float], learned: FtpLearned | None = None
    ) -> None:
        super().__init__(settings, remaining=remaining, learned=learned)
        self._data: DataConnection | None = None
        self._done = ""
        self.was_cut_off = False

    def store(self, path: str, chunks: Iterable[bytes], *, command: str = "STOR") -> None:
        """Send a file. An error from ``chunks`` ends the transfer and is raised; the bytes already sent stay."""
        with self._transfer(f"{command} {wire(path)}") as (data, say):
            for chunk in chunks:
                data.send(chunk, silence=self._silence, meanwhile=say)

    def retrieve(
        self,
        path: str,
        consume: Callable[[bytes], None],
        *,
        command: str = "RETR",
        begin: int = 0,
        most: int | None = None,
    ) -> bool:
        """Read a file, or the output of another command, and pass the bytes to ``consume``.

        :param begin: bytes to skip at the beginning.
        :param most: bytes to stop after; the last piece may be a little longer.
        :returns: whether everything was read.
        :raises Refused: with the verb ``REST`` if the server can only start at the beginning.
        """
        received = 0
        try:
            with self._transfer(f"{command} {wire(path)}" if path else command, begin=begin) as (data, say):
                while chunk := data.receive(silence=self._silence, meanwhile=say):
                    received += len(chunk)
                    consume(chunk)
                    if most is not None and received > most:
                        raise _Enough
        except _Enough:
            return False
        return True

    def listing(self, directory: str, consume: Callable[[Listed], None], *, most: int) -> bool:
        """Pass every entry of a directory to ``consume``, by ``MLSD`` or else by ``LIST``.

        :param most: bytes of the listing to stop after.
        :returns: whether everything was read.
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
        # -a includes names with a leading dot. The directory is entered first, because few servers accept a path after
        # it.
        return self._is_end(lines, self.retrieve("", lines.take, command="LIST -a", most=most))

    def _is_end(self, lines: Lines, whole: bool) -> bool:
        if not whole and not self.usable:
            # An endless listing that cannot be stopped is requested only once in a run.
            self.learned.lacks.update(("MLSD", "LIST", ENDLESS))
        # Pure-FTPd lists 10,000 files of a directory if nothing else is configured.
        self.was_cut_off = whole and "truncated" in self._done.lower()
        return lines.end() and whole and not self.was_cut_off

    def interrupt(self) -> None:
        """Make every current and later blocking call of the session fail. May be called on any thread."""
        data = self._data
        # This comes first, because a failed data connection would otherwise wait for a reply.
        self._interrupted = True
        if data is not None:
            data.interrupt()
        super().interrupt()

    def close(self) -> None:
        """Close without logging out."""
        self._close_data()
        super().close()

    @contextlib.contextmanager
    def _transfer(self, command: str, *, begin: int = 0) -> Iterator[tuple[DataConnection, Callable[[], None]]]:
        """A data connection, and a function to call while it is used. At the end the reply is read in any case."""
        data = self._open_data(command, begin=begin)
        words = KeepAlive(self)
        try:
            yield data, words.say
            data.end_tls(self.limit)
        except OSError as error:
            # A server without space says so on the control connection and resets this one.
            self._close_data()
            raise self._reply_to_failure(error) from error
        except BaseException:
            self._close_data()
            self._skip_reply(words)
            raise
        self._close_data()
        self._done = words.end()

    def _open_data(self, command: str, *, begin: int = 0) -> DataConnection:
        control = self.live()
        self._data = self._passive(control)
        try:
            if begin:
                # REST comes directly before the command that it applies to (RFC 959, 4.1.3).
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
        """Open a data connection by ``PASV`` or ``EPSV``, because behind some firewalls only one of them works."""
        ways = ["EPSV", "PASV"] if control.is_ipv6 else ["PASV", "EPSV"]
        if self.learned.passive in ways:
            ways.sort(key=lambda way: way != self.learned.passive)
        failed: Refused | Lost | None = None
        for number, way in enumerate(ways):
            try:
                reply = self.command(way)
            except Refused as refused:
                # The error of the first way is the one that is reported.
                failed = failed or refused
                if refused.code not in _NO_PASSIVE:
                    raise
                continue
            port = parse_passive(reply)
            limit = self.limit()
            try:
                if port is None:
                    raise OSError(f"the answer to {way} makes no sense")
                # Not the address in the answer: behind NAT it is wrong, and it could be any host's.
                connection = DataConnection(control.peer, port, limit if number else limit / len(ways))
            except OSError as error:
                failed = failed or Lost(os_reason(error), data=True, lacks_descriptors=lacks_descriptors(error))
                continue
            if failed is not None:
                self.learned.passive = way
            return connection
        assert failed is not None
        if isinstance(failed, Lost) and not failed.lacks_descriptors:
            control.close()
        raise failed

    def _silence(self) -> float:
        """The seconds until the server must accept or send the next bytes of a transfer.

        :raises TimeoutError: if no time is left: a server that moves a few bytes at a time is never silent.
        """
        if self.remaining() <= 0:
            raise TimeoutError
        return self.limit()

    def _close_data(self) -> None:
        data, self._data = self._data, None
        if data is not None:
            data.close()

    def _reply_to_failure(self, error: OSError) -> Refused | Lost:
        """The server's reply to a failed transfer; without one soon, the loss of the connection."""
        if not isinstance(error, TimeoutError) and self.usable:
            with contextlib.suppress(Lost):
                reply = self.live().reply(seconds=min(self.limit(), 5.0))
                if reply[0] in "45":
                    return Refused(reply)
        if self._control is not None:
            self._control.close()
        return Lost(os_reason(error), lacks_descriptors=lacks_descriptors(error))

    def _skip_reply(self, words: KeepAlive) -> None:
        """Read the reply to a transfer that we ended, so that the connection stays in step."""
        with contextlib.suppress(Refused, Lost):
            words.end(at_most=1.0)
