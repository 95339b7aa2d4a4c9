"""One server, from outside: the installed command ships to it, and the objects are read with boto3 and compared.

Whatever a server does, the program keeps its promises there; a broken one is an `AssertionError`. What differs from
server to server is an :class:`Observation`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from tests.e2e.site import Finished, Site, untraced
from tests.servers.base import S3Endpoint
from tests.survey.names import kind_of, odd_names

PART = 5 * 2**20
"""The smallest part that S3 takes; a larger file goes in parts."""

SIZES = (0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1)
_LONGEST_FILE_NAME = 255
_PATIENCE = 240.0
_OF_THIS_RUN = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://127.0.0.1:9000"),
    (re.compile(r"bucket-[0-9a-f]{10}"), "bucket"),
    (re.compile(r"\.s3-uploader-check/[0-9a-f]{16}"), ".s3-uploader-check/0123456789abcdef"),
    (re.compile(r"/tmp/s3u-\w+"), "/srv"),
)
_LOCAL_SUBJECTS = frozenset(
    ("spool", "writers", "layout", "state", "ledger", "transport", "endpoint", "clock", "destination")
)


class Refused(msgspec.Struct, frozen=True):
    """Names of one kind that a server did not take, with one of them and what was said of it."""

    count: int
    example: str
    said: str


class Finding(msgspec.Struct, frozen=True):
    """What `check` says of one subject."""

    severity: str
    subject: str
    fact: str
    meaning: str


class Names(msgspec.Struct, frozen=True):
    """What became of the odd names, by kind.

    :param stored: how many were stored as they are.
    :param renamed: how many are in the bucket under another name now.
    :param refused: how many were not stored, and what was said.
    """

    stored: dict[str, int]
    renamed: dict[str, int]
    refused: dict[str, Refused]

    @property
    def numbers(self) -> dict[str, tuple[int, int, int]]:
        """By kind: how many were stored, renamed and refused."""
        return {
            kind: (stored, self.renamed.get(kind, 0), self.refused[kind].count if kind in self.refused else 0)
            for kind, stored in self.stored.items()
        }


class Sizes(msgspec.Struct, frozen=True):
    """How files of each size were proven.

    :param proofs: by size.
    :param in_parts: what was said to the first large file, where the server takes none in parts.
    """

    proofs: dict[str, str]
    in_parts: str


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What one server does, seen through one engine.

    :param check: what `check` says about the server.
    :param ready: its exit code.
    :param second: what became of a second file, of the same and of other content, for each value of `on_conflict`.
    """

    check: tuple[Finding, ...]
    ready: int
    names: Names
    sizes: Sizes
    second: dict[str, str]


class Survey:
    """Ships to one bucket after the other of one server with one engine.

    :param new_bucket: makes a bucket.
    :param place: an empty directory.
    :param whole: the server takes nothing in parts, so that large files go as a whole.
    :param refresh: has the server forget what it has in memory of the names.
    :param known_losses: names whose objects this server gives to others, which the documentation says.
    """

    def __init__(
        self,
        *,
        new_bucket: Callable[[], S3Endpoint],
        engine: str,
        place: Path,
        whole: bool = False,
        refresh: Callable[[], object] = lambda: None,
        known_losses: Collection[str] = (),
    ) -> None:
        self._new_bucket = new_bucket
        self._engine = engine
        self._place = place
        self._whole = whole
        self._refresh = refresh
        self._known_losses = known_losses
        self._sites = 0

    def observe(self) -> Observation:
        """Do everything that is recorded.

        :raises AssertionError: if a promise was broken.
        """
        ready, check = self.check()
        return Observation(check=check, ready=ready, names=self.names(), sizes=self.sizes(), second=self.second_files())

    # What is asked first

    def check(self) -> tuple[int, tuple[Finding, ...]]:
        """Exit code of `check` and what it says about the server; it leaves nothing in the bucket."""
        site, bucket = self._site()
        finished = self._run(site, "check", "--json")
        found = [each for each in json.loads(finished.stdout) if each["subject"] not in _LOCAL_SUBJECTS]
        left = [key for key in bucket.keys() if not key.endswith("/")]  # noqa: SIM118
        assert left == [], f"check left {left} behind"
        return finished.code, tuple(
            Finding(each["severity"], each["subject"], _anonymous(each["fact"]), _anonymous(each["meaning"]))
            for each in found
        )

    # Names

    def names(self) -> Names:
        """Ship three hundred odd names: each is stored as it is, or its file is kept, and a plain one goes."""
        kinds = odd_names()
        kind = kind_of(kinds)
        stored: Counter[str] = Counter(dict.fromkeys(kinds, 0))
        renamed: Counter[str] = Counter()
        refusals: dict[str, list[tuple[str, str]]] = {}
        flat = {name: path for name in kind if len(path := encoded(name)) <= _LONGEST_FILE_NAME}
        deep = {name: name for name in kind if name not in flat}
        for layout, paths in (("queue", flat), ("tree", deep)):
            site, bucket = self._site(layout=layout)
            for name, path in paths.items():
                site.file(path, content_of(name))
            plain = site.file("plain.dat", b"plain")
            said = self._ship_until_settled(site)
            assert not plain.exists(), f"refused names kept a good one from going:\n{said[-3000:]}"
            self._refresh()
            left = site.left()
            elsewhere: dict[bytes | None, str] = {}
            for name, path in paths.items():
                if path in left:
                    assert left[path] == content_of(name)
                    refusals.setdefault(kind[name], []).append((name, _said_of(said, site.spool / path)))
                elif _read(bucket, name) == content_of(name):
                    stored[kind[name]] += 1
                else:
                    if name not in self._known_losses:
                        elsewhere = elsewhere or {_read(bucket, key): key for key in bucket.keys()}  # noqa: SIM118
                        assert content_of(name) in elsewhere, f"{name!r} was shipped and is nowhere"
                    renamed[kind[name]] += 1
        return Names(
            dict(stored),
            dict(renamed),
            {each: Refused(len(found), found[0][0], _anonymous(found[0][1])) for each, found in refusals.items()},
        )

    def _ship_until_settled(self, site: Site) -> str:
        said = ""
        for _ in range(2):
            finished = self._run(site, "run", "--retry")
            said += finished.stderr
            if finished.code == 0:
                break
        assert finished.code in (0, 1), f"exit code {finished.code}:\n{finished.stderr[-3000:]}"
        assert bool(site.left()) == (finished.code == 1)
        return said

    # Sizes

    def sizes(self) -> Sizes:
        """Ship a file of each size around the borders: all arrive, proven, and the audit agrees.

        Where the server takes nothing in parts, that is said, with the setting that lets large files go all the same.
        """
        said = ""
        site, bucket = self._site(layout="tree")
        for size in SIZES:
            site.file(f"size-{size}.dat", pattern(size))
        finished = self._run(site, "run")
        if finished.code and not self._whole:
            assert finished.code == 1, finished.stderr
            assert set(site.left()) == {f"size-{size}.dat" for size in SIZES if size > PART}, site.left().keys()
            said = _said_of(finished.stderr, site.spool / f"size-{SIZES[-1]}.dat")
            assert "multipart_threshold" in said, finished.stderr
            self._whole = True
            site.settings["multipart_threshold"] = SIZES[-1] + 1
            finished = self._run(site, "run", "--retry")
        assert finished.code == 0, finished.stderr
        assert site.left() == {}
        for size in SIZES:
            assert _read(bucket, f"size-{size}.dat") == pattern(size), size
        proofs = {row["path"][len("size-") : -len(".dat")]: row["proof"] for row in site.history()}
        assert set(proofs.values()) <= {"checksum", "md5"}, proofs
        self._audit(site)
        return Sizes({str(size): proofs[str(size)] for size in SIZES}, _anonymous(said))

    def _audit(self, site: Site) -> None:
        """The audit finds everything as it was shipped, from a listing and looking at each object."""
        for arguments in ((), ("--deep",)):
            finished = self._run(site, "audit", "--json", *arguments)
            assert finished.code == 0, f"audit {arguments}: {finished.stdout[-2000:]}{finished.stderr[-2000:]}"
            summary = json.loads(finished.stdout.splitlines()[-1])
            assert summary["problems"] == 0, summary
            assert summary["keys"] == len(site.history())

    # A second file

    def second_files(self) -> dict[str, str]:
        """Ship a second file under each name, of the same content and of another, small and large."""
        return {policy: self._second_file(policy) for policy in ("fail", "overwrite", "keep-both")}

    def _second_file(self, policy: str) -> str:
        site, bucket = self._site(layout="tree", on_conflict=policy)
        sizes = {"small.dat": 100, "large.dat": PART + 100}
        first = {name: pattern(size, "first") for name, size in sizes.items()}
        second = {name: pattern(size, "second") for name, size in sizes.items()}
        for round_of_runs in ("new", "the same again"):
            for name, content in first.items():
                site.file(name, content)
            finished = self._run(site, "run")
            assert finished.code == 0, f"{round_of_runs}: {finished.stderr}"
            assert {name: _read(bucket, name) for name in sizes} == first
        again = {row["already_there"] for row in site.history()[-len(sizes) :]}
        if policy != "overwrite":
            assert again == {True}, "what is there already was sent again"
        for name, content in second.items():
            site.file(name, content)
        finished = self._run(site, "run")
        there = {name: _read(bucket, name) for name in sizes}
        if policy == "fail":
            assert finished.code == 1, finished.stderr
            assert site.left() == second
            assert there == first
            return "the file is kept"
        assert finished.code == 0, finished.stderr
        assert site.left() == {}
        if policy == "overwrite":
            assert there == second
            return "replaced"
        assert there == first
        others = {row["path"]: row["key"] for row in site.history() if row["key"] != row["path"]}
        assert {name: _read(bucket, key) for name, key in others.items()} == second
        return "under a name of its own"

    # Compressed

    def compressed(self) -> None:
        """Ship compressed files: what is stored is the compressed form, and the audit knows it."""
        site, bucket = self._site(layout="tree", compress="gzip")
        content = b"20:46 21.5 C\n" * 20_000
        site.file("readings.dat", content)
        finished = self._run(site, "run")
        assert finished.code == 0, finished.stderr
        assert site.left() == {}
        (key,) = {row["key"] for row in site.history()}
        assert gzip.decompress(_read(bucket, key) or b"") == content
        self._audit(site)

    # Killed

    def killed(self, *, kills: int, chance: random.Random) -> None:
        """Kill runs at random instants: each file is here or there, and the next run finishes the work."""
        site, bucket = self._site(layout="tree")
        untraced(site)
        made = {f"{number:03d}.dat": pattern(4096, str(number)) for number in range(60)}
        made |= {f"large-{number}.dat": pattern(2 * PART + 9, str(number)) for number in range(2)}
        for name, content in made.items():
            site.file(name, content)
        for _ in range(kills):
            running = site.start("run", "--quiet", "--retry")
            time.sleep(0.25 + chance.expovariate(1 / 0.4))
            running.kill()
            left = site.left()
            for name, content in made.items():
                here = content in (left.get(name), left.get(f".{name}.s3u"))
                assert here or _read(bucket, name) == content, f"{name} is lost"
        finished = self._run(site, "run", "--retry")
        assert finished.code == 0, finished.stderr[-3000:]
        assert site.left() == {}
        for name, content in made.items():
            assert _read(bucket, name) == content, name
        assert {row["path"] for row in site.history()} == set(made)

    # Tools

    def _site(self, **settings: Any) -> tuple[Site, S3Endpoint]:
        self._sites += 1
        place = self._place / f"{self._engine}-{self._sites}"
        place.mkdir(parents=True)
        site, bucket = Site(place), self._new_bucket()
        threshold = SIZES[-1] + 1 if self._whole else PART
        site.ship_to(bucket, engine=self._engine, multipart_threshold=threshold, part_size=PART, **settings)
        return site, bucket

    @staticmethod
    def _run(site: Site, *arguments: str) -> Finished:
        finished = site.run(*arguments, timeout=_PATIENCE)
        assert "Traceback" not in finished.stderr, finished.stderr[-4000:]
        return finished


def encoded(name: str) -> str:
    """The file name that stands for an object's in the layout `queue`."""
    return "".join(
        sign if sign.isascii() and sign.isalnum() else "".join(f"%{byte:02X}" for byte in sign.encode())
        for sign in name
    )


def content_of(name: str) -> bytes:
    """The content of the file of a name: no other has the same, also not as long a one."""
    return hashlib.sha256(name.encode()).hexdigest().encode()


def pattern(size: int, seed: str = "") -> bytes:
    """Bytes that look random and are always the same for the same arguments."""
    return hashlib.shake_128(f"{seed}:{size}".encode()).digest(size)


def _read(bucket: S3Endpoint, key: str) -> bytes | None:
    try:
        return bucket.read(key)
    except (ClientError, BotoCoreError):
        return None


def _said_of(stderr: str, path: Path) -> str:
    """What the log says last of one file."""
    shown = str(path)
    lines = [line for line in stderr.splitlines() if f"{shown} " in line or f"{shown}:" in line]
    return lines[-1].partition(f"{shown}")[2] if lines else ""


def _anonymous(text: str) -> str:
    """A sentence without what differs from run to run."""
    for pattern_of, instead in _OF_THIS_RUN:
        text = pattern_of.sub(instead, text)
    return text
