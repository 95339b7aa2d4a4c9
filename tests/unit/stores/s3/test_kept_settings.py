"""What a server made of the settings that objects were stored with."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import StoreError
from s3_uploader.core.findings import Severity
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.engines.base import Answer, Request
from s3_uploader.stores.s3.kept_settings import check_kept

TAGS = b"<Tagging><TagSet><Tag><Key>team</Key><Value>sea &amp; air</Value></Tag></TagSet></Tagging>"
NO_TAGS = b"<Tagging><TagSet/></Tagging>"
PUBLIC = (
    b"<AccessControlPolicy><AccessControlList>"
    b"<Grant><Grantee><ID>me</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>"
    b"<Grant><Grantee><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>"
    b"<Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>"
)
PRIVATE = b"<AccessControlPolicy><AccessControlList></AccessControlList></AccessControlPolicy>"


class Server:
    """Answers to HEAD with some headers, and to others with a document each; an error where there is none."""

    def __init__(self, headers: dict[str, str], **documents: bytes) -> None:
        self._headers = headers
        self._documents = documents

    def ask(self, request: Request) -> PendingRequest:
        """What comes of a request."""
        call = PendingRequest(request, deadline=0, expected=frozenset(), finished=lambda call: None)
        if request.operation == "HeadObject":
            call.answer = Answer(status=200, headers=self._headers)
        elif request.operation in self._documents:
            call.answer = Answer(status=200, headers={}, body=self._documents[request.operation])
        else:
            call.error = StoreError("denied", code="AccessDenied")
        return call


@pytest.mark.parametrize(
    ("asked", "server", "subject", "severity"),
    [
        ({"x-amz-storage-class": "STANDARD"}, Server({}), "storage_class", Severity.OK),
        ({"x-amz-storage-class": "GLACIER"}, Server({}), "storage_class", Severity.WARNING),
        ({"x-amz-storage-class": "IA"}, Server({"x-amz-storage-class": "IA"}), "storage_class", Severity.OK),
        ({"x-amz-server-side-encryption": "AES256"}, Server({}), "sse", Severity.WARNING),
        (
            {"x-amz-server-side-encryption": "aws:kms"},
            Server({"x-amz-server-side-encryption": "AES256"}),
            "sse",
            Severity.WARNING,
        ),
        (
            {"x-amz-server-side-encryption-aws-kms-key-id": "1234"},
            Server({"x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu:1:key/1234"}),
            "sse_kms_key_id",
            Severity.OK,
        ),
        ({"x-amz-meta-a": "1", "x-amz-meta-b": "2"}, Server({"x-amz-meta-a": "1"}), "metadata", Severity.WARNING),
        ({"x-amz-meta-a": "1"}, Server({"x-amz-meta-a": "1"}), "metadata", Severity.OK),
        ({"x-amz-tagging": "team=sea%20%26%20air"}, Server({}, GetObjectTagging=TAGS), "tags", Severity.OK),
        ({"x-amz-tagging": "team=sea%20%26%20air"}, Server({}, GetObjectTagging=NO_TAGS), "tags", Severity.WARNING),
        ({"x-amz-tagging": "team=sea"}, Server({}), "settings", Severity.NOTE),
        ({"x-amz-acl": "public-read"}, Server({}, GetObjectAcl=PUBLIC), "acl", Severity.OK),
        ({"x-amz-acl": "public-read"}, Server({}, GetObjectAcl=PRIVATE), "acl", Severity.WARNING),
        ({"x-amz-acl": "private"}, Server({}, GetObjectAcl=PUBLIC), "acl", Severity.WARNING),
        ({"x-amz-acl": "private"}, Server({}), "settings", Severity.NOTE),
    ],
)
def test_what_is_ignored_is_said(asked: dict[str, str], server: Server, subject: str, severity: Severity) -> None:
    """Each setting is read back: kept, ignored, or no telling."""
    (finding,) = check_kept("key", asked, server.ask)
    assert (finding.subject, finding.severity) == (subject, severity)


@pytest.mark.parametrize("asked", [{}, {"content-type": "text/plain"}, {"x-amz-acl": "bucket-owner-read"}])
def test_nothing_is_said_of_what_was_not_asked(asked: dict[str, str]) -> None:
    """Without settings, and of an ACL that cannot be told from none, nothing is claimed."""
    assert check_kept("key", asked, Server({}).ask) == []
