"""Where the settings of a connection lead: endpoint, region, style, certificates and credentials of one bucket."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import NoCredentialsError

import s3_uploader as s3


def endpoint(connection: s3.S3Connection, bucket: str = "bucket") -> tuple[str, str, str, bool]:
    """URL, host, region and style of a bucket."""
    found = connection.access(bucket).endpoint
    return found.url, found.host, found.region, found.virtual


def test_given_credentials_need_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that a program gives are used, whatever the environment has."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    access = s3.S3Connection("key", "secret", session_token="token", endpoint="localhost:9000").access("bucket")
    found = access.credentials()
    assert (found.access_key, found.secret_key, found.token) == ("key", "secret", "token")
    assert access.session is None


def test_a_configuration_file_may_ask_for_no_checksums(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That checksum headers are to be sent only where they are required holds in the AWS configuration as in a run."""
    (tmp_path / "config").write_text("[default]\nrequest_checksum_calculation = when_required\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with s3.S3Connection("key", "secret", endpoint="localhost:9") as connection, connection.bucket("bucket") as bucket:
        assert bucket.capabilities.form == "md5"


def test_a_configuration_file_adds_to_given_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The region of the AWS configuration holds beside credentials of the program's own; its credentials do not."""
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-north-1\naws_access_key_id = other\naws_secret_access_key = other\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    access = s3.S3Connection("key", "secret").access("bucket")
    assert access.endpoint.region == "eu-north-1"
    assert access.credentials().access_key == "key"
    assert isinstance(access.session, botocore.session.Session)
    found = access.session.get_credentials()
    assert found is not None
    assert found.access_key == "key"


def test_credentials_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials of its own a connection has those of the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    access = s3.S3Connection().access("bucket")
    assert access.credentials().access_key == "key"
    assert access.endpoint.url == "http://127.0.0.1:9000"


def test_no_credentials_are_no_crash() -> None:
    """Where there are no credentials that is an error of the connection, which programs for boto3 catch too."""
    with pytest.raises(NoCredentialsError) as caught, s3.S3Connection().bucket("bucket"):
        pass
    assert isinstance(caught.value, s3.RemoteConnectionError)


@pytest.mark.parametrize(
    ("settings", "bucket", "expected"),
    [
        ({}, "bucket", ("https://s3.us-east-1.amazonaws.com", "bucket.s3.us-east-1.amazonaws.com", "us-east-1", True)),
        (
            {"endpoint": "s3-us-west-2.amazonaws.com"},
            "bucket",
            ("https://s3.us-west-2.amazonaws.com", "bucket.s3.us-west-2.amazonaws.com", "us-west-2", True),
        ),
        (
            {"endpoint": "s3-us-west-2.amazonaws.com"},
            "a.bucket",
            ("https://s3.us-west-2.amazonaws.com", "s3.us-west-2.amazonaws.com", "us-west-2", False),
        ),
        (
            {"endpoint": "s3.cn-north-1.amazonaws.com.cn", "addressing_style": "path"},
            "bucket",
            ("https://s3.cn-north-1.amazonaws.com.cn", "s3.cn-north-1.amazonaws.com.cn", "cn-north-1", False),
        ),
        (
            {"tls": False, "region": "eu-west-1"},
            "bucket",
            ("http://s3.eu-west-1.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com", "eu-west-1", True),
        ),
        (
            {"endpoint": "localhost:9000", "tls": False},
            "bucket",
            ("http://localhost:9000", "localhost", "us-east-1", False),
        ),
        (
            {"endpoint": "https://s3.example.org", "addressing_style": "virtual"},
            "bucket",
            ("https://s3.example.org", "bucket.s3.example.org", "us-east-1", True),
        ),
    ],
)
def test_places(settings: dict[str, object], bucket: str, expected: tuple[str, str, str, bool]) -> None:
    """An endpoint of AWS is that of its region, with the bucket in the host where it can be; others are as given."""
    assert endpoint(s3.S3Connection("key", "secret", **settings), bucket) == expected  # type: ignore[arg-type]


def test_an_endpoint_of_the_program_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint in a program's own settings wins over that of the environment, Amazon's own name too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    connection = s3.S3Connection("key", "secret", endpoint="s3.amazonaws.com")
    assert endpoint(connection)[1] == "bucket.s3.us-east-1.amazonaws.com"
    assert endpoint(s3.S3Connection("key", "secret"))[0] == "http://127.0.0.1:9000"


def test_certificates(tmp_path: Path) -> None:
    """The certificates that a program trusts are those of its connection."""
    connection = s3.S3Connection("key", "secret", ca_file=str(tmp_path / "ca.pem"), endpoint="s3.example.org")
    assert connection.access("bucket").endpoint.ca_file == str(tmp_path / "ca.pem")


def test_the_name_of_a_bucket_is_enough() -> None:
    """A store is made from a bucket's name alone, with the settings of the environment."""
    with s3.RemoteStore("my-bucket") as store:
        assert store.connection.default_bucket == "my-bucket"
    assert s3.AsyncRemoteStore("my-bucket").connection.default_bucket == "my-bucket"


def test_completion_knows_the_package() -> None:
    """What is imported when it is first used is offered before that."""
    assert set(s3.__all__) <= set(dir(s3))
