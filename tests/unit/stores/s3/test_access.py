"""Where a bucket is and who we are there, by what the environment says."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.stores.s3.access import Access, resolve
from s3_uploader.stores.s3.credentials import Credentials

KEYS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B"}
NO_FILES = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}


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
