"""The keys of an SFTP destination: what is complete, what contradicts itself, and where secrets come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.config import SftpDestination, password_variables
from s3_uploader.core.errors import ConfigError

FINGERPRINT = "SHA256:WbQGsyDEBDSCcZ7g1Eqr3fhTVrIqYbIGOrJ4e5+dBcs"


def raw(**keys: Any) -> dict[str, Any]:
    """A configuration with an SFTP server."""
    return {"base_dir": "/spool", "destination": {"type": "sftp", "host": "h", "user": "u", **keys}}


def problems_of(**keys: Any) -> list[str]:
    """What is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        config.from_mapping(raw(**keys), source="x")
    return caught.value.problems


def test_host_and_user_are_enough() -> None:
    """Everything else has a default, and none of them trusts a server that nobody knows."""
    found = config.from_mapping(raw(), source="x").destination
    assert isinstance(found, SftpDestination)
    assert (found.port, found.path, found.known_hosts_file, found.host_key_fingerprints) == (22, "", None, [])


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"host": "sftp://h"}, "destination.host: must be a name or an address, without sftp://"),
        ({"lock_stale_seconds": 60}, "destination.lock_stale_seconds: needs a lock_file"),
        ({"host_key_fingerprints": ["MD5:00:11"]}, "destination.host_key_fingerprints: "),
        (
            {"host_key_fingerprints": [FINGERPRINT], "known_hosts_file": "/k"},
            "destination.host_key_fingerprints: give them or a known_hosts_file, not both",
        ),
        ({"password": "HUSH"}, "destination.password: is not a known key"),
        ({"minimum_proof": "none"}, "destination.minimum_proof: must be"),
    ],
)
def test_contradictions(keys: dict[str, Any], problem: str) -> None:
    """What cannot be meant is a sentence that names the key; secrets do not stand in the file, and are not repeated."""
    problems = problems_of(**keys)
    assert any(each.startswith(problem) for each in problems), problems
    assert "HUSH" not in " ".join(problems)


@pytest.mark.parametrize("name", ["S3_UPLOADER_SFTP_PASSWORD", "S3_UPLOADER_SFTP_PASSPHRASE", "S3_UPLOADER_MINE"])
def test_secrets_come_from_the_environment(tmp_path: Path, name: str) -> None:
    """A variable that holds a secret is not taken for a key, also under a name that the configuration gives it."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw(passphrase_env="S3_UPLOADER_MINE")))
    config.load(str(path), environ={name: "HUSH"})
    assert password_variables([str(path)]) == {"S3_UPLOADER_MINE"}


def test_a_passphrase_has_no_place_on_the_command_line(tmp_path: Path) -> None:
    """``--set`` refuses one, and names the variable for it."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw()))
    with pytest.raises(ConfigError, match="S3_UPLOADER_SFTP_PASSPHRASE") as caught:
        config.load(str(path), environ={}, settings=["destination.passphrase=HUSH"])
    assert "HUSH" not in str(caught.value)
