"""What the documentation says of Dask and Ray: their workers ship shares, and bring back what a killed worker left."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, Running, Site
from tests.servers.fault_server import FaultServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "more-machines.md"
FILES = 160


def lines(name: str, replacements: dict[str, str]) -> str:
    """The lines of the page for a library, with the places of this machine in them."""
    (block,) = [each for each in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if name in each]
    for old, new in replacements.items():
        assert old in block
        block = block.replace(old, new)
    return str(block)


def places(site: Site) -> dict[str, str]:
    """What the lines name, and what it is here."""
    site.write_config()
    return {"s3-uploader-cli": str(COMMAND), "/etc/s3-uploader/config.json": str(site.config_file)}


@pytest.fixture
def slow(site: Site, fault_server: FaultServer) -> Site:
    """A spool that takes some seconds to ship."""
    site.ship_to(fault_server, max_concurrency=1, state_dir=str(site.place / "state"))
    fault_server.latency_seconds = 0.05
    site.files(FILES)
    return site


@pytest.fixture
def scheduler(slow: Site) -> tuple[str, list[Running]]:
    """A scheduler of Dask with two workers: its address, and these."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("Dask is not here")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    one = slow.start(command=[*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"])
    one.wait_until(lambda: "Scheduler at" in one.stderr, "the scheduler is there", timeout=90)
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
    options += ["--local-directory", str(slow.place)]
    workers = [slow.start(command=[*dask, "worker", address, *options]) for _ in range(2)]
    for each in workers:
        each.wait_until(lambda each=each: "Registered to" in each.stderr, "a worker is there", timeout=90)  # type: ignore[misc]
    return address, workers


@pytest.mark.exhaustive
@pytest.mark.slow
def test_dask(slow: Site, fault_server: FaultServer, scheduler: tuple[str, list[Running]]) -> None:
    """A worker of Dask is killed among its shares: the others ship all, nothing twice, and one audit knows of all."""
    address, workers = scheduler
    script = slow.place / "ship.py"
    script.write_text(lines("dask", {"tcp://scheduler:8786": address, **places(slow)}))
    shipping = slow.start(command=[sys.executable, str(script)])
    shipping.wait_until(lambda: len(fault_server.objects()) > 10, "shares are shipped", timeout=120)
    workers[0].kill()
    finished = shipping.wait(200)
    assert finished.code == 0, finished.stderr
    insist_on_all(slow, fault_server)


@pytest.fixture
def short_directory() -> Iterator[str]:
    """A directory with a short name, as Ray needs one for its sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as place:
        yield place


@pytest.mark.exhaustive
@pytest.mark.slow
def test_ray(slow: Site, fault_server: FaultServer, short_directory: str) -> None:
    """A worker of Ray is killed among its shares: they are shipped by another one, nothing twice."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not here")
    script = slow.place / "ship.py"
    start = f"ray.init(num_cpus=2, include_dashboard=False, _temp_dir={short_directory!r})"
    script.write_text(lines("ray", {'ray.init("auto")': start, **places(slow)}))
    shipping = slow.start(command=[sys.executable, str(script)])
    shipping.wait_until(lambda: len(fault_server.objects()) > 10, "shares are shipped", timeout=200)
    os.kill(worker_that_ships(slow), signal.SIGKILL)
    finished = shipping.wait(200)
    assert finished.code == 0, finished.stderr
    insist_on_all(slow, fault_server)


def worker_that_ships(site: Site) -> int:
    """The process that has started a run of this spool; Ray's have no parent in common with this one."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        listed = subprocess.run(["ps", "-wweo", "ppid=,args="], capture_output=True, text=True, check=True).stdout
        for row in listed.splitlines():
            parent, _, words = row.strip().partition(" ")
            if "--share" in words and str(site.config_file) in words:
                return int(parent)
        time.sleep(0.02)
    raise AssertionError("no run was found")


def insist_on_all(site: Site, server: FaultServer) -> None:
    """Every file is at the destination, once, and in the ledgers."""
    # A run whose worker was killed goes on by itself; what it has shipped is no other's then.
    until = time.monotonic() + 60
    while site.left() and time.monotonic() < until:
        time.sleep(0.05)
    assert site.left() == {}
    assert len(server.objects()) == FILES
    assert server.replacements == []
    audit = site.run("audit")
    assert audit.code == 0, audit.stderr
    assert f"{FILES} files audited" in audit.stdout
