"""Each setting of the AWS SDKs means here what it means to boto3; docs/reference/aws-settings.md has them all."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.s3.endpoint import Access, resolve

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "secret-env"}
PROFILES = """
[default]
region = eu-west-1
[profile work]
region = eu-north-1
endpoint_url = https://profile.example.com
[profile service]
region = eu-north-1
services = local
[services local]
s3 =
  endpoint_url = https://service.example.com
[profile virtual]
endpoint_url = https://profile.example.com
s3 =
  addressing_style = virtual
[profile path]
region = eu-west-1
s3 =
  addressing_style = path
[profile dual]
region = eu-west-1
use_dualstack_endpoint = TRUE
[profile dual-s3]
region = eu-west-1
s3 =
  use_dualstack_endpoint = true
[profile fips]
region = us-east-2
use_fips_endpoint = True
[profile fast]
region = us-east-2
s3 =
  use_accelerate_endpoint = true
[profile ignoring]
region = eu-west-1
endpoint_url = https://profile.example.com
ignore_configured_endpoint_urls = True
[profile signing]
s3 =
  payload_signing_enabled = true
[profile keys]
aws_access_key_id = AKIDCONFIG
aws_secret_access_key = secret-config
aws_session_token = token-config
[profile process]
credential_process = echo '{"Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "s", "SessionToken": "t"}'
"""
SHARED = """
[default]
aws_access_key_id = AKIDSHARED
aws_secret_access_key = secret-shared
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configuration files, and an environment that names nothing but them."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    (tmp_path / "config").write_text(PROFILES)
    (tmp_path / "credentials").write_text(SHARED)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def ours(variables: dict[str, str]) -> Access:
    """What this program makes of an environment."""
    return resolve(
        bucket="bucket",
        endpoint_url=None,
        region=None,
        profile=None,
        addressing_style="auto",
        environment=variables,
    )


FILES = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
NO_FILES = {"AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none"}
ROWS: list[tuple[str, dict[str, str]]] = [
    ("AWS_ACCESS_KEY_ID", KEYS | NO_FILES),
    ("AWS_SESSION_TOKEN", KEYS | NO_FILES | {"AWS_SESSION_TOKEN": "token"}),
    ("AWS_ACCESS_KEY_ID over the files", KEYS | FILES),
    ("AWS_SHARED_CREDENTIALS_FILE", FILES),
    ("AWS_PROFILE with keys", FILES | {"AWS_PROFILE": "keys"}),
    ("AWS_DEFAULT_PROFILE", FILES | {"AWS_DEFAULT_PROFILE": "keys"}),
    (
        "credential_process",
        {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "none", "AWS_PROFILE": "process"},
    ),
    ("AWS_DEFAULT_REGION", KEYS | NO_FILES | {"AWS_DEFAULT_REGION": "eu-west-3"}),
    ("region of the profile", FILES),
    ("AWS_DEFAULT_REGION over the profile", FILES | {"AWS_DEFAULT_REGION": "eu-west-3"}),
    ("AWS_ENDPOINT_URL", KEYS | NO_FILES | {"AWS_ENDPOINT_URL": "https://all.example.com"}),
    (
        "AWS_ENDPOINT_URL_S3 over AWS_ENDPOINT_URL",
        KEYS
        | NO_FILES
        | {"AWS_ENDPOINT_URL": "https://all.example.com", "AWS_ENDPOINT_URL_S3": "https://s3.example.com"},
    ),
    ("endpoint_url of the profile", KEYS | FILES | {"AWS_PROFILE": "work"}),
    ("services section", KEYS | FILES | {"AWS_PROFILE": "service"}),
    (
        "AWS_ENDPOINT_URL over the services section",
        KEYS | FILES | {"AWS_PROFILE": "service", "AWS_ENDPOINT_URL": "https://all.example.com"},
    ),
    ("ignore_configured_endpoint_urls", KEYS | FILES | {"AWS_PROFILE": "ignoring"}),
    *(
        (
            f"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS={value} ({len(files)})",
            KEYS
            | files
            | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": value, "AWS_ENDPOINT_URL": "https://all.example.com"},
        )
        for value in ("true", "TRUE", "True", "false", "False", "")
        for files in (FILES, NO_FILES)
    ),
    ("addressing_style = virtual", KEYS | FILES | {"AWS_PROFILE": "virtual"}),
    ("addressing_style = path", KEYS | FILES | {"AWS_PROFILE": "path"}),
]


@pytest.mark.parametrize(("name", "variables"), ROWS, ids=[name for name, _ in ROWS])
def test_the_same_as_boto3(name: str, variables: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, addressing, region and credentials are those that boto3 takes from the same environment."""
    import boto3

    environment = {}
    for variable, value in variables.items():
        environment[variable] = str(home / value) if variable in FILES else value
        monkeypatch.setenv(variable, environment[variable])
    session = boto3.session.Session()
    client = session.client("s3", region_name=session.region_name or "us-east-1")
    theirs = session.get_credentials()
    assert theirs is not None
    access = ours(environment)
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    found = re.match(r"https://([^/?]+)([^?]*)/key", url)
    assert found is not None
    # Presigned URLs of Amazon's own service name the global host; requests go to the region's.
    host = found[1].replace("s3.amazonaws.com", f"s3.{client.meta.region_name}.amazonaws.com")
    assert (access.endpoint.host_header, access.endpoint.path) == (host, found[2])
    assert access.endpoint.region == client.meta.region_name
    frozen, own = theirs.get_frozen_credentials(), access.credentials()
    assert (own.access_key, own.secret_key, own.token) == (frozen.access_key, frozen.secret_key, frozen.token or "")
    assert access.endpoint.given == (
        client.meta.endpoint_url is not None and "amazonaws" not in client.meta.endpoint_url
    )


@pytest.mark.parametrize("profile", ["dual", "dual-s3", "fips", "fast"])
def test_what_only_botocore_knows_is_left_to_it(profile: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints of other kinds are asked for in any case of the letters, and then boto3 sends the requests."""
    environment = KEYS | {name: str(home / file) for name, file in FILES.items()} | {"AWS_PROFILE": profile}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert ours(environment).endpoint.only_boto3


@pytest.mark.parametrize(("profile", "unsigned"), [("signing", False), ("default", True)])
def test_bodies_are_signed_if_wanted(profile: str, unsigned: bool, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over https a body is hashed for the signature only where the configuration asks for it."""
    environment = KEYS | {name: str(home / file) for name, file in FILES.items()} | {"AWS_PROFILE": profile}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert ours(environment).endpoint.payload_is_unsigned is unsigned


@pytest.mark.parametrize("files", [FILES, NO_FILES], ids=["files", "none"])
def test_aws_region_is_known_too(files: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_REGION, which the other SDKs know and boto3 does not, counts in the same way with files and without."""
    environment = KEYS | {name: str(home / file) for name, file in files.items()}
    environment |= {"AWS_REGION": "ap-south-1", "AWS_DEFAULT_REGION": "eu-west-3"}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert ours(environment).endpoint.region == "ap-south-1"


def test_the_table_names_what_is_tested() -> None:
    """The page has a row for each variable that the tests here set."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "aws-settings.md"
    text = page.read_text()
    variables = {variable for _, row in ROWS for variable in row}
    assert [variable for variable in sorted(variables) if variable not in text] == []


BROKEN = {
    b"\xef\xbb\xbf[default]\naws_secret_access_key = hidden\n": "byte order mark",
    b"[default]\nregion = a\n[default]\nregion = b\n": r"line 3 begins the section \[default\] a second time",
    b"[default]\nregion = a\nregion = b\n": r"line 3 sets region a second time in the section \[default\]",
    b"aws_secret_access_key = hidden\n": "line 1 stands before the first section",
    b"[default]\nhidden\n": "line 2 is neither a section",
    b"[default]\nregion = \xff\n": "not text in UTF-8",
}


@pytest.mark.parametrize("variable", ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"])
@pytest.mark.parametrize("content", BROKEN)
def test_a_file_that_cannot_be_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, variable: str
) -> None:
    """The message has the file and what is wrong, but not the line, which may hold the secret key."""
    path = tmp_path / "file"
    path.write_bytes(content)
    monkeypatch.setenv(variable, str(path))
    with pytest.raises(StoreError, match=f"{re.escape(str(path))}: .*{BROKEN[content]}") as caught:
        resolve(
            bucket="bucket",
            endpoint_url=None,
            region=None,
            profile=None,
            addressing_style="auto",
            environment=dict(os.environ),
        )
    assert "hidden" not in caught.value.message
