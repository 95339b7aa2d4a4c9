"""Pings a health check, which alerts when pings stop. The protocol is that of healthchecks.io.

``URL/start`` when a run begins, ``URL`` when it ended with exit code 0, else ``URL/<exit code>``; the body is the
summary and the last lines of the log. Start and end of a run carry the same ``rid``, which distinguishes overlapping
runs. See https://healthchecks.io/docs/http_api/. A ping cannot fail or noticeably delay a run: requests are made on
threads of their own. The end of the program waits only for the last one, and hardly if the program was told to stop.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from s3_uploader._version import __version__
from s3_uploader.core.control import StopRequest, start_thread
from s3_uploader.core.events import Emit, Event, Notice, RunFinished, RunStarted
from s3_uploader.core.text import quoted, shown_text
from s3_uploader.monitoring.log import summary
from s3_uploader.stores.retry import RetryPolicy

TIMEOUT_SECONDS = 5.0
LONGEST_BODY = 10_000
"""Bytes that healthchecks.io keeps by default. It rejects only more than 100 kB."""

_RETRY = RetryPolicy(max_attempts=3, base_pause=0.6, max_total=TIMEOUT_SECONDS)
_COULD_NOT_BEGIN = 2
_STOPPED_SECONDS = 1.0
"""Seconds that the last ping has once the program was told to stop."""
_STEP_SECONDS = 0.1

Send = Callable[[str, bytes, float], None]


class _Tail(Protocol):
    def tail(self) -> str:
        """The last lines of the log."""


class Ping:
    """Subscriber that pings; :meth:`close` waits for the last ping, a few seconds at most.

    :param url: of the check. It is the check's only secret, so it is never shown.
    :param log: its last lines become the body.
    :param notice: called if a ping failed.
    :param stop: shortens the wait for the last ping; each further request ends it.
    :param send: makes the request: URL, body, timeout in seconds.
    :param clock: monotonic seconds.
    :param sleep: waits between two attempts.
    """

    def __init__(
        self,
        url: str,
        *,
        log: _Tail,
        notice: Emit,
        stop: StopRequest | None = None,
        send: Send | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._sleep = sleep
        self._run_id = ""
        self._log = log
        self._notice = notice
        self._stop = stop or StopRequest()
        self._send = send or post
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._ends_at = 0.0
        self._problem = ""

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, RunStarted):
            self._run_id = new_run_id()
            self._begin("start", b"")
        elif isinstance(event, RunFinished) and not event.report.dry_run:
            code = event.report.exit_code
            text = f"{summary(event.report)}\n\n{self._log.tail()}"
            self._begin(str(code) if code else "", _last_bytes(text))
            self._run_id = ""

    def could_not_begin(self, message: str) -> None:
        """Report a run that could not begin: the spool or the state directory cannot be used."""
        self._begin(str(_COULD_NOT_BEGIN), _last_bytes(shown_text(message)))

    def close(self) -> None:
        """Wait for the last ping, within its timeout."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._wait_for(thread)
        self._tell_problem()

    def _wait_for(self, thread: threading.Thread) -> None:
        ends_at, seconds, requests = self._ends_at, TIMEOUT_SECONDS, 0
        while thread.is_alive():
            now = self._clock()
            if self._stop.requests > requests:
                if requests:
                    self._problem = "no answer before the program was stopped"
                    return
                requests = self._stop.requests
                if now + _STOPPED_SECONDS < ends_at:
                    ends_at, seconds = now + _STOPPED_SECONDS, _STOPPED_SECONDS
            if now >= ends_at:
                self._problem = f"no answer in {seconds:.0f} s"
                return
            # In short steps, because a signal does not end the wait for a thread.
            thread.join(min(ends_at - now, _STEP_SECONDS))

    def _tell_problem(self) -> None:
        problem, self._problem = self._problem, ""
        if problem:
            host = host_of(self._url)
            self._notice(Notice("warning", f"The health check at {host} could not be pinged: {problem}.", "ping"))

    def _try(self, url: str, body: bytes, ends_at: float) -> None:
        failed_at: float | None = None
        for attempts in itertools.count(1):
            try:
                self._send(url, body, max(ends_at - self._clock(), 0.1))
                return
            except Exception as error:  # no error of a ping may affect the run
                now = self._clock()
                failed_at = now if failed_at is None else failed_at
                pause = None if _is_final(error) else self._pause(attempts, failed_at, now, ends_at)
                if pause is None:
                    self._problem = in_words(error, url=self._url)
                    return
            self._sleep(pause)

    def _pause(self, attempts: int, failed_at: float, now: float, ends_at: float) -> float | None:
        import random  # needed only for retries

        return _RETRY.pause(
            attempts=attempts, since_first_failure=now - failed_at, remaining=ends_at - now, random=random.random
        )

    def _begin(self, signal: str, body: bytes) -> None:
        self._tell_problem()  # of the previous ping, if one process makes many runs
        ends_at = self._ends_at = self._clock() + TIMEOUT_SECONDS
        before = self._thread
        url = signal_url(self._url, signal, run_id=self._run_id)

        def work() -> None:
            if before is not None:  # a start that arrives after the end would say that the run is still going on
                before.join(max(ends_at - self._clock(), 0.0))
            self._try(url, body, ends_at)

        self._thread = threading.Thread(target=work, name="ping", daemon=True)
        start_thread(self._thread)


def new_run_id() -> str:
    """Make a random UUID without the cost of importing ``uuid``."""
    digits = bytearray(os.urandom(16))
    digits[6] = digits[6] & 0x0F | 0x40
    digits[8] = digits[8] & 0x3F | 0x80
    text = digits.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def signal_url(url: str, signal: str, *, run_id: str = "") -> str:
    """Add the signal to the path of the check's URL and the run to its query."""
    address, _, query = url.partition("?")
    if signal:
        address = f"{address.rstrip('/')}/{signal}"
    parts = [part for part in (query, f"rid={run_id}" if run_id else "") if part]
    return "?".join([address, *(["&".join(parts)] if parts else [])])


def _is_final(error: Exception) -> bool:
    """Whether the server has refused the request, so that a retry is useless."""
    status = getattr(error, "code", None)
    return isinstance(status, int) and 400 <= status < 500


def in_words(error: Exception, *, url: str) -> str:
    """Describe an error without the URL, which is a secret."""
    status = getattr(error, "code", None)
    if isinstance(status, int):
        return f"it answered with status {status}"
    reason = getattr(error, "reason", error)
    text = getattr(reason, "strerror", None) or str(reason)
    secret = url.partition("://")[2].partition("/")[2].partition("?")[0].strip("/")
    is_ours = not isinstance(error, OSError) or bool(secret and secret in text)
    return type(error).__name__ if is_ours or not text else quoted(text)


def host_of(url: str) -> str:
    """The host in a URL, the part of it that may be shown."""
    return url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]


def post(url: str, body: bytes, timeout: float) -> None:
    """Make the request, through the proxies of the environment. A user in the URL logs in."""
    import base64
    import urllib.parse
    import urllib.request

    headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": f"s3-uploader/{__version__}"}
    parts = urllib.parse.urlsplit(url)
    user, has_user, server = parts.netloc.rpartition("@")
    if has_user:
        url = urllib.parse.urlunsplit(parts._replace(netloc=server))
        headers["Authorization"] = f"Basic {base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()}"
    request = urllib.request.Request(url, data=body, method="POST", headers=headers)
    with urllib.request.urlopen(request, timeout=timeout):
        pass


def _last_bytes(text: str) -> bytes:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= LONGEST_BODY:
        return data
    head, _, rest = data.partition(b"\n")
    head = head[: LONGEST_BODY // 2]
    return head + b"\n" + rest[-(LONGEST_BODY - len(head) - 1) :]
