"""A copy of the machine that commands may change: what they write lies elsewhere, and goes with the namespaces."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_KEPT_APART = ("etc", "home", "opt", "srv", "usr", "var")
_BOOT = """\
set -e
{overlays}
mount -t tmpfs tmpfs /run
mount -t proc proc /proc
: > "$1"
exec sleep infinity
"""
_START_SECONDS = 20.0


class Machine:
    """Namespaces in which every system directory may be written; needs root.

    :param place: a directory of the real machine for what is written.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def start(self) -> None:
        """Make it, and wait until it is there."""
        self._place.mkdir()
        layers, ready = self._place / "layers", self._place / "ready"
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
             "sh", "-c", _BOOT.format(overlays=overlays(layers)), "boot", ready],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + _START_SECONDS
        while not ready.exists():
            assert self._process.poll() is None, "no namespaces with overlays"
            assert time.monotonic() < until, "the namespaces are not ready in time"
            time.sleep(0.01)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._pid = int(children[0])

    def stop(self) -> None:
        """End it with everything in it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def entrance(self) -> list[str]:
        """What stands before a command that is to run there."""
        return ["nsenter", "--target", str(self._pid), "--mount", "--pid"]


def overlays(layers: Path) -> str:
    """Return the part of a script that has everything below the system's directories written to another one."""
    lines = [f"mkdir -p {shlex.quote(str(layers))}", f"mount -t tmpfs tmpfs {shlex.quote(str(layers))}"]
    for name in _KEPT_APART:
        new, work = (shlex.quote(str(layers / name / each)) for each in ("new", "work"))
        lines.append(f"mkdir -p {new} {work}")
        lines.append(f"mount -t overlay overlay -o lowerdir=/{name},upperdir={new},workdir={work} /{name}")
    return "\n".join(lines)


def at(directory: Path | str, script: str) -> str:
    """Return a script that does its work in a directory; who enters a namespace has left his own."""
    return f"cd {shlex.quote(str(directory))} || exit 99\n{script}"


def copy_of_the_repository(place: Path) -> Path:
    """What the installation needs of it; what was built or installed here before is left out."""
    place.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, place)
    for name in ("docs", "s3_uploader"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def clean_machine(place: Path) -> dict[str, str]:
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
    # Much of an installation's time goes into bytecode, of which a test uses little. PIP_NO_COMPILE=1 would ask for it.
    return {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", "PIP_COMPILE": "0", **kept}
