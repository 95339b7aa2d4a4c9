"""``audit`` with many files: its memory does not grow with them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3_uploader import config
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.state_directory import ledger_path
from tests.e2e.site import Finished, Site
from tests.ledger_values import shipped
from tests.servers.fault_objects import StoredObject
from tests.servers.fault_server import FaultServer
from tests.servers.fault_wire import Answer, Request

FEW, SOME, MANY = 1_000, 15_000, 100_000
MEGABYTE = 1e6


def keys(count: int) -> list[str]:
    """So many keys of ten locations."""
    return [
        f"location-{number % 10}/2026/{number // 28_000 + 1:02d}/{number // 1000 % 28 + 1:02d}/{number % 1000:03d}.dat"
        for number in range(count)
    ]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A machine with the command."""
    made = Site(tmp_path)
    yield made
    made.end()


def fill(site: Site, server: FaultServer, count: int) -> list[str]:
    """So many objects, and a ledger that knows them, in no order."""
    site.ship_to(server)
    site.write_config()
    path = ledger_path(config.load(str(site.config_file)), environ=site.environment)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    names = keys(count)
    assert len(set(names)) == count
    etags = {name: hashlib.md5(name.encode()).hexdigest() for name in names}
    now = time.time()
    bucket = server.store.buckets[server.bucket]
    for name in names:
        bucket[name] = StoredObject(
            body=b"12345", etag=etags[name], headers={}, checksums={}, checksum_type="", version_id=None, modified=now
        )
    shuffled = list(names)
    random.Random(1).shuffle(shuffled)
    with Ledger.open(path) as ledger:
        for begin in range(0, count, 10_000):
            ledger.commit_batch(
                shipped=[
                    shipped(name, destination=server.bucket, size=5, etag=etags[name], version_id="", shipped_at=now)
                    for name in shuffled[begin : begin + 10_000]
                ]
            )
    return names


LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))
sys.exit(code)
"""
"""Starts a program from a small process: what a large one has in memory when it forks counts as the child's, too."""


def summary_of(finished: Finished) -> dict[str, int]:
    """The last line."""
    answer: dict[str, int] = json.loads(finished.stdout.splitlines()[-1])
    return answer


@pytest.mark.slow
def test_memory_does_not_grow(site: Site, tmp_path: Path, effort: Callable[[int, int], int]) -> None:
    """Many times as many files take a few megabytes more: no list of them is ever made."""
    peaks = {}
    many = effort(SOME, MANY)
    for count in (FEW, many):
        with FaultServer(small_buffers=False) as server:
            names = fill(site, server, count)
            del server.store.buckets[server.bucket][names[count // 2]]
            peak = tmp_path / "peak"
            finished = site.run("audit", "--json", prefix=(sys.executable, "-c", LAUNCHER, str(peak)))
            assert finished.code == 1, finished.stderr
            summary = summary_of(finished)
            assert (summary["keys"], summary["same_content"], summary["problems"]) == (count, count - 1, 1)
            assert server.counts()["ListObjectsV2"] <= count / 1000 + 1
            peaks[count] = int(peak.read_text())
    assert peaks[many] - peaks[FEW] < 16 * MEGABYTE, peaks
    assert peaks[many] < 100 * MEGABYTE, peaks


def with_listing(server: FaultServer, change: Callable[[Request], None], answer: Callable[[bytes], bytes]) -> None:
    """Let the server list in another way."""
    list_objects = server.store._operations["ListObjectsV2"]

    def changed(request: Request, body: bytes) -> Answer:
        change(request)
        answered = list_objects(request, body)
        answered.body = answer(answered.body)
        return answered

    server.store._operations["ListObjectsV2"] = changed


def test_a_server_that_always_begins_at_the_beginning(site: Site) -> None:
    """Where nothing can be jumped over, since the server ignores start-after, everything is found all the same."""
    with FaultServer(small_buffers=False) as server:
        names = fill(site, server, 6_000)
        with_listing(server, lambda request: request.query.update({"start-after": ""}), lambda body: body)
        finished = site.run("audit", "--json", "--match", "*/05/*.dat")
        summary = summary_of(finished)
        assert summary["same_content"] == len([name for name in names if "/05/" in name])
        assert (summary["looks"], server.counts()["ListObjectsV2"]) == (0, 6)


def test_a_server_that_lists_in_no_order(site: Site) -> None:
    """Where each page is upside down, everything is found all the same, and it is said."""
    element = re.compile(rb"(<Contents>.*</Contents>)", re.DOTALL)
    one = re.compile(rb"<Contents>.*?</Contents>")
    with FaultServer(small_buffers=False) as server:
        names = fill(site, server, 3_000)
        missing = sorted(names)[1500]
        del server.store.buckets[server.bucket][missing]
        with_listing(
            server,
            lambda request: None,
            lambda body: element.sub(lambda found: b"".join(reversed(one.findall(found[1]))), body),
        )
        finished = site.run("audit", "--json")
        assert [json.loads(line)["key"] for line in finished.stdout.splitlines()[:-1]] == [missing]
        assert "in no order" in finished.stderr


def test_what_is_not_wanted_is_jumped_over(site: Site) -> None:
    """A few keys among many cost a few pages of the listing, and never one is lost by that."""
    with FaultServer(small_buffers=False) as server:
        names = fill(site, server, 8_000)
        wanted = [name for name in names if name.endswith("/01/777.dat")] + names[:1]
        assert len(wanted) == 2
        finished = site.run("audit", "--json", "--match", "*/01/777.dat")
        assert summary_of(finished)["same_content"] == 1
        assert server.counts()["ListObjectsV2"] <= 3
        finished = site.run("audit", "--json", "--match", "*77.dat")
        assert summary_of(finished)["same_content"] == len([name for name in names if name.endswith("77.dat")])


def test_a_page_that_is_no_listing(site: Site, tmp_path: Path) -> None:
    """A page of millions of empty elements takes little more memory than its bytes with either engine."""
    for engine in ("native", "boto3"):
        with FaultServer(small_buffers=False) as server:
            fill(site, server, 10)
            with_listing(server, lambda request: None, lambda body: b"<a>" * 2_000_000)
            peak = tmp_path / "peak"
            prefix = (sys.executable, "-c", LAUNCHER, str(peak))
            finished = site.run("audit", "--set", f"engine={engine}", prefix=prefix)
            assert finished.code == 3
            assert "is not a list of objects" in finished.stderr
            assert int(peak.read_text()) < 150 * MEGABYTE
