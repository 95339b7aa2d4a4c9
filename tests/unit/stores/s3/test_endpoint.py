"""Where a bucket is and who we are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Access, Endpoint, locate, resolve

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1369353600.0  # Fri, 24 May 2013 00:00:00 GMT
KEYS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B"}
NO_FILES = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}


def located(**settings: object) -> Endpoint:
    """An endpoint with the usual settings."""
    given: dict[str, object] = {
        "bucket": "my-bucket",
        "endpoint_url": None,
        "region": "eu-west-1",
        "addressing_style": "auto",
        "ca_bundle": None,
        "special": "",
        "environment": {},
    }
    return locate(**{**given, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "host_header", "path"),
    [
        ({}, "my-bucket.s3.eu-west-1.amazonaws.com", ""),
        ({"region": None}, "my-bucket.s3.us-east-1.amazonaws.com", ""),
        ({"region": "cn-north-1"}, "my-bucket.s3.cn-north-1.amazonaws.com.cn", ""),
        ({"addressing_style": "path"}, "s3.eu-west-1.amazonaws.com", "/my-bucket"),
        ({"bucket": "with.dots"}, "s3.eu-west-1.amazonaws.com", "/with.dots"),
        ({"bucket": "Capital"}, "s3.eu-west-1.amazonaws.com", "/Capital"),
        ({"endpoint_url": "http://127.0.0.1:9000"}, "127.0.0.1:9000", "/my-bucket"),
        ({"endpoint_url": "http://127.0.0.1:9000", "addressing_style": "virtual"}, "127.0.0.1:9000", "/my-bucket"),
        ({"endpoint_url": "https://s3.example.com/base/"}, "s3.example.com", "/base/my-bucket"),
        ({"endpoint_url": "https://S3.example.com:443"}, "s3.example.com", "/my-bucket"),
        ({"endpoint_url": "http://s3.example.com", "addressing_style": "virtual"}, "my-bucket.s3.example.com", ""),
        ({"endpoint_url": "http://[::1]:9000"}, "[::1]:9000", "/my-bucket"),
        *(
            ({"endpoint_url": url, "bucket": bucket, "addressing_style": "virtual"}, host, path)
            for url, bucket, host, path in (
                ("https://s3.example.com", "my-bucket", "my-bucket.s3.example.com", ""),
                ("https://s3.example.com", "with.dots", "s3.example.com", "/with.dots"),  # the certificate is *.s3.…
                ("http://s3.example.com", "with.dots", "with.dots.s3.example.com", ""),
                ("https://s3.eu-west-1.amazonaws.com", "with.dots", "s3.eu-west-1.amazonaws.com", "/with.dots"),
            )
        ),
    ],
)
def test_where_a_bucket_is(settings: dict[str, object], host_header: str, path: str) -> None:
    """Host and path are those that boto3 would use."""
    endpoint = located(**settings)
    assert (endpoint.host_header, endpoint.path) == (host_header, path)


def test_amazon_is_recognised() -> None:
    """Only Amazon's own names are trusted to honour conditional writes."""
    assert located().is_aws
    assert located(endpoint_url="https://s3.dualstack.eu-west-1.amazonaws.com").is_aws
    assert not located(endpoint_url="https://amazonaws.com.example.org").is_aws


@pytest.mark.parametrize("url", ["s3.example.com", "ftp://s3.example.com", "http://", "http://host:port"])
def test_an_endpoint_that_is_no_url(url: str) -> None:
    """Such a setting is an error with an example."""
    with pytest.raises(StoreError) as caught:
        located(endpoint_url=url)
    assert "https://" in caught.value.hint


@pytest.mark.parametrize("url", ["http://host/?token=T0KEN", "http://host#T0KEN", "http://me:T0/KEN#@host/?x=T0KEN"])
def test_what_may_be_a_token_is_not_repeated(url: str) -> None:
    """The message about an endpoint names neither its password nor what follows the path."""
    with pytest.raises(StoreError) as caught:
        located(endpoint_url=url)
    assert "host" in caught.value.message
    assert "T0" not in str(caught.value)
    assert "KEN" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("https://bucket.fra1.digitaloceanspaces.com", "https://fra1.digitaloceanspaces.com"),
        ("https://bucket.s3.example.com:9000/", "https://s3.example.com:9000"),
        ("https://bucket.s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com"),
        ("https://account.r2.cloudflarestorage.com/bucket", "https://account.r2.cloudflarestorage.com"),
        ("http://127.0.0.1:9000/base/bucket/", "http://127.0.0.1:9000/base"),
    ],
)
@pytest.mark.parametrize("style", ["auto", "path", "virtual"])
def test_the_bucket_stands_in_the_endpoint(url: str, right: str, style: str) -> None:
    """An endpoint with the bucket in it is taken without, or everything would land under ``bucket/bucket/``."""
    endpoint = located(bucket="bucket", endpoint_url=url, addressing_style=style)
    assert endpoint.doubled_bucket
    assert endpoint.url == right


@pytest.mark.parametrize(
    "url", ["https://bucket.example.com", "https://bucket", "https://s3.example.com/bucket-2", "https://mybucket.s3.io"]
)
def test_a_server_that_is_called_like_the_bucket(url: str) -> None:
    """Where it may be the server's own name nothing is left out."""
    endpoint = located(bucket="bucket", endpoint_url=url)
    assert endpoint.url == url
    assert not endpoint.doubled_bucket


def access(bucket: str = "b", **variables: str) -> Access:
    """What an environment with these variables, keys and no files says of a bucket; the configuration says nothing."""
    return resolve(
        bucket=bucket,
        endpoint_url=None,
        region=None,
        profile=None,
        addressing_style="auto",
        environment={**KEYS, **NO_FILES, **variables},
    )


@pytest.mark.parametrize("secret", ["HUSH\n", " HUSH", "HU\tSH", "HUSH\r\n"])
def test_a_secret_with_a_line_break_is_said(secret: str) -> None:
    """What would read as a wrong signature is found before the first request."""
    with pytest.raises(StoreError, match="line break") as caught:
        access(AWS_SECRET_ACCESS_KEY=secret)
    assert (caught.value.code, caught.value.scope) == ("InvalidCredentials", Scope.DESTINATION)
    assert secret.strip() not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "reason"), [("nosuch", "No such file or directory"), ("directory", "Is a directory"), ("", "")]
)
def test_a_file_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, reason: str
) -> None:
    """Without credentials the file is named from which they did not come; that the usual ones are missing is normal."""
    (tmp_path / "directory").mkdir()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if file:
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / file))
    with pytest.raises(StoreError) as caught:
        resolve(
            bucket="bucket",
            endpoint_url=None,
            region=None,
            profile=None,
            addressing_style="auto",
            environment=dict(os.environ),
        )
    unread = f", and {tmp_path / file} cannot be read: {reason}"
    assert caught.value.message == f"Unable to locate credentials{unread if file else ''}."
    assert caught.value.hint.startswith("Correct that, or set AWS_ACCESS" if file else "Set AWS_ACCESS")


def test_static_credentials_in_the_environment_are_enough() -> None:
    """With them nothing of botocore is imported, and what the environment says of the endpoint counts."""
    found = access(
        AWS_SESSION_TOKEN="C",
        AWS_DEFAULT_REGION="eu-north-1",
        AWS_ENDPOINT_URL="http://general",
        AWS_ENDPOINT_URL_S3="http://special:9000",
        AWS_CA_BUNDLE="/ca.pem",
        AWS_SHARED_CREDENTIALS_FILE="/does/not/exist",
    )
    assert found.session is None
    assert found.credentials() == Credentials("A", "B", "C")
    assert (found.endpoint.url, found.endpoint.region) == ("http://special:9000", "eu-north-1")
    assert found.endpoint.ca_file == "/ca.pem"


@pytest.mark.parametrize(
    ("bucket", "variables", "words"),
    [
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/mine", {}, "ARN"),
        ("mine--use1-az4--x-s3", {}, "directory bucket"),
        ("mine", {"AWS_USE_FIPS_ENDPOINT": "true"}, "FIPS"),
        ("mine", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "dual-stack"),
        ("mine", {"AWS_REGION": "us-iso-east-1"}, "partition"),
    ],
)
def test_what_only_boto3_can_reach(bucket: str, variables: dict[str, str], words: str) -> None:
    """Such buckets are left to boto3, and the reason is one that can be told."""
    assert words in access(bucket, **variables).endpoint.only_boto3
