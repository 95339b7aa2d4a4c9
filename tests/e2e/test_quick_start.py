"""The quick start, and the page for small machines, with their commands as printed, where nothing of ours is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.ceph_rgw import CephServer
from tests.servers.namespaces import need_namespaces

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "quick-start.md"
BUCKET = "my-bucket"
MOST_COMMANDS = 5


PI = ROOT / "docs" / "how-to" / "raspberry-pi.md"
IN_PLACES_OF_ITS_OWN = """\
set -e
mkdir -p /opt/s3-uploader "$1/opt" "$1/local"
cp -a /usr/local/bin/. "$1/local"
mount --bind "$1/opt" /opt/s3-uploader
mount --bind "$1/local" /usr/local/bin
cd "$2"
exec sh -exc "$3"
"""
"""Lets an installation write into directories of this machine, and nobody else notices."""


def printed_commands(page: Path = PAGE) -> list[str]:
    """What the page tells people to type, in its order."""
    blocks = re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def test_the_quick_start_takes_five_commands() -> None:
    """From nothing to the first file in the bucket it is five commands, each on a line of its own."""
    commands = printed_commands()
    assert 0 < len(commands) <= MOST_COMMANDS
    assert not [command for command in commands if re.search(r"&&|;|\\$", command)]


@pytest.mark.slow
def test_the_commands_of_the_quick_start_work_as_printed(tmp_path: Path, ceph_server: CephServer) -> None:
    """Whoever types the commands in a copy of the repository has his first file in the bucket."""
    ceph_server.client().create_bucket(Bucket=BUCKET)
    copy = _copy_of_the_repository(tmp_path / "s3_uploader")
    environment = _clean_machine(tmp_path) | ceph_server.environment()
    told = ""
    for command in printed_commands():
        finished = subprocess.run(
            ["bash", "-c", command], cwd=copy, env=environment, capture_output=True, text=True, timeout=240
        )
        assert finished.returncode == 0, f"{command}: {finished.stdout[-2000:]}{finished.stderr[-2000:]}"
        told = finished.stderr
    assert "INFO - spool/first/hostname has been uploaded to my-bucket." in told
    endpoint = ceph_server.endpoint.replace(bucket=BUCKET)
    assert endpoint.objects() == {"first/hostname": Path("/etc/hostname").read_bytes()}
    assert not (copy / "spool" / "first" / "hostname").exists()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_commands_of_the_page_for_small_machines_work_as_printed(tmp_path: Path) -> None:
    """Whoever types them, as a user that may become root, has the command where everybody finds it."""
    need_namespaces()
    copy = _copy_of_the_repository(tmp_path / "s3_uploader")
    environment = _clean_machine(tmp_path)
    for name, script in (("sudo", 'exec "$@"'), ("apt", 'test "$*" = "install python3-venv"')):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    was_there = Path("/opt/s3-uploader").exists()
    script = "\n".join([*printed_commands(PI), "/usr/local/bin/s3-uploader-cli --version"])
    try:
        finished = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_PLACES_OF_ITS_OWN, "sh", str(tmp_path),
             str(copy), script],
            env={**environment, "PATH": f"{environment['PATH']}:/usr/sbin:/sbin"},
            capture_output=True,
            text=True,
            timeout=280,
        )  # fmt: skip
    finally:
        if not was_there:
            Path("/opt/s3-uploader").rmdir()
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    assert finished.stdout.splitlines()[-1].startswith("s3-uploader-cli, version ")


def _copy_of_the_repository(place: Path) -> Path:
    """What the installation needs of it; what was built or installed here before is left out."""
    place.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    for name in ("docs", "s3_uploader"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def _clean_machine(place: Path) -> dict[str, str]:
    """An environment with the interpreter that runs the tests as ``python3``; pip's own settings are the machine's."""
    programs = place / "bin"
    programs.mkdir()
    python = programs / "python3"
    # A script instead of a link: from a link an interpreter may not find its library.
    python.write_text(f'#!/bin/sh\nexec "{Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name}" "$@"\n')
    python.chmod(0o755)
    home = place / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", **kept}
