"""Pings to a health check: what is sent when, and that nothing that happens to them matters to a run."""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from s3_uploader.core.control import StopRequest
from s3_uploader.core.events import Event, Notice, RunFinished, RunStarted
from s3_uploader.core.model import RunReport
from s3_uploader.monitoring.ping import LONGEST_BODY, TIMEOUT_SECONDS, Ping, host_of, in_words, post, signal_url

URL = "https://hc-ping.com/secret-uuid"


class FakeLog:
    """A log whose tail is given."""

    def __init__(self, text: str = "the last line\n") -> None:
        self.text = text

    def tail(self) -> str:
        """The last lines."""
        return self.text


class Receiver:
    """Takes what is sent, and does to it what a test wants."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []
        self.timeouts: list[float] = []
        self.reaction: Callable[[str], None] = lambda url: None

    def __call__(self, url: str, body: bytes, timeout: float) -> None:
        """Receive a ping."""
        self.reaction(url)
        self.received.append((url, body.decode()))
        self.timeouts.append(timeout)


@pytest.fixture
def receiver() -> Receiver:
    """What the pings arrive at."""
    return Receiver()


@pytest.fixture
def notices() -> list[Event]:
    """What the run's log is told about pings."""
    return []


@pytest.fixture
def ping(receiver: Receiver, notices: list[Event]) -> Iterator[Ping]:
    """A subscriber whose clock stands still."""
    subscriber = Ping(
        URL, log=FakeLog(), notice=notices.append, send=receiver, clock=lambda: 100.0, sleep=lambda seconds: None
    )
    yield subscriber
    subscriber.close()


def finished(exit_code: int = 0, **changes: object) -> RunFinished:
    """The end of a run."""
    values: dict = {"base_dir": "/spool", "destination": "bucket", "started_at": 0.0, "duration": 0.44}
    return RunFinished(RunReport(exit_code=exit_code, **{**values, **changes}))


def test_a_run_pings_its_start_and_its_end(ping: Ping, receiver: Receiver, notices: list[Event]) -> None:
    """The start is pinged without a body, the end with the summary and the last lines of the log, in this order."""
    ping(RunStarted("/spool", "bucket"))
    ping(Notice("info", "nothing to ping"))
    ping(finished())
    ping.close()
    urls = [url.partition("?rid=") for url, _ in receiver.received]
    assert len({run_id for _, _, run_id in urls}) == 1
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", urls[0][2])
    assert [(url, body) for (url, _, _), (_, body) in zip(urls, receiver.received, strict=True)] == [
        (URL + "/start", ""),
        (URL, "No file shipped to bucket in 0.4 s.\n\nthe last line\n"),
    ]
    assert all(0 < timeout <= TIMEOUT_SECONDS for timeout in receiver.timeouts)
    assert notices == []


@pytest.mark.parametrize("exit_code", [1, 3, 143])
def test_a_failed_run_pings_its_exit_code(ping: Ping, receiver: Receiver, exit_code: int) -> None:
    """A run that ended with another exit code than 0 pings that code."""
    ping(finished(exit_code))
    ping.close()
    assert receiver.received[0][0] == f"{URL}/{exit_code}"


def test_a_dry_run_pings_nothing(ping: Ping, receiver: Receiver) -> None:
    """A dry run is no sign of life."""
    ping(finished(dry_run=True))
    ping.close()
    ping.close()
    assert receiver.received == []


def test_a_failing_ping_is_a_warning_without_the_secret(ping: Ping, receiver: Receiver, notices: list[Event]) -> None:
    """A ping that fails is told in one warning that names the host and the cause; the URL stays secret."""

    def refuse(url: str) -> None:
        raise OSError("connection refused")

    receiver.reaction = refuse
    ping(finished())
    ping.close()
    assert notices == [
        Notice("warning", "The health check at hc-ping.com could not be pinged: connection refused.", "ping")
    ]


def test_an_error_without_words_is_told_by_its_name(ping: Ping, receiver: Receiver, notices: list[Event]) -> None:
    """Whatever a ping meets, a bug included, costs the run nothing."""

    def stumble(url: str) -> None:
        raise KeyError

    receiver.reaction = stumble
    ping(finished())
    ping.close()
    assert notices == [Notice("warning", "The health check at hc-ping.com could not be pinged: KeyError.", "ping")]


def test_where_one_process_makes_many_runs_problems_are_told_in_time(
    ping: Ping, receiver: Receiver, notices: list[Event]
) -> None:
    """A ping that failed is told at the latest with the next one."""

    def refuse(url: str) -> None:
        raise OSError("no route")

    receiver.reaction = refuse
    ping(finished())
    assert ping._thread is not None
    ping._thread.join()
    receiver.reaction = lambda url: None
    ping(RunStarted("/spool", "bucket"))
    assert len(notices) == 1
    ping.close()
    assert len(notices) == 1


def test_a_failed_ping_is_retried_with_growing_pauses(receiver: Receiver, notices: list[Event]) -> None:
    """A ping that fails is tried three times; its pauses are drawn as those of every other retry."""
    attempts: list[None] = []
    pauses: list[float] = []

    def refuse(url: str) -> None:
        attempts.append(None)
        raise OSError("connection refused")

    receiver.reaction = refuse
    ping = Ping(
        URL, log=FakeLog(), notice=notices.append, send=receiver, clock=lambda: 100.0 + sum(pauses), sleep=pauses.append
    )
    ping(finished())
    ping.close()
    assert len(attempts) == 3
    assert [pause <= limit for pause, limit in zip(pauses, (0.6, 1.2), strict=True)] == [True, True]
    assert len(notices) == 1


def test_a_ping_that_hangs_holds_nothing_up(receiver: Receiver, notices: list[Event]) -> None:
    """A health check that does not answer times out, and the run continues meanwhile."""
    times = iter([100.0, 100.0, 106.0])
    over = threading.Event()

    def hang(url: str) -> None:
        over.wait(60)

    receiver.reaction = hang
    ping = Ping(URL, log=FakeLog(), notice=notices.append, send=receiver, clock=lambda: next(times, 106.0))
    ping(RunStarted("/spool", "bucket"))
    ping.close()
    over.set()
    assert notices == [
        Notice("warning", "The health check at hc-ping.com could not be pinged: no answer in 5 s.", "ping")
    ]


@pytest.mark.parametrize("requests", [1, 2])
def test_a_stop_shortens_the_wait(receiver: Receiver, notices: list[Event], requests: int) -> None:
    """A program that is told to stop leaves a last ping one second; if it is told again meanwhile, none."""
    stop = StopRequest()
    now = [100.0]
    over = threading.Event()

    def hang(url: str) -> None:
        over.wait(60)

    def clock() -> float:
        now[0] += 0.3
        if requests == 2 and now[0] > 101:
            stop.request()
        return now[0]

    receiver.reaction = hang
    ping = Ping(URL, log=FakeLog(), notice=notices.append, stop=stop, send=receiver, clock=clock)
    ping(finished())
    stop.request()
    ping.close()
    over.set()
    assert now[0] < 102.5
    why = "no answer in 1 s" if requests == 1 else "no answer before the program was stopped"
    assert notices == [Notice("warning", f"The health check at hc-ping.com could not be pinged: {why}.", "ping")]


def test_the_body_is_bounded(receiver: Receiver, notices: list[Event]) -> None:
    """The body has the summary and as much of the log's end as fits."""
    ping = Ping(URL, log=FakeLog("ö" * 20_000 + "end"), notice=notices.append, send=receiver, clock=lambda: 0.0)
    sent: list[bytes] = []
    ping._send = lambda url, body, timeout: sent.append(body)
    ping(finished())
    ping.close()
    (body,) = sent
    assert len(body) == LONGEST_BODY
    assert body.startswith(b"No file shipped to bucket in 0.4 s.\n")
    assert body.endswith(b"end")


def test_signals_go_into_the_path() -> None:
    """A signal is added to the path, and a query stays where it is."""
    assert signal_url(URL, "") == URL
    assert signal_url(URL + "/", "start") == URL + "/start"
    assert signal_url(URL + "?create=1", "3") == URL + "/3?create=1"
    assert signal_url(URL, "start", run_id="x") == URL + "/start?rid=x"
    assert signal_url(URL + "/?create=1", "", run_id="x") == URL + "/?create=1&rid=x"


def test_each_run_has_a_number_of_its_own(ping: Ping, receiver: Receiver) -> None:
    """Two runs of one process are told apart; an end without a start belongs to none."""
    for _ in range(2):
        ping(RunStarted("/spool", "bucket"))
        ping(finished())
    ping(finished())
    ping.close()
    run_ids = [url.partition("?rid=")[2] for url, _ in receiver.received]
    assert run_ids[0] == run_ids[1] != run_ids[2] == run_ids[3]
    assert run_ids[4] == ""


def test_a_run_that_cannot_begin_is_pinged(ping: Ping, receiver: Receiver) -> None:
    """A spool or state directory that cannot be used is a failure with exit code 2, and the message says why."""
    ping.could_not_begin("The disk is full.")
    ping.close()
    assert receiver.received == [(URL + "/2", "The disk is full.")]


@pytest.mark.parametrize(
    ("error", "tries"),
    [(OSError("reset"), 3), (urllib.error.HTTPError(URL, 500, "", {}, None), 3)],  # type: ignore[arg-type]
)
def test_what_may_pass_is_tried_again(ping: Ping, receiver: Receiver, error: Exception, tries: int) -> None:
    """A connection that broke and a server in trouble are tried again, three times in all."""
    count = []

    def fail(url: str) -> None:
        count.append(url)
        raise error

    receiver.reaction = fail
    ping(finished())
    ping.close()
    assert len(count) == tries


def test_what_cannot_pass_is_not(ping: Ping, receiver: Receiver, notices: list[Event]) -> None:
    """A check that does not exist is asked once."""
    count = []

    def fail(url: str) -> None:
        count.append(url)
        raise urllib.error.HTTPError(url, 404, "Not Found", {}, None)  # type: ignore[arg-type]

    receiver.reaction = fail
    ping(finished())
    ping.close()
    assert len(count) == 1
    assert notices == [
        Notice("warning", "The health check at hc-ping.com could not be pinged: it answered with status 404.", "ping")
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(104, "Connection reset by peer"), "Connection reset by peer"),
        (urllib.error.URLError(OSError(-2, "Name or service not known")), "Name or service not known"),
        (urllib.error.URLError("no host given"), "no host given"),
        (OSError("no /secret-uuid here"), "OSError"),
        (ValueError(f"unknown url type: {URL!r}"), "ValueError"),
        (OSError(), "OSError"),
    ],
)
def test_no_message_gives_the_secret_away(error: Exception, words: str) -> None:
    """What a library says about a URL never brings the URL into the log."""
    assert in_words(error, url=URL) == words


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (URL, "hc-ping.com"),
        ("http://user:secret@[::1]:8000/uuid?x", "[::1]:8000"),
        ("http://host?uuid", "host"),
    ],
)
def test_only_the_host_of_a_url_is_shown(url: str, host: str) -> None:
    """Neither path nor query nor password of the URL appear in a message."""
    assert host_of(url) == host


def test_a_ping_is_a_post_with_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is a POST of plain text that gives up in time."""
    requests: list = []

    class Answer:
        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

    def urlopen(request: object, timeout: float) -> Answer:
        requests.append((request, timeout))
        return Answer()

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    post(URL, b"body", 3.0)
    ((request, timeout),) = requests
    assert (request.method, request.full_url, request.data, timeout) == ("POST", URL, b"body", 3.0)
    assert request.headers["Content-type"] == "text/plain; charset=utf-8"
    assert request.headers["User-agent"].startswith("s3-uploader/")


@pytest.mark.parametrize(
    ("user", "header"),
    [("", None), ("me:it%27s%40home@", "Basic bWU6aXQnc0Bob21l"), ("me@", "Basic bWU=")],
    ids=["nobody", "name and password", "name"],
)
def test_a_user_in_the_url_logs_in(user: str, header: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check behind a login is pinged, and its password is in no URL."""
    requests: list[urllib.request.Request] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> contextlib.nullcontext[None]:
        requests.append(request)
        return contextlib.nullcontext()

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    post(f"http://{user}checks.example:8000/uuid/start?rid=1", b"body", 5.0)
    (request,) = requests
    assert request.full_url == "http://checks.example:8000/uuid/start?rid=1"
    assert request.get_header("Authorization") == header
