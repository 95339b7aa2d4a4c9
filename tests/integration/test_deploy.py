"""What ``units`` makes of configurations is what systemd accepts, and judges to be locked away."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs import deploy
from s3_uploader.cli.arguments import UnitOptions
from s3_uploader.cli.units import units
from s3_uploader.deployment.systemd import run_service, timer
from tests.unit.deployment.test_deployment import plan

if shutil.which("systemd-analyze") is None and os.environ.get("CI") != "true":
    pytest.skip("systemd-analyze is not here", allow_module_level=True)

MOST_EXPOSED = 20
"""Ten times the exposure that a service may have."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for units, and a command that exists."""
    command = tmp_path / "s3-uploader-cli"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(command)])
    return tmp_path


def installed(place: Path, *, kind: str, user: str | None = None, **settings: Any) -> list[Path]:
    """The units of a configuration."""
    spool = place / "a 100% strange: $spool"
    spool.mkdir(exist_ok=True)
    spool.chmod(0o755 if user in (None, getpass.getuser()) else 0o777)
    config_file = place / "my config.json"
    config_file.write_text(json.dumps({"base_dir": str(spool), **settings}))
    where = place / "units"
    where.mkdir(exist_ok=True)
    options = UnitOptions(kind=kind, user=user, install=True, directory=str(where))
    assert units(str(config_file), options) == 0
    return sorted(where.iterdir())


def verify(files: list[Path]) -> None:
    """Let systemd read the units; it must have nothing to say about them."""
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr
    assert "s3-uploader" not in verified.stderr


def judge(service: Path) -> None:
    """Let systemd judge how exposed a service is."""
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", service],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, [*judged.stdout.splitlines()[-1:], judged.stderr]


S3 = {"bucket": "bucket", "max_runtime_seconds": 600}
CASES: dict[str, dict[str, Any]] = {
    "as the owner": S3,
    "as root": {**S3, "user": "root"},
    "as another user": {**S3, "user": "daemon"},
    "to a server of this machine": {**S3, "endpoint_url": "http://127.0.0.1:9000"},
    "to an FTP server": {"destination": {"type": "ftp", "host": "h", "password_file": "/etc/ftp 100%"}},
    "to a directory": {"destination": {"type": "local", "path": "/usr"}},
}


@pytest.mark.parametrize("kind", ["timer", "watch"])
@pytest.mark.parametrize("case", CASES)
def test_systemd_accepts_and_approves(place: Path, kind: str, case: str) -> None:
    """Systemd finds nothing to complain about, however strange the paths, and an exposure of at most 2.0."""
    files = installed(place, kind=kind, **CASES[case])
    verify(files)
    for file in files:
        if file.suffix == ".service":
            judge(file)


def test_systemd_understands_every_name(tmp_path: Path) -> None:
    """Quotes, backslashes, dollars and percent signs in paths are read as they were meant."""
    path = "/srv/a \"b\" \\c $d 100% 'e'"
    service = tmp_path / "s3-uploader.service"
    text = run_service(plan(base_dir=path, source=path, command=("/bin/true",), state_dir=path + "/../state"))
    service.write_text(text)
    verify([service])


@pytest.mark.parametrize("minutes", [1, 5, 60, 120, 1440])
def test_systemd_understands_the_times(tmp_path: Path, minutes: int) -> None:
    """Every period becomes a calendar that systemd knows."""
    (tmp_path / "s3-uploader.timer").write_text(timer(plan(minutes=minutes)))
    (tmp_path / "s3-uploader.service").write_text("[Service]\nExecStart=/bin/true\n")
    verify(sorted(tmp_path.iterdir()))


def test_the_deployed_files_are_what_units_prints() -> None:
    """The files in `deploy/` are those of the example configuration."""
    for path, text in deploy.generated().items():
        assert path.read_text() == text


@pytest.mark.parametrize("name", ["s3-uploader.service", "s3-uploader-watch.service"])
def test_the_deployed_services_are_locked_away(name: str) -> None:
    """Whoever copies the files from `deploy/` gets services with an exposure of at most 2.0."""
    judge(deploy.ROOT / "deploy" / name)
