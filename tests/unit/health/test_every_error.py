"""Every error that a store can make, and what `status` says of a spool whose runs end by it."""

from __future__ import annotations

import ast
import errno
import resource
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions

import s3_uploader
from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.findings import Cause, Problem, Severity
from s3_uploader.core.meanings import meaning_of
from s3_uploader.core.model import RunEnd
from s3_uploader.core.origins import of_every_file
from s3_uploader.health.diagnosis import diagnose
from s3_uploader.stores.file_servers.base import Lost
from s3_uploader.stores.ftp import errors as ftp_errors
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.local import errors as local_errors
from s3_uploader.stores.s3 import errors as s3_errors
from s3_uploader.stores.s3.engines.base import Answer, Failure, TransportFailure
from s3_uploader.stores.s3.engines.boto3_failures import failure_of
from s3_uploader.stores.s3.meanings import MEANINGS
from s3_uploader.stores.sftp import errors as sftp_errors
from tests.health_values import NOW, facts, kind, only, run_row

PACKAGE = Path(s3_uploader.__file__).parent
RENEW, SOURCE, BUCKET = "Renew", "credentials, as the message", "region or endpoint_url"
SETTING, ROOM = "setting", "room"
NETWORK, PROXY, SERVER, ACCESS = "network", "HTTPS_PROXY", "right one", "permissions there"
TLS, CLOCK = "certificate", "NTP"


def ended_by(error: StoreError) -> Problem:
    """What is said of a spool whose run has just been ended by that error, as often as it takes."""
    origin = of_every_file(error.origin).value
    row = run_row(
        30, exit_code=3, ended_by=RunEnd.DESTINATION.value, code=error.code, message=str(error), origin=origin
    )
    return only(diagnose(facts(runs=[row])))


def failing_with(error: StoreError) -> Problem:
    """The problem of a file that keeps failing with it."""
    group = kind(error.code, origin=error.origin.value, message=error.message, attempts=3)
    return only(diagnose(facts(failing=[group])))


def of_code(code: str, status: int = 400) -> StoreError:
    """The error of an answer of S3 that names that code."""
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    answer = Answer(status=status, headers={}, body=body)
    return s3_errors.answered(answer, "PutObject", now=NOW, proven_useful=False).error


@pytest.mark.parametrize(
    ("codes", "cause", "severity", "remedy"),
    [
        (("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity"), Cause.CREDENTIALS, Severity.ERROR, RENEW),
        (("NotSignedUp", "AccountProblem", "AllAccessDisabled"), Cause.CREDENTIALS, Severity.ERROR, RENEW),
        (("ExpiredToken", "ExpiredTokenException", "InvalidToken"), Cause.CREDENTIALS, Severity.ERROR, RENEW),
        (("TokenRefreshRequired", "AccessDenied"), Cause.CREDENTIALS, Severity.ERROR, RENEW),
        (("KMS.DisabledException", "KMS.NotFoundException"), Cause.CREDENTIALS, Severity.ERROR, RENEW),
        (("KMS.InvalidStateException",), Cause.CREDENTIALS, Severity.ERROR, RENEW),
        (("RequestTimeTooSkewed", "RequestExpired"), Cause.CLOCK, Severity.ERROR, CLOCK),
        (("NoSuchBucket", "InvalidBucketName", "InvalidBucketState"), Cause.DESTINATION, Severity.ERROR, BUCKET),
        (("PermanentRedirect", "Redirect", "TemporaryRedirect"), Cause.DESTINATION, Severity.ERROR, BUCKET),
        (("AuthorizationHeaderMalformed", "IncorrectEndpoint"), Cause.DESTINATION, Severity.ERROR, BUCKET),
        (("IllegalLocationConstraintException",), Cause.DESTINATION, Severity.ERROR, BUCKET),
        (("InvalidStorageClass", "InvalidTag"), Cause.DESTINATION, Severity.ERROR, SETTING),
        (("AccessControlListNotSupported",), Cause.DESTINATION, Severity.ERROR, SETTING),
        (("QuotaExceeded", "XMinioStorageFull"), Cause.DISK_FULL, Severity.ERROR, ROOM),
        (("MissingContentLength",), Cause.DESTINATION, Severity.ERROR, SERVER),
        (("SlowDown", "ServiceUnavailable", "InternalError"), Cause.DESTINATION, Severity.WARNING, NETWORK),
    ],
)
def test_codes_of_s3(codes: tuple[str, ...], cause: Cause, severity: Severity, remedy: str) -> None:
    """The cause is that of the code, and the advice is about that and nothing else."""
    for code in codes:
        problem = ended_by(of_code(code))
        assert (problem.cause, problem.severity) == (cause, severity), code
        assert remedy in problem.remedy, code


def test_no_code_of_s3_is_forgotten() -> None:
    """A code that ends a run, and is not one that passes, says more than that the network is to be looked at."""
    told = {code: ended_by(of_code(code)) for code, meaning in MEANINGS.items() if meaning.scope is Scope.DESTINATION}
    assert len(told) > 25
    assert [code for code, problem in told.items() if problem.severity is not Severity.ERROR] == []
    assert [code for code, problem in told.items() if NETWORK in problem.remedy] == []
    for code, meaning in MEANINGS.items():
        if meaning.scope is Scope.FILE:
            problem = failing_with(of_code(code))
            assert (problem.cause, problem.severity) == (Cause.FAILING_FILE, Severity.WARNING), code


@pytest.mark.parametrize(
    ("failure", "cause", "severity", "remedy"),
    [
        (TransportFailure.NAME, Cause.DESTINATION, Severity.WARNING, NETWORK),
        (TransportFailure.REFUSED, Cause.DESTINATION, Severity.WARNING, NETWORK),
        (TransportFailure.CONNECT_TIMEOUT, Cause.DESTINATION, Severity.WARNING, NETWORK),
        (TransportFailure.TLS, Cause.DESTINATION, Severity.ERROR, TLS),
        (TransportFailure.PROXY, Cause.DESTINATION, Severity.WARNING, PROXY),
        (TransportFailure.CLOSED, Cause.DESTINATION, Severity.WARNING, NETWORK),
        (TransportFailure.TIMEOUT, Cause.DESTINATION, Severity.WARNING, NETWORK),
        (TransportFailure.INVALID, Cause.DESTINATION, Severity.WARNING, NETWORK),
        (TransportFailure.CREDENTIALS, Cause.CREDENTIALS, Severity.ERROR, SOURCE),
        (TransportFailure.RENEWING, Cause.CREDENTIALS, Severity.ERROR, SOURCE),
        (TransportFailure.RESOURCES, Cause.DESTINATION, Severity.WARNING, "limit"),
        (TransportFailure.BROKEN, Cause.DESTINATION, Severity.ERROR, SERVER),
        (TransportFailure.OTHER, Cause.DESTINATION, Severity.WARNING, NETWORK),
    ],
)
def test_requests_without_an_answer(failure: TransportFailure, cause: Cause, severity: Severity, remedy: str) -> None:
    """What may be over in a moment is a warning at first; what is not is stuck at once."""
    problem = ended_by(s3_errors.failed(Failure(failure), "PutObject", endpoint="https://s3.example.com").error)
    assert (problem.cause, problem.severity) == (cause, severity)
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    ("status", "cause", "severity"),
    [
        *((status, Cause.DESTINATION, Severity.ERROR) for status in (301, 302, 307, 308, 400, 404, 405)),
        *((status, Cause.CREDENTIALS, Severity.ERROR) for status in (401,)),
        *((status, Cause.DESTINATION, Severity.WARNING) for status in (407, 429, 500, 502, 503, 504)),
        (501, Cause.DESTINATION, Severity.ERROR),
    ],
)
def test_answers_without_a_document(status: int, cause: Cause, severity: Severity) -> None:
    """The status alone tells."""
    answer = Answer(status=status, headers={})
    problem = ended_by(s3_errors.answered(answer, "HeadObject", now=NOW, proven_useful=False).error)
    assert (problem.cause, problem.severity) == (cause, severity)


@pytest.mark.parametrize(
    ("reply", "step", "cause", "severity", "remedy"),
    [
        (530, "login", Cause.CREDENTIALS, Severity.ERROR, RENEW),
        (532, "login", Cause.CREDENTIALS, Severity.ERROR, RENEW),
        (550, "path", Cause.DESTINATION, Severity.ERROR, ACCESS),
        (553, "path", Cause.DESTINATION, Severity.ERROR, ACCESS),
        (421, "connect", Cause.DESTINATION, Severity.WARNING, NETWORK),
        (534, "tls", Cause.DESTINATION, Severity.ERROR, SETTING),
        (502, "", Cause.DESTINATION, Severity.ERROR, SERVER),
    ],
)
def test_logins_at_an_ftp_server(reply: int, step: str, cause: Cause, severity: Severity, remedy: str) -> None:
    """A server that does not let us in says why by a number."""
    refused = Refused(f"{reply} no")
    refused.step = step
    problem = ended_by(ftp_errors.login_error(refused, server="server:21", user="user", path="in", tls=False))
    assert (problem.cause, problem.severity) == (cause, severity)
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    "reply",
    [
        "530 Non-anonymous sessions must use encryption.",
        "550 SSL/TLS required on the control channel",
        "421 Sorry, cleartext sessions and weak ciphers are not accepted on this server.",
        "503 Use AUTH first.",
    ],
)
def test_ftp_servers_that_demand_tls(reply: str) -> None:
    """A server that refuses logins without TLS asks for a setting, not for other credentials."""
    refused = Refused(reply)
    refused.step = "login"
    login = {"server": "server:21", "user": "user", "path": "in"}
    error = ftp_errors.login_error(refused, **login, tls=False)
    assert (error.hint, error.retryable) == ("Set tls to true.", False)
    problem = ended_by(error)
    assert (problem.cause, problem.severity) == (Cause.DESTINATION, Severity.ERROR)
    assert SETTING in problem.remedy
    assert ftp_errors.login_error(refused, **login, tls=True).hint != "Set tls to true."


def test_ftp_server_without_passive_mode() -> None:
    """A server without passive mode is the problem, and not the destination's directory."""
    for number in (500, 502, 550):
        problem = ended_by(ftp_errors.transfer_error(Refused(f"{number} no", "PASV"), address="server/key"))
        assert SERVER in problem.remedy


@pytest.mark.parametrize(
    ("reply", "cause", "remedy"),
    [
        (530, Cause.CREDENTIALS, RENEW),
        (522, Cause.DESTINATION, TLS),
        (452, Cause.DISK_FULL, ROOM),
        (552, Cause.DISK_FULL, ROOM),
        (533, Cause.DESTINATION, SETTING),
        (504, Cause.DESTINATION, SERVER),
    ],
)
def test_transfers_that_an_ftp_server_refuses(reply: int, cause: Cause, remedy: str) -> None:
    """So it does in the middle of a run."""
    problem = ended_by(ftp_errors.transfer_error(Refused(f"{reply} no", "STOR"), address="server/key"))
    assert (problem.cause, problem.severity) == (cause, Severity.ERROR)
    assert remedy in problem.remedy


REPLIES = range(400, 700)
STEPS = ("connect", "tls", "login", "ready", "path")
FOR_NOW = {code for code in range(400, 500) if code not in (430, 452)}
"""430 is a wrong password at some servers (RFC 2228 leaves it open), 452 want of room."""


@pytest.mark.parametrize("step", STEPS)
def test_every_reply_to_a_login(step: str) -> None:
    """A reply in the four hundreds is for now; any other says what to look at, and that is not the network."""
    for reply in REPLIES:
        refused = Refused(f"{reply} no")
        refused.step = step
        problem = ended_by(ftp_errors.login_error(refused, server="server:21", user="user", path="in", tls=True))
        assert (problem.severity is Severity.WARNING) == (reply in FOR_NOW), reply
        assert (NETWORK in problem.remedy) == (reply in FOR_NOW), reply


@pytest.mark.parametrize(
    ("step", "remedy"), [("connect", SERVER), ("tls", SETTING), ("login", RENEW), ("ready", SERVER), ("path", ACCESS)]
)
def test_numbers_that_servers_use_for_everything(step: str, remedy: str) -> None:
    """Where a server says 500 or 554 to whatever it refuses, the step of the login tells what is wrong."""
    for reply in (500, 503, 551, 554):
        refused = Refused(f"{reply} no")
        refused.step = step
        problem = ended_by(ftp_errors.login_error(refused, server="server:21", user="user", path="in", tls=True))
        assert remedy in problem.remedy, reply


def test_every_reply_to_a_transfer() -> None:
    """A reply that every file meets says what to look at, and one about a file alone is not taken for more."""
    for verb in ("STOR", "PASV", "TYPE"):
        for reply in REPLIES:
            error = ftp_errors.transfer_error(Refused(f"{reply} no", verb), address="server/key")
            if error.scope is Scope.DESTINATION:
                assert (NETWORK in ended_by(error).remedy) == (reply in (421, 425)), (verb, reply)
            else:
                problem = failing_with(error)
                assert problem.cause in (Cause.FAILING_FILE, Cause.CREDENTIALS, Cause.DISK_FULL), (verb, reply)
                assert problem.severity is Severity.WARNING


def test_connections_to_file_servers() -> None:
    """A connection that does not come up may be a matter of minutes; a certificate that is not trusted is none."""
    lost, untrusted = Lost("connection refused"), Lost("certificate verify failed")
    lost.step, untrusted.step = "connect", "tls"
    login = {"server": "server:21", "user": "user", "path": "in"}
    for error in (
        ftp_errors.login_error(lost, **login, tls=False),
        sftp_errors.login_error(lost, **login),
        ftp_errors.transfer_error(lost, address="server/key"),
        sftp_errors.transfer_error(lost, address="server/key"),
    ):
        problem = ended_by(error)
        assert (problem.cause, problem.severity) == (Cause.DESTINATION, Severity.WARNING)
    problem = ended_by(ftp_errors.login_error(untrusted, **login, tls=True))
    assert (problem.cause, problem.severity) == (Cause.DESTINATION, Severity.ERROR)
    assert TLS in problem.remedy


@pytest.mark.parametrize(
    ("status", "cause", "remedy"),
    [(2, Cause.DESTINATION, ACCESS), (3, Cause.DESTINATION, ACCESS), (14, Cause.DISK_FULL, ROOM)],
)
def test_directories_that_an_sftp_server_refuses(status: int, cause: Cause, remedy: str) -> None:
    """A path that is not there, or not for this user, is a matter of the destination."""
    refused = sftp_errors.Refused(status, "no", "realpath")
    problem = ended_by(sftp_errors.login_error(refused, server="server:22", user="user", path="in"))
    assert (problem.cause, problem.severity) == (cause, Severity.ERROR)
    assert remedy in problem.remedy


@pytest.mark.parametrize("request_", ["realpath", "opendir", "open", "write", "mkdir", "rename"])
def test_every_status_of_sftp(request_: str) -> None:
    """Of all statuses only a lost connection is a matter of the network, and only a taken name (11) is a conflict."""
    for status in range(1, 40):
        refused = sftp_errors.Refused(status, "no", request_)
        problem = ended_by(sftp_errors.login_error(refused, server="server:22", user="user", path="in"))
        assert (NETWORK in problem.remedy) == (status in (6, 7)), status
        error = sftp_errors.transfer_error(refused, address="server/key")
        if error.scope is Scope.DESTINATION:
            assert ended_by(error).severity is Severity.ERROR, status
        else:
            expected = (Cause.CONFLICT,) if status == 11 else (Cause.FAILING_FILE, Cause.CREDENTIALS)
            assert failing_with(error).cause in expected, status


def test_every_error_of_the_kernel() -> None:
    """Of a mount whose server is silent, of a full one, of a missing permission; this machine's own are no file's."""
    for number in errno.errorcode:
        error = local_errors.translated(OSError(number, "no"), "archive/key")
        if error.scope is Scope.DESTINATION:
            remedy = ended_by(error).remedy
            if number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                assert "Raise the limit" in remedy
                continue
            is_out_of_reach = NETWORK in remedy
            assert is_out_of_reach == (number not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)), error.code
        else:
            problem = failing_with(error)
            assert problem.cause in (Cause.FAILING_FILE, Cause.CREDENTIALS, Cause.CONFLICT), error.code
            is_right = number in (errno.EACCES, errno.EPERM)
            assert (problem.cause is Cause.CREDENTIALS) == is_right, error.code


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_no_file_is_blamed_for_this_machine(number: int) -> None:
    """``on_failure`` does not apply to a file that could not be copied for want of memory or descriptors here."""
    error = local_errors.translated(OSError(number, "no"), "archive/key")
    assert not meaning_of(error.origin).blames_file


@pytest.mark.parametrize(("limit", "is_blamed"), [(1000, False), (resource.RLIM_INFINITY, True)])
def test_a_limit_of_the_size_of_files_is_this_machine(
    limit: int, is_blamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does ``on_failure`` apply to a file that ``ulimit -f`` kept from being copied, and the message says so."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    error = local_errors.translated(OSError(errno.EFBIG, "File too large"), "archive/key")
    assert meaning_of(error.origin).blames_file is is_blamed
    assert ("ulimit -f" in error.hint) is not is_blamed


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.ESTALE])
def test_a_mount_that_does_not_answer_is_the_destination(number: int) -> None:
    """No file is at fault when the server behind a mount is silent."""
    assert local_errors.translated(OSError(number, "no"), "archive/key").scope is Scope.DESTINATION


URL: dict[str, Any] = {"endpoint_url": "https://s3.example.com", "error": "no"}
BOTOCORE: list[tuple[Exception, TransportFailure]] = [
    (exceptions.NoCredentialsError(), TransportFailure.CREDENTIALS),
    (exceptions.PartialCredentialsError(provider="env", cred_var="x"), TransportFailure.CREDENTIALS),
    (exceptions.CredentialRetrievalError(provider="process", error_msg="no"), TransportFailure.CREDENTIALS),
    (exceptions.TokenRetrievalError(provider="sso", error_msg="no"), TransportFailure.CREDENTIALS),
    (exceptions.MetadataRetrievalError(error_msg="no"), TransportFailure.CREDENTIALS),
    (exceptions.UnauthorizedSSOTokenError(), TransportFailure.CREDENTIALS),
    (exceptions.SSOTokenLoadError(error_msg="no"), TransportFailure.CREDENTIALS),
    (exceptions.RefreshWithMFAUnsupportedError(), TransportFailure.CREDENTIALS),
    (exceptions.SSLError(**URL), TransportFailure.TLS),
    (exceptions.ProxyConnectionError(proxy_url="http://proxy", error="no"), TransportFailure.PROXY),
    (exceptions.ConnectTimeoutError(**URL), TransportFailure.CONNECT_TIMEOUT),
    (exceptions.ReadTimeoutError(**URL), TransportFailure.TIMEOUT),
    (exceptions.EndpointConnectionError(**URL), TransportFailure.REFUSED),
    (exceptions.EndpointConnectionError(endpoint_url="x", error="cannot resolve"), TransportFailure.NAME),
    (exceptions.ConnectionClosedError(**URL), TransportFailure.CLOSED),
    (exceptions.IncompleteReadError(actual_bytes=5, expected_bytes=10), TransportFailure.CLOSED),
    (exceptions.HTTPClientError(error="no"), TransportFailure.CLOSED),
    (OSError(errno.EPIPE, "broken pipe"), TransportFailure.CLOSED),
    (RuntimeError("no"), TransportFailure.OTHER),
]


@pytest.mark.parametrize(("error", "kind"), BOTOCORE, ids=lambda value: type(value).__name__)
def test_what_botocore_raises(error: Exception, kind: TransportFailure) -> None:
    """With the engine boto3 the same trouble has the same name, and so `status` says the same of it."""
    assert failure_of(error).kind is kind


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOSPC, Cause.DISK_FULL),
        (errno.EDQUOT, Cause.DISK_FULL),
        (errno.EROFS, Cause.DESTINATION),
        (errno.ESTALE, Cause.DESTINATION),
    ],
)
def test_errors_of_the_kernel(number: int, cause: Cause) -> None:
    """Below a directory the kernel says what is wrong."""
    assert ended_by(local_errors.translated(OSError(number, "no"), "archive/key")).cause is cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (of_code("AccessDenied", 403), Cause.CREDENTIALS),
        (of_code("KeyTooLongError"), Cause.FAILING_FILE),
        (of_code("SlowDown", 503), Cause.FAILING_FILE),
        (of_code("NoSuchBucket", 404), Cause.FAILING_FILE),
        (ftp_errors.transfer_error(Refused("550 no", "STOR"), address="a"), Cause.CREDENTIALS),
        (ftp_errors.transfer_error(Refused("552 no", "STOR"), address="a"), Cause.DISK_FULL),
        (sftp_errors.transfer_error(sftp_errors.Refused(3, "no", "open"), address="a"), Cause.CREDENTIALS),
        (sftp_errors.transfer_error(sftp_errors.Refused(4, "no", "write"), address="a"), Cause.FAILING_FILE),
        (local_errors.translated(OSError(errno.EACCES, "no"), "a"), Cause.CREDENTIALS),
        (local_errors.translated(OSError(errno.EIO, "no"), "a"), Cause.FAILING_FILE),
    ],
)
def test_what_is_wrong_with_one_file(error: StoreError, cause: Cause) -> None:
    """For a single file a missing permission or missing room is still named; anything else is a failing file."""
    problem = failing_with(error)
    assert (problem.cause, problem.severity) == (cause, Severity.WARNING)


def _made_for_every_file() -> list[str]:
    """Where the source makes an error that reaches every file without a word about where it comes from."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if "code" in given and "DESTINATION" in given.get("scope", "") and "origin" not in given:
                found.append(given["code"].strip("'"))
    return sorted(set(found))


def test_what_is_made_without_an_origin_is_out_of_reach() -> None:
    """Only what is said of a network may leave the default: a warning that becomes an error when it lasts."""
    passing = ["Closed", "ConnectionClosed", "ConnectionLost", "DataConnectionFailed", "InvalidAnswer"]
    assert _made_for_every_file() == sorted([*passing, "ConnectionFailed", "Timeout", "error.code"])
