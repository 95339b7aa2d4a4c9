"""Slurm's own daemons run the array of shares that `deploy/` ships, and bring back what was requeued or died."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, Site, untraced
from tests.servers.debian import Unavailable
from tests.servers.fault_server import FaultServer
from tests.servers.namespaces import need_namespaces
from tests.servers.slurm import NODES, Slurm, Task

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "slurm" / "s3-uploader-array.sh"
SHARES = 8
FILES = 400
FINAL_ERRORS = {"BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT"}
"""What a task is not started anew after."""


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    """A cluster of three nodes."""
    need_namespaces()
    server = Slurm()
    try:
        server.start()
    except Unavailable as missing:
        pytest.skip(str(missing))
    yield server
    server.stop()


def wait_for(holds: Callable[[list[Task]], object], what: str, slurm: Slurm, job: str, *, seconds: float) -> None:
    """Wait until something holds of an array's tasks; that one ends badly is an error at once."""
    until = time.monotonic() + seconds
    while not holds(tasks := slurm.tasks(job)):
        assert not [task for task in tasks if task.state in FINAL_ERRORS], tasks
        assert time.monotonic() < until, f"{what}: not within {seconds:g} s; {tasks}"
        time.sleep(0.2)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_array_of_shares(site: Site, fault_server: FaultServer, slurm: Slurm) -> None:
    """One task is requeued and one node dies: every file is shipped, none replaced, and one audit knows of all."""
    site.ship_to(fault_server, max_concurrency=1, state_dir=str(site.place / "state"))
    untraced(site)
    made = {str(path.relative_to(site.spool)): path.read_bytes() for path in site.files(FILES)}
    site.write_config()
    variables = {**site.environment, "PATH": f"{COMMAND.parent}:{site.environment['PATH']}"}
    # As long as this lasts no share ends by itself.
    fault_server.latency_seconds = 2.0
    job = slurm.submit(SCRIPT, site.config_file, directory=site.home, environment=variables)

    wait_for(
        lambda tasks: len(running(tasks)) == 6 and len(fault_server.objects()) >= 12,
        "all nodes ship",
        slurm,
        job,
        seconds=90,
    )
    requeued, dead = running(slurm.tasks(job))[0], NODES[1]
    assert requeued.node != dead
    slurm.requeue(job, requeued.index)
    died = [task for task in running(slurm.tasks(job)) if task.node == dead]
    assert len(died) == 2
    slurm.kill_node(dead)
    assert site.left(), "all was shipped before anything happened"
    fault_server.latency_seconds = 0.01

    wait_for(lambda tasks: all(task.state == "COMPLETED" for task in tasks), "all have ended", slurm, job, seconds=200)
    ended = slurm.tasks(job)
    assert [task.index for task in ended] == list(range(SHARES))
    struck = {task.index for task in [requeued, *died]}
    assert {task.index for task in ended if task.restarts} == struck, (requeued, died, ended)
    assert dead not in {task.node for task in ended if task.index in struck}
    printed = "".join(path.read_text() for path in site.home.glob("slurm-*.out"))
    insist_on_all(site, fault_server, made, killed=len(died), printed=printed)


def running(tasks: list[Task]) -> list[Task]:
    """Those that are at work."""
    return [task for task in tasks if task.state == "RUNNING"]


def insist_on_all(site: Site, server: FaultServer, made: dict[str, bytes], *, killed: int, printed: str) -> None:
    """Every file is an object, unchanged, sent once and in one ledger; only what was killed in flight is sent again."""
    assert site.left() == {}, printed
    assert server.objects() == made
    assert server.replacements == []
    again = {key for key, count in Counter(each.key for each in server.requests_of("PutObject")).items() if count > 1}
    # With its first file each share tries whether the server refuses a name that is taken. A task that is killed may
    # have one file under way, and another one that is recorded and not yet removed.
    assert len(again) <= SHARES + 2 * killed, again
    rows = Counter(row["path"] for row in site.history())
    assert set(rows) == set(made)
    assert {path for path, count in rows.items() if count > 1} <= again
    status = site.status()
    assert [each["share"] for each in status["shares"]] == [f"{index}/{SHARES}" for index in range(SHARES)]
    assert status["verdict"] == "ok", status
    audit = site.run("audit", "--deep")
    assert audit.code == 0, audit.stderr
    assert f"{FILES:,} files audited" in audit.stdout
    assert "Traceback" not in printed
