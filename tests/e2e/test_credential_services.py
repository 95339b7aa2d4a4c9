"""Services that should give credentials and do not: exit code 3 and a sentence; status and metrics name the cause."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest

from tests.e2e.site import Site
from tests.servers.credential_services import CredentialServices, Mode
from tests.servers.fault_server import FaultServer

CASES: list[tuple[str, Mode]] = [
    ("instance", "hang"),
    ("instance", "nonsense"),
    ("container", "page"),
    ("container", "hang"),
    ("web identity", "nonsense"),
    ("web identity", "500"),
    ("SSO", "list"),
    ("SSO", "hang up"),
]


@pytest.fixture
def services() -> Iterator[CredentialServices]:
    """The services."""
    with CredentialServices() as services:
        yield services


@pytest.fixture
def asking(site: Site, fault_server: FaultServer, services: CredentialServices, engine: str) -> Site:
    """A site without keys of its own, whose services are on this machine."""
    site.ship_to(fault_server, engine=engine, metrics_file=str(site.place / "metrics.prom"))
    services.keys = fault_server.access_key, fault_server.secret_key
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE", "AWS_EC2_METADATA_DISABLED"):
        site.environment.pop(name, None)
    site.environment |= {
        "AWS_ENDPOINT_URL_STS": services.url,
        "AWS_ENDPOINT_URL_SSO": services.url,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{services.url}/",
        "AWS_MAX_ATTEMPTS": "2",
    }
    return site


def use(site: Site, source: str, services: CredentialServices) -> None:
    """Let one of the services give the credentials."""
    if source == "container":
        site.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{services.url}/container"
    elif source == "web identity":
        (site.home / "web-token").write_text("web-token")
        site.environment |= {
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/web",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(site.home / "web-token"),
        }
    elif source == "SSO":
        cache = site.home / ".aws" / "sso" / "cache"
        cache.mkdir(parents=True)
        login = {"accessToken": "sso-token", "expiresAt": "2099-01-01T00:00:00Z", "region": "eu-west-1"}
        (cache / f"{hashlib.sha1(b'work').hexdigest()}.json").write_text(json.dumps(login))
        (site.home / ".aws" / "config").write_text(
            "[default]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = Uploader\n"
            "[sso-session work]\nsso_region = eu-west-1\nsso_start_url = https://example.awsapps.com/start\n"
        )


@pytest.mark.rotated("case")
@pytest.mark.parametrize("case", CASES, ids=[f"{source}-{mode}" for source, mode in CASES])
def test_a_service_that_gives_no_credentials(
    asking: Site, services: CredentialServices, fault_server: FaultServer, case: tuple[str, Mode]
) -> None:
    """The run ends with one sentence, status and metrics say "credentials", and all is well when the service is."""
    source, services.mode = case
    use(asking, source, services)
    asking.files(3)
    finished = asking.run(timeout=90)
    assert finished.code == 3, finished.stderr
    assert "Traceback" not in finished.stderr
    (sentence,) = finished.sentences("ERROR")
    assert "credentials" in sentence
    assert len(sentence) < 800
    assert len(asking.left()) == 3
    assert [problem["cause"] for problem in asking.status()["problems"]] == ["credentials"]
    assert asking.run("status", "--plugin").code == 2
    metrics = (asking.place / "metrics.prom").read_text()
    assert 's3_uploader_problem_since_timestamp_seconds{spool="' in metrics
    assert 'cause="credentials"} 1' in metrics
    services.mode = "good"
    last = asking.run(timeout=90)
    assert last.code == 0, last.stderr
    assert len(fault_server.objects()) == 3
    assert asking.status()["problems"] == []
    assert 'cause="credentials"} 0' in (asking.place / "metrics.prom").read_text()


def test_a_second_factor_needs_a_person(asking: Site, services: CredentialServices) -> None:
    """A role that wants a code from a person ends the run where there is none."""
    (asking.home / ".aws").mkdir()
    (asking.home / ".aws" / "config").write_text(
        "[default]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = source\nmfa_serial = arn:aws:iam::1:mfa/me\n"
        "[profile source]\naws_access_key_id = AKIDSOURCE\naws_secret_access_key = secret-source\n"
    )
    asking.files(1)
    finished = asking.run(timeout=90, start_new_session=True)
    assert finished.code == 3, finished.stderr
    assert "Traceback" not in finished.stderr
    assert services.requests == []
    assert len(asking.left()) == 1
