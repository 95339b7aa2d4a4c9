"""The manifests in `deploy/kubernetes`, held against the schemas of the API."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.servers import environments
from tests.servers.debian import Unavailable

MANIFESTS = sorted((Path(__file__).parents[2] / "deploy" / "kubernetes").glob("*.yaml"))


def validate(path: Path, version: str) -> subprocess.CompletedProcess[str]:
    """Hold a file against the schemas of a version; unknown fields are refused."""
    try:
        program = environments.installed("kubernetes") / "kubernetes-validate"
    except Unavailable as missing:
        pytest.skip(str(missing))
    command = [str(program), "--strict", "--kubernetes-version", version, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.exhaustive
@pytest.mark.parametrize("version", ["1.33", "1.37"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_api_takes_every_manifest(path: Path, version: str) -> None:
    """Each field is one that the API knows, in the version that brought the last of them and in the newest."""
    done = validate(path, version)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.exhaustive
def test_a_field_that_there_is_not(tmp_path: Path) -> None:
    """A misspelt field would be found."""
    wrong = tmp_path / "job.yaml"
    text = next(path for path in MANIFESTS if path.name == "indexed-job.yaml").read_text()
    wrong.write_text(text.replace("backoffLimitPerIndex", "backofLimitPerIndex"))
    assert validate(wrong, "1.37").returncode != 0
