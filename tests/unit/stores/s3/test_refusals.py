"""What a refused write was about."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.stores.s3.engines.base import Answer
from s3_uploader.stores.s3.refusals import Blame, blame, explain_setting

SENT = {
    "if-none-match": "*",
    "x-amz-checksum-crc32": "AAAAAA==",
    "x-amz-sdk-checksum-algorithm": "CRC32",
    "x-amz-tagging": "team=sea",
    "x-amz-storage-class": "GLACIER",
}


def refusal(status: int, code: str, message: str) -> Answer:
    """An error document of S3."""
    return Answer(
        status=status, headers={}, body=f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    )


@pytest.mark.parametrize(
    ("status", "code", "message", "reason"),
    [
        (501, "NotImplemented", "Header 'x-amz-tagging' with value 'team=sea' not implemented", Blame.HEADER),
        (501, "NotImplemented", "Object tagging is not supported", Blame.HEADER),
        (400, "InvalidStorageClass", "The storage class you specified is not valid", Blame.HEADER),
        (501, "NotImplemented", "If-None-Match is not implemented", Blame.CONDITION),
        (400, "InvalidArgument", "Conditional writes are not supported", Blame.CONDITION),
        (405, "MethodNotAllowed", "The specified method is not allowed", Blame.OTHER),
        (
            400,
            "InvalidArgument",
            "Unsupported header 'x-amz-checksum-crc32' received for this API call.",
            Blame.CHECKSUM,
        ),
        (400, "InvalidRequest", "Missing required header for this request: Content-MD5", Blame.CONTENT_MD5),
        (400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required", Blame.CONTENT_MD5),
        (501, "NotImplemented", "A header you provided implies functionality that is not implemented", Blame.UNNAMED),
        (400, "InvalidArgument", "A header you provided is not supported", Blame.UNNAMED),
        (405, "MethodNotAllowed", "Unsupported header", Blame.UNNAMED),
        (400, "BadDigest", "The Content-MD5 you specified did not match", Blame.OTHER),
        (403, "AccessDenied", "Access Denied", Blame.OTHER),
        (503, "SlowDown", "Reduce your request rate: if-none-match", Blame.OTHER),
    ],
)
def test_a_refusal_is_held_against_what_was_sent(status: int, code: str, message: str, reason: Blame) -> None:
    """A refusal counts against the feature that it names and that was asked for, and against no other."""
    assert blame(refusal(status, code, message), SENT) is reason


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Answer(status=501, headers={}, body=b"<html>If-None-Match</html>"),
        Answer(status=501, headers={}, fields={"Code": "501", "Message": "Not Implemented"}),
        Answer(status=400, headers={}),
    ],
)
def test_what_is_no_document_of_s3_says_nothing(answer: Answer | None) -> None:
    """A proxy's page and a bare status come from anybody on the way."""
    assert blame(answer, SENT) is Blame.OTHER


def test_nothing_is_blamed_that_was_not_asked_for() -> None:
    """A refusal that speaks of a condition or of tags does not mean those where none were sent."""
    assert blame(refusal(501, "NotImplemented", "if-none-match"), {}) is Blame.OTHER
    assert blame(refusal(501, "NotImplemented", "x-amz-tagging"), {"if-none-match": "*"}) is Blame.UNNAMED


def refusal_of(code: str, message: str, *, status: int = 400) -> Answer:
    """A refusal with a document of S3."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status=status, headers={}, body=body)


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("", "The server does not say why. Change or remove storage_class or acl."),
        (
            "Unknown storage class",
            "The server does not accept x-amz-storage-class as it is sent. Change storage_class or remove it.",
        ),
    ],
)
def test_a_refused_setting_is_named(message: str, hint: str) -> None:
    """Before anything was stored, a setting that the server may have refused concerns every file; later only one."""
    headers = {"x-amz-storage-class": "WRONG", "x-amz-acl": "private"}
    for of_all, expected in ((True, (Scope.DESTINATION, Origin.SETTING)), (False, (Scope.FILE, Origin.FILE))):
        error = StoreError("refused", code="InvalidArgument")
        explain_setting(error, refusal_of("InvalidArgument", message), headers, of_all=of_all)
        assert (error.scope, error.origin) == expected
        assert error.hint == hint


def test_an_unnamed_feature_that_is_missing_is_one_that_was_asked_for() -> None:
    """Where settings were sent and nothing was stored yet, every file would be refused in the same way."""
    refused = refusal_of("NotImplemented", "A header you provided implies functionality that is absent.", status=501)
    error = StoreError("refused", code="NotImplemented", hint="Some feature is missing.")
    explain_setting(error, refused, {"x-amz-storage-class": "COLD", "if-none-match": "*"}, of_all=True)
    assert (error.scope, error.origin) == (Scope.DESTINATION, Origin.SETTING)
    assert error.hint == "The server does not say what it does not support. Change or remove storage_class."
    for headers, answer in (({"if-none-match": "*"}, refused), ({"x-amz-acl": "private"}, refusal_of("405", ""))):
        other = StoreError("refused", code="NotImplemented", hint="Some feature is missing.")
        explain_setting(other, answer, headers, of_all=True)
        assert (other.scope, other.hint) == (Scope.FILE, "Some feature is missing.")


def test_a_refusal_without_settings_is_not_explained_by_them() -> None:
    """Where no setting was sent, or the server says why, nothing is added."""
    for message, headers in (("", {"x-amz-checksum-crc32": "AAAAAA=="}), ("Too long", {"x-amz-acl": "private"})):
        error = StoreError("refused", code="InvalidArgument")
        explain_setting(error, refusal_of("InvalidArgument", message), headers, of_all=True)
        assert (error.scope, error.hint) == (Scope.FILE, "")
