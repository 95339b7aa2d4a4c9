"""A directory of the spool that becomes a symbolic link while a run is at work: it leads nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.site import Site, contents, entries, settle
from tests.servers.fault_script import run_before_answer, run_before_body
from tests.servers.fault_server import FaultServer

HOUR = "bedroom/2020/11/29/20"
LEVELS = ("bedroom", "bedroom/2020", "bedroom/2020/11", "bedroom/2020/11/29", HOUR)


@pytest.fixture
def outside(site: Site) -> Path:
    """A tree beside the spool that looks exactly like it, with other contents."""
    for minute in range(30):
        path = site.place / "outside" / HOUR / f"{minute:02d}-topic.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"outside")
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return site.place / "outside"


def swap(site: Site, level: str, outside: Path) -> None:
    """Move a directory of the spool away and put a link to its likeness outside in its place."""
    (site.spool / level).rename(site.place / "moved")
    (site.spool / level).symlink_to(outside / level)


@pytest.mark.parametrize("early", [True, False], ids=["before the body", "before the answer"])
@pytest.mark.rotated("level")
@pytest.mark.parametrize("level", LEVELS)
def test_a_swapped_directory_leads_nowhere(
    site: Site, fault_server: FaultServer, outside: Path, level: str, early: bool
) -> None:
    """Whichever directory is swapped during an upload, nothing outside is read or removed, and nothing of ours lost."""
    site.ship_to(fault_server, max_concurrency=4)
    for minute in range(30):
        site.file(f"{HOUR}/{minute:02d}-topic.dat", b"ours %d" % minute)
    before = contents(outside)
    hook = run_before_body if early else run_before_answer
    fault_server.faults.add(hook(lambda: swap(site, level, outside)).only(operations="PutObject"))
    finished = site.run()
    assert "Traceback" not in finished.stderr
    assert contents(outside) == before
    assert b"outside" not in fault_server.objects().values()
    kept = contents(site.place / "moved")
    below = level.count("/") + 1
    for minute in range(30):
        path = f"{HOUR}/{minute:02d}-topic.dat"
        rest = "/".join(path.split("/")[below:])
        content = b"ours %d" % minute
        assert content in (fault_server.objects().get(path), kept.get(rest), site.left().get(path))
    assert (site.spool / level).is_symlink()
    # The next run does not follow it either.
    site.run()
    assert contents(outside) == before
    assert b"outside" not in fault_server.objects().values()


@pytest.mark.rotated("level")
@pytest.mark.parametrize("level", LEVELS)
def test_moved_back_the_rest_is_shipped(site: Site, fault_server: FaultServer, outside: Path, level: str) -> None:
    """When the directory is back in its place, the next run ships what was in it."""
    site.ship_to(fault_server, max_concurrency=4)
    made = {f"{HOUR}/{minute:02d}-topic.dat": b"ours %d" % minute for minute in range(30)}
    for path, content in made.items():
        site.file(path, content)
    fault_server.faults.add(run_before_answer(lambda: swap(site, level, outside)).only(operations="PutObject"))
    site.run()
    (site.spool / level).unlink()
    (site.place / "moved").rename(site.spool / level)
    # What was uploaded and could not be removed waits for a while, unless it is touched.
    for path in site.left():
        settle(site.spool / path, 1800)
    finished = site.run()
    assert finished.code == 0, finished.stderr
    assert fault_server.objects() == made
    assert site.left() == {}
    assert fault_server.replacements == []


def test_the_spool_itself_is_swapped(site: Site, fault_server: FaultServer, outside: Path) -> None:
    """A run works on the directory that it opened, whatever has its name by now."""
    site.ship_to(fault_server)
    site.file(f"{HOUR}/00-topic.dat", b"ours")

    def swap_spool() -> None:
        site.spool.rename(site.place / "moved")
        site.spool.symlink_to(outside)

    before = contents(outside)
    fault_server.faults.add(run_before_answer(swap_spool).only(operations="PutObject"))
    assert site.run().code == 0
    assert contents(outside) == before
    assert contents(site.place / "moved") == {}
    assert fault_server.objects() == {f"{HOUR}/00-topic.dat": b"ours"}
    refused = site.run()
    assert refused.code == 2
    assert "is a symbolic link" in refused.stderr


def test_a_file_becomes_a_link(site: Site, fault_server: FaultServer, outside: Path) -> None:
    """A file that is swapped for a link during its upload: the link stays, and so does what it leads to."""
    site.ship_to(fault_server)
    file = site.file(f"{HOUR}/00-topic.dat", b"ours")
    secret = outside / HOUR / "00-topic.dat"

    def swap_file() -> None:
        file.unlink()
        file.symlink_to(secret)

    fault_server.faults.add(run_before_answer(swap_file).only(operations="PutObject"))
    assert site.run().code == 0
    assert file.is_symlink()
    assert secret.read_bytes() == b"outside"
    assert fault_server.objects() == {f"{HOUR}/00-topic.dat": b"ours"}


def test_pruning_does_not_leave_the_spool(site: Site, fault_server: FaultServer, outside: Path) -> None:
    """Directories outside are not removed either, empty as they may be."""
    site.ship_to(fault_server)
    site.file(f"{HOUR}/00-topic.dat", b"ours")
    for path in (outside / HOUR).iterdir():
        path.unlink()
    before = entries(outside)
    fault_server.faults.add(run_before_answer(lambda: swap(site, "bedroom/2020", outside)).only(operations="PutObject"))
    site.run()
    assert entries(outside) == before
