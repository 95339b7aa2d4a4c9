"""``watch`` of a directory of configurations: a process for each spool, and nothing that one does to the others."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.config_directory import Directory, put
from tests.e2e.site import COMMAND, Running, Site
from tests.servers.dialects import UNCONDITIONAL
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import MakeFaultServer
from tests.servers.process import wait_until


class Spools(Directory):
    """A directory of configurations that is watched."""

    def put(self, name: str, file: str = "a.dat") -> None:
        """A file that is ready to be shipped."""
        put(self.site.place / name, file)

    def watch(self, *arguments: str) -> Running:
        """Watch all of them."""
        return self.start("watch", "--interval", "0.3", *arguments)


@pytest.fixture
def spools(site: Site) -> Spools:
    """No spool yet."""
    return Spools(site)


def processes_below(pid: int) -> dict[str, int]:
    """The processes that another one has started, by their short names."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            name, _, rest = (entry / "stat").read_text().rpartition(")")
            if rest.split()[1] == str(pid) and rest.split()[0] != "Z":
                found[name.partition("(")[2]] = int(entry.name)
    return found


def is_there(pid: int) -> bool:
    """Whether a process lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_each_spool_is_watched_whatever_is_wrong_with_others(spools: Spools) -> None:
    """A configuration that is broken, two of one spool and a spool that is missing are told; the rest is shipped."""
    for name in ("attic", "kitchen"):
        spools.add(name)
        spools.put(name)
    spools.add("cellar").rmdir()
    (spools.path / "broken.json").write_text("{")
    spools.add("twin", base_dir=str(spools.site.place / "sibling"))
    spools.add("sibling")
    running = spools.watch()
    running.wait_until(lambda: spools.archived("attic") and spools.archived("kitchen"), "both are shipped")
    spools.put("attic", "b.dat")
    running.wait_until(lambda: "b.dat" in spools.archived("attic"), "a later file is shipped")
    running.wait_until(lambda: "cellar.json: base_dir" in running.stderr, "the missing spool is told")
    assert "broken.json: 1 problem" in running.stderr
    assert "sibling.json and twin.json have the same" in running.stderr
    assert "attic.json: 1 file (10 B) shipped" in running.stderr
    (spools.site.place / "cellar").mkdir()
    spools.put("cellar")
    running.wait_until(lambda: spools.archived("cellar"), "the spool that is there now")
    running.send(signal.SIGTERM)
    assert running.wait(10).code == 143


def test_what_a_server_cannot_do_is_told_once_for_all_spools(
    spools: Spools, make_fault_server: MakeFaultServer
) -> None:
    """Spools that ship to one server report a limit of it once, though each has a process of its own."""
    server = make_fault_server(dialect=UNCONDITIONAL)
    names = [f"spool-{number}" for number in range(4)]
    for name in names:
        spools.add(name, destination={"type": "s3", "bucket": server.endpoint.bucket}, key_prefix=f"{name}/")
        spools.put(name)
    spools.site.environment.update(server.environment())
    running = spools.watch()
    running.wait_until(lambda: len(server.endpoint.keys()) == len(names), "all are shipped")
    running.wait_until(lambda: running.stderr.count("1 file (10 B) shipped") == len(names), "all have told it")
    running.send(signal.SIGTERM)
    running.wait(10)
    assert running.stderr.count("conditional writes") == 1, running.stderr


def test_configurations_come_are_mended_and_go(spools: Spools) -> None:
    """A mended file is watched by itself; SIGHUP has new ones watched, and those no more whose files are gone."""
    for name in ("attic", "kitchen", "cellar"):
        spools.add(name)
    spools.add("kitchen", layout="treee")
    running = spools.watch()
    running.wait_until(lambda: "kitchen.json: 1 problem" in running.stderr, "the refusal")
    spools.add("kitchen")
    spools.put("kitchen")
    running.wait_until(lambda: spools.archived("kitchen"), "the mended one is watched")
    (spools.path / "cellar.json").unlink()
    spools.add("garage")
    spools.put("garage")
    running.send(signal.SIGHUP)
    running.wait_until(lambda: spools.archived("garage"), "the new one is watched")
    running.wait_until(lambda: "cellar.json" not in processes_below(running.pid), "the old one is left")
    assert sorted(processes_below(running.pid)) == ["attic.json", "garage.json", "kitchen.json"]
    assert running.stderr.count("The configuration has been reloaded.") >= 2
    running.send(signal.SIGINT)
    assert running.wait(10).code == 130


def test_a_configuration_that_is_back_is_watched_again(spools: Spools) -> None:
    """One whose file is back before its process has stopped is watched by a new process when that is gone."""
    for name in ("attic", "cellar"):
        spools.add(name)
    running = spools.watch()
    running.wait_until(lambda: {"attic.json", "cellar.json"} == set(processes_below(running.pid)), "both")
    old = processes_below(running.pid)["cellar.json"]
    os.kill(old, signal.SIGSTOP)
    (spools.path / "cellar.json").unlink()
    running.send(signal.SIGHUP)
    running.wait_until(lambda: "cellar.json does not exist any more" in running.stderr, "the old one is to stop")
    spools.add("cellar")
    running.send(signal.SIGHUP)
    running.wait_until(lambda: running.stderr.count("All configurations are reloaded.") == 2, "the second look")
    os.kill(old, signal.SIGCONT)
    spools.put("cellar")
    running.wait_until(lambda: spools.archived("cellar"), "a new process")
    running.wait_until(lambda: processes_below(running.pid).get("cellar.json") not in (None, old), "the new process")
    running.send(signal.SIGTERM)
    assert running.wait(10).code == 143


def test_a_process_that_dies_is_started_anew(spools: Spools) -> None:
    """A crash costs one spool a second, and the others nothing."""
    for name in ("attic", "kitchen"):
        spools.add(name)
    running = spools.watch()
    running.wait_until(lambda: len(processes_below(running.pid)) == 2, "both are watched")
    before = processes_below(running.pid)
    os.kill(before["attic.json"], signal.SIGKILL)
    spools.put("attic")
    running.wait_until(lambda: spools.archived("attic"), "it is watched again")
    assert "attic.json: the process that watches this spool was killed by signal 9" in running.stderr
    assert processes_below(running.pid)["kitchen.json"] == before["kitchen.json"]
    running.send(signal.SIGTERM)
    assert running.wait(10).code == 143


def test_a_process_that_does_not_answer_does_not_hold_up_the_end(spools: Spools) -> None:
    """A stop waits for drain_seconds and a little more, not for a spool whose disk does not answer."""
    for name in ("attic", "kitchen"):
        spools.add(name, drain_seconds=1)
        spools.put(name)
    running = spools.watch()
    running.wait_until(lambda: spools.archived("attic") and spools.archived("kitchen"), "both are watched")
    stopped = processes_below(running.pid)["attic.json"]
    os.kill(stopped, signal.SIGSTOP)
    spools.put("kitchen", "b.dat")
    running.wait_until(lambda: "b.dat" in spools.archived("kitchen"), "the other one goes on")
    began = time.monotonic()
    running.send(signal.SIGTERM)
    assert running.wait(20).code == 143
    assert time.monotonic() - began < 12
    wait_until(lambda: not is_there(stopped), what="it was killed")


def test_no_process_outlives_the_one_above(spools: Spools) -> None:
    """Where the process above is killed, the others stop by themselves."""
    for name in ("attic", "kitchen"):
        spools.add(name)
    running = spools.watch()
    running.wait_until(lambda: len(processes_below(running.pid)) == 2, "both are watched")
    pids = list(processes_below(running.pid).values())
    running.kill()
    wait_until(lambda: not any(map(is_there, pids)), what="they ended")


def test_a_signal_to_all_processes_lets_uploads_end(spools: Spools, fault_server: FaultServer) -> None:
    """A service is stopped by systemd with a signal to each of its processes; an upload under way ends all the same."""
    spools.site.environment.update(fault_server.environment())
    spools.add("attic", destination={"type": "s3", "bucket": fault_server.endpoint.bucket})
    spools.add("kitchen")
    fault_server.latency_seconds = 1.0
    spools.put("attic")
    running = spools.watch()
    running.wait_until(lambda: fault_server.counts()["PutObject"], "the upload")
    for pid in [*processes_below(running.pid).values(), running.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    assert running.wait(20).code == 143
    assert list(fault_server.objects()) == ["a.dat"]
    assert not (spools.site.place / "attic" / "a.dat").exists()


def test_status_knows_that_a_spool_is_watched(spools: Spools) -> None:
    """Between two looks nobody has the lock, and status still says who looks after the spool; later it is nobody."""
    spools.add("attic")
    running = spools.watch("--interval", "60")
    config = str(spools.path / "attic.json")

    def status() -> dict[str, Any]:
        finished = spools.site.start(command=[str(COMMAND), "status", config, "--json"]).wait()
        found = json.loads(finished.stdout)
        assert isinstance(found, dict)
        return found

    running.wait_until(lambda: (status()["watched_by"] or {}).get("pid"), "it is known")
    assert status()["watched_by"]["pid"] == processes_below(running.pid)["attic.json"]
    told = spools.site.start(command=[str(COMMAND), "status", config]).wait().stdout
    assert "the spool is watched" in told.splitlines()[0]
    assert "Running: watched by process" in told
    running.send(signal.SIGTERM)
    running.wait(10)
    assert status()["watched_by"] is None


def test_several_files_and_a_shared_refusal(spools: Spools) -> None:
    """Files can be named one by one; where none can be used it ends at once, with exit code 2."""
    for name in ("attic", "kitchen"):
        spools.add(name)
        spools.put(name)
    files = [str(spools.path / f"{name}.json") for name in ("attic", "kitchen")]
    ran = spools.site.start(command=[str(COMMAND), "run", *files]).wait()
    assert (ran.code, spools.archived("attic"), spools.archived("kitchen")) == (0, ["a.dat"], ["a.dat"])
    for file in files:
        Path(file).write_text("{")
    refused = spools.watch().wait(20)
    assert refused.code == 2
    assert refused.stderr.count("1 problem") == 2
    metrics = spools.watch("--metrics-listen", "0").wait(20)
    assert metrics.code == 2
    assert "one configuration file" in metrics.stderr
