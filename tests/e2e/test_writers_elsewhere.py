"""Spools whose writers are on the other side of a mount, where the kernel does not see them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.mounts import Mounts, mounting
from tests.e2e.site import Site, contents, settle


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Mounts that are gone after the test."""
    with mounting() as found:
        yield found


@pytest.fixture
def real(site: Site, mounts: Mounts) -> Path:
    """The directory behind the spool, where producers write."""
    behind = site.place / "real"
    behind.mkdir()
    mounts.fuse(behind, site.spool)
    site.settings.update(layout="tree", settle_seconds=1)
    return behind


def test_a_writer_that_pauses(site: Site, real: Path) -> None:
    """A file that was written a moment ago waits for a second run, and one that has changed meanwhile for a third."""
    archive = site.ship_to_directory()
    with (real / "file").open("wb", buffering=0) as writer:
        writer.write(b"first\n")
        time.sleep(1.2)
        assert site.run().code == 0
        writer.write(b"second\n")
        time.sleep(1.2)
        finished = site.run("run", "-v")
        assert finished.code == 0
        assert "does not show writers on other hosts" in finished.stderr
        assert contents(archive) == {}
    time.sleep(1.2)
    finished = site.run()
    assert contents(archive) == {"file": b"first\nsecond\n"}
    assert "open files of other hosts cannot be seen" in finished.stderr
    (real / "next").write_bytes(b"x")
    time.sleep(1.2)
    site.run()
    time.sleep(1.2)
    finished = site.run()
    assert len(contents(archive)) == 2
    assert "cannot be seen" not in finished.stderr, "it is said once"


def test_what_is_said(site: Site, real: Path) -> None:
    """Neither the check nor the status claims that writers are noticed there."""
    site.ship_to_directory()
    checked = site.run("check").stdout
    assert "open files of other hosts cannot be seen" in checked
    assert "is detected" not in checked
    assert "Writers on other hosts are not seen (fuse" in site.run("status").stdout


def test_a_mount_below(site: Site, mounts: Mounts) -> None:
    """The check looks at real files, however deep, and each file waits by what it lies on itself."""
    archive = site.ship_to_directory()
    site.settings["layout"] = "tree"
    behind = site.place / "real"
    behind.mkdir()
    (site.spool / "a").mkdir()
    mounts.fuse(behind, site.spool / "a/below")
    (behind / "deep").mkdir()
    (behind / "deep/file").write_bytes(b"x")
    settle(behind / "deep/file", 30)
    site.file("here")
    assert "a/below/deep/file lies on fuse" in site.run("check").stdout
    assert site.run().code == 0
    assert contents(archive) == {"here": b"a reading\n"}
