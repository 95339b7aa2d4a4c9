"""Mounts for tests: a directory by another way, and disks that come and go; only root may have them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


class Mounts:
    """What is mounted here is gone after the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def bind(self, directory: Path, place: Path) -> Path:
        """Let a directory appear at a second place, by the kernel."""
        return self._mount(["mount", "--bind", str(directory), str(place)], place)

    def fuse(self, directory: Path, place: Path) -> Path:
        """Let a directory appear at a second place, by a program: no device and no inode is the same there."""
        return self._mount(["bindfs", str(directory), str(place)], place)

    def overlay(self, directory: Path, place: Path) -> Path:
        """Lay a writable directory over another one: the kernel remembers the names that it has seen below."""
        over, work = place.with_name(f"{place.name}-over"), place.with_name(f"{place.name}-work")
        for each in (over, work):
            each.mkdir()
        options = f"lowerdir={directory},upperdir={over},workdir={work}"
        return self._mount(["mount", "-t", "overlay", "-o", options, "overlay", str(place)], place)

    def image(self, file: Path, place: Path, *options: str) -> Path:
        """Mount a file that holds a file system."""
        return self._mount(["mount", "-o", ",".join(("loop", *options)), str(file), str(place)], place)

    def unmount(self, place: Path) -> None:
        """Take the uppermost mount away."""
        subprocess.run(["umount", "--lazy", str(place)], check=True)

    def _mount(self, command: list[str], place: Path) -> Path:
        if os.geteuid() != 0 or shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is missing, or this user may not mount anything here")
        place.mkdir(exist_ok=True)
        done = subprocess.run(command, check=False, capture_output=True, timeout=20)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.decode(errors='replace').strip()}")
        self._stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=False, capture_output=True)
        return place


def disk_image(file: Path, *, megabytes: int = 8, options: tuple[str, ...] = ()) -> Path:
    """A file with an empty ext4 in it."""
    with file.open("wb") as image:
        image.truncate(megabytes << 20)
    program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        pytest.skip("mkfs.ext4 is missing")
    subprocess.run([program, "-q", "-F", *options, str(file)], check=True)
    return file


@contextmanager
def mounting() -> Iterator[Mounts]:
    """Mounts for a while."""
    with ExitStack() as stack:
        yield Mounts(stack)
