"""URLs that are signed beforehand, against the example of the reference and against botocore."""

from __future__ import annotations

import datetime
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import locate
from s3_uploader.stores.s3.engines.presign import presigned_url

NOW = 1369353600.0  # 24 May 2013, the day of the example


def test_the_example_of_the_reference() -> None:
    """The signature is the one that Amazon's reference prints for its example."""
    endpoint = locate(
        bucket="examplebucket",
        endpoint_url="https://s3.amazonaws.com",
        region="us-east-1",
        addressing_style="virtual",
        ca_bundle=None,
        special="",
        environment={},
    )
    credentials = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    url = presigned_url(endpoint, credentials, method="GET", path="test.txt", seconds=86400, now=NOW)
    assert url.startswith("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert url.endswith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_the_same_as_botocore() -> None:
    """With a token, a port, a key to be encoded and a header of its own it is what botocore signs."""
    endpoint = locate(
        bucket="bucket",
        endpoint_url="http://127.0.0.1:9000/base",
        region="eu-north-1",
        addressing_style="auto",
        ca_bundle=None,
        special="",
        environment={},
    )
    path = "a%20b/%C3%BC%2B"
    url = presigned_url(
        endpoint,
        Credentials("key", "secret", "to/ken=="),
        method="PUT",
        path=path,
        seconds=60,
        now=NOW,
        headers={"content-type": "text/plain"},
    )
    signer = botocore.auth.S3SigV4QueryAuth(
        botocore.credentials.Credentials("key", "secret", "to/ken=="), "s3", "eu-north-1", expires=60
    )
    request = botocore.awsrequest.AWSRequest(
        method="PUT",
        url=f"http://127.0.0.1:9000/base/bucket/{path}",
        headers={"content-type": "text/plain"},
    )
    with mock.patch.object(botocore.auth, "get_current_datetime", create=True) as clock:
        clock.return_value = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
        signer.add_auth(request)
    assert parse_qs(urlsplit(url).query) == parse_qs(urlsplit(str(request.url)).query)
    assert urlsplit(url)[:3] == urlsplit(str(request.url))[:3]
