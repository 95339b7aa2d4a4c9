"""Real producers and real deaths: what the unit tests lead by the hand happens here by itself, thousands of times."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from s3_uploader.core.model import Candidate, Left
from s3_uploader.spool.layouts.base import Globs
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.open_file import OpenFile, open_candidate
from s3_uploader.spool.removal import MOMENT_SECONDS, Detached, remove_taken, take
from s3_uploader.spool.root import SpoolRoot

SECONDS = 1.5
FEW = 10
"""So many removals at least prove something; a machine with other work takes longer for them."""


def append(path: str, number: int) -> None:
    """Add a record to the file, which is made if it is not there."""
    with open(path, "ab") as file:
        file.write(b"%d\n" % number)


def append_slowly(path: str, number: int) -> None:
    """Add a record in two steps."""
    with open(path, "ab", buffering=0) as file:
        file.write(b"%d" % number)
        file.write(b"\n")


def replace(path: str, number: int) -> None:
    """Put a finished file in its place."""
    new = f"{path}.tmp"
    append(new, number)
    os.rename(new, path)


def rewrite(path: str, number: int) -> None:
    """Truncate and write it anew."""
    with open(path, "wb") as file:
        file.write(b"%d\n" % number)


def rewrite_and_put_mtime_back(path: str, number: int) -> None:
    """Overwrite it in place, with the length as it was, and hide that."""
    try:
        with open(path, "r+b") as file:
            before = os.fstat(file.fileno())
            file.write(b"%08d\n" % number)
            file.flush()
            os.utime(file.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
    except FileNotFoundError:
        with open(path, "wb") as file:
            file.write(b"%08d\n" % number)


def produce(kind: str, path: str, stop: Event, written: str) -> None:
    """Do it over and over; what was written last is noted in a file."""
    number = 0
    generator = random.Random(kind)
    while not stop.is_set():
        number += 1
        globals()[kind](path, number)
        time.sleep(generator.random() * 0.0003)
    Path(written).write_text(str(number))


@pytest.mark.parametrize("kind", ["append", "append_slowly", "replace", "rewrite", "rewrite_and_put_mtime_back"])
def test_a_producer_that_never_rests(tmp_path: Path, kind: str) -> None:
    """Files are shipped and removed while their producer goes on: nothing of what it wrote is lost."""
    spool = tmp_path / "spool"
    spool.mkdir()
    path = spool / "x"
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    producer = context.Process(target=produce, args=(kind, str(path), stop, str(tmp_path / "written")))
    producer.start()
    root = SpoolRoot(str(spool))
    layout = TreeLayout(settle_seconds=0, globs=Globs(include=[], exclude=[]))
    delivered: list[bytes] = []
    outcomes: dict[str, int] = {}
    pending: deque[tuple[float, OpenFile, bytes, Detached]] = deque()

    def count(outcome: object) -> None:
        outcomes[str(outcome)] = outcomes.get(str(outcome), 0) + 1

    def ship_all() -> None:
        private = {taken.private for _, _, _, taken in pending}
        for found in layout.scan(root, lambda *_: None):
            assert isinstance(found, Candidate)
            if found.name in private:
                continue
            file = open_candidate(root, found)
            if not isinstance(file, OpenFile):
                count(file[0])
                continue
            content = os.pread(file.descriptor, 10**7, 0)
            taken = take(root, file)
            if isinstance(taken, Left):
                count(taken)
                file.close()
            else:
                pending.append((time.monotonic(), file, content, taken))

    def remove_all() -> None:
        while pending:
            at, file, content, taken = pending.popleft()
            time.sleep(max(0.0, at + MOMENT_SECONDS - time.monotonic()))
            reason = remove_taken(root, file, taken)
            count(reason)
            # What is gone from under us (its producer replaced it) was shipped all the same.
            if reason is None:
                delivered.append(content)
            file.close()

    until = time.monotonic() + SECONDS
    while time.monotonic() < until or outcomes.get("None", 0) <= FEW:
        # So many private names there are for each name.
        for _ in range(8):
            ship_all()
        remove_all()
    stop.set()
    producer.join()
    for _ in range(3):
        ship_all()
        remove_all()
    root.close()
    last = int((tmp_path / "written").read_text())
    records = [line for content in delivered for line in content.splitlines()]
    numbers = {int(line) for line in records}
    assert not [left for left in spool.iterdir() if not left.name.endswith(".tmp")]
    if kind.startswith("append"):
        assert numbers == set(range(1, last + 1)), outcomes
        assert len(records) == last
    else:
        assert last in numbers, outcomes
    assert outcomes["None"] > FEW


RUN = """
import sys, time
from s3_uploader.run.context import RunContext
from s3_uploader.run.run import run_once
from s3_uploader.config.destinations import LocalDestination
from s3_uploader.config.schema import Config
base = sys.argv[1]
archive = LocalDestination(path=base + "/archive")
config = Config(base_dir=base + "/spool", destination=archive, state_dir=base + "/state")
print("ready", flush=True)
sys.exit(run_once(config, RunContext(emit=lambda event: None)).exit_code)
"""


def test_killed_at_any_instant(tmp_path: Path) -> None:
    """Runs that are killed lose nothing and replace nothing; the last one ends clean with an empty spool."""
    (tmp_path / "archive").mkdir()
    expected = {}
    for place in range(2):
        for hour in range(5):
            directory = tmp_path / f"spool/location{place}/2020/01/01/{hour:02}"
            directory.mkdir(parents=True)
            for minute in range(60):
                path = directory / f"{minute:02}-topic.dat"
                path.write_text(f"{path}")
                os.utime(path, (1.6e9, 1.6e9))
                expected[str(path.relative_to(tmp_path / "spool"))] = str(path)
    kills = 0
    seed = random.randrange(10**6)
    generator = random.Random(seed)
    for _ in range(60):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        if kills < 8:
            time.sleep(generator.random() * 0.25)
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        process.stdout.close()
        kills += code == -signal.SIGKILL
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"seed {seed}"
    archive = tmp_path / "archive"
    stored = {str(path.relative_to(archive)): path.read_text() for path in archive.rglob("*") if path.is_file()}
    assert stored == expected, f"seed {seed}"
    assert list((tmp_path / "spool").iterdir()) == [], f"seed {seed}"
