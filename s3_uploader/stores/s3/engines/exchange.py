"""One request and its answer in the native engine."""

from __future__ import annotations

import contextlib
from typing import Protocol

from s3_uploader.stores.s3.engines.base import Done, Outcome, Request


class Cancels(Protocol):
    """The part of the engine that an exchange uses."""

    def cancel(self, exchange: Exchange) -> None:
        """Cancel one exchange. May be called on any thread."""


class Carrier(Protocol):
    """The part of the connection that an exchange uses."""

    exchange: Exchange | None


class Exchange:
    """One request in flight; a :class:`~s3_uploader.stores.s3.engines.base.Sending`."""

    __slots__ = (
        "_engine", "body", "connection", "done", "finished", "head", "repeated", "request"
    )  # fmt: skip

    def __init__(self, engine: Cancels, request: Request, head: bytes, done: Done) -> None:
        self._engine = engine
        self.head = head
        self.body = request.body
        self.request = request
        self.done = done
        self.connection: Carrier | None = None
        self.finished = False
        self.repeated = False

    def cancel(self) -> None:
        """Cancel it."""
        self._engine.cancel(self)

    def finish(self, outcome: Outcome) -> None:
        """Report the outcome, once, and drop the body, so that it does not wait for the garbage collector."""
        if not self.finished:
            self.finished = True
            done, self.done = self.done, _nothing
            self.head = self.body = b""
            self.connection = None
            with contextlib.suppress(Exception):
                done(outcome)


def _nothing(outcome: Outcome) -> None:
    """The callback of an exchange that is over."""
