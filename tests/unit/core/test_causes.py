"""The one table of what codes mean, held against the stores that make them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import s3_uploader
from s3_uploader.core.causes import cause_of_failing, is_known, meaning_of
from s3_uploader.core.errors import Scope
from s3_uploader.core.model import Cause
from s3_uploader.stores.ftp.errors import transfer_error
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.s3 import errors as s3_errors
from s3_uploader.stores.s3.engines.base import Answer, Failure, TransportFailure
from s3_uploader.stores.s3.meanings import MEANINGS
from s3_uploader.stores.sftp.errors import Refused as SftpRefused
from s3_uploader.stores.sftp.errors import login_error
from s3_uploader.stores.sftp.errors import transfer_error as sftp_transfer_error

PACKAGE = Path(s3_uploader.__file__).parent


def literal_codes() -> set[str]:
    """Every code that the package's source gives to an error that reaches every file."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            code, scope = given.get("code"), given.get("scope")
            if isinstance(code, ast.Constant) and scope is not None and "DESTINATION" in ast.unparse(scope):
                found.add(str(code.value))
    return found


def test_every_code_in_the_source_is_known() -> None:
    """No store makes an error that ends a run and that `status` has never heard of."""
    codes = literal_codes()
    assert {"NoCredentials", "InvalidEndpoint"} <= codes
    assert sorted(code for code in codes if not is_known(code)) == []


def test_every_code_of_s3_is_known() -> None:
    """What the S3 store knows of a code that ends a run, `status` knows too."""
    codes = [code for code, meaning in MEANINGS.items() if meaning.scope is Scope.DESTINATION]
    assert sorted(code for code in codes if not is_known(code)) == []


@pytest.mark.parametrize("kind", [kind for kind in TransportFailure if kind is not TransportFailure.CANCELLED])
def test_every_failure_on_the_way_is_known(kind: TransportFailure) -> None:
    """So is what comes of a request that gets no answer."""
    error = s3_errors.failed(Failure(kind), "PutObject", endpoint="https://s3.example.com").error
    assert error.scope is Scope.FILE or is_known(error.code)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 405, 407, 501])
@pytest.mark.parametrize("operation", ["HeadObject", "PutObject"])
def test_every_status_is_known(status: int, operation: str) -> None:
    """An answer without a document ends a run by its status alone, and is known by it."""
    error = s3_errors.answered(Answer(status=status, headers={}), operation, now=0, proven_useful=False).error
    assert error.scope is Scope.FILE or is_known(error.code)


@pytest.mark.parametrize("code", [502, 504, 522, 530, 532, 533, 534, 535, 536])
def test_every_reply_of_ftp_is_known(code: int) -> None:
    """A reply that ends the run and that no other try changes is known."""
    error = transfer_error(Refused(f"{code} no", "STOR"), address="server/key")
    assert error.scope is Scope.FILE or is_known(error.code)


@pytest.mark.parametrize("code", [2, 3, 4, 5, 8, 10, 12, 14, 15])
def test_every_status_of_sftp_is_known(code: int) -> None:
    """So is a status that an SFTP server has for a directory that cannot be entered, or for every file."""
    refused = SftpRefused(code, "no", "stat")
    entered = login_error(refused, server="server:22", user="u", path="up")
    assert entered.scope is Scope.DESTINATION
    assert is_known(entered.code)
    error = sftp_transfer_error(SftpRefused(code, "no", "write"), address="server/key")
    assert error.scope is Scope.FILE or is_known(error.code)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("PermissionDenied", Cause.CREDENTIALS),
        ("DiskFull", Cause.DISK_FULL),
        ("550", Cause.CREDENTIALS),
        ("AccessDenied", Cause.CREDENTIALS),
        ("552", Cause.DISK_FULL),
        ("CannotRemove", Cause.UNREADABLE),
        ("Conflict", Cause.CONFLICT),
        ("KeyTooLongError", Cause.FAILING_FILE),
        ("NoSuchBucket", Cause.FAILING_FILE),
    ],
)
def test_what_is_wrong_with_one_file(code: str, cause: Cause) -> None:
    """While others go, only some codes say more than that the file fails."""
    assert cause_of_failing(code) is cause


def test_what_says_credentials_is_credentials() -> None:
    """Where the advice is about keys, the cause is too."""
    for code, meaning in MEANINGS.items():
        if "credentials" in meaning.hint or "secret" in meaning.hint:
            assert meaning_of(code).cause is Cause.CREDENTIALS, code
