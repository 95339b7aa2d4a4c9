"""Disks that are not mounted: an empty mount point takes nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.mounts import Mounts, disk_image, mounting
from tests.e2e.site import Site, contents

pytestmark = pytest.mark.rotated("command")


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Mounts that are gone after the test."""
    with mounting() as found:
        yield found


@contextmanager
def stopped_server_of(place: Path) -> Iterator[None]:
    """The program that serves a FUSE mount is stopped meanwhile."""
    commands = {int(entry.name): entry / "cmdline" for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    (server,) = (
        pid
        for pid, command in commands.items()
        if command.exists() and command.read_bytes().split(b"\0")[-2:] == [os.fsencode(place), b""]
    )
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


@pytest.fixture(params=["check", "status"])
def command(request: pytest.FixtureRequest) -> str:
    """Each command that tells of a disk beside the run."""
    return str(request.param)


def refused(site: Site, command: str, sentence: str) -> None:
    """A run and another command say it, and nothing has gone anywhere."""
    finished = site.run()
    assert finished.code == 3
    assert sentence in finished.stderr
    told = site.run(command)
    assert told.code in (2, 3)
    assert sentence in told.stdout


def nothing_is_called_missing(site: Site, sentence: str) -> None:
    """An audit that cannot see the archive says so, and not that everything is missing."""
    audited = site.run("audit", "--set", "max_runtime_seconds=3", timeout=30)
    assert (audited.code, audited.stdout) == (3, "")
    assert sentence in audited.stderr


def test_a_destination(site: Site, mounts: Mounts, tmp_path: Path, command: str) -> None:
    """The archive's disk goes, comes back, and is another one; only the one that was there is used."""
    archive = site.ship_to_directory()
    first, second = (disk_image(tmp_path / name) for name in ("first", "second"))
    mounts.image(first, archive)
    site.file("bedroom/2020/11/29/20/01-a.dat")
    assert site.run().code == 0
    site.file("bedroom/2020/11/29/20/02-b.dat")
    mounts.unmount(archive)
    refused(site, command, "is on the root file system now")
    assert contents(archive) == {}
    assert len(site.left()) == 1
    nothing_is_called_missing(site, "is on the root file system now")
    mounts.image(second, archive)
    refused(site, command, "is on another disk now")
    nothing_is_called_missing(site, "is on another disk now")
    mounts.unmount(archive)
    mounts.image(first, archive)
    assert site.run().code == 0
    assert site.left() == {}
    mounts.unmount(archive)
    mounts.image(second, archive)
    site.file("bedroom/2020/11/29/20/03-c.dat")
    assert site.run("run", "--set", "must_be_mount=false").code == 0
    site.file("bedroom/2020/11/29/20/04-d.dat")
    assert site.run().code == 0


@pytest.mark.parametrize("below", [False, True])
def test_a_spool(site: Site, mounts: Mounts, tmp_path: Path, below: bool, command: str) -> None:
    """What lies under the mount point of the spool is not shipped, and a spool that went with its disk is named."""
    archive = site.ship_to_directory()
    disk = site.spool
    mounts.image(disk_image(tmp_path / "image"), disk)
    if below:
        site.spool = disk / "below"
        site.spool.mkdir()
        site.settings["base_dir"] = str(site.spool)
    site.file("bedroom/2020/11/29/20/01-a.dat")
    assert site.run().code == 0
    mounts.unmount(disk)
    if not below:
        site.file("bedroom/2020/11/29/20/02-hidden.dat")
    refused(site, command, "it was on a file system of its own")
    assert "Waiting: unknown" in site.run("status").stdout
    assert len(contents(archive)) == 1


def test_a_destination_that_does_not_answer(site: Site, mounts: Mounts, tmp_path: Path) -> None:
    """A run ends within its time budget and says so, `status` names the right disk, and nothing is lost."""
    archive = site.ship_to_directory()
    (tmp_path / "below").mkdir()
    mounts.fuse(tmp_path / "below", archive)
    site.file("bedroom/2020/11/29/20/01-a.dat")
    with stopped_server_of(archive):
        finished = site.run("run", "--max-runtime", "2", timeout=30)
        assert finished.code == 3
        assert f"The destination {archive} does not answer" in finished.stderr
        assert f"because the destination {archive} does not answer" in site.run("status", timeout=30).stdout
        nothing_is_called_missing(site, f"The destination {archive} does not answer")
    assert len(site.left()) == 1
    assert site.run().code == 0
    assert len(contents(tmp_path / "below")) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_while_a_destination_does_not_answer(
    site: Site, mounts: Mounts, tmp_path: Path, number: int, code: int
) -> None:
    """A run that is stopped while it waits for a dead mount ends as interrupted, and says what it has waited for."""
    archive = site.ship_to_directory()
    (tmp_path / "below").mkdir()
    mounts.fuse(tmp_path / "below", archive)
    site.file("bedroom/2020/11/29/20/01-a.dat")
    with stopped_server_of(archive):
        running = site.start()
        waits_for_an_answer(running.pid)
        running.send(number)
        finished = running.wait(timeout=30)
        assert finished.code == code
        assert f"The destination {archive} does not answer" in finished.stderr
    assert len(site.left()) == 1
    assert site.run().code == 0


def waits_for_an_answer(pid: int) -> None:
    """Return as soon as a run has begun to ask the directories: the only thing that it does on a second thread."""
    until = time.monotonic() + 30
    while len(os.listdir(f"/proc/{pid}/task")) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("key", ["on_success", "on_failure"])
def test_a_directory_that_no_run_has_made_yet(
    site: Site, mounts: Mounts, tmp_path: Path, key: str, command: str
) -> None:
    """The disk of a ``move_to`` is known before the first file is moved there."""
    disk = mounts.image(disk_image(tmp_path / "image"), tmp_path / "disk")
    archive = site.ship_to_directory()
    site.settings[key] = {"move_to": str(disk / "year" / "aside")}
    site.write_config()
    assert site.run().code == 0
    mounts.unmount(disk)
    site.file("bedroom/2020/11/29/20/01-a.dat")
    refused(site, command, "is on the root file system now")
    assert (contents(archive), contents(disk), len(site.left())) == ({}, {}, 1)


def test_configured(site: Site, mounts: Mounts, tmp_path: Path, command: str) -> None:
    """Where it is asked for, a disk that was never there is missed too."""
    archive = site.ship_to_directory(must_be_mount=True)
    site.file("bedroom/2020/11/29/20/01-a.dat")
    refused(site, command, "is on the root file system")
    mounts.image(disk_image(tmp_path / "image"), archive)
    assert site.run().code == 0


def test_watch(site: Site, mounts: Mounts, tmp_path: Path) -> None:
    """A watch waits while the disk is away, and goes on when it is back."""
    archive = site.ship_to_directory()
    image = disk_image(tmp_path / "image")
    mounts.image(image, archive)
    site.file("bedroom/2020/11/29/20/01-a.dat")
    running = site.start("watch", "--interval", "1")
    running.wait_until(lambda: not site.left(), "the first file was shipped")
    mounts.unmount(archive)
    site.file("bedroom/2020/11/29/20/02-b.dat")
    running.wait_until(lambda: "is on the root file system now" in running.stderr, "it was noticed")
    assert contents(archive) == {}
    mounts.image(image, archive)
    running.wait_until(lambda: not site.left(), "the second file was shipped")
    assert len(contents(archive)) == 2
