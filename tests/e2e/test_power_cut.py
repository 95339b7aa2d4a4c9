"""The power is cut at any moment of a run: no byte is lost, the ledger opens, and the next runs end clean.

A run is recorded and replayed into states that two kinds of disks could be in afterwards; which, stands in
`tests/e2e/power.py`. ``UPLOADER_TEST_SEED`` repeats the states. ``UPLOADER_TEST_SECONDS`` is the longest
time for a shard.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.disturbed import KINDS, PLACES, InDirectory, OnServer, Spool, check_end, require_strace, spool_of
from tests.e2e.power import Recording, recording, write_out
from tests.e2e.site import Site

DISKS = ("ordered", "any")
SHARES = (0.0, 1.0, 0.5, 0.5, 0.9, 0.1)
"""How much of what is uncertain is there, in the states of one moment."""
ALL_TIMES = 3
SHARDS = 4
QUICK_MOMENTS, QUICK_RUNS, LONG_RUNS = 8, 1, 10
"""For each shard."""
LONG_SECONDS = float(os.environ.get("UPLOADER_TEST_SECONDS", "600"))


class Delivered:
    """What a run has brought to a server, with the moment from which on it was there."""

    def __init__(self, spool: Spool) -> None:
        self._moments: dict[str, float] = {}
        self._stored: dict[str, bytes] = {}
        if isinstance(spool, OnServer):
            wall = time.time() - time.monotonic()
            self._stored = spool.server.objects()
            for operation in ("PutObject", "CompleteMultipartUpload"):
                for request in spool.server.requests_of(operation):
                    self._moments.setdefault(request.key, request.ended + wall)
        elif isinstance(spool, InDirectory) and spool.is_remote:
            self._stored = spool.delivered()
            self._moments = {path: (spool.directory / path).stat().st_ctime + 0.005 for path in self._stored}

    def at(self, moment: float) -> dict[str, bytes]:
        """What was there, as the server keeps it."""
        return {path: content for path, content in self._stored.items() if self._moments[path] <= moment}

    def put_back(self, spool: Spool, moment: float) -> None:
        """Let the server have what it had."""
        for path, content in self.at(moment).items():
            if isinstance(spool, OnServer):
                spool.server.put(path, content)
            elif isinstance(spool, InDirectory):
                write_out({path: content}, spool.directory)


def check_state(spool: Spool, files: dict[str, bytes], delivered: dict[str, bytes], scratch: Path) -> list[str]:
    """What is wrong with a disk after a power cut."""
    wrong = []
    waiting = {content for path, content in files.items() if path.startswith(tuple(f"{place}/" for place in PLACES))}
    keys = {path.removesuffix(".gz") for path in delivered}
    for path, content in spool.made.items():
        archived = files.get(f"archive/{path}")
        if archived not in (None, content):
            wrong.append(f"{path} is half written in the archive: {len(archived or b'')} bytes")
        if content not in waiting and path not in keys and archived != content:
            wrong.append(f"{path} is lost")
    return wrong + ledger_problems(files, scratch)


def ledger_problems(files: dict[str, bytes], scratch: Path) -> list[str]:
    """Whether SQLite takes the ledger for a whole one, if there is one."""
    shutil.rmtree(scratch, ignore_errors=True)
    state = {path: content for path, content in files.items() if "/ledger.sqlite3" in path}
    write_out(state, scratch)
    wrong = []
    for path in state:
        if path.endswith("sqlite3") and state[path]:
            connection = sqlite3.connect(scratch / path)
            try:
                found = connection.execute("PRAGMA integrity_check").fetchall()
                if found != [("ok",)]:
                    wrong.append(f"the ledger: {found[:3]}")
            except sqlite3.Error as error:
                wrong.append(f"the ledger: {error}")
            finally:
                connection.close()
    return wrong


def restore(spool: Spool, files: dict[str, bytes], delivered: Delivered, moment: float) -> None:
    """Let the site be what it was after the power cut."""
    spool.begin()
    for name in (*PLACES, "state"):
        shutil.rmtree(spool.site.place / name)
        (spool.site.place / name).mkdir(mode=0o700)
    ours = (*PLACES, "state", "archive")
    write_out({path: content for path, content in files.items() if path.startswith(ours)}, spool.site.place)
    for directory, _, _ in os.walk(spool.site.place / "state"):
        Path(directory).chmod(0o700)
    delivered.put_back(spool, moment)


@pytest.mark.slow
@pytest.mark.rotated("shard")
@pytest.mark.timeout(LONG_SECONDS + 300)
@pytest.mark.parametrize("shard", range(SHARDS), ids=lambda number: f"shard{number}")
@pytest.mark.parametrize("kind", KINDS)
def test_the_power_is_cut(
    site: Site,
    kind: str,
    shard: int,
    chance: random.Random,
    effort: Callable[[int, int], int],
    tally: Callable[[str, int], None],
    tmp_path: Path,
) -> None:
    """Whatever the disk kept of what was not synced, each byte is on it or delivered, and the next runs end clean."""
    require_strace()
    with spool_of(kind, site, sizes=(0, 16, 70_000)) as spool:
        spool.begin()
        site.write_config()
        recorded = Recording(site.place)
        finished = site.run(prefix=recording(tmp_path / "log"))
        assert finished.code == 0, finished.stderr
        recorded.read(tmp_path / "log")
        assert_replays(recorded, site.place)
        delivered = Delivered(spool)
        moments = list(range(shard, len(recorded.changes) + 1, SHARDS))
        chance.shuffle(moments)
        runs, states = effort(QUICK_RUNS, LONG_RUNS), 0
        wanted, until = moments[: effort(QUICK_MOMENTS, len(moments))], time.monotonic() + LONG_SECONDS
        for number, cut in enumerate(wanted):
            if time.monotonic() > until:
                tally(f"moments of a power cut, {kind}, no time for", len(wanted) - number)
                break
            moment = recorded.changes[cut - 1].at if cut else 0.0
            for disk in DISKS:
                for share in SHARES * effort(1, ALL_TIMES):
                    files = kept(recorded.after(cut, disk, chance, share).files())
                    states += 1
                    wrong = check_state(spool, files, delivered.at(moment), tmp_path / "scratch")
                    assert not wrong, f"before change {cut} of {kind}, {disk} disk, share {share}: {wrong}"
            if runs:
                runs -= 1
                restore(spool, files, delivered, moment)
                check_end(spool)
        tally(f"states after a power cut, {kind}", states)
        print(f"{kind}: {states} states after {len(recorded.changes)} changes")


def kept(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what is in memory only: SQLite maps it, and makes it anew after a crash."""
    return {path: content for path, content in files.items() if not path.endswith("-shm")}


def assert_replays(recorded: Recording, place: Path) -> None:
    """The whole recording leads to what is on the disk now: else it proves nothing."""
    replayed = kept(recorded.after(len(recorded.changes), "any", None, 1.0).files())
    for name in (*PLACES, "state", "archive"):
        for directory, _, names in os.walk(place / name):
            for each in names:
                path = Path(directory, each)
                relative = str(path.relative_to(place))
                assert relative.endswith("-shm") or replayed.get(relative) == path.read_bytes(), relative
    assert not [path for path in replayed if path.startswith(PLACES) and not (place / path).exists()]
