"""The quick start, with its commands as printed, where nothing of ours is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.machine import clean_machine, copy_of_the_repository
from tests.e2e.printed import typed
from tests.servers.ceph_rgw import CephServer

PAGE = "docs/quick-start.md"
BUCKET = "my-bucket"
INSTALLATION = ("python3 -m venv venv", "venv/bin/pip install .")
MOST_COMMANDS = 4
INSTALLATION_SECONDS = 900
"""An installation computes for a quarter of a minute; a machine with much other work takes minutes for it."""


def printed_commands(page: str = PAGE) -> list[str]:
    """What the page tells people to type, in its order."""
    return [command.text for command in typed(page)]


def test_the_quick_start_takes_four_commands() -> None:
    """From nothing to the first file in the bucket it is four commands, each on a line of its own."""
    commands = printed_commands()
    of_the_program = [command for command in commands if not command.startswith("install ")]
    assert 0 < len(of_the_program) <= MOST_COMMANDS
    assert len(commands) - len(of_the_program) <= 1  # the file itself
    assert not [command for command in commands if re.search(r"&&|;|\\$", command)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands_of_the_quick_start_work_as_printed(
    tmp_path: Path, ceph_server: CephServer, exhaustive: bool
) -> None:
    """Whoever types the commands in a copy of the repository has his first file in the bucket.

    The quick suite begins where the program is installed, in the environment that whoever runs it has just installed.
    """
    ceph_server.client().create_bucket(Bucket=BUCKET)
    copy = copy_of_the_repository(tmp_path / "s3_uploader")
    environment = clean_machine(tmp_path) | ceph_server.environment()
    told = ""
    to_type = printed_commands()
    assert set(INSTALLATION) < set(to_type)
    if not exhaustive:
        (copy / "venv").symlink_to(sys.prefix)
        to_type = [command for command in to_type if command not in INSTALLATION]
    for command in to_type:
        finished = subprocess.run(
            ["bash", "-c", command],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALLATION_SECONDS,
        )
        assert finished.returncode == 0, f"{command}: {finished.stdout[-2000:]}{finished.stderr[-2000:]}"
        told = finished.stderr
    assert f"INFO - {copy}/spool/first/hostname has been uploaded to my-bucket." in told
    assert re.search(r"INFO - 1 file \(\d+ B\) shipped to my-bucket in ", told)
    endpoint = ceph_server.endpoint.replace(bucket=BUCKET)
    assert endpoint.objects() == {"first/hostname": Path("/etc/hostname").read_bytes()}
    assert not (copy / "spool" / "first" / "hostname").exists()
