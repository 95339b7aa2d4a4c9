"""How several processes share the tests: those of a file stay together, unless it is divided.

``--dist loadfile`` gives a file to one process, so that what is set up for a file is set up once. A test that has a
parameter `shard` has divided its own work, and each shard may go to another process: the parameter's value stands in
the test's name, as ``shard3``. A file whose tests are repeated for each of many servers may name them with an ``@``, as
``ceph@native``: then only the tests of one server stay together.

Longest first, or one process would still be at a long file when the others have nothing left; then those that compute
beside those that wait, or there would be a time when processors idle after one when they are short.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

LONGEST = (
    "test_watch",
    "test_workers",
    "test_cron",
    "test_source_changes",
    "test_odd_ftp_servers",
    "test_quick_start",
    "test_s3_faults",
    "test_printed_commands",
    "test_leads_back",
    "test_stuck",
    "test_bad_destination",
    "test_commands",
    "test_sftp",
)
"""Files that take half a minute or more, those that wait between those that compute."""

_COMPUTING = "tests/e2e/"
_WAITING = ("tests/contracts/", "tests/integration/")
_IS_SHARD = re.compile(r"\[(.*-)?shard\d+(-.*)?\]$")
_SERVER = re.compile(r"\[([^\]]+@[^\]]+)\]$")


def unit_of(name: str) -> str:
    """What a test goes to a process with: its file, the tests of its server, or for a shard nothing but itself."""
    if _IS_SHARD.search(name):
        return name
    file = name.partition("::")[0]
    server = _SERVER.search(name)
    return file if server is None else f"{file}[{server[1]}]"


def in_order(units: Iterable[str]) -> list[str]:
    """Units in the order in which they are begun; small ones, which fill what is left at the end, come last."""
    everything = list(units)
    longest = sorted(
        (unit for unit in everything if _stem(unit) in LONGEST), key=lambda unit: LONGEST.index(_stem(unit))
    )
    others = [unit for unit in everything if _stem(unit) not in LONGEST]
    computing = [unit for unit in others if unit.startswith(_COMPUTING)]
    waiting = [unit for unit in others if unit.startswith(_WAITING)]
    mixed = sorted((number / len(group), unit) for group in (computing, waiting) for number, unit in enumerate(group))
    small = [unit for unit in others if not unit.startswith((_COMPUTING, *_WAITING))]
    return [*longest, *(unit for _, unit in mixed), *small]


def _stem(unit: str) -> str:
    return Path(unit.partition("::")[0].partition("[")[0]).stem


def read_apart(files: Iterable[Path], root: Path, process: int, processes: int) -> None:
    """Import the files, each process beginning at another place.

    Every process reads all files. The first to read one also rewrites its assertions, and keeps the result for the
    others; in the same order all would be the first, file after file.
    """
    everything = sorted(files)
    start = len(everything) * process // processes
    for file in everything[start:] + everything[:start]:
        # What fails fails once more when it is collected, where it is reported.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(file.relative_to(root).with_suffix("").parts))


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """The scheduler of ``--dist loadfile`` with shards, and with an order."""

    _is_in_order = False

    def _assign_work_unit(self, node: WorkerController) -> None:
        if not self._is_in_order:
            self._is_in_order = True
            for unit in in_order(self.workqueue):
                self.workqueue.move_to_end(unit)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
