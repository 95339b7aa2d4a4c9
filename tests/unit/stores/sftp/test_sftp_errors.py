"""What a status of an SFTP server, and a lost connection, means."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.stores.file_servers.base import Lost
from s3_uploader.stores.sftp.errors import (
    LoginRefused,
    Refused,
    login_error,
    may_be_full,
    transfer_error,
    without_room,
)


@pytest.mark.parametrize(
    ("code", "request_name", "name", "scope"),
    [
        (3, "open", "PermissionDenied", Scope.FILE),
        (4, "rename", "Failure", Scope.FILE),
        (8, "open", "OperationUnsupported", Scope.FILE),
        (12, "open", "WriteProtected", Scope.DESTINATION),
        (14, "write", "DiskFull", Scope.DESTINATION),
        (15, "write", "QuotaExceeded", Scope.DESTINATION),
        (99, "open", "Status99", Scope.FILE),
    ],
)
def test_a_status(code: int, request_name: str, name: str, scope: Scope) -> None:
    """Each status has its name, and reaches as far as it does; the sentence has request and reason."""
    error = transfer_error(Refused(code, "the reason", request_name), address="server/key")
    assert (error.code, error.scope) == (name, scope)
    assert f"server/key: {request_name}: the reason." in error.message


@pytest.mark.parametrize(("code", "request_name"), [(20, "write"), (5, "open"), (5, "mkdir")])
def test_a_name_that_cannot_be(code: int, request_name: str) -> None:
    """A name that the server cannot have costs that file; OpenSSH calls it a bad message."""
    assert isinstance(transfer_error(Refused(code, "no", request_name), address="a"), KeyRefused)


def test_a_refusal_without_words() -> None:
    """Where the server says nothing the status has to do, and what it says cannot forge a line."""
    assert Refused(4, "  ", "open").text == "open: status 4"
    assert Refused(4, "a\nb\x1b", "open").text == "open: a\\nb\\x1b"


@pytest.mark.parametrize(
    ("code", "request_name", "may_be"),
    [(4, "write", True), (4, "close", True), (4, "rename", False), (3, "write", False), (14, "mkdir", True)],
)
def test_what_may_be_a_full_disk(code: int, request_name: str, may_be: bool) -> None:
    """A failure says nothing of why; only where bytes were written it may be for want of room."""
    assert may_be_full(Refused(code, "Failure", request_name)) is may_be


def test_no_room_at_all() -> None:
    """Where not even one byte finds room, that is what is said, and it ends the run."""
    error = without_room(transfer_error(Refused(4, "Failure", "write"), address="a"))
    assert (error.code, error.scope) == ("DiskFull", Scope.DESTINATION)
    assert without_room(transfer_error(Refused(15, "Quota", "write"), address="a")).code == "QuotaExceeded"


@pytest.mark.parametrize(
    ("step", "code", "retryable"), [("connect", "ConnectionFailed", True), ("sftp", "NotSftp", False)]
)
def test_no_session(step: str, code: str, retryable: bool) -> None:
    """No connection may pass; a server that speaks no SFTP does not."""
    lost = Lost("because")
    lost.step = step
    error = login_error(lost, server="h:22", user="u", path="p")
    assert (error.code, error.retryable, error.scope) == (code, retryable, Scope.DESTINATION)
    assert "because" in error.message


def test_a_problem_of_the_login_comes_out_as_it_is() -> None:
    """What was found out at the login has its own words."""
    problem = StoreError("The key is not known.", code="HostKeyUnknown", scope=Scope.DESTINATION)
    assert login_error(LoginRefused(problem), server="h:22", user="u", path="p") is problem


@pytest.mark.parametrize(
    ("code", "request_name", "may_be"),
    [(3, "stat", True), (3, "open", True), (4, "mkdir", True), (4, "stat", False), (3, "rename", False)],
)
def test_what_may_be_of_every_file(code: int, request_name: str, may_be: bool) -> None:
    """Where nothing may even be looked at, it is tried whether anything can be written there at all."""
    assert Refused(code, "no", request_name).may_be_of_all is may_be
