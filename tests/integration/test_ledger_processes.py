"""The ledger between real processes and users: killed, started at once, without permissions; a tick's cost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s3_uploader.ledger import Ledger

NOBODY = 65534

ROW = """
import os, sys, time
import s3_uploader.ledger.database, s3_uploader.ledger.history
from s3_uploader.core.errors import StateError
from s3_uploader.ledger import Ledger, ShippedRow
from s3_uploader.core.model import Proof, RunReport
def row(path):
    return ShippedRow(path=path, key=path, destination="b", size=1, mtime_ns=1, shipped_at=time.time(), proof=Proof.MD5)
"""


def start(code: str, *arguments: str, user: int = 0) -> subprocess.Popen[str]:
    """Start a program that has a row to record."""
    # Not with Popen(user=...): that user may not be able to reach the interpreter, nor what is imported later.
    become = f"os.setgroups([]), os.setgid({user}), os.setuid({user})\n" if user else ""
    return subprocess.Popen(
        [sys.executable, "-c", ROW + become + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def output(process: subprocess.Popen[str]) -> str:
    """What the program said until its end, which must be a good one."""
    text, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    return text


@pytest.fixture
def tmp_path(place_for_all: Path) -> Path:
    """Where other users look for it, too."""
    return place_for_all


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the ledger is."""
    return str(tmp_path / "ledger.sqlite3")


def test_what_was_committed_survives_the_death_of_the_process(path: str) -> None:
    """After SIGKILL every batch that was reported as committed is there, and the run is listed as unfinished."""
    process = start(
        """
with Ledger.open(sys.argv[1]) as ledger:
    ledger.begin_run(started_at=time.time(), pid=1, host="h")
    for number in range(10**9):
        ledger.commit_batch(shipped=[row(f"{number}-{part}") for part in range(10)])
        print(number, flush=True)
""",
        path,
    )
    assert process.stdout is not None
    with process:
        for _ in range(50):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
    last = int(rest[-1]) if rest else last
    with Ledger.open_readonly(path) as reader:
        found = [each.path for each in reader.history()]
        assert len(found) >= (last + 1) * 10
        assert len(found) % 10 == 0
        assert reader.totals().shipped_files == len(found)
        assert [run.finished_at for run in reader.runs()] == [None]
    with Ledger.open(path) as again:
        assert len(list(again.history())) == len(found)


def test_many_processes_can_begin_one_ledger_at_once(path: str) -> None:
    """Ten uploaders that start in the same moment, without a ledger yet, share one, and none loses a row."""
    code = """
with Ledger.open(sys.argv[1], notice=print) as ledger:
    for number in range(20):
        ledger.commit_batch(shipped=[row(f"{sys.argv[2]}-{number}")])
"""
    processes = [start(code, path, str(number)) for number in range(10)]
    assert [output(process) for process in processes] == [""] * 10
    with Ledger.open_readonly(path) as reader:
        assert len(list(reader.history())) == 200


def test_many_processes_can_find_one_ledger_damaged_at_once(path: str) -> None:
    """Of ten uploaders that meet a damaged ledger, one sets it aside, and all go on with the same new one."""
    Path(path).write_bytes(b"rubbish" * 1000)
    code = """
with Ledger.open(sys.argv[1], notice=print) as ledger:
    ledger.commit_batch(shipped=[row(sys.argv[2])])
"""
    processes = [start(code, path, str(number)) for number in range(10)]
    said = "".join(output(process) for process in processes)
    assert said.count("The ledger was damaged") == 1
    with Ledger.open_readonly(path) as reader:
        assert len(list(reader.history())) == 10


READ = """
try:
    with Ledger.open_readonly(sys.argv[1]) as ledger:
        print([each.path for each in ledger.history()])
except StateError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
@pytest.mark.usefixtures("unmeasured")
def test_a_user_with_read_permission_only_can_read(path: str, tmp_path: Path) -> None:
    """A user who may read the state directory and not write it sees the history, between runs and during one."""
    with Ledger.open(path):
        output(start("with Ledger.open(sys.argv[1]) as ledger: ledger.commit_batch(shipped=[row('a')])", path))
        assert output(start(READ, path, user=NOBODY)) == "['a']\n"
    before = sorted(os.listdir(tmp_path))
    assert output(start(READ, path, user=NOBODY)) == "['a']\n"
    assert sorted(os.listdir(tmp_path)) == before
    tmp_path.chmod(0o700)
    assert "Run this as the user that runs the uploads" in output(start(READ, path, user=NOBODY))


@pytest.mark.skipif(os.geteuid() != 0, reason="root writes everywhere, so another user has to try")
def test_a_user_without_write_permission_is_told_so(path: str, tmp_path: Path) -> None:
    """A run whose user may not write the ledger does not begin, and says what to do."""
    code = """
try:
    with Ledger.open(sys.argv[1]) as ledger:
        ledger.commit_batch(shipped=[row("a")])
except StateError as error:
    print(error)
"""
    assert "it cannot be opened. Make" in output(start(code, path, user=NOBODY))
    with Ledger.open(path):
        pass
    assert "it is read-only for this user. Make" in output(start(code, path, user=NOBODY))


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_tick_without_work_waits_for_no_disk(path: str, tmp_path: Path) -> None:
    """A run without work records itself without a single fsync; a batch is committed with one or more."""
    code = """
with Ledger.open(sys.argv[1]) as ledger:
    if sys.argv[2] == "batch":
        ledger.commit_batch(shipped=[row("a")])
    run = ledger.begin_run(started_at=time.time(), pid=1, host="h")
    report = RunReport(base_dir="/s", destination="b", started_at=time.time(), duration=0.0, exit_code=0)
    ledger.finish_run(run, report)
"""
    output(start(code, path, "create"))

    def syncs(what: str) -> int:
        trace = tmp_path / "trace"
        subprocess.run(
            ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", trace, sys.executable, "-c", ROW + code, path, what],
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return len(re.findall("fsync|fdatasync", trace.read_text()))

    assert syncs("tick") == 0
    assert syncs("batch") > 0
