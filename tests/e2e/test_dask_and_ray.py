"""What the documentation says of Dask and Ray: their workers ship shares, and bring back what a killed worker left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, Site
from tests.servers import environments
from tests.servers.debian import Unavailable
from tests.servers.fault_server import FaultServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "more-machines.md"
FILES = 160

# Its workers are processes that import the script again.
LOCAL_CLUSTER = """
import sys, threading
from dask.distributed import LocalCluster

if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, local_directory=sys.argv[1]
    )
    print(cluster.scheduler_address, *(worker.pid for worker in cluster.workers.values()), flush=True)
    threading.Event().wait()
"""


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


def python_of(name: str) -> str:
    """The interpreter that has a library, which is installed only when asked for."""
    try:
        return str(environments.installed(name) / "python")
    except Unavailable as missing:
        pytest.skip(str(missing))


@dataclass(frozen=True)
class Cluster:
    """Dask's `LocalCluster`: the address of its scheduler, the processes of its workers, and the interpreter."""

    python: str
    address: str
    workers: list[int]


@pytest.fixture
def local_cluster(slow: Site) -> Cluster:
    """A cluster of two workers in processes of their own."""
    python = python_of("dask")
    script = slow.place / "cluster.py"
    script.write_text(LOCAL_CLUSTER)
    running = slow.start(command=[python, str(script), str(slow.place / "dask")])
    running.wait_until(lambda: running.stdout.endswith("\n"), "the cluster is there", timeout=90)
    address, *workers = running.stdout.split()
    return Cluster(python=python, address=address, workers=[int(worker) for worker in workers])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_dask(slow: Site, fault_server: FaultServer, local_cluster: Cluster) -> None:
    """A worker of Dask is killed among its shares: others ship them, nothing twice, and one audit knows of all."""
    script = slow.place / "ship.py"
    script.write_text(lines("dask", {"tcp://scheduler:8786": local_cluster.address, **places(slow)}))
    shipping = slow.start(command=[local_cluster.python, str(script)])
    shipping.wait_until(lambda: len(fault_server.objects()) > 10, "shares are shipped", timeout=120)
    victim = worker_that_ships(slow)
    assert victim in local_cluster.workers
    os.kill(victim, signal.SIGKILL)
    finished = shipping.wait(200)
    assert finished.code == 0, finished.stderr
    insist_on_all(slow, fault_server)


RAY_STAYS_HERE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without clusters of several machines it listens on 127.0.0.1 only.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@pytest.fixture
def short_directory() -> Iterator[str]:
    """A directory with a short name, as Ray needs one for its sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as place:
        yield place


@pytest.mark.exhaustive
@pytest.mark.slow
def test_ray(slow: Site, fault_server: FaultServer, short_directory: str) -> None:
    """A worker of Ray is killed among its shares: they are shipped by another one, nothing twice."""
    python = python_of("ray")
    script = slow.place / "ship.py"
    start = f"ray.init(num_cpus=2, include_dashboard=False, _temp_dir={short_directory!r})"
    script.write_text(lines("ray", {'ray.init("auto")': start, **places(slow)}))
    shipping = slow.start(command=[python, str(script)], environment=RAY_STAYS_HERE)
    shipping.wait_until(lambda: len(fault_server.objects()) > 10, "shares are shipped", timeout=200)
    os.kill(worker_that_ships(slow), signal.SIGKILL)
    finished = shipping.wait(200)
    assert finished.code == 0, finished.stderr
    insist_on_all(slow, fault_server)


def worker_that_ships(site: Site) -> int:
    """The process of a worker that has started a run of this spool."""
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
    assert f"{FILES:,} files audited" in audit.stdout
