"""Spools from which nothing can be removed, or that have no room for it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.mounts import Mounts, disk_image, mounting
from tests.e2e.site import Site, contents, settle
from tests.servers.fault_server import FaultServer


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Mounts that are gone after the test."""
    with mounting() as found:
        yield found


@pytest.fixture
def sent(site: Site, fault_server: FaultServer) -> Site:
    """A spool of the layout tree that goes to the fault server."""
    site.settings["layout"] = "tree"
    site.ship_to(fault_server)
    return site


def bodies(server: FaultServer) -> int:
    """How many uploads have reached the server."""
    return sum(request.method == "PUT" for request in server.requests)


def test_read_only(sent: Site, fault_server: FaultServer, mounts: Mounts, tmp_path: Path) -> None:
    """On a read-only file system nothing is sent, neither by a run nor by the check, and the status names the mount."""
    image = disk_image(tmp_path / "image")
    mounts.image(image, sent.spool)
    sent.file("f1")
    subprocess.run(["mount", "-o", "remount,ro", str(sent.spool)], check=True)
    for _ in range(2):
        finished = sent.run()
        assert finished.code == 2
        assert "read-only" in finished.stderr
    assert "not tried" in sent.run("check").stdout
    assert bodies(fault_server) == 0
    status = sent.run("status").stdout
    assert "Mount it writable" in status
    sent.settings["on_success"] = "keep"
    assert "read-only" not in sent.run().stderr


@pytest.mark.parametrize("kind", ["sticky", "mode", "immutable"])
def test_a_directory(sent: Site, fault_server: FaultServer, kind: str) -> None:
    """What lies in a directory that gives nothing away is not sent, the rest is; the reason is said once."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of other users")
    for number in range(3):
        sent.file(f"stuck/{number}")
    sent.file("free/1")
    sent.spool.chmod(0o777)
    directory = sent.spool / "stuck"
    command: tuple[str, ...] = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for path in (sent.place, sent.home, *sent.place.parents):
        if str(path).startswith("/tmp/pytest") or path == sent.place or path == sent.home:
            path.chmod(0o777)
    (sent.spool / "free").chmod(0o777)
    for path in sent.spool.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    if kind == "immutable":
        command = ()
        if subprocess.run(["chattr", "+i", str(directory)], check=False, capture_output=True).returncode:
            pytest.skip("this file system has no such attribute")
    else:
        directory.chmod(0o1777 if kind == "sticky" else 0o755)
    try:
        finished = sent.run(prefix=command)
        assert finished.code == 1, finished.stderr
        assert finished.stderr.count("it is not uploaded") == 1, finished.stderr
        assert bodies(fault_server) <= 2  # the first to an endpoint is sent twice
        assert sorted(sent.left()) == ["stuck/0", "stuck/1", "stuck/2"]
    finally:
        if kind == "immutable":
            subprocess.run(["chattr", "-i", str(directory)], check=True)


@pytest.mark.parametrize("attribute", ["i", "a"])
def test_a_sealed_spool(sent: Site, fault_server: FaultServer, attribute: str) -> None:
    """The check of a spool that is immutable or append-only names the attribute, and leaves nothing there."""
    sent.file("f1")
    spool = str(sent.spool)
    if (
        os.geteuid() != 0
        or subprocess.run(["chattr", f"+{attribute}", spool], check=False, capture_output=True).returncode
    ):
        pytest.skip("this user cannot set such an attribute here")
    try:
        checked = sent.run("check")
        assert checked.code in (2, 3)
        assert f"(chattr +{attribute})" in checked.stdout
        assert "Remove that attribute." in checked.stdout
        assert os.listdir(spool) == ["f1"]
    finally:
        subprocess.run(["chattr", f"-{attribute}", spool], check=True)


def test_a_file_that_stays_is_sent_once(sent: Site, fault_server: FaultServer) -> None:
    """A file that was shipped and cannot be removed is tried again without being sent again."""
    file = sent.file("f1")
    if os.geteuid() != 0 or subprocess.run(["chattr", "+i", str(file)], check=False, capture_output=True).returncode:
        pytest.skip("this user cannot make a file immutable here")
    try:
        assert "f1 would be uploaded, but cannot be removed: it is immutable (chattr +i)" in sent.run("check").stdout
        finished = sent.run()
        assert "cannot be removed" in finished.stderr
        number = bodies(fault_server)
        ledger = next(sent.home.rglob("ledger.sqlite3"))
        # Its pause is over.
        with sqlite3.connect(ledger) as connection:
            connection.execute("UPDATE failing SET next_try_at = 0")
        finished = sent.run()
        assert "cannot be removed" in finished.stderr
        assert bodies(fault_server) == number
    finally:
        subprocess.run(["chattr", "-i", str(file)], check=True)


def test_full(site: Site, mounts: Mounts, tmp_path: Path) -> None:
    """A spool with no room for one more name is emptied."""
    archive = site.ship_to_directory()
    site.settings["layout"] = "tree"
    image = disk_image(tmp_path / "image", options=("-m", "0", "-b", "1024", "-O", "^has_journal"))
    mounts.image(image, site.spool)
    hour = site.spool / "hour"
    hour.mkdir()
    # Thirteen entries of 72 bytes fill the directory's block: a longer name needs another one.
    for number in range(13):
        (hour / f"{'n' * 58}{number:03d}").write_bytes(b"data %d" % number)
        settle(hour / f"{'n' * 58}{number:03d}")
    number = 0
    try:
        while True:
            (site.spool / f".pad{number}").write_bytes(b"x" * 1024)
            number += 1
    except OSError:
        pass
    finished = site.run()
    assert finished.code == 0, finished.stderr
    assert not list(hour.iterdir()) if hour.exists() else True
    assert len(contents(archive)) == 13
