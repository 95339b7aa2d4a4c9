"""What an error of S3 means."""

from __future__ import annotations

import hashlib

import pytest

from s3_uploader.core.errors import Scope
from s3_uploader.core.origins import Origin
from s3_uploader.stores.s3 import errors as s3_errors
from s3_uploader.stores.s3 import foreign
from s3_uploader.stores.s3.checksums import digest_of
from s3_uploader.stores.s3.engines.base import Answer, Failure, TransportFailure, xml_leaves, xml_root
from s3_uploader.stores.s3.refusals import said

BODY = b"the bytes that were sent"
DIGEST = digest_of(BODY)
MD5 = hashlib.md5(BODY).hexdigest()
OTHER_MD5 = hashlib.md5(b"other bytes").hexdigest()
KMS = {"x-amz-server-side-encryption": "aws:kms"}


def answer(code: str, *, status: int = 400, headers: dict[str, str] | None = None, extra: str = "") -> Answer:
    """An error as S3 sends it."""
    document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>It&apos;s &lt;so&gt;</Message>{extra}</Error>"
    return Answer(status=status, headers=headers or {}, body=document.encode())


@pytest.mark.parametrize(
    ("code", "status", "retryable", "scope"),
    [
        ("SlowDown", 503, True, Scope.FILE),
        ("InternalError", 500, True, Scope.FILE),
        ("AnythingNew", 500, True, Scope.FILE),
        ("AnythingNew", 429, True, Scope.FILE),
        ("AnythingNew", 400, False, Scope.FILE),
        ("NotImplemented", 501, False, Scope.FILE),
        ("RequestTimeout", 400, True, Scope.FILE),
        ("NoSuchKey", 404, True, Scope.FILE),
        ("EntityTooSmall", 400, False, Scope.FILE),
        ("NoSuchBucket", 404, False, Scope.DESTINATION),
        ("InvalidAccessKeyId", 403, False, Scope.DESTINATION),
        ("RequestTimeTooSkewed", 403, False, Scope.DESTINATION),
        ("ExpiredToken", 400, False, Scope.DESTINATION),
    ],
)
def test_what_an_error_means(code: str, status: int, retryable: bool, scope: Scope) -> None:
    """Each code is worth retrying or not, and concerns one file or every one."""
    error = s3_errors.answered(answer(code, status=status), "PutObject", now=0, proven_useful=False).error
    assert (error.code, error.retryable, error.scope) == (code, retryable, scope)
    assert error.message == f"An error occurred ({code}) when calling the PutObject operation: It's <so>"


@pytest.mark.parametrize(
    "token", ["IQoJb3JpZ2luX2VjE" * 20 + "//wE=", "eyJhbGciOiJIUzUxMiJ9." + "aB3-_" * 40, "a%2Bb" * 30]
)
def test_a_session_token_is_not_repeated(token: str) -> None:
    """A server that quotes the request it refuses must not put the session token into logs and the ledger."""
    document = f"<Error><Code>InvalidToken</Code><Message>The token {token} is not valid</Message></Error>"
    refusal = Answer(status=400, headers={}, body=document.encode())
    error = s3_errors.answered(refusal, "PutObject", now=0, proven_useful=False).error
    assert error.message.endswith(": The token … is not valid")
    assert token[:40] not in said(refusal)
    in_code = Answer(status=400, headers={}, body=f"<Error><Code>{token}</Code></Error>".encode())
    assert token[:40] not in s3_errors.answered(in_code, "PutObject", now=0, proven_useful=False).error.message


def test_a_malformed_authorization() -> None:
    """With a region in the answer the region was wrong; without one it is the key, such as a secret with a slash."""
    named, unnamed = (
        s3_errors.answered(
            answer("AuthorizationHeaderMalformed", extra=extra), "PutObject", now=0, proven_useful=False
        ).error.hint
        for extra in ("<Region>eu-west-1</Region>", "")
    )
    assert named == "The bucket is in eu-west-1: set region to that."
    assert "AWS_ACCESS_KEY_ID, which may hold the secret key" in unnamed


def test_an_answer_without_a_document_is_named_by_its_status() -> None:
    """HEAD has no body; botocore then takes the status for the code."""
    error = s3_errors.answered(Answer(status=403, headers={}), "HeadObject", now=0, proven_useful=True).error
    assert error.message == "An error occurred (403) when calling the HeadObject operation: Forbidden"
    assert "s3:GetObject" in error.hint


def test_a_refused_look_names_every_cause() -> None:
    """A refused HEAD gives no reason: the right to read, a missing object, wrong keys, an odd name, an old token."""
    for status, useful, named in (
        (403, True, ("s3:GetObject", "s3:ListBucket", "missing object")),
        (403, False, ("s3:GetObject", "s3:ListBucket", "secret key")),
        (400, True, ("name", "expired")),
        (400, False, ("region", "credentials")),
    ):
        empty = Answer(status=status, headers={})
        hint = s3_errors.answered(empty, "HeadObject", now=0, proven_useful=useful).error.hint
        assert [word for word in named if word not in hint] == [], hint
        assert ("secret key" in hint) == ("secret key" in named)


@pytest.mark.parametrize(
    ("operation", "actions"),
    [
        ("CopyObject", "s3:GetObject on the source and s3:PutObject"),
        ("UploadPartCopy", "s3:GetObject on the source and s3:PutObject"),
        ("ListParts", "s3:ListMultipartUploadParts"),
        ("GetObjectAcl", "s3:GetObjectAcl"),
    ],
)
def test_a_denial_names_permissions_that_exist(operation: str, actions: str) -> None:
    """The permission to grant is one that a policy knows; a copy has none of its own."""
    error = s3_errors.answered(answer("AccessDenied", status=403), operation, now=0, proven_useful=True).error
    assert error.hint == f"Grant {actions} on the bucket to the credentials in use."


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("Fri, 20 Nov 2026 13:16:50 GMT", 50.0),
        ("Fri, 20 Nov 2026 13:15:50 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("Fri, 20 Foo 2026 13:16:50 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    """Both forms are understood, and nonsense is ignored."""
    now = s3_errors.parse_http_date("Fri, 20 Nov 2026 13:16:00 GMT")
    assert now is not None
    assert s3_errors.retry_after(Answer(status=503, headers={"retry-after": value}), now) == seconds


@pytest.mark.parametrize(("offset", "words"), [(3600, "3600 s ahead of"), (-7200, "7200 s behind")])
def test_a_wrong_clock_is_measured(offset: int, words: str) -> None:
    """The hint says by how much and in which direction our clock is wrong."""
    date = "Fri, 20 Nov 2026 13:16:00 GMT"
    now = (s3_errors.parse_http_date(date) or 0) + offset
    skewed = answer("RequestTimeTooSkewed", status=403, headers={"date": date})
    assert words in s3_errors.answered(skewed, "PutObject", now=now, proven_useful=True).error.hint


@pytest.mark.parametrize("kind", [kind for kind in TransportFailure if kind is not TransportFailure.CANCELLED])
def test_every_failure_has_words(kind: TransportFailure) -> None:
    """Whatever keeps an answer from us is a sentence with a code and, where a person can act, a hint."""
    error = s3_errors.failed(Failure(kind, "detail"), "PutObject", endpoint="https://s3.example.com").error
    assert error.code
    assert "detail" in error.message
    assert error.hint or kind is TransportFailure.OTHER


@pytest.mark.parametrize("detail", ["TLSV13_ALERT_CERTIFICATE_REQUIRED", "tlsv13 alert certificate required"])
def test_a_demanded_client_certificate_names_its_key(detail: str) -> None:
    """Whoever is asked for a certificate reads which key of the configuration has it."""
    error = s3_errors.failed(Failure(TransportFailure.TLS, detail), "PutObject", endpoint="https://h").error
    assert "client_certificate_file" in error.hint


@pytest.mark.parametrize(("length", "is_page"), [("0", False), ("153", True), (None, True)])
def test_an_empty_answer_is_no_web_page(length: str | None, is_page: bool) -> None:
    """An answer to a HEAD tells by its type that a web server gave it, unless it is the type of nothing."""
    headers = {"content-type": "text/html; charset=utf-8"} | ({} if length is None else {"content-length": length})
    error = s3_errors.answered(Answer(status=404, headers=headers), "HeadObject", now=0, proven_useful=True).error
    assert (error.code == "NotS3") is is_page


PAGE = b"<html><head><title>Refused</title></head></html>"


@pytest.mark.parametrize(
    ("status", "retryable", "scope", "words"),
    [
        (429, True, Scope.FILE, "asks to slow down"),
        (408, True, Scope.FILE, ""),
        (425, True, Scope.FILE, ""),
        (413, False, Scope.FILE, "client_max_body_size"),
        (407, False, Scope.DESTINATION, "HTTPS_PROXY"),
        (507, False, Scope.DESTINATION, "Make room"),
    ],
)
@pytest.mark.parametrize("body", [b"", PAGE])
@pytest.mark.parametrize("proven_useful", [False, True])
def test_a_status_that_explains_itself(
    status: int, retryable: bool, scope: Scope, words: str, body: bytes, proven_useful: bool
) -> None:
    """A proxy decorates its refusals with web pages; where the status gives the reason, the page does not matter."""
    found = Answer(status=status, headers={}, body=body)
    error = s3_errors.answered(found, "PutObject", now=0, proven_useful=proven_useful).error
    assert (error.code, error.retryable, error.scope) == (str(status), retryable, scope)
    assert words in error.hint


def test_a_page_that_refuses_is_not_blamed_on_the_server() -> None:
    """A firewall may refuse a single request with a page: a server that has taken files is not said to be no S3."""
    found = Answer(status=403, headers={}, body=PAGE)
    before, after = (
        s3_errors.answered(found, "PutObject", now=0, proven_useful=proven).error for proven in (False, True)
    )
    assert before.message.startswith("This is not an S3 server, or something on the way refused the request")
    assert after.message.startswith("Something on the way refused the request")
    assert (before.code, before.scope) == (after.code, after.scope) == ("NotS3", Scope.DESTINATION)
    assert foreign.without_blame(before.message) == foreign.without_blame(after.message)


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload"])
def test_an_account_of_which_only_this_server_knows(status: int, operation: str) -> None:
    """An unknown code for a closed account ends the run like a denial, and after a success it is one file's first."""
    found = {
        proven_useful: s3_errors.answered(
            answer("AccountFrozen", status=status), operation, now=0, proven_useful=proven_useful
        ).error
        for proven_useful in (False, True)
    }
    assert (found[False].scope, found[False].origin) == (Scope.DESTINATION, Origin.CREDENTIALS)
    assert (found[True].scope, found[True].origin) == (Scope.FILE, Origin.FILE_RIGHT)
    assert "Check the account" in found[False].hint
    look = s3_errors.answered(answer("Odd", status=status), "HeadObject", now=0, proven_useful=False).error
    assert (look.scope, look.origin) == (Scope.FILE, Origin.FILE)


@pytest.mark.parametrize("status", [300, 304, 401, 402, 411, 417, 418, 421, 426, 451])
def test_a_status_that_no_file_causes(status: int) -> None:
    """Without a document of S3 such a status ends the run, instead of one request for each file."""
    bare, document = Answer(status=status, headers={}), answer("Odd", status=status)
    found = [s3_errors.answered(each, "PutObject", now=0, proven_useful=False).error for each in (bare, document)]
    is_of_an_account = status in (401, 402)
    assert [error.scope for error in found] == [
        Scope.DESTINATION,
        Scope.DESTINATION if is_of_an_account else Scope.FILE,
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<html><body><center>The plain HTTP request was sent to HTTPS port</center></body></html>",
        b"<!DOCTYPE HTML><p>Reason: You're speaking plain HTTP to an SSL-enabled server port.</p>",
        b"Bad Request\nThis combination of host and port requires TLS.\n",
    ],
)
def test_a_port_that_expects_tls(body: bytes) -> None:
    """For plain http:// on a port with TLS the message says to write https://."""
    error = s3_errors.answered(Answer(status=400, headers={}, body=body), "PutObject", now=0, proven_useful=False).error
    assert (error.scope, error.hint) == (Scope.DESTINATION, "Write https:// instead of http:// in endpoint_url.")


def test_a_code_that_names_the_cause_counts_more_than_a_date() -> None:
    """A server whose Date is wrong does not turn an expired token or an unknown key into a matter of our clock."""
    date = {"date": "Thu, 01 Jan 1970 00:00:01 GMT"}
    for code in ("ExpiredToken", "InvalidAccessKeyId"):
        error = s3_errors.answered(
            answer(code, status=403, headers=date), "PutObject", now=2e9, proven_useful=False
        ).error
        assert (error.code, "clock" in error.hint) == (code, False)
    vague = s3_errors.answered(
        answer("AccessDenied", status=403, headers=date), "PutObject", now=2e9, proven_useful=False
    ).error
    assert (vague.code, "clock" in vague.hint) == (s3_errors.CLOCK_SKEW, True)


@pytest.mark.parametrize(
    ("body", "root"),
    [
        (b"<Error><Code>X</Code></Error>", "Error"),
        (b'<?xml version="1.0"?>' + b" \r\n" * 5000 + b'<Error xmlns="urn:s3">', "Error"),
        (b"\xef\xbb\xbf<?xml?>\n<?xml?><!-- <a> --><!DOCTYPE x><s3:Error xmlns:s3='urn:s3'>", "Error"),
        (b"<ListBucketResult><Error>", "ListBucketResult"),
        (b"Error", ""),
        (b"<!-- <Error>", ""),
        (b"<?xml", ""),
        (b"", ""),
    ],
)
def test_the_root_of_a_document(body: bytes, root: str) -> None:
    """A document is known by its root, whatever blanks, declarations, comments and namespaces it has."""
    assert xml_root(body) == root


def test_xml_is_read_without_a_parser() -> None:
    """Names are taken without prefix, the first of equal names counts, entities are resolved once."""
    leaves = xml_leaves(b"<s:A><s:B>1 &amp;lt; &#x41;&#66; &unknown;</s:B><B>2</B><C/></s:A>")
    assert leaves == {"B": "1 &lt; AB &unknown;"}


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://s3.example.com/bucket/key?x=y", "https://s3.example.com"),
        ("http://[2001:db8::1]:9000/", "http://[2001:db8::1]:9000"),
        ("HTTPS://S3.Example.com", "https://s3.example.com"),
        ("https://user:password@s3.example.com/", ""),
        ("/elsewhere", ""),
        ("ftp://s3.example.com/", ""),
        ("https://s3.example.com/" + "x" * 10_000, ""),
        ("", ""),
    ],
)
def test_a_redirect_names_the_server_to_write(location: str, named: str) -> None:
    """Nobody is followed to another host; whoever runs the program is told which one it would be."""
    for status in (301, 302, 303, 307, 308):
        answer = Answer(status=status, headers={"location": location}, body=b"<html>Moved</html>")
        assert foreign.redirect_target(answer) == named
        error = s3_errors.answered(answer, "PutObject", now=0, proven_useful=False).error
        assert not error.retryable
        if named:
            assert f"set endpoint_url to it ({named}" in error.hint
            assert error.scope is Scope.DESTINATION
    assert foreign.redirect_target(Answer(status=200, headers={"location": location})) == ""


@pytest.mark.parametrize(
    ("location", "endpoint"),
    [
        ("http://s3.example.com/login", "http://s3.example.com"),
        ("https://S3.example.com:443/x", "https://s3.example.com/base"),
        ("http://[2001:db8::1]/x", "http://[2001:db8::1]:80"),
        ("/login", "http://s3.example.com"),
    ],
)
def test_a_redirect_to_the_endpoint_itself(location: str, endpoint: str) -> None:
    """Nobody is advised to set endpoint_url to what it is already."""
    for status in (301, 307, 308):
        found = Answer(status=status, headers={"location": location}, body=b"<html>Moved</html>")
        error = s3_errors.answered(found, "PutObject", now=0, proven_useful=False, endpoint=endpoint).error
        assert (error.code, error.scope, "set endpoint_url" in error.hint) == ("Redirect", Scope.DESTINATION, False)
        assert "its own address" in error.message
    other = Answer(status=308, headers={"location": "https://s3.example.com/"})
    error = s3_errors.answered(other, "PutObject", now=0, proven_useful=False, endpoint="http://s3.example.com").error
    assert "set endpoint_url to it (https://s3.example.com" in error.hint


@pytest.mark.parametrize(("endpoint", "named"), [("b.s3.example.com", "b.s3.example.com"), ("a b", ""), ("x/y", "")])
def test_a_server_that_only_the_document_names(endpoint: str, named: str) -> None:
    """A redirect without a Location names the server in its document; only a host is repeated."""
    body = f"<Error><Code>PermanentRedirect</Code><Message>No.</Message><Endpoint>{endpoint}</Endpoint></Error>"
    answer = Answer(status=301, headers={}, body=body.encode())
    assert foreign.redirect_target(answer) == named
    error = s3_errors.answered(answer, "PutObject", now=0, proven_useful=False).error
    assert error.scope is Scope.DESTINATION
    assert (f"set endpoint_url to it ({named}" in error.hint) == bool(named)


def test_a_message_of_the_server_is_quoted_not_copied() -> None:
    """However long an error document is and whatever is in it, the error takes a few hundred printable characters."""
    document = (
        f"<Error><Code>{'C' * 9999}</Code><Message>\x9b\u202e{'A' * 99999}</Message><Region>{'r' * 99}</Region></Error>"
    )
    found = Answer(status=403, headers={}, body=document.encode())
    error = s3_errors.answered(found, "PutObject", now=0, proven_useful=False).error
    assert len(str(error)) < 1000
    assert str(error).isprintable()
    assert len(error.code) <= 100
    assert s3_errors.bucket_region(found) == ""
    failure = Failure(TransportFailure.INVALID, "\x1b" * 99999)
    assert len(str(s3_errors.failed(failure, "PutObject", endpoint="http://h").error)) < 1000
