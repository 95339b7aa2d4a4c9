"""Shares of one spool, each shipped by a run of its own: together they ship all of it once, whatever happens to one."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.site import Running, Site, untraced
from tests.servers.fault_script import run_before_answer
from tests.servers.fault_server import FaultServer

FEW_KILLS, KILLS = 5, 120


def start_all(site: Site, count: int, *arguments: str) -> list[Running]:
    """A run of each share, side by side."""
    return [site.start("run", "--share", f"{index}/{count}", "--quiet", *arguments) for index in range(count)]


def made_by(paths: list[Path], site: Site) -> dict[str, bytes]:
    """What producers wrote, by its path below the spool; some of it may be shipped already."""
    names = [str(path.relative_to(site.spool)) for path in paths]
    return {name: f"{name} ".encode().ljust(16, b".") for name in names}


def test_all_shares_ship_everything_once(site: Site, fault_server: FaultServer) -> None:
    """Runs of all shares side by side leave nothing, send nothing twice, and read as one afterwards."""
    site.ship_to(fault_server, metrics_file=str(site.place / "m.prom"))
    fault_server.latency_seconds = 0.002
    made = made_by(site.files(300), site)
    finished = [running.wait() for running in start_all(site, 3)]
    assert [each.code for each in finished] == [0, 0, 0], [each.stderr for each in finished]
    assert [each.stderr for each in finished] == ["", "", ""]
    assert site.left() == {}
    assert not (site.spool / "bedroom/2020").exists(), "what all of them have emptied stays"
    assert fault_server.objects() == made
    assert fault_server.replacements == []
    assert {row["path"] for row in site.history()} == set(made)
    status = site.status()
    assert [each["share"] for each in status["shares"]] == ["0/3", "1/3", "2/3"]
    assert status["totals"]["shipped_files"] == len(made)
    assert status["totals"]["already_there"] == 0
    assert status["verdict"] == "ok"
    audit = site.run("audit", "--deep")
    assert audit.code == 0, audit.stderr
    assert "300 files audited" in audit.stdout
    for index in range(3):
        metrics = (site.place / f"m-share-{index}-of-3.prom").read_text()
        assert f'last_run_exit_code{{spool="{site.spool}",share="{index}/3"}} 0' in metrics


def test_a_share_that_has_not_run_is_missed(site: Site, fault_server: FaultServer) -> None:
    """What only the others have shipped is not told as if it were everything."""
    site.ship_to(fault_server)
    site.files(50)
    assert site.run("run", "--share", "0/2").code == 0
    status = site.status()
    assert status["verdict"] == "attention"
    assert "the share 1/2 has not run so far" in status["sentence"]
    assert sum(row["files"] for row in status["backlog"]) == len(site.left()) > 0
    for command in ("history", "audit"):
        assert "The share 1/2 has no ledger here" in site.run(command).stderr
    assert site.run("run", "--share", "1/2").code == 0
    assert site.left() == {}
    assert site.run("history").stderr.startswith("50 files, ")


def test_shares_that_meet(site: Site, fault_server: FaultServer) -> None:
    """Divisions that do not go together are refused; a run of all files waits for shares, or steps aside."""
    site.ship_to(fault_server)
    made = made_by(site.files(60), site)
    site.settings["max_concurrency"] = 1
    released = threading.Event()
    fault_server.faults.add(run_before_answer(lambda: released.wait(60)).repeated())
    working = site.start("run", "--share", "0/2", "--quiet")
    working.wait_until(lambda: fault_server.requests_of("PutObject"), "the share ships")
    refused = site.run("run", "--share", "1/3", "--quiet")
    assert refused.code == 75, refused.stderr
    assert "The share 1/3 of the spool" in refused.stderr
    assert "share 0/2" in refused.stderr
    aside = site.run("run")
    assert aside.code == 0
    assert "share 0/2" in aside.stderr
    assert site.run("run", "--wait-for-lock", "0.1").code == 75
    assert site.run("run", "--share", "0/2", "--quiet").code == 0
    (holder,) = [each["lock_holder"] for each in site.status()["shares"] if each["lock_holder"]]
    assert f"process {working.pid}" in holder
    whole = site.start("run", "--wait-for-lock", "60", "--quiet")
    released.set()
    assert working.wait().code == 0
    assert whole.wait().code == 0
    assert site.left() == {}
    assert fault_server.objects() == made
    assert fault_server.replacements == []


def test_shares_by_location(site: Site, fault_server: FaultServer) -> None:
    """Two processes ship whole locations each, side by side and nothing twice; a share by path is refused meanwhile."""
    site.ship_to(fault_server, max_concurrency=1)
    made = made_by([site.file(f"device-{n % 20}/2020/11/29/20/{n // 20:02}-topic.dat") for n in range(80)], site)
    fault_server.latency_seconds = 0.05
    working = start_all(site, 2, "--share-by", "location")
    working[0].wait_until(lambda: len(fault_server.objects()) > 4, "both ship")
    refused = site.run("run", "--share", "1/2", "--quiet")
    if any(each.poll() is None for each in working):
        assert refused.code == 75, refused.stderr
        assert "the same share_by" in refused.stderr
    fault_server.latency_seconds = 0.0
    assert [each.wait().code for each in working] == [0, 0], [each.stderr for each in working]
    assert site.left() == {}
    assert set(fault_server.objects()) == set(made)
    assert fault_server.replacements == []
    (place,) = {Path(site.status()["ledger"]).parent}
    owners = [
        {path.split("/")[0] for path in _paths(place / f"share-{index}-of-2" / "ledger.sqlite3")} for index in range(2)
    ]
    assert owners[0] & owners[1] == set()
    assert len(owners[0] | owners[1]) == 20


def _paths(ledger: Path) -> list[str]:
    with closing(sqlite3.connect(ledger)) as connection:
        return [path for (path,) in connection.execute("SELECT path FROM shipped")]


@pytest.mark.parametrize(
    ("arguments", "variables", "left"),
    [
        ((), {"S3_UPLOADER_SHARE": "1/2"}, "0/2"),
        ((), {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}, "0/2"),
        (("--share", "/2"), {"JOB_COMPLETION_INDEX": "1"}, "0/2"),
        (("--share", "/2"), {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "1"}, "0/2"),
        (("--share", "1/2"), {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "7"}, "0/2"),
        (("--share", "0/1"), {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "7"}, ""),
    ],
)
def test_where_a_share_is_given(site: Site, arguments: tuple[str, ...], variables: dict[str, str], left: str) -> None:
    """Schedulers name the share; the command line comes first."""
    site.ship_to_directory()
    made = site.files(40)
    finished = site.run("run", *arguments, environment=variables)
    assert finished.code == 0, finished.stderr
    assert ("because it is a task of a Slurm array" in finished.stderr) is (
        not arguments and "SLURM_ARRAY_TASK_ID" in variables
    )
    assert 0 < len(site.left()) < len(made) if left else site.left() == {}
    if left:
        assert site.run("run", "--share", left).code == 0
        assert site.left() == {}
        assert len(site.history()) == len(made)


def test_a_preview_of_a_share(site: Site) -> None:
    """A dry run of each share tells its own files, and each file once."""
    site.ship_to_directory()
    made = site.files(30)
    told: list[str] = []
    for index in range(2):
        finished = site.run("run", "--share", f"{index}/2", "--dry-run", "--log-format", "json")
        told += [json.loads(line)["path"] for line in finished.stdout.splitlines()]
    assert sorted(told) == sorted(map(str, made))
    task = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
    assert "because it is a task of a Slurm array" in site.run("run", "--dry-run", environment=task).stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_any_instant_beside_others(
    site: Site, fault_server: FaultServer, chance: random.Random, effort: Callable[[int, int], int]
) -> None:
    """Whichever share is killed, and when: nothing is lost or replaced, and the next runs end clean."""
    site.ship_to(fault_server)
    untraced(site)
    made = made_by(site.files(900), site)
    fault_server.latency_seconds = 0.003
    running: list[Running] = []
    for _ in range(effort(FEW_KILLS, KILLS)):
        running = [each for each in running if each.poll() is None]
        running += start_all(site, 3)
        time.sleep(chance.uniform(0.15, 0.6))
        chance.choice(running).kill()
        if len(site.left()) < 100:
            made |= made_by(site.files(300, location=f"room{len(made)}"), site)
    for each in running:
        each.wait()
    fault_server.latency_seconds = 0.0
    for finished in [each.wait() for each in start_all(site, 3)]:
        assert (finished.code, finished.stderr) == (0, "")
    assert site.left() == {}
    assert fault_server.objects() == made
    assert fault_server.replacements == []
    assert {row["path"] for row in site.history()} == set(made)
    audit = site.run("audit")
    assert audit.code == 0, audit.stderr
    assert f"{len(made):,} files audited" in audit.stdout
