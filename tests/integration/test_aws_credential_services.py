"""Services that give credentials are asked as boto3 asks them; what they answer ends in credentials or a sentence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.stores.s3 import helpers
from s3_uploader.stores.s3.endpoint import Access, resolve
from tests.integration.s3_support import PART, Station
from tests.servers.credential_services import FAILURES, Asked, CredentialServices, Mode
from tests.servers.dialects import WEAK
from tests.servers.fault_script import error
from tests.servers.fixtures import MakeFaultServer

Use = Callable[[dict[str, str]], dict[str, str]]
"""Sets the variables of a row; returns all that are set."""

PROFILES = """
[default]
region = eu-west-1
[profile metadata]
ec2_metadata_service_endpoint = {url}/
[profile metadata-v2]
ec2_metadata_service_endpoint = {url}/
ec2_metadata_v1_disabled = true
[profile patient]
metadata_service_timeout = 2
metadata_service_num_attempts = 3
[profile six]
ec2_metadata_service_endpoint_mode = IPv6
[profile web]
role_arn = arn:aws:iam::1:role/web
web_identity_token_file = {home}/web-token
role_session_name = from-config
[profile source]
aws_access_key_id = AKIDSOURCE
aws_secret_access_key = secret-source
[profile role]
role_arn = arn:aws:iam::1:role/r
source_profile = source
external_id = outside
duration_seconds = 1800
role_session_name = from-config
[profile role-environment]
role_arn = arn:aws:iam::1:role/r
credential_source = Environment
[profile role-container]
role_arn = arn:aws:iam::1:role/r
credential_source = EcsContainer
[profile role-instance]
role_arn = arn:aws:iam::1:role/r
credential_source = Ec2InstanceMetadata
[profile sso]
sso_session = work
sso_account_id = 123456789012
sso_role_name = Uploader
[sso-session work]
sso_region = eu-west-1
sso_start_url = https://example.awsapps.com/start
[profile sso-legacy]
sso_region = eu-west-1
sso_start_url = https://example.awsapps.com/start
sso_account_id = 123456789012
sso_role_name = Uploader
[profile login]
login_session = arn:aws:sts::1:assumed-role/r/s
"""

METADATA = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}/"}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/container"}
WEB = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/web", "AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/web-token"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "secret-env"}
SOURCES: dict[str, dict[str, str]] = {
    "instance": METADATA,
    "container": CONTAINER,
    "web identity": WEB,
    "role": {"AWS_PROFILE": "role"},
    "SSO": {"AWS_PROFILE": "sso"},
}

ROWS: list[tuple[str, dict[str, str], Mode]] = [
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/container"}, "good"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", CONTAINER, "good"),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        {**CONTAINER, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Bearer from-environment"},
        "good",
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        {
            **CONTAINER,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{home}/container-token",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Bearer from-environment",
        },
        "good",
    ),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA, "good"),
    ("ec2_metadata_service_endpoint", {"AWS_PROFILE": "metadata"}, "good"),
    ("the first version of the metadata service", METADATA, "no token"),
    ("an answer that does not come so far", METADATA, "hop limit"),
    ("AWS_EC2_METADATA_V1_DISABLED", {**METADATA, "AWS_EC2_METADATA_V1_DISABLED": "TRUE"}, "no token"),
    ("AWS_EC2_METADATA_V1_DISABLED and a token", {**METADATA, "AWS_EC2_METADATA_V1_DISABLED": "true"}, "good"),
    ("ec2_metadata_v1_disabled", {"AWS_PROFILE": "metadata-v2"}, "no token"),
    ("AWS_EC2_METADATA_DISABLED", {**METADATA, "AWS_EC2_METADATA_DISABLED": "True"}, "good"),
    ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", {**METADATA, "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "3"}, "500"),
    ("metadata_service_num_attempts", {**METADATA, "AWS_PROFILE": "patient"}, "500"),
    ("AWS_METADATA_SERVICE_TIMEOUT", {**METADATA, "AWS_METADATA_SERVICE_TIMEOUT": "2"}, "hop limit"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", WEB, "good"),
    ("AWS_ROLE_SESSION_NAME", {**WEB, "AWS_ROLE_SESSION_NAME": "from-environment"}, "good"),
    ("web_identity_token_file", {"AWS_PROFILE": "web"}, "good"),
    ("source_profile", {"AWS_PROFILE": "role"}, "good"),
    ("credential_source = Environment", {**KEYS, "AWS_PROFILE": "role-environment"}, "good"),
    ("credential_source = EcsContainer", {**CONTAINER, "AWS_PROFILE": "role-container"}, "good"),
    ("credential_source = Ec2InstanceMetadata", {**METADATA, "AWS_PROFILE": "role-instance"}, "good"),
    ("sso_session", {"AWS_PROFILE": "sso"}, "good"),
    ("sso_start_url", {"AWS_PROFILE": "sso-legacy"}, "good"),
    ("login_session", {"AWS_PROFILE": "login", "AWS_LOGIN_CACHE_DIRECTORY": "{home}/logins"}, "good"),
]


@pytest.fixture
def services() -> Iterator[CredentialServices]:
    """The services."""
    with CredentialServices() as services:
        yield services


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, services: CredentialServices) -> Path:
    """Configuration files and logins, and an environment that names nothing but them."""
    from botocore.credentials import SSOProvider
    from botocore.tokens import SSOTokenProvider
    from botocore.utils import ContainerMetadataFetcher

    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config").write_text(PROFILES.format(url=services.url, home=tmp_path))
    (tmp_path / "web-token").write_text("web-token")
    (tmp_path / "container-token").write_text("Bearer from-file")
    cache = tmp_path / "sso"
    cache.mkdir()
    login = {"accessToken": "sso-token", "expiresAt": "2099-01-01T00:00:00Z", "region": "eu-west-1"}
    for name in ("work", "https://example.awsapps.com/start"):
        (cache / f"{hashlib.sha1(name.encode()).hexdigest()}.json").write_text(json.dumps(login))
    # Where these lie is read from HOME when botocore is imported, and the address of a container's service is fixed.
    for provider in (SSOProvider, SSOTokenProvider):
        monkeypatch.setattr(provider, "_SSO_TOKEN_CACHE_DIR", str(cache))
    monkeypatch.setattr(ContainerMetadataFetcher, "IP_ADDRESS", services.address)
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    return tmp_path


@pytest.fixture
def use(home: Path, monkeypatch: pytest.MonkeyPatch, services: CredentialServices) -> Use:
    """Set the variables of a row; returns all of them."""

    def use(variables: dict[str, str]) -> dict[str, str]:
        usual = {
            "AWS_CONFIG_FILE": f"{home}/config",
            "AWS_SHARED_CREDENTIALS_FILE": f"{home}/none",
            "AWS_ENDPOINT_URL_STS": services.url,
            "AWS_ENDPOINT_URL_SSO": services.url,
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }
        given = {name: value.format(url=services.url, home=home) for name, value in {**usual, **variables}.items()}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        return given

    return use


def ours(environment: dict[str, str]) -> Access:
    """What this program makes of an environment."""
    return resolve(
        bucket="bucket", endpoint_url=None, region=None, profile=None, addressing_style="auto", environment=environment
    )


def of_boto3() -> tuple[str, str, str] | None:
    """The credentials that boto3 finds; `None` if there are none, or what gives them fails."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        found = boto3.session.Session().get_credentials()
        frozen = None if found is None else found.get_frozen_credentials()
    except BotoCoreError:
        return None
    return None if frozen is None else (str(frozen.access_key), str(frozen.secret_key), frozen.token or "")


@pytest.mark.parametrize(("name", "variables", "mode"), ROWS, ids=[name for name, _, _ in ROWS])
def test_asked_as_boto3_asks(
    name: str, variables: dict[str, str], mode: Mode, use: Use, services: CredentialServices
) -> None:
    """The same credentials come of the same questions: parameters, tokens and the number of tries."""
    environment = use(variables)
    services.mode = mode
    theirs = of_boto3()
    asked_by_boto3, services.requests = services.requests, []
    if theirs is None:
        with pytest.raises(StoreError) as caught:
            ours(environment)
        assert caught.value.scope is Scope.DESTINATION
    else:
        found = ours(environment).credentials()
        assert (found.access_key, found.secret_key, found.token) == theirs
    assert _comparable(services.requests) == _comparable(asked_by_boto3)


def _comparable(asked: list[Asked]) -> list[Asked]:
    """Requests without what is of this moment: botocore names a session of a role by the time."""
    return [
        Asked(
            (
                method,
                path,
                tuple(
                    (name, "botocore-session" if value.startswith("botocore-session-") else value)
                    for name, value in parameters
                ),
            )
        )
        for method, path, parameters in asked
    ]


@pytest.mark.parametrize("profile", ["six", ""])
def test_the_metadata_service_by_ipv6(profile: str, use: Use) -> None:
    """Where the metadata service is to be asked by IPv6, its address is boto3's."""
    import botocore.session

    use({"AWS_PROFILE": profile} if profile else {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv6"})
    provider = botocore.session.Session().get_component("credential_provider").get_provider("iam-role")
    assert provider._role_fetcher._base_url == "http://[fd00:ec2::254]/"


@pytest.mark.rotated("operation")
@pytest.mark.parametrize(
    "operation", ["HeadObject", "PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
def test_a_token_that_expires_in_the_middle(
    operation: str,
    engine: str,
    use: Use,
    services: CredentialServices,
    station: Station,
    make_fault_server: MakeFaultServer,
) -> None:
    """Whatever request has a token that the server calls expired, it gets a new one and is sent once more."""
    server = make_fault_server(dialect=WEAK)
    services.keys, services.renews = (server.access_key, server.secret_key), True
    environment = use({**CONTAINER, "AWS_ENDPOINT_URL": server.endpoint_url})
    store = station.store(environment, engine, bucket=server.bucket)
    station.put(store, "before.dat", b"content")
    assert {request.headers["x-amz-security-token"] for request in server.requests} == {"token-1"}
    # The refusal of a HEAD has no document: it is sent once without what it asks for, and then a GET is asked why.
    server.faults.add(error("ExpiredToken").only(operations=operation).repeated(1 + (operation == "HeadObject")))
    if operation == "HeadObject":
        server.faults.add(error("ExpiredToken").only(operations="GetObject"))
    content = b"x" * (10 if operation in ("HeadObject", "PutObject") else 2 * PART + 1)
    station.put(store, "after.dat", content)
    assert server.objects()["after.dat"] == content
    assert server.requests[-1].headers["x-amz-security-token"] == "token-2"
    assert services.given == 2
    # A server that calls every token expired is asked once more, not for ever.
    server.faults.add(error("ExpiredToken").repeated())
    asked = len(server.requests)
    assert station.error(store, "never.dat", b"content").code == "ExpiredToken"
    assert len(server.requests) - asked <= 6
    assert services.given <= 3


@pytest.mark.rotated("source", "mode")
@pytest.mark.parametrize("mode", FAILURES)
@pytest.mark.parametrize("source", SOURCES)
def test_a_service_that_fails(
    source: str, mode: Mode, use: Use, services: CredentialServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes instead of credentials is one short sentence that ends the run, within its time."""
    assert helpers.find.__kwdefaults__ is not None
    monkeypatch.setitem(helpers.find.__kwdefaults__, "seconds", 8.0)
    environment = use(SOURCES[source])
    services.mode = mode
    with pytest.raises(StoreError) as caught:
        ours(environment)
    refusal = caught.value
    assert (refusal.scope, refusal.code[:11]) in (
        (Scope.DESTINATION, "Credentials"),
        (Scope.DESTINATION, "NoCredentia"),
    )
    assert refusal.hint
    assert "credentials" in refusal.message
    assert "\n" not in refusal.message
    assert len(refusal.message) < 600


def test_the_table_names_what_is_tested() -> None:
    """The page has a row for each variable and each key that the tests here set."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "aws-settings.md"
    text = page.read_text()
    variables = {variable for _, row, _ in ROWS for variable in row}
    keys = {line.partition(" = ")[0] for line in PROFILES.splitlines() if " = " in line}
    assert [name for name in sorted(variables | keys) if f"`{name}`" not in text] == []
