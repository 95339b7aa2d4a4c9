"""The connections to a file server: one for each upload in flight, reused, and fewer if the server limits them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import StoreError
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.workers import UploadTask

if TYPE_CHECKING:
    from s3_uploader.stores.file_servers.parts import PartNames

_GRACE_SECONDS = 1.0
"""How long a cancelled upload may take to clean up before its connection is cut."""

_SILENCE_SECONDS = 0.9
"""How long to wait for an answer while the pool closes."""

_PATIENCE_SECONDS = 1.5
"""A server that was silent for longer while the pool closes is not tried again, because the user is waiting."""

_QUIT_SECONDS = 0.3

_IDLE_SECONDS = 15.0
"""A session that was idle for longer is tested before use, because many servers close idle connections silently."""


_Session = TypeVar("_Session", bound=FileSession)


class SessionPool(Generic[_Session]):
    """Sessions for uploads in flight.

    :param make: makes an unconnected session, given a function that returns the seconds left.
    :param login_error: describes a failure to connect.
    :param most: the maximum number of sessions.
    :param parts: knows what could not be removed.
    """

    def __init__(
        self,
        *,
        make: Callable[[Callable[[], float]], _Session],
        login_error: Callable[[Refused | Lost], StoreError],
        most: int,
        parts: PartNames,
    ) -> None:
        self._make_session = make
        self._login_error = login_error
        self._most = most
        self._open = 0
        self._idle: list[_Session] = []
        self._free = threading.Condition()
        self._closed = False
        self._cut_at = -_GRACE_SECONDS
        self._parts = parts

    def add(self, session: _Session) -> None:
        """Add a session that was made elsewhere."""
        with self._free:
            self._open += 1
        self._give(session)

    @contextlib.contextmanager
    def session(self, task: UploadTask) -> Iterator[_Session]:
        """A session for one attempt.

        When the task is cancelled, the attempt has a moment to clean up. Then its connection is cut, in case the server
        hangs.

        :raises StoreError: if no session is available.
        """
        session = self._take(task)
        timers: list[threading.Timer] = []

        def cut() -> None:
            self._cut_at = time.monotonic()
            session.interrupt()

        def interrupt() -> None:
            timer = threading.Timer(_GRACE_SECONDS, cut)
            timer.daemon = True
            timers.append(timer)
            start_thread(timer)

        try:
            with task.reading_source(), task.interrupted_by(interrupt):
                yield session
        finally:
            for timer in timers:
                timer.cancel()
                # The interrupt may be running just now, and the session is about to be used by another task.
                timer.join()
            self._give(session)

    def borrow(self, remaining: Callable[[], float]) -> _Session | None:
        """An idle session, if there is one; return it with :meth:`give_back`."""
        with self._free:
            session = self._idle.pop() if self._idle else None
        if session is not None:
            session.remaining = remaining
            if not session.alive():
                self._drop(session)
                return None
        return session

    def give_back(self, session: _Session) -> None:
        """Take back a borrowed session."""
        self._give(session)

    def narrow(self, session: _Session) -> None:
        """Do without this session from now on, unless it is the only one: there are too few descriptors for all."""
        with self._free:
            if self._open == 1:
                return
            self._most = min(self._most, self._open) - 1
        session.close()

    def close(self, *, ends_at: float, on_shutdown: Callable[[_Session], None] | None) -> None:
        """Remove leftovers, call ``on_shutdown`` with a working session, and close the connections.

        :param ends_at: ``time.monotonic()`` at which to stop trying.
        """
        begun = time.monotonic()
        # The silence of the uploads that were cut just now counts, too.
        patient_until = begun + _PATIENCE_SECONDS - (_GRACE_SECONDS if begun - self._cut_at < _GRACE_SECONDS else 0.0)
        # An idle session may have died silently; the second attempt uses a new one.
        for _ in range(2):
            if on_shutdown is None and not self._parts.leftovers:
                break
            with self._free:
                session = self._idle.pop() if self._idle else None
            try:
                if session is None:
                    session = self._make_session(self._until(ends_at))
                    session.connect()
                session.remaining = self._until(ends_at)
                self._parts.remove_leftovers(session)
                if on_shutdown is not None:
                    on_shutdown(session)
                elif not session.usable:
                    raise Lost("it was lost while leftovers were removed")
            except (Refused, Lost):
                if session is not None:
                    session.close()
                if time.monotonic() > patient_until:
                    break
                continue
            session.quit(seconds=_QUIT_SECONDS)
            break
        with self._free:
            # A hanging worker still has its session, and closes it when it returns.
            self._closed = True
            idle, self._idle = self._idle, []
        # They log out at the same time: if one gets no answer, the others would hardly get one.
        leave_until = min(ends_at, time.monotonic() + _QUIT_SECONDS)
        for session in idle:
            remaining = leave_until - time.monotonic()
            if remaining > 0:
                session.quit(seconds=remaining)
            else:
                session.close()

    def _until(self, ends_at: float) -> Callable[[], float]:
        # A server that is silent for so long does not delay the end of the run.
        return lambda: min(_SILENCE_SECONDS, ends_at - time.monotonic())

    def _take(self, task: UploadTask) -> _Session:
        """An idle session, a new one, or the next one that is returned."""
        while True:
            with self._free:
                while not self._idle and self._open >= self._most:
                    self._free.wait(min(0.5, task.remaining))
                    task.check()
                session = self._idle.pop() if self._idle else None
                if session is None:
                    self._open += 1
            if session is None:
                session = self._make(task)
                if session is None:
                    continue
                return session
            session.remaining = _time_of(task)
            if time.monotonic() - session.last_used < _IDLE_SECONDS or session.alive():
                return session
            self._drop(session)

    def _make(self, task: UploadTask) -> _Session | None:
        """A new session; ``None`` if the server accepts no more than there are."""
        session = self._make_session(_time_of(task))
        try:
            with task.interrupted_by(session.interrupt):
                session.connect()
        except (Refused, Lost) as error:
            with self._free:
                self._open -= 1
                # Some servers turn away one connection too many with a reply, others close it or do not answer.
                is_one_too_many = (
                    error.is_one_too_many
                    if isinstance(error, Refused)
                    else error.step == "connect" or error.lacks_descriptors
                )
                if is_one_too_many and self._open:
                    self._most = self._open
                    return None
            raise self._login_error(error) from None
        except BaseException:
            with self._free:
                self._open -= 1
            raise
        self._parts.remove_leftovers(session)
        return session

    def _give(self, session: _Session) -> None:
        """Take a session back."""
        if not session.usable or self._closed:
            self._drop(session)
            return
        with self._free:
            self._idle.append(session)
            self._free.notify()

    def _drop(self, session: _Session) -> None:
        session.close()
        with self._free:
            self._open -= 1
            self._free.notify()


def _time_of(task: UploadTask) -> Callable[[], float]:
    return lambda: _GRACE_SECONDS if task.is_cancelled else task.remaining
