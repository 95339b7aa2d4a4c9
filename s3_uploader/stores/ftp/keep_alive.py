"""Keeps the control connection alive during a transfer, and reads the replies that this causes."""

from __future__ import annotations

import contextlib
import time

from s3_uploader.stores.ftp.commands import CommandConnection
from s3_uploader.stores.ftp.control import raise_for
from s3_uploader.stores.ftp.replies import Refused

KEEP_ALIVE_SECONDS = 20.0
"""Interval of NOOP on the control connection during a transfer, because firewalls drop idle connections."""

_NO_ANSWER = (500, 501, 502, 503)
"""Replies of servers that do not support NOOP."""


class KeepAlive:
    """The NOOPs on the control connection during a transfer, and the replies that are still expected.

    Some servers answer each at once, some answer all after the transfer, some never answer. So at the end the program
    asks for the working directory: only that is answered with 257, and all replies before it belong to the NOOPs.
    """

    def __init__(self, connection: CommandConnection) -> None:
        self._connection = connection
        self._said = 0
        self._next = time.monotonic() + KEEP_ALIVE_SECONDS

    def say(self) -> None:
        """Send a NOOP if it is due."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + KEEP_ALIVE_SECONDS
            self._connection.live().send("NOOP", seconds=self._connection.limit())
            self._said += 1

    def end(self, *, at_most: float | None = None) -> str:
        """Read the reply to the transfer.

        :raises Refused: if the server refuses what it received, or says that it could not send everything.
        """
        reply = self._first_of_transfer(at_most)
        if self._said:
            self._catch_up(at_most)
        raise_for(reply, "")
        if reply[0] != "2":
            raise self._connection.live().out_of_step(reply)
        return reply

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
