"""Several uploaders on one spool: each file is shipped by one of them, whoever is killed whenever."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.fault_script import hang, run_before_answer
from tests.servers.fault_server import FaultServer

FEW_FILES, FILES = 150, int(os.environ.get("CLAIMS_TEST_FILES", "2000"))
UPLOADERS = 4
FEW_KILLS, KILLS = 8, 40
"""How many of them are killed at the least."""
LOCKS = ("lock", ".s3-uploader.lock")
"""Files of the uploaders' own, in a directory of claims and in the spool."""
REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server that counts how many uploads of one key are under way at once."""
    with FaultServer() as running:
        yield running


class Queue:
    """A spool with a claim directory, and the processes that drain it."""

    def __init__(self, place: Path, server: FaultServer) -> None:
        self.spool = place / "incoming"
        self.working = place / "working"
        self.config = place / "config.json"
        self.environment = {**os.environ, **server.environment(), "XDG_STATE_HOME": str(place / "state")}
        self.spool.mkdir(parents=True)
        self.settings = {
            "base_dir": str(self.spool),
            "bucket": server.endpoint.bucket,
            "layout": "tree",
            "settle_seconds": 0,
            "prune_empty_dirs": True,
            "claim_dir": str(self.working),
        }
        self.config.write_text(json.dumps(self.settings))

    def fill(self, count: int, *, first: int = 0) -> dict[str, bytes]:
        """Write so many files, numbered from `first`; returns their contents."""
        written = {}
        for number in range(first, first + count):
            path = f"{number % 7}/{number % 43}/{number}"
            self._write(self.spool / path, path.encode())
            written[path] = path.encode()
        return written

    def fill_while(self, goes_on: Callable[[], bool], written: dict[str, bytes]) -> None:
        """Add files to `written` whenever the spool has run empty, as long as `goes_on` says so."""
        while goes_on():
            if self.has_files():
                time.sleep(0.1)
            else:
                written |= self.fill(100, first=len(written))

    def _write(self, path: Path, content: bytes) -> None:
        while True:
            # An uploader may prune the directory between these two.
            with contextlib.suppress(FileNotFoundError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                return

    def start(self) -> subprocess.Popen[bytes]:
        """Start an uploader."""
        return subprocess.Popen(
            [sys.executable, "-m", "s3_uploader", "run", "--quiet", str(self.config)],
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self) -> None:
        """Run an uploader to its end, which has to be a good one."""
        process = self.start()
        _, log = process.communicate(timeout=300)
        assert process.returncode == 0, log.decode()

    def has_files(self) -> bool:
        """Whether anything waits in the spool or is claimed."""
        found = (name for place in (self.spool, self.working) for _, _, names in os.walk(place) for name in names)
        return any(name not in LOCKS for name in found)


def test_killed_at_random(
    tmp_path: Path, server: FaultServer, unmeasured: None, effort: Callable[[int, int], int]
) -> None:
    """Four uploaders that are killed and started again at random: no file is lost, or in flight twice at once."""
    shared = Queue(tmp_path, server)
    # A slow server costs no processor time, and most uploaders are still at work when it is time to kill them.
    shared.settings["max_concurrency"] = 4
    shared.config.write_text(json.dumps(shared.settings))
    written = shared.fill(effort(FEW_FILES, FILES))
    server.latency_seconds = 0.15
    enough = effort(FEW_KILLS, KILLS)
    kills = [0] * UPLOADERS
    complaints: list[str] = []
    until = time.monotonic() + 60 + len(written) / 20

    def too_few_kills() -> bool:
        # On a fast machine the uploaders end before they are killed; then there is more work for them.
        return sum(kills) < enough and time.monotonic() < until

    def keep_alive(number: int) -> None:
        chance = random.Random(number)
        while (shared.has_files() or too_few_kills()) and time.monotonic() < until:
            process = shared.start()
            try:
                # When enough of them were killed the rest of the work is done in peace.
                patience = chance.uniform(0.2, 2.0) if too_few_kills() else 120
                _, log = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                process.kill()
                _, log = process.communicate()
                kills[number] += 1
            if process.returncode not in (0, -9):
                complaints.append(log.decode())

    threads = [threading.Thread(target=keep_alive, args=(number,)) for number in range(UPLOADERS)]
    for thread in threads:
        thread.start()
    shared.fill_while(too_few_kills, written)
    for thread in threads:
        thread.join()
    # The last one that was killed may have left a claim; whoever comes next clears it away, without help.
    shared.run()
    assert complaints == []
    assert server.objects() == written
    assert not shared.has_files()
    assert list(shared.working.iterdir()) == []
    assert server.most_concurrent_writes() == 1
    assert sum(kills) >= enough, "the uploaders were too quick to be killed"
    print(f"{len(written)} files, {sum(kills)} kills, {server.counts()['PutObject']} uploads")


def test_sharing(tmp_path: Path, server: FaultServer) -> None:
    """Four uploaders at once share the work: each file is sent exactly once."""
    shared = Queue(tmp_path, server)
    shared.fill(1)
    shared.run()  # finds out, with an upload of its own, whether the server honours conditions
    server.forget_requests()
    written = shared.fill(300)
    server.latency_seconds = 0.05
    processes = [shared.start() for _ in range(UPLOADERS)]
    for process in processes:
        _, log = process.communicate(timeout=120)
        assert process.returncode == 0, log.decode()
        assert log == b""
    assert server.objects() == written
    assert server.counts()["PutObject"] == len(written)
    assert list(shared.working.iterdir()) == []


def test_paused_uploader(tmp_path: Path, server: FaultServer) -> None:
    """What a stopped uploader has claimed waits for it; nobody else ships it, and it goes on where it was."""
    shared = Queue(tmp_path, server)
    written = shared.fill(40)
    server.latency_seconds = 1.0
    paused = shared.start()
    until = time.monotonic() + 30
    while not any(shared.working.glob("*/files/*/*/*")) and time.monotonic() < until:
        time.sleep(0.01)
    paused.send_signal(signal.SIGSTOP)
    try:
        claimed = {str(path.relative_to(path.parents[2])) for path in shared.working.glob("*/files/*/*/*")}
        assert claimed
        server.latency_seconds = 0.0
        shared.run()
        assert {str(path.relative_to(path.parents[2])) for path in shared.working.glob("*/files/*/*/*")} == claimed
    finally:
        paused.send_signal(signal.SIGCONT)
    _, log = paused.communicate(timeout=60)
    assert paused.returncode == 0, log.decode()
    assert server.objects() == written
    assert list(shared.working.iterdir()) == []
    assert server.most_concurrent_writes() == 1


def test_an_older_file_that_another_has_claimed_goes_first(tmp_path: Path, server: FaultServer) -> None:
    """With ``overwrite`` a newer file waits for an older one of its name, even if its uploader is killed."""
    shared = Queue(tmp_path, server)
    shared.settings["on_conflict"] = "overwrite"
    shared.config.write_text(json.dumps(shared.settings))
    shared.fill(1)
    server.faults.add(hang())
    killed = shared.start()
    until = time.monotonic() + 30
    while not server.counts()["PutObject"] and time.monotonic() < until:
        time.sleep(0.01)
    (shared.spool / "0/0/0").write_bytes(b"newer")
    shared.run()
    assert (shared.spool / "0/0/0").read_bytes() == b"newer"
    killed.kill()
    killed.communicate()
    for _ in range(3):
        shared.run()
    assert server.objects() == {"0/0/0": b"newer"}
    assert not shared.has_files()


def test_two_spools_with_one_claim_directory(tmp_path: Path, server: FaultServer) -> None:
    """What a killed uploader of one spool has claimed is never shipped to the destination of another spool."""
    shared, other = Queue(tmp_path, server), Queue(tmp_path / "other", server)
    bucket = server.endpoint.new_bucket().bucket
    other.settings |= {"claim_dir": str(shared.working), "bucket": bucket}
    other.config.write_text(json.dumps(other.settings))
    written = shared.fill(4)
    server.faults.add(hang())
    killed = shared.start()
    until = time.monotonic() + 30
    while not server.counts()["PutObject"] and time.monotonic() < until:
        time.sleep(0.01)
    assert any(shared.working.glob("*/files/*/*/*"))
    killed.kill()
    killed.communicate()
    others = other.fill(2, first=100)
    other.run()
    assert server.objects(bucket) == others
    shared.run()
    assert server.objects() == written
    assert list(shared.working.iterdir()) == []


def test_one_that_does_not_claim(tmp_path: Path, server: FaultServer) -> None:
    """An uploader without claims keeps out of a spool while others claim files in it."""
    shared = Queue(tmp_path, server)
    shared.fill(4)
    released = threading.Event()
    server.faults.add(run_before_answer(lambda: released.wait(60)).repeated())
    at_work = shared.start()
    until = time.monotonic() + 30
    while not any(shared.working.glob("*/files/*/*/*")) and time.monotonic() < until:
        time.sleep(0.01)
    alone = {name: value for name, value in shared.settings.items() if name != "claim_dir"}
    shared.config.write_text(json.dumps(alone))
    done = subprocess.run(
        [sys.executable, "-m", "s3_uploader", str(shared.config)],
        cwd=REPOSITORY,
        env=shared.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    released.set()
    at_work.communicate(timeout=60)
    assert done.returncode == 0
    assert "Another run has the spool" in done.stderr
    assert server.most_concurrent_writes() == 1
