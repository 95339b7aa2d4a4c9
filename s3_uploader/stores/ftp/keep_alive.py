"""What is said on the control connection while data go on another one, and the replies that it brings."""

from __future__ import annotations

import contextlib
import time

from s3_uploader.stores.ftp.commands import CommandConnection
from s3_uploader.stores.ftp.control import raise_for
from s3_uploader.stores.ftp.replies import Refused

KEEP_ALIVE_SECONDS = 20.0
"""So often the control connection gets a word while data go: what carries it on the way forgets the silent."""

_NO_ANSWER = (500, 501, 502, 503)
"""What servers say to NOOP that do not know it."""


class KeepAlive:
    """The words on the control connection while data go on another one, and the replies that are still to come.

    Servers answer them at once, or all after the transfer, or some never. So at the end the working directory is asked
    for: its 257 is the reply of nothing else, and whatever comes before it is not.
    """

    def __init__(self, connection: CommandConnection) -> None:
        self._connection = connection
        self._said = 0
        self._next = time.monotonic() + KEEP_ALIVE_SECONDS

    def say(self) -> None:
        """Say something, if it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + KEEP_ALIVE_SECONDS
            self._connection.live().send("NOOP", seconds=self._connection.limit())
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
            raise self._connection.live().out_of_step(reply)

    def _first_of_transfer(self, at_most: float | None) -> str:
        for _ in range(self._said + 1):
            try:
                reply = self._connection.reply("", at_most=at_most)
            except Refused as refused:
                reply = refused.reply
            if not self._said or (reply[:3] != "200" and int(reply[:3]) not in _NO_ANSWER):
                break
        return reply

    def _catch_up(self, at_most: float | None) -> None:
        self._connection.live().send("PWD", seconds=self._connection.limit())
        for _ in range(self._said + 2):
            with contextlib.suppress(Refused):
                if self._connection.reply("", at_most=at_most)[:3] == "257":
                    return
        raise self._connection.live().out_of_step("replies to nothing")
