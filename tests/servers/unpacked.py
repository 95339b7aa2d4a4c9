"""Debian packages that should not be set up on this machine, unpacked into the cache instead of installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.servers.debian import Unavailable
from tests.servers.environments import cache_directory

UNPACKED = {
    "pure-ftpd": ("pure-ftpd", "pure-ftpd-common"),
    "vsftpd": ("vsftpd",),
    "slurm": (
        "slurmctld",
        "slurmd",
        "slurm-client",
        "slurm-wlm-basic-plugins",
        "munge",
        # What a minimal Debian lacks of their dependencies.
        "libmunge2",
        "libhwloc15",
        "libnuma1",
    ),
}
"""Packages that exclude one another or what is installed, and daemons of a whole cluster: nothing of them is set up."""


def program(name: str, path_in_package: str) -> Path:
    """Return a program of an unpacked package; raise `Unavailable` if it is not there."""
    path = cache_directory() / f"debian-{name}" / path_in_package
    if not path.exists():
        raise Unavailable(f"{name}: not unpacked; python -m tests.servers install fetches it where apt-get can")
    return path


def unpack(name: str) -> Path:
    """Fetch the packages of one name and unpack them into the cache, unless they are there.

    Raises `Unavailable` when apt-get is not there or fails.
    """
    place = cache_directory() / f"debian-{name}"
    if place.exists():
        return place
    partial = Path(tempfile.mkdtemp(dir=cache_directory()))
    try:
        _call(["apt-get", "--quiet=2", "download", *UNPACKED[name]], partial)
        for package in sorted(partial.glob("*.deb")):
            _call(["dpkg", "-x", package.name, "unpacked"], partial)
        # Another process may have been quicker.
        with suppress(OSError):
            (partial / "unpacked").rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def _call(command: list[str], directory: Path) -> None:
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{' '.join(command[:3])} failed: {error}") from None
