"""The spools of the benchmarks: which files there are and what is in them, as functions of a number.

So the same files can be made again for every run, and what arrived can be checked without having kept a copy.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.arrival import Pieces

BLOCK = 2**20
_STAMP = 16
_LINK_FROM = 2**20
"""Files of this size are made once and hard-linked into each spool, which spares the disk a hundred gigabytes."""
_OLD = datetime.datetime(2020, 11, 29, tzinfo=datetime.timezone.utc)


@functools.cache
def _noise() -> bytes:
    return random.Random(2020).randbytes(BLOCK)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A spool of the layout ``location/YYYY/MM/DD/HH/mm-topic.dat``.

    Every location has ``topics`` files each ``minutes``, from a minute of the past on; with 0 all of them are of that
    minute and so in one directory, with ``fresh`` of this very minute.
    """

    files: int
    size: int
    fresh: bool = False
    locations: int = 10
    topics: int = 4
    minutes: int = 1

    @property
    def total_bytes(self) -> int:
        """The sum of all files."""
        return self.files * self.size

    def paths(self, *, now: datetime.datetime) -> list[str]:
        """The files, relative to the spool, oldest first."""
        begin = now if self.fresh else _OLD
        step = datetime.timedelta(minutes=0 if self.fresh else self.minutes)
        found = []
        for number in range(self.files):
            slot, location = divmod(number, self.locations)
            minute, topic = divmod(slot, self.topics)
            when = begin + minute * step
            name = f"{when:%M}-topic{topic if step else slot}.dat"
            found.append(f"location{location}/{when:%Y/%m/%d/%H}/{name}")
        return found

    def blocks(self, number: int) -> Iterator[bytes]:
        """The content of one file. No two files, and no two blocks of one, are the same."""
        noise = memoryview(_noise())
        for block, first in enumerate(range(0, self.size, BLOCK)):
            stamp = number.to_bytes(8, "big") + block.to_bytes(8, "big")
            yield (stamp + noise[_STAMP : min(BLOCK, self.size - first)])[: self.size - first]

    def arrives_as(self, number: int, sizes: tuple[int, ...]) -> Pieces:
        """The digests of one file, cut into pieces of these sizes."""
        return _digests(self.size, number, sizes)


@functools.lru_cache(maxsize=2_000_000)
def _digests(size: int, number: int, sizes: tuple[int, ...]) -> Pieces:
    pieces = []
    rest = b""
    blocks = Plan(files=1, size=size).blocks(number)
    for wanted in sizes:
        digest, missing = hashlib.md5(usedforsecurity=False), wanted
        while missing:
            data = rest or next(blocks, b"")
            if not data:
                break
            digest.update(data[:missing])
            rest = data[missing:]
            missing -= min(missing, len(data))
        pieces.append((wanted, digest.hexdigest()))
    return tuple(pieces)


class Spool:
    """A spool on the disk, made anew for each run.

    :param place: a directory of our own.
    """

    def __init__(self, place: str) -> None:
        self.path = os.path.join(place, "spool")
        self._originals = os.path.join(place, "originals")

    def make(self, plan: Plan) -> list[str]:
        """Make the files and return their paths. The spool must be empty."""
        now = datetime.datetime.now(datetime.timezone.utc)
        paths = plan.paths(now=now)
        os.makedirs(self.path, exist_ok=True)
        modified = None if plan.fresh else (_OLD.timestamp(), _OLD.timestamp())
        directory = ""
        for number, path in enumerate(paths):
            parent, _, _ = path.rpartition("/")
            if parent != directory:
                directory = parent
                os.makedirs(os.path.join(self.path, directory), exist_ok=True)
            target = os.path.join(self.path, path)
            if plan.size >= _LINK_FROM:
                os.link(self._original(plan, number), target)
            else:
                _write(target, plan, number)
            if modified:
                os.utime(target, modified)
        return paths

    def _original(self, plan: Plan, number: int) -> str:
        path = os.path.join(self._originals, f"{plan.size}-{number}")
        if not os.path.exists(path):
            os.makedirs(self._originals, exist_ok=True)
            _write(path, plan, number)
        return path

    def left(self) -> int:
        """How many files are still there."""
        return sum(len(files) for _, _, files in os.walk(self.path))


def _write(path: str, plan: Plan, number: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for block in plan.blocks(number):
            file.write(block)
