"""A small FTP server that is odd on order: it changes names, denies what it has, loses answers, never ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path


@dataclasses.dataclass
class Oddities:
    """What is odd about a server.

    :param stored_as: what it makes of a name that a file gets by a rename.
    :param looked_up_as: what it makes of every other name.
    :param refuses: replies by command.
    :param takes_no_dots: whether names that begin with a dot are refused.
    :param stores_beside: whether a file that is there stays, and the new one is stored as ``NAME.1``.
    :param silent_after_data: so many transfers are received in full and never answered.
    :param silent_after_rename: so many renames are done and never answered.
    :param size_told: what ``SIZE`` answers for a length at the so many-th time it is asked, ``None`` for 550.
    :param features: what ``FEAT`` lists.
    :param greeting: says hello in its own way.
    :param seconds_a_chunk: pause after each 16 KiB that are received.
    :param most_connections: beyond that it hangs up without a word.
    :param done: the reply to a finished transfer.
    :param before: called with session, command and argument; whether it has dealt with it.
    """

    stored_as: Callable[[bytes], bytes] = bytes
    looked_up_as: Callable[[bytes], bytes] = bytes
    refuses: dict[str, str] = dataclasses.field(default_factory=dict)
    takes_no_dots: bool = False
    stores_beside: bool = False
    silent_after_data: int = 0
    silent_after_rename: int = 0
    size_told: Callable[[int, int], int | None] = lambda size, _: size
    features: tuple[str, ...] = ("SIZE", "MLST type*;size*;modify*;", "MLSD", "UTF8")
    greeting: Callable[[socket.socket], None] = lambda connection: connection.sendall(b"220 ready\r\n")
    seconds_a_chunk: float = 0
    done: str = "226 done"
    most_connections: int = 100
    before: Callable[[OddSession, str, bytes], bool] = lambda *_: False


class OddFtpServer:
    """A server over a directory; every user may log in."""

    def __init__(self, root: Path, oddities: Oddities) -> None:
        self.root = root
        self.odd = oddities
        self.commands: list[str] = []
        self.sizes_asked = 0
        self.open = 0
        self.lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def files(self) -> dict[str, bytes]:
        """Every file on the server."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def sent(self, verb: str) -> list[str]:
        """The commands of one kind that came."""
        return [command for command in self.commands if command.split(" ")[0] == verb]

    def stop(self) -> None:
        """Cut everything."""
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            OddSession(self, connection).start()


class OddSession(threading.Thread):
    """One connection."""

    def __init__(self, server: OddFtpServer, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.connection = connection
        self.passive: socket.socket | None = None
        self._directory = b"/"
        self._renamed = b""
        self._is_mute = False

    def run(self) -> None:
        """Serve until the end."""
        server = self.server
        with server.lock:
            server.open += 1
            is_too_many = server.open > server.odd.most_connections
        try:
            with contextlib.suppress(OSError):
                if not is_too_many:
                    server.odd.greeting(self.connection)
                    self._serve()
        finally:
            with server.lock:
                server.open -= 1
            self.connection.close()

    def say(self, reply: str) -> None:
        """Answer."""
        if not self._is_mute:
            self.connection.sendall(reply.encode("latin-1").replace(b"\xff", b"\xff\xff") + b"\r\n")

    def data(self) -> socket.socket:
        """The data connection, announced."""
        assert self.passive is not None
        self.say("150 go on")
        connection, _ = self.passive.accept()
        self.passive.close()
        self.passive = None
        return connection

    def path(self, name: bytes, *, is_new: bool = False) -> Path:
        """The file behind a name."""
        whole = name if name.startswith(b"/") else self._directory.rstrip(b"/") + b"/" + name
        change = self.server.odd.stored_as if is_new else self.server.odd.looked_up_as
        directory, _, last = whole.rpartition(b"/")
        below = [self.server.odd.looked_up_as(each) for each in directory.split(b"/") if each]
        return Path(os.fsdecode(b"/".join([os.fsencode(self.server.root), *below, change(last)])))

    def _serve(self) -> None:
        for line in self.connection.makefile("rb"):
            verb, _, argument = line.rstrip(b"\r\n").replace(b"\xff\xff", b"\xff").partition(b" ")
            command = verb.decode("latin-1").upper()
            self.server.commands.append(f"{command} {os.fsdecode(argument)}".rstrip("\n"))
            if self._is_mute or self.server.odd.before(self, command, argument):
                continue
            if command in self.server.odd.refuses:
                self.say(self.server.odd.refuses[command])
                continue
            try:
                getattr(self, f"_do_{command.lower()}", self._unknown)(argument)
            except OSError as error:
                self.say(f"550 {error.strerror}")
            if command == "QUIT":
                return

    def _unknown(self, _: bytes) -> None:
        self.say("502 not implemented")

    def _fine(self, _: bytes) -> None:
        self.say("200 ok")

    _do_type = _do_opts = _do_noop = _fine

    def _do_user(self, _: bytes) -> None:
        self.say("331 password")

    def _do_pass(self, _: bytes) -> None:
        self.say("230 in")

    def _do_quit(self, _: bytes) -> None:
        self.say("221 bye")

    def _do_feat(self, _: bytes) -> None:
        self.say("211-Features\r\n" + "".join(f" {each}\r\n" for each in self.server.odd.features) + "211 End")

    def _do_pwd(self, _: bytes) -> None:
        self.say(f'257 "{self._directory.decode("latin-1")}"')

    def _do_cwd(self, name: bytes) -> None:
        if not self.path(name).is_dir():
            self.say("550 no such directory")
            return
        self._directory = name
        self.say("250 ok")

    def _do_mkd(self, name: bytes) -> None:
        self.path(name).mkdir()
        self.say('257 "made"')

    def _do_rmd(self, name: bytes) -> None:
        self.path(name).rmdir()
        self.say("250 ok")

    def _do_dele(self, name: bytes) -> None:
        self.path(name).unlink()
        self.say("250 ok")

    def _do_size(self, name: bytes) -> None:
        path = self.path(name)
        told = None
        if path.is_file():
            self.server.sizes_asked += 1
            told = self.server.odd.size_told(path.stat().st_size, self.server.sizes_asked)
        self.say("550 no such file" if told is None else f"213 {told}")

    def _do_mlst(self, name: bytes) -> None:
        path = self.path(name)
        kind = "dir" if path.is_dir() else "file"
        self.say(f"250-Listing\r\n Type={kind};Size={path.stat().st_size}; {name.decode('latin-1')}\r\n250 End")

    def _do_rnfr(self, name: bytes) -> None:
        self._renamed = name
        self.say("350 ok" if self.path(name).exists() else "550 no such file")

    def _do_rnto(self, name: bytes) -> None:
        self.path(self._renamed).rename(self.path(name, is_new=True))
        if self.server.odd.silent_after_rename and b"s3-uploader" not in name:
            self.server.odd.silent_after_rename -= 1
            self._is_mute = True
        self.say("250 ok")

    def _do_pasv(self, _: bytes) -> None:
        port = self._listen()
        self.say(f"227 Entering Passive Mode (127,0,0,1,{port >> 8},{port & 255})")

    def _do_epsv(self, _: bytes) -> None:
        self.say(f"229 Entering Extended Passive Mode (|||{self._listen()}|)")

    def _listen(self) -> int:
        self.passive = socket.create_server(("127.0.0.1", 0))
        return int(self.passive.getsockname()[1])

    def _do_stor(self, name: bytes, mode: str = "wb") -> None:
        if self.server.odd.takes_no_dots and name.rpartition(b"/")[2].startswith(b"."):
            self.say("553 Prohibited file name")
            return
        path = self.path(name)
        if self.server.odd.stores_beside and path.exists() and mode == "wb":
            path = path.with_name(path.name + ".1")
        with open(path, mode) as file:
            connection = self.data()
            while chunk := connection.recv(1 << 14):
                file.write(chunk)
                file.flush()
                time.sleep(self.server.odd.seconds_a_chunk)
        connection.close()
        if self.server.odd.silent_after_data and path.stat().st_size > 1:
            self.server.odd.silent_after_data -= 1
            self._is_mute = True
        self.say(self.server.odd.done)

    def _do_appe(self, name: bytes) -> None:
        self._do_stor(name, "ab")

    def _do_retr(self, name: bytes) -> None:
        content = self.path(name).read_bytes()
        with self.data() as connection:
            connection.sendall(content)
        self.say(self.server.odd.done)

    def _do_mlsd(self, name: bytes) -> None:
        self._list(name, lambda kind, size: f"Type={kind};Size={size};Modify=20260101000000; ")

    def _do_list(self, name: bytes) -> None:
        where = b"." if name.startswith(b"-") else name
        self._list(
            self._directory if where == b"." else where,
            lambda kind, size: f"{'d' if kind == 'dir' else '-'}rw-r--r--   1 u        g    {size:>12} Jan  1 00:00 ",
        )

    def _list(self, name: bytes, form: Callable[[str, int], str]) -> None:
        entries = sorted(self.path(name).iterdir())
        lines = [
            form("dir" if each.is_dir() else "file", each.stat().st_size).encode() + os.fsencode(each.name) + b"\r\n"
            for each in entries
        ]
        with self.data() as connection:
            connection.sendall(b"".join(lines))
        self.say(self.server.odd.done)


@contextlib.contextmanager
def odd_ftp_server(root: Path, oddities: Oddities) -> Iterator[OddFtpServer]:
    """A running server, stopped afterwards."""
    server = OddFtpServer(root, oddities)
    try:
        yield server
    finally:
        server.stop()
