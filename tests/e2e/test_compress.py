"""Files that are compressed on their way, with the installed command."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.site import Running, Site, settle
from tests.servers.fault_script import run_before_answer
from tests.servers.fault_server import FaultServer

NAME = "bedroom/2020/11/29/20/46-topic.dat"
CONTENT = b"20:46 21.5 C\n" * 5000


def test_files_arrive_compressed_and_are_removed(site: Site, fault_server: FaultServer) -> None:
    """What is compressed is as safe as what is not: proven, recorded with both sizes, removed."""
    site.ship_to(fault_server, compress="gzip", layout="tree")
    site.file(NAME, CONTENT)
    site.file("bedroom/2020/11/29/20/47-picture.jpg", b"a picture")
    assert site.run().code == 0
    assert site.left() == {}
    objects = fault_server.objects()
    assert gzip.decompress(objects.pop(f"{NAME}.gz")) == CONTENT
    assert objects == {"bedroom/2020/11/29/20/47-picture.jpg": b"a picture"}
    assert sorted(row["size"] for row in site.history()) == [9, len(CONTENT)]


@pytest.mark.parametrize("size", [len(CONTENT), 3 * 2**20])
def test_a_run_that_is_killed_leaves_nothing_to_repair(site: Site, fault_server: FaultServer, size: int) -> None:
    """After SIGKILL in the middle of it the next run ships the file, and no compressed copy lies about."""
    site.ship_to(fault_server, compress="gzip", state_dir=str(site.place / "state"))
    content = (CONTENT * (size // len(CONTENT) + 1))[:size]
    site.file(NAME, content)
    started: list[Running] = []
    fault_server.faults.add(run_before_answer(lambda: started[0].send(signal.SIGKILL)).only(operations="PutObject"))
    started.append(site.start("run"))
    assert started[0].wait().code == -signal.SIGKILL
    assert site.run().code == 0
    assert gzip.decompress(fault_server.objects()[f"{NAME}.gz"]) == content
    left = {path.name.partition(".")[0] for path in Path(site.settings["state_dir"]).rglob("*") if path.is_file()}
    assert left <= {"ledger", "lock", "mounts", "reserve", "run"}


def test_a_file_that_changes_while_it_is_sent_stays(site: Site, fault_server: FaultServer) -> None:
    """The local file is looked at as always, although other bytes are sent."""
    site.ship_to(fault_server, compress="gzip", settle_seconds=0)
    path = site.file(NAME, CONTENT)
    changed = b"other" * 1000

    fault_server.faults.add(run_before_answer(lambda: path.write_bytes(changed)).only(operations="PutObject"))
    site.run()
    assert path.read_bytes() == changed
    settle(path)
    assert site.run().code == 0
    assert gzip.decompress(fault_server.objects()[f"{NAME}.gz"]) == changed


def test_a_signal_ends_it(site: Site, fault_server: FaultServer) -> None:
    """A stop while a large file is compressed is heard."""
    site.ship_to(fault_server, compress={"format": "gzip", "level": 9}, drain_seconds=0, layout="tree")
    large = site.spool / "large.bin"
    with large.open("wb") as file:
        file.truncate(3 * 2**30)
    settle(large)
    running = site.start("run", "-v")
    running.wait_until(lambda: "Uploading" in running.stderr, "it began")
    running.send(signal.SIGTERM)
    assert running.wait(20).code == 143
    assert large.exists()
    assert json.dumps(fault_server.objects().get("large.bin.gz")) == "null"
