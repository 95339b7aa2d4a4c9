"""A run that is divided among processes: it ships what one process ships, and tells it as one run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.core.shares import Share
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.ledger.together import open_together
from tests.integration.divided_run import FIRST_QUESTION, SILENT_SECONDS, WORTH_FILES
from tests.servers.debian import Unavailable
from tests.servers.dialects import WEAK
from tests.servers.fault_script import error, run_after_body, run_before_answer
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import *  # noqa: F403
from tests.servers.memory_group import memory_group

FILES = 160
FEW_KILLS, KILLS, SHARDS = 5, 200, 2
PATIENCE = 60.0
SLOW = 0.1
"""Seconds of an answer: of the files some are left for the workers, however long it takes to start these."""


class Site:
    """A spool with files, and the divided run of it."""

    def __init__(self, place: Path, server: FaultServer) -> None:
        self.place, self.server = place, server
        self.spool = place / "spool"
        self.made: dict[str, bytes] = {}
        self.settings: dict[str, Any] = {
            "base_dir": str(self.spool),
            "bucket": server.endpoint.bucket,
            "processes": 2,
            "state_dir": str(place / "state"),
            "drain_seconds": 5,
            "max_concurrency": 8,
        }
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(place), **server.environment()}
        self.started: list[subprocess.Popen[bytes]] = []
        self.spool.mkdir()

    def fill(self, count: int = FILES) -> None:
        """Producers write so many more files."""
        begin, old = len(self.made), time.time() - 7200
        for number in range(begin, begin + count):
            path = f"den/2020/11/{number % 28 + 1:02}/20/{number % 60:02}-topic{number}.dat"
            full = self.spool / path
            made = self.place / "made"
            made.write_bytes(f"content {number}\n".encode())
            os.utime(made, (old, old))
            while True:
                with contextlib.suppress(FileNotFoundError, FileExistsError):  # a run has pruned it
                    full.parent.mkdir(parents=True, exist_ok=True)
                    made.rename(full)
                    break
            self.made[path] = f"content {number}\n".encode()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        config = self.place / "config.json"
        config.write_text(json.dumps(self.settings))
        command, *others = arguments
        self.told = self.place / f"told-{len(self.started)}"
        with self.told.with_suffix(".out").open("wb") as output, self.told.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.divided_run", command, str(config), *others],
                env=self.environment,
                stdout=output,
                stderr=errors,
            )
        self.started.append(process)
        return process

    def wait(self, process: subprocess.Popen[bytes], *, seconds: float = 100) -> tuple[int, str]:
        """Wait for the end of what was started last; returns the exit code and standard error."""
        process.wait(seconds)
        return process.returncode, self.told.with_suffix(".err").read_text()

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end; returns the exit code, standard output and standard error."""
        code, errors = self.wait(self.start(*arguments))
        return code, self.told.with_suffix(".out").read_text(), errors

    def left(self) -> dict[str, bytes]:
        """What is in the spool."""
        found = {}
        for below, _, names in os.walk(self.spool):
            for name in names:
                path = Path(below, name)
                with contextlib.suppress(FileNotFoundError):
                    found[str(path.relative_to(self.spool))] = path.read_bytes()
        return {path: content for path, content in found.items() if not path.endswith(".lock")}

    def history(self) -> set[str]:
        """What the ledger knows to be shipped."""
        path = ledger_path(config.from_mapping(self.settings, source="test"))
        with open_together(path) as ledger:
            return {row.path for row in ledger.history()}

    def check_nothing_lost(self) -> None:
        """Each file is on the disk, under its own name or a private one, or it is the object."""
        # In this order: workers whose leader was killed finish what is under way.
        left, objects = self.left(), self.server.objects()
        for path, content in self.made.items():
            directory, _, name = path.rpartition("/")
            assert content in (objects.get(path), left.get(path), left.get(f"{directory}/.{name}.s3u")), path
        assert self.server.replacements == []

    def check_all_shipped(self) -> None:
        """Everything is an object, nothing is left."""
        assert self.left() == {}
        assert self.server.objects() == self.made
        assert self.server.replacements == []
        assert self.history() == set(self.made)


@pytest.fixture
def site(tmp_path: Path, fault_server: FaultServer) -> Iterator[Site]:
    """A spool in which enough files wait for a run to be divided, and a slow server."""
    fault_server.latency_seconds = SLOW
    made = Site(tmp_path, fault_server)
    made.fill()
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def workers_of(pid: int) -> list[int]:
    """The processes that a run has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def at_work(site: Site, process: subprocess.Popen[bytes], *, count: int = 1) -> list[int]:
    """Wait until so many workers of a run have begun; returns them."""
    began = started = time.monotonic()
    slow = site.server.latency_seconds
    while (now := time.monotonic()) - began < 60:
        workers = workers_of(process.pid)
        if not workers:
            started = now
        if len(workers) >= count and all(_ships(worker, site.spool) for worker in workers):
            site.server.latency_seconds = slow
            return workers
        assert process.poll() is None, site.wait(process)
        # The longer it takes on this machine to start one, the less the leader ships meanwhile.
        site.server.latency_seconds = min(2.0, slow * (1 + now - started) ** 2)
        time.sleep(0.02)
    raise AssertionError("no worker has begun")


def _ships(pid: int, directory: Path) -> bool:
    """Whether a process is a worker that has a file of the spool open."""
    with contextlib.suppress(OSError):
        # Until it runs its own program it is a copy of the leader, with the leader's files.
        if b"run.worker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        for each in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/{pid}/fd/{each}")
                if path.startswith(f"{directory}/") and ".dat" in path:
                    return True
    return False


def are_gone(pids: list[int], *, within: float) -> bool:
    """Whether processes have ended after so many seconds."""
    until = time.monotonic() + within
    while any(Path(f"/proc/{pid}/fd").exists() and _is_alive(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.rotated("processes")
@pytest.mark.parametrize("processes", [2, 3])
def test_one_run_to_everybody(site: Site, processes: int) -> None:
    """Several processes ship everything once; log, summary, history and metrics are those of one run."""
    site.settings |= {"processes": processes, "metrics_file": str(site.place / "m.prom")}
    process = site.start("run", "--log-format", "json")
    assert len(at_work(site, process, count=processes - 1)) == processes - 1
    code, errors = site.wait(process, seconds=100)
    assert code == 0, errors
    records = [json.loads(line) for line in errors.splitlines()]
    told = [record["path"] for record in records if record["event"] == "uploaded"]
    assert sorted(told) == sorted(str(site.spool / path) for path in site.made)
    (finished,) = [record for record in records if record["event"] == "run_finished"]
    report = finished["report"]
    assert (report["shipped"], report["exit_code"]) == (FILES, 0)
    site.check_all_shipped()
    status = json.loads(site.run("status", "--json")[1])
    assert [(run["shipped"], run["ended_by"]) for run in status["runs"]] == [(FILES, "done")]
    assert status["totals"]["shipped_files"] == FILES
    assert status["totals"]["already_there"] == 0
    assert f'last_run_shipped_files{{spool="{site.spool}"}} {FILES}\n' in (site.place / "m.prom").read_text()
    assert not list(site.place.glob("state/*/share-*"))


def test_few_files_are_shipped_by_one_process(site: Site, tmp_path: Path) -> None:
    """Where few files wait, no process is started for them."""
    site.made.clear()
    for path in sorted(site.spool.rglob("*.dat"))[FIRST_QUESTION + WORTH_FILES // 2 :]:
        path.unlink()
    process = site.start("run", "--quiet")
    seen: set[int] = set()
    while process.poll() is None:
        seen.update(workers_of(process.pid))
        time.sleep(0.005)
    assert (process.returncode, seen) == (0, set())


def test_a_worker_that_is_killed(site: Site) -> None:
    """It is named, and the run ships its share itself."""
    process = site.start("run", "--quiet")
    (worker,) = at_work(site, process)
    os.kill(worker, signal.SIGKILL)
    code, errors = site.wait(process, seconds=100)
    assert code == 0, errors
    (line,) = errors.splitlines()
    assert f"The worker process {worker} was killed by SIGKILL" in line
    site.check_all_shipped()


@pytest.mark.exhaustive  # the next test does it to a worker that does not run
def test_a_leader_that_is_killed_takes_its_workers_with_it(site: Site) -> None:
    """They finish what is under way and end, and until then no other run has the spool; the next one ends clean."""
    process = site.start("run", "--quiet")
    workers = at_work(site, process)
    process.kill()
    process.wait()
    assert are_gone(workers, within=site.settings["drain_seconds"] + 10)
    site.check_nothing_lost()
    site.server.latency_seconds = 0.0
    code, _, errors = site.run("run", "--quiet")
    assert (code, errors) == (0, "")
    site.check_all_shipped()


def test_the_spool_is_locked_as_long_as_a_worker_lives(site: Site) -> None:
    """A run that begins in the moment after the leader's death meets nobody; one after the worker's end ships all."""
    process = site.start("run", "--quiet")
    (worker,) = at_work(site, process)
    os.kill(worker, signal.SIGSTOP)
    process.kill()
    process.wait()
    code, _, errors = site.run("run", "--wait-for-lock", "0.2", "--quiet")
    assert code == 75, errors
    os.kill(worker, signal.SIGCONT)
    assert are_gone([worker], within=20)
    site.check_nothing_lost()
    site.server.latency_seconds = 0.0
    code, _, errors = site.run("run", "--quiet")
    assert (code, errors) == (0, "")
    site.check_all_shipped()


def test_a_worker_that_is_stopped_and_never_continued(site: Site) -> None:
    """It does not keep the run from its end: after a time of silence it is killed, and the run ships its share."""
    site.environment[SILENT_SECONDS] = "8"
    process = site.start("run", "--quiet")
    (worker,) = at_work(site, process)
    os.kill(worker, signal.SIGSTOP)
    code, errors = site.wait(process)
    assert code == 0, errors
    (line,) = errors.splitlines()
    assert f"The worker process {worker} gave no sign of life for 8.0 s and was killed by SIGKILL" in line
    assert are_gone([worker], within=5)
    site.check_all_shipped()


def test_a_worker_that_is_stopped_for_a_while(site: Site) -> None:
    """It ships its share once it is continued, and nothing is said of it."""
    process = site.start("run", "--quiet")
    (worker,) = at_work(site, process)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(6)
    assert process.poll() is None
    os.kill(worker, signal.SIGCONT)
    code, errors = site.wait(process)
    assert (code, errors) == (0, "")
    site.check_all_shipped()


@pytest.mark.rotated("number")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_one_for_all(site: Site, number: int) -> None:
    """All processes finish what is under way; the exit code is the signal's, and the rest stays."""
    process = site.start("run", "--quiet")
    workers = at_work(site, process)
    process.send_signal(number)
    code, errors = site.wait(process, seconds=30)
    assert code == 128 + number, errors
    assert "Traceback" not in errors
    assert are_gone(workers, within=5)
    site.check_nothing_lost()
    assert site.left()
    assert not any(name.endswith(".s3u") for name in site.left())
    assert len(site.history()) + len(site.left()) == FILES


@pytest.mark.rotated("number")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_before_workers_are_ready(site: Site, number: int) -> None:
    """Workers that are only being started are not waited for when the run is told to stop."""
    site.settings["drain_seconds"] = 60
    process = site.start("run", "--quiet")
    while not workers_of(process.pid):
        assert process.poll() is None, site.wait(process)
        time.sleep(0.005)
    process.send_signal(number)
    code, errors = site.wait(process, seconds=40)
    assert (code, errors) == (128 + number, "")
    site.check_nothing_lost()


@pytest.mark.rotated("arguments")
@pytest.mark.parametrize("arguments", [(), ("--retry",)], ids=["", "retry"])
def test_failures_are_counted_in_one_report(site: Site, arguments: tuple[str, ...]) -> None:
    """Files that fail with any process are failing files of the run, once each, and make its exit code."""
    refused = sorted(site.made)[:: FILES // 10]
    site.server.faults.add(*[error("KeyTooLongError").only(key=path, times=None) for path in refused])
    process = site.start("run", "--log-format", "json", *arguments)
    at_work(site, process)
    code, errors = site.wait(process)
    assert code == 1, errors
    assert set(site.left()) == set(refused)
    report = json.loads(errors.splitlines()[-1])["report"]
    assert (report["failed"], report["left"], report["backlog"]) == (len(refused), {}, len(refused))
    assert Counter(each.key for each in site.server.requests_of("PutObject") if each.key in refused) == Counter(refused)
    status = json.loads(site.run("status", "--json")[1])
    assert status["failing_files"] == len(refused)
    assert status["runs"][0]["failed"] == len(refused)
    assert status["runs"][0]["backlog"] == len(refused)
    _, output, _ = site.run("history", "--failed", "--json")
    assert sum(json.loads(line).get("failed_uploads", 0) for line in output.splitlines()) == len(refused)


def test_a_killed_worker_leaves_the_numbers_right(site: Site) -> None:
    """Each file that stays is counted once: as failed by a process that lives, or as waiting if only the dead one knew.

    The leader ships the share of the dead one and passes over what has failed with it, and with itself, before.
    """
    site.fill(1500)
    refused = sorted(site.made)[:: len(site.made) // 40]
    site.server.faults.add(*[error("KeyTooLongError").only(key=path, times=None) for path in refused])
    process = site.start("run", "--log-format", "json")
    os.kill(at_work(site, process)[0], signal.SIGKILL)
    code, errors = site.wait(process)
    assert code == 1, errors
    assert set(site.left()) == set(refused)
    report = json.loads(errors.splitlines()[-1])["report"]
    assert set(report["left"]) <= {"waiting"}
    assert (report["failed"] + report["left"].get("waiting", 0), report["backlog"]) == (len(refused), len(refused))


def test_a_destination_that_refuses_ends_all_processes(site: Site) -> None:
    """One bad credential ends the run with exit code 3, whichever process meets it."""
    process = site.start("run", "--quiet")
    workers = at_work(site, process)
    site.server.faults.add(error("InvalidAccessKeyId").repeated())
    code, errors = site.wait(process, seconds=60)
    assert code == 3, errors
    assert errors.count("The run was abandoned") == 1
    assert are_gone(workers, within=5)
    site.check_nothing_lost()
    problems = json.loads(site.run("status", "--json")[1])["problems"]
    assert [problem["cause"] for problem in problems] == ["credentials"]


@pytest.mark.parametrize("is_killed", [False, True], ids=["", "killed"])
def test_what_is_left_is_counted_by_all(site: Site, is_killed: bool) -> None:
    """A run whose time is over before everything is shipped tells, like one of one process, how many files wait.

    The files of a worker that was killed meanwhile are among them.
    """
    site.fill(1500)
    process = site.start("run", "--log-format", "json", "--max-runtime", "10")
    workers = at_work(site, process)
    if is_killed:
        os.kill(workers[0], signal.SIGKILL)
    code, errors = site.wait(process)
    report = json.loads(errors.splitlines()[-1])["report"]
    assert (code, report["ended_by"]) == (0, "budget"), errors
    assert report["left"] == {"postponed": len(site.left())}, report
    assert report["backlog"] == len(site.left()) > FILES


def test_a_server_that_lets_names_replace_one_another(site: Site) -> None:
    """Two files whose names it takes for one are not sent by two processes: the first would be lost."""
    site.server.dialect = dataclasses.replace(WEAK, folds="case")
    pairs = ((f"den/2020/11/28/21/10-Topic{n}.dat", f"den/2020/11/28/21/10-topic{n}.dat") for n in range(1000))
    first, second = next(pair for pair in pairs if [Share(1, 2).owns(path) for path in pair] == [True, False])
    for path in (first, second):
        (site.spool / path).parent.mkdir(exist_ok=True)
        (site.spool / path).write_text(path)
        os.utime(site.spool / path, (1e9, 1e9))

    def until_the_other_is_gone() -> None:
        until = time.monotonic() + 5
        while (site.spool / second).exists() and time.monotonic() < until:
            time.sleep(0.05)

    site.server.faults.add(run_after_body(until_the_other_is_gone).only(key=first))
    code, _, errors = site.run("run", "--quiet")
    assert code == 1
    assert "No worker process is started. The server does not support conditional writes" in errors
    contents = [*site.server.objects().values(), *site.left().values()]
    assert {first.encode(), second.encode()} <= set(contents)
    assert site.server.replacements == []


def test_a_watch_is_divided_too(site: Site) -> None:
    """A pass over many files uses several processes, and the next pass begins with one again."""
    process = site.start("watch", "--quiet", "--interval", "0.5")
    workers = at_work(site, process)
    until = time.monotonic() + 60
    while site.left() and time.monotonic() < until:
        time.sleep(0.2)
    assert are_gone(workers, within=10)
    process.send_signal(signal.SIGTERM)
    code, errors = site.wait(process)
    assert (code, errors) == (143, "")
    site.check_all_shipped()


class Waiting:
    """A watch that ships everything but one file, whose upload takes until :attr:`released` is set.

    :param who: whose share the file is: 0 for the leader.
    """

    def __init__(self, site: Site, who: int) -> None:
        self.site = site
        self.slow = next(path for path in sorted(site.made)[-30:] if Share(who, 2).owns(path))
        self.released = threading.Event()
        waits = run_before_answer(lambda: self.released.wait(PATIENCE) and None)
        site.server.faults.add(waits.only(key=self.slow))
        # It does not look by itself for as long as the test takes: new files are told of by the file system.
        self.process = site.start("watch", "--quiet", "--interval", "600")
        at_work(site, self.process)

    def wait_for(self, left: set[str]) -> None:
        """Wait until these files are left."""
        until = time.monotonic() + PATIENCE / 2
        while set(self.site.left()) != left:
            assert time.monotonic() < until, self.site.left()
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Let the upload end, and then the watch."""
        assert not self.released.is_set()
        self.released.set()
        self.wait_for(set())
        self.process.send_signal(signal.SIGTERM)
        return self.site.wait(self.process)


@pytest.mark.rotated("who")
@pytest.mark.parametrize("who", [0, 1], ids=["leader", "worker"])
def test_new_files_do_not_wait_for_a_large_one(site: Site, who: int) -> None:
    """While one process has a slow upload in flight, what a watch finds meanwhile is shipped, whoever's share it is."""
    waiting = Waiting(site, who)
    waiting.wait_for({waiting.slow})
    site.fill(20)
    waiting.wait_for({waiting.slow})
    assert waiting.end() == (143, "")
    site.check_all_shipped()


def test_a_reload_meanwhile(site: Site) -> None:
    """Once its configuration is reloaded, a watch sends nothing more with the old one, from any process."""
    waiting = Waiting(site, 1)
    waiting.wait_for({waiting.slow})
    site.settings["key_prefix"] = "new/"
    (site.place / "config.json").write_text(json.dumps(site.settings))
    waiting.process.send_signal(signal.SIGHUP)
    time.sleep(1.0)  # nothing tells when it has heard
    before = set(site.made)
    site.fill(20)
    time.sleep(2.0)  # twice as long as it takes at most until each process looks again
    assert set(site.left()) == {waiting.slow, *set(site.made) - before}
    assert waiting.end() == (143, "")
    assert set(site.server.objects()) == before | {f"new/{path}" for path in set(site.made) - before}


def test_a_file_that_failed_meanwhile(site: Site) -> None:
    """What failed in the share of a worker waits for its pause, also when that share is the leader's."""
    waiting = Waiting(site, 0)
    failing = next(path for path in sorted(site.made)[-30:] if Share(1, 2).owns(path))
    site.server.faults.add(error("InvalidRequest", status=400).only(key=failing).repeated(9))
    waiting.wait_for({waiting.slow, failing})
    site.fill(20)
    waiting.wait_for({waiting.slow, failing})
    assert [request.key for request in site.server.requests].count(failing) == 1
    site.server.faults.clear()
    waiting.released.set()
    waiting.process.send_signal(signal.SIGTERM)
    assert site.wait(waiting.process)[0] == 143


def test_inside_another_program(site: Site) -> None:
    """A program that has no main guard may be divided: its own code does not run a second time."""
    program = (
        "import os, sys; from s3_uploader import upload_once; from s3_uploader.run import division, pipeline, workers\n"
        f"pipeline.WORKERS_FROM, workers.FIRST_QUESTION, division.WORTH_FILES = 5, {FIRST_QUESTION}, {WORTH_FILES}\n"
        "print('begun', flush=True)\n"
        "report = upload_once(sys.argv[1])\n"
        "print(report.shipped, report.exit_code)\n"
    )
    (site.place / "config.json").write_text(json.dumps(site.settings))
    (site.place / "program.py").write_text(program)
    with (site.place / "told").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(site.place / "program.py"), str(site.place / "config.json")],
            env=site.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    site.started.append(process)
    at_work(site, process)
    process.wait(100)
    assert (site.place / "told").read_text() == f"begun\n{FILES} 0\n"
    site.check_all_shipped()


def test_a_child_that_the_calling_program_has_forked(site: Site) -> None:
    """It keeps no worker from noticing that its leader was killed, and no run from the spool."""
    program = (
        "import os, sys, threading, time\n"
        "from s3_uploader import upload_once; from s3_uploader.run import division, pipeline, workers\n"
        f"pipeline.WORKERS_FROM, workers.FIRST_QUESTION, division.WORTH_FILES = 5, {FIRST_QUESTION}, {WORTH_FILES}\n"
        "def fork():\n"
        "    sys.stdin.read()\n"
        "    child = os.fork()\n"
        "    if child: print(child, flush=True)\n"
        "    else: time.sleep(100)\n"
        "threading.Thread(target=fork, daemon=True).start()\n"
        "upload_once(sys.argv[1])\n"
    )
    (site.place / "config.json").write_text(json.dumps(site.settings))
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(site.place / "config.json")],
        env=site.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    site.started.append(process)
    workers = at_work(site, process)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    child = int(process.stdout.readline())
    try:
        process.kill()
        assert are_gone(workers, within=site.settings["drain_seconds"])
        site.server.latency_seconds = 0.0
        assert site.run("run", "--quiet")[::2] == (0, "")
        site.check_all_shipped()
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_a_full_disk_under_the_ledger(site: Site, tmp_path: Path) -> None:
    """What cannot be recorded is not removed, by any process; with room again the next run ends clean."""
    state = tmp_path / "small"
    state.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(state)], check=False).returncode:
        pytest.skip("this user may not mount anything here")
    try:
        site.settings["state_dir"] = str(state)
        process = site.start("run", "--log-format", "json")
        at_work(site, process)
        code, errors = site.wait(process)
        assert code == 1, errors
        assert "Traceback" not in errors
        site.check_nothing_lost()
        assert site.left()
        # Also those of the processes that the leader has ended.
        records = [json.loads(line) for line in errors.splitlines()]
        (report,) = [record["report"] for record in records if record["event"] == "run_finished"]
        assert report["backlog"] == len(site.left()), report
        subprocess.run(["mount", "-o", "remount,size=50m", str(state)], check=True)
        site.server.latency_seconds = 0.0
        code, _, errors = site.run("run", "--quiet")
        assert code == 0, errors
        assert site.left() == {}
        assert site.server.objects() == site.made
        assert site.server.replacements == []
    finally:
        for each in site.started:
            each.kill()
            each.wait()
        subprocess.run(["umount", "--lazy", str(state)], check=True)


@pytest.mark.exhaustive  # to the program a signal of the kernel's is one like those above
@pytest.mark.parametrize("who", ["worker", "leader"])
def test_killed_because_there_is_no_memory(site: Site, who: str) -> None:
    """The kernel kills one of the two for the memory that it wants; nothing is lost, the next run ends clean."""
    with ExitStack() as stack:
        try:
            group = stack.enter_context(memory_group())
        except Unavailable as missing:
            pytest.skip(str(missing))
        process = site.start("run", "--quiet")
        (worker,) = at_work(site, process)
        group.starve({"worker": worker, "leader": process.pid}[who])
        code, errors = site.wait(process)
        assert group.killed() == 1
        assert are_gone([worker], within=site.settings["drain_seconds"] + 10)
    if who == "leader":
        assert (code, errors) == (-signal.SIGKILL, "")
        site.check_nothing_lost()
        site.server.latency_seconds = 0.0
        code, _, errors = site.run("run", "--quiet")
        assert (code, errors) == (0, "")
    else:
        assert code == 0, errors
        assert f"The worker process {worker} was killed by SIGKILL" in errors
    site.check_all_shipped()


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("who", ["worker", "leader"])
def test_out_of_memory(site: Site, who: str) -> None:
    """A process that gets no more memory never keeps the run from its end; nothing is lost, the next one ends clean."""
    process = site.start("run", "--quiet")
    (worker,) = at_work(site, process)
    struck = {"worker": worker, "leader": process.pid}[who]
    pages = int(Path(f"/proc/{struck}/statm").read_text().split()[0])
    # It keeps what it has, and gets nothing beside it.
    size = pages * os.sysconf("SC_PAGE_SIZE") // 2
    resource.prlimit(struck, resource.RLIMIT_AS, (size, size))
    code, errors = site.wait(process, seconds=150)
    assert code >= 0, errors
    assert "Traceback" not in errors
    assert 'File "' not in errors
    assert are_gone([worker], within=site.settings["drain_seconds"] + 10)
    site.check_nothing_lost()
    site.server.latency_seconds = 0.0
    code, _, errors = site.run("run", "--quiet", "--wait-for-lock", "30")
    assert (code, errors) == (0, "")
    site.check_all_shipped()


@pytest.mark.slow
@pytest.mark.rotated("shard")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shard", range(SHARDS), ids=lambda number: f"shard{number}")
def test_killed_at_any_instant(
    site: Site, shard: int, effort: Callable[[int, int], int], tally: Callable[[str, int], None]
) -> None:
    """Whichever processes are killed, and when: nothing is lost or replaced, and the next run ends clean."""
    seed = int(os.environ.get("UPLOADER_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"UPLOADER_TEST_SEED={seed}")
    chance = random.Random(seed)
    site.settings |= {"processes": 3, "max_concurrency": 16}
    killed: Counter[str] = Counter()
    while killed.total() < effort(FEW_KILLS, KILLS // SHARDS):
        if len(site.left()) < FILES:
            site.fill()
        process = site.start("run", "--quiet", "--wait-for-lock", "30")
        # Some runs are killed while they start or are alone; some are left alone after the last kill, and end well.
        wants_workers = chance.random() < 0.8
        while wants_workers and process.poll() is None and not workers_of(process.pid):
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 1.2))
        for _ in range(chance.randint(1, 4)):
            victim = chance.choice([*workers_of(process.pid), process.pid])
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            killed["leader" if victim == process.pid else "worker"] += 1
            time.sleep(chance.expovariate(1 / 0.2))
            if process.poll() is not None:
                break
        process.wait(100)
        site.check_nothing_lost()
    site.server.latency_seconds = 0.0
    code, _, errors = site.run("run", "--quiet", "--wait-for-lock", "30")
    assert (code, errors) == (0, "")
    site.check_all_shipped()
    for who, times in killed.items():
        tally(f"kills of a {who}", times)
