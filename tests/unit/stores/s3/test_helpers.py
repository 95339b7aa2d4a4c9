"""What gives credentials may hang, print nonsense or never end; renewing them holds nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import PartialCredentialsError

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.helpers import RenewedCredentials, find


class Frozen(NamedTuple):
    """Credentials as botocore freezes them."""

    access_key: str
    secret_key: str
    token: str | None


class Found:
    """Botocore's credentials, of which a test says how long they hold and what renewing them does."""

    def __init__(self) -> None:
        self.remaining = 3600.0
        self.renew: Callable[[], Frozen] = lambda: Frozen("A", "B", None)

    def refresh_needed(self, refresh_in: float) -> bool:
        """Whether they hold for less."""
        return self.remaining < refresh_in

    def get_frozen_credentials(self) -> Frozen:
        """What they are, renewed if need be."""
        return self.renew()


class Session:
    """A session with these credentials."""

    def __init__(self, get: Callable[[], Any]) -> None:
        self.get_credentials = get


def renewed(found: Found) -> RenewedCredentials:
    """What the program makes of them."""
    return RenewedCredentials(found, usable=lambda credentials: credentials)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
            "missing: AWS_SECRET_ACCESS_KEY. Set what is missing, or remove the rest",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "/nosuch/token"),
            "/nosuch/token: No such file or directory.",
        ),
    ],
)
def test_what_is_missing_is_named(error: Exception, words: str) -> None:
    """Half a pair of keys, or a file that is not there, is named together with what to do about it."""

    def fail() -> None:
        raise error

    with pytest.raises(StoreError) as caught:
        find(Session(fail))
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert "Errno" not in caught.value.message


def test_they_are_the_same_object_as_long_as_they_are_the_same() -> None:
    """A signing key is kept for them."""
    credentials = renewed(Found())
    assert credentials() is credentials()
    assert credentials() == Credentials("A", "B")


def test_they_are_renewed_while_they_still_hold() -> None:
    """Minutes before the end new ones are fetched, and until they are there the old ones serve."""
    found = Found()
    credentials = renewed(found)
    old = credentials()
    go_on = threading.Event()

    def renew() -> Frozen:
        assert go_on.wait(10)
        return Frozen("C", "D", "T")

    found.remaining, found.renew = 300, renew
    began = time.monotonic()
    assert credentials() is old
    assert time.monotonic() - began < 1
    go_on.set()
    assert credentials._renewal is not None
    assert credentials._renewal.wait(10)
    assert credentials() == Credentials("C", "D", "T")


def test_a_request_does_not_wait_for_a_helper_that_hangs() -> None:
    """Where credentials have expired a request waits a moment, once; later ones fail at once, to be sent again."""
    found = Found()
    credentials = renewed(found)
    credentials()
    go_on = threading.Event()

    def hang() -> Frozen:
        go_on.wait(10)
        return Frozen("C", "D", None)

    found.remaining, found.renew = -1, hang
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreError, match="expired") as raised:
            credentials()
        assert raised.value.retryable
    assert time.monotonic() - began < 3
    go_on.set()


def test_a_renewal_that_fails() -> None:
    """The old ones serve as long as they hold; then the reason is told."""
    found = Found()
    credentials = renewed(found)
    old = credentials()

    def fail() -> Frozen:
        raise RuntimeError("the token server is down")

    found.remaining, found.renew = 300, fail
    for _ in range(10):
        assert credentials() is old
    found.remaining = -1
    with pytest.raises(StoreError, match="the token server is down") as raised:
        credentials()
    assert raised.value.scope is Scope.DESTINATION
    assert not raised.value.retryable


@pytest.mark.parametrize(
    ("frozen", "fault"),
    [
        (Frozen(1, "B", None), "not text"),  # type: ignore[arg-type]
        (Frozen("A", None, None), "not text"),  # type: ignore[arg-type]
        (Frozen("A", "B", ["C"]), "not text"),  # type: ignore[arg-type]
        (Frozen("", "B", None), "an empty access key"),
        (Frozen("A", "", "C"), "an empty secret key"),
    ],
)
def test_credentials_that_are_no_text(frozen: Frozen, fault: str) -> None:
    """What gives the credentials may give numbers or nothing: the error says so, and is the destination's."""
    found = Found()
    found.renew = lambda: frozen
    with pytest.raises(StoreError, match=fault) as caught:
        renewed(found)()
    assert caught.value.scope is Scope.DESTINATION


@pytest.mark.parametrize("error", [KeyError("AccessKeyId"), TypeError("None"), ValueError("no JSON"), OSError("gone")])
def test_an_answer_that_makes_no_sense(error: Exception) -> None:
    """Whatever botocore raises over an answer is a sentence, and every file would meet it."""

    def get() -> Any:
        raise error

    with pytest.raises(StoreError, match="no usable AWS credentials") as raised:
        find(Session(get))
    assert raised.value.scope is Scope.DESTINATION


def test_a_source_that_tells_its_secrets() -> None:
    """What a helper prints when it fails is shown without the secrets in it."""

    def get() -> Any:
        raise OSError('login failed: {"SecretAccessKey": "abcdefghijkl"}' + " password=mnopqrstuvw" * 1000)

    with pytest.raises(StoreError, match="login failed") as raised:
        find(Session(get))
    assert "abcdefghijkl" not in str(raised.value)
    assert "mnopqrstuvw" not in str(raised.value)


def test_a_source_that_does_not_answer() -> None:
    """The first credentials are waited for, but not for ever."""
    go_on = threading.Event()
    with pytest.raises(StoreError, match=r"did not answer in 0\.05 s"):
        find(Session(lambda: go_on.wait(10)), seconds=0.05)
    go_on.set()


def test_no_credentials_are_no_error() -> None:
    """Where nothing gives credentials that is for others to say."""
    assert find(Session(lambda: None)) is None


def test_without_threads_it_is_asked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the caller waits himself."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    found = Found()
    assert find(Session(lambda: found)) is found
