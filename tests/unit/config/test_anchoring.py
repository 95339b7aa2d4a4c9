"""Local paths that do not depend on the working directory any more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3_uploader import config
from s3_uploader.config.anchoring import anchored


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return os.getcwd()


def test_local_paths_become_absolute(here: str) -> None:
    """All of them, and nothing else; ``~`` and absolute paths are no matter of the working directory."""
    found = anchored(
        config.from_mapping(
            {
                "base_dir": "in",
                "claim_dir": "/working",
                "state_dir": "~/state",
                "metrics_file": "m.prom",
                "on_success": {"move_to": "done"},
                "on_failure": {"move_to": "failed", "attempts": 3},
                "destination": {
                    "type": "sftp",
                    "host": "h",
                    "user": "u",
                    "path": "on/server",
                    "lock_file": "write",
                    "private_key_file": "key",
                    "known_hosts_file": "~/hosts",
                    "password_file": "password",
                },
            },
            source="test",
        )
    )
    assert (found.base_dir, found.claim_dir, found.state_dir) == (f"{here}/in", "/working", "~/state")
    assert found.metrics_file == f"{here}/m.prom"
    assert found.on_success == config.MoveTo(move_to=f"{here}/done")
    assert found.on_failure == config.MoveTo(move_to=f"{here}/failed", attempts=3)
    assert isinstance(found.destination, config.SftpDestination)
    assert (found.destination.path, found.destination.lock_file) == ("on/server", "write")
    assert (found.destination.private_key_file, found.destination.known_hosts_file) == (f"{here}/key", "~/hosts")
    assert found.destination.password_file == f"{here}/password"


def test_a_local_destination(here: str) -> None:
    """Its directory is a local path, too."""
    given = {"base_dir": "../in", "destination": {"type": "local", "path": "archive"}}
    found = anchored(config.from_mapping(given, source="test"))
    assert found.destination == config.LocalDestination(path=f"{here}/archive")
    assert found.base_dir == f"{here}/../in"


def test_a_working_directory_that_was_removed(here: str) -> None:
    """Nothing can be found out then; the run says what is wrong."""
    os.rmdir(here)
    given = config.from_mapping({"base_dir": "in", "bucket": "b"}, source="test")
    assert anchored(given) == given
