"""The files in `deploy/` are ones that their programs accept."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


SERVICES = ["s3-uploader.service", "s3-uploader-watch.service"]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a command and a user that this machine has."""
    for name in SERVICES:
        service = (DEPLOY / name).read_text()
        service = re.sub("^ExecStart=.*$", "ExecStart=/bin/true", service, flags=re.MULTILINE)
        service = re.sub("^User=.*$", "User=daemon", service, flags=re.MULTILINE)
        (tmp_path / name).write_text(service)
    shutil.copy(DEPLOY / "s3-uploader.timer", tmp_path)
    return tmp_path


@systemd_analyze
def test_systemd_accepts_the_units(units: Path) -> None:
    """Systemd finds nothing to complain about in the services and the timer."""
    verified = subprocess.run(
        ["systemd-analyze", "verify", *sorted(units.iterdir())],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stderr
    assert "s3-uploader" not in verified.stderr


@systemd_analyze
@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_locked_away(units: Path, name: str) -> None:
    """Systemd's own judgement of a service's exposure is at most 2.0."""
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", units / name],
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, [*judged.stdout.splitlines()[-1:], judged.stderr]
