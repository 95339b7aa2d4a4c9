"""One server, from outside: the installed command ships to it, and what is there afterwards is read and compared.

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
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.site import Finished, Site, untraced
from tests.survey.names import kind_of, odd_names
from tests.survey.observation import Finding, Names, Observation, Refused, Sizes
from tests.survey.places import PART, Place

PARTS = ("check", "names", "sizes", "second", "compressed", "killed")
"""What is observed, in that order."""

KILLS = 4
"""How often runs are killed for the record."""

POLICIES = ("fail", "overwrite", "keep-both")
"""What `on_conflict` says of a second file under a name."""

SIZES = (0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1)
_LONGEST_FILE_NAME = 255
_PATIENCE = 240.0
_OF_THIS_RUN = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://127.0.0.1:9000"),
    (re.compile(r"bucket-[0-9a-f]{10}"), "bucket"),
    (re.compile(r"Local time is now \d\d:\d\d\. Server port: \d+\."), "Local time is now 12:00. Server port: 21."),
    (re.compile(r"\.s3-uploader-check/[0-9a-f]{16}"), ".s3-uploader-check/0123456789abcdef"),
    (re.compile(r"/tmp/s3u-[\w-]+"), "/srv"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:9000"),
    (re.compile(r"SHA256:[\w+/]{43}"), "SHA256:..."),
    (re.compile(r"s3-uploader-check-[0-9a-f]{16}"), "s3-uploader-check-0123456789abcdef"),
    (re.compile(r"survey-[0-9a-f]{8}"), "incoming"),
)
_LOCAL_SUBJECTS = frozenset(
    ("spool", "writers", "layout", "state", "ledger", "transport", "endpoint", "clock", "destination")
)


class Survey:
    """Ships to one place after the other of one server.

    :param new_place: makes an empty bucket or directory there.
    :param directory: an empty directory of this machine.
    :param whole: the server takes nothing in parts, so that large files go as a whole.
    :param cut_bodies: of an upload that was killed the server may keep the beginning, as the object of that name.
    :param refresh: has the server forget what it has in memory of the names.
    """

    def __init__(
        self,
        *,
        new_place: Callable[[], Place],
        directory: Path,
        whole: bool = False,
        cut_bodies: bool = False,
        refresh: Callable[[], object] = lambda: None,
    ) -> None:
        self._new_place = new_place
        self._directory = directory
        self._whole = whole
        self._cut_bodies = cut_bodies
        self._refresh = refresh
        self._sites = 0

    def observe(self, known: Observation | None, parts: Collection[str]) -> Observation:
        """Do what is recorded.

        :param known: what is in the record already; then only ``parts`` are done.
        :raises AssertionError: if a promise was broken.
        """
        seen: dict[str, Any] = {} if known is None else msgspec.structs.asdict(known)
        for part in PARTS:
            if known is None or part in parts:
                seen.update(self._part(part))
        return Observation(**seen)

    def _part(self, part: str) -> dict[str, Any]:
        if part == "check":
            ready, check = self.check()
            return {"ready": ready, "check": check}
        if part == "killed":
            return {part: self.killed(kills=KILLS, chance=random.Random(KILLS))}
        actions: dict[str, Callable[[], object]] = {
            "names": self.names,
            "sizes": self.sizes,
            "second": self.second_files,
            "compressed": self.compressed,
        }
        return {part: actions[part]()}

    # What is asked first

    def check(self) -> tuple[int, tuple[Finding, ...]]:
        """Exit code of `check` and what it says about the server; it leaves nothing there."""
        site, place = self._site()
        finished = self._run(site, "check", "--json")
        found = [each for each in json.loads(finished.stdout) if each["subject"] not in _LOCAL_SUBJECTS]
        left = place.names()
        assert left == [], f"check left {left} behind"
        return finished.code, tuple(
            Finding(each["severity"], *(_anonymous(each[name]) for name in ("subject", "fact", "meaning")))
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
            site, place = self._site(layout=layout)
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
                elif place.read(name) == content_of(name):
                    stored[kind[name]] += 1
                else:
                    elsewhere = elsewhere or {place.read(key): key for key in place.names()}
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
        site, place = self._site(layout="tree")
        for size in SIZES:
            site.file(f"size-{size}.dat", pattern(size))
        finished = self._run(site, "run")
        if finished.code and not self._whole:
            assert finished.code == 1, finished.stderr
            assert set(site.left()) == {f"size-{size}.dat" for size in SIZES if size > PART}, site.left().keys()
            said = _said_of(finished.stderr, site.spool / f"size-{SIZES[-1]}.dat")
            assert "multipart_threshold" in said, finished.stderr
            self._whole = True
            site.settings["multipart_threshold"] = 3 * PART
            finished = self._run(site, "run", "--retry")
        assert finished.code == 0, finished.stderr
        assert site.left() == {}
        for size in SIZES:
            assert place.read(f"size-{size}.dat") == pattern(size), size
        proofs = {row["path"][len("size-") : -len(".dat")]: row["proof"] for row in site.history()}
        assert set(proofs.values()) <= place.proofs, proofs
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

    def second_files(self, policies: Sequence[str] = POLICIES) -> dict[str, str]:
        """Ship a second file under each name, of the same content and of another, small and large."""
        return {policy: self._second_file(policy) for policy in policies}

    def _second_file(self, policy: str) -> str:
        site, place = self._site(layout="tree", on_conflict=policy)
        sizes = {"small.dat": 100, "large.dat": PART + 100}
        first = {name: pattern(size, "first") for name, size in sizes.items()}
        second = {name: pattern(size, "second") for name, size in sizes.items()}
        for round_of_runs in ("new", "the same again"):
            for name, content in first.items():
                site.file(name, content)
            finished = self._run(site, "run")
            assert finished.code == 0, f"{round_of_runs}: {finished.stderr}"
            assert {name: place.read(name) for name in sizes} == first
        again = {row["already_there"] for row in site.history()[-len(sizes) :]}
        if policy != "overwrite":
            assert again == {True}, "what is there already was sent again"
        for name, content in second.items():
            site.file(name, content)
        finished = self._run(site, "run")
        there = {name: place.read(name) for name in sizes}
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
        assert {name: place.read(key) for name, key in others.items()} == second
        return "under a name of its own"

    # Compressed

    def compressed(self) -> tuple[str, str]:
        """Ship compressed files: what is stored is the compressed form, and the audit knows it."""
        site, place = self._site(layout="tree", compress="gzip")
        made = {"small.dat": b"20:46 21.5 C\n" * 20_000, "large.dat": pattern(2 * PART + 9)}
        for name, content in made.items():
            site.file(name, content)
        finished = self._run(site, "run")
        assert finished.code == 0, finished.stderr
        assert site.left() == {}
        rows = {row["path"]: row for row in site.history()}
        for name, content in made.items():
            assert gzip.decompress(place.read(rows[name]["key"]) or b"") == content
        proofs = tuple(rows[name]["proof"] for name in made)
        assert set(proofs) <= place.proofs, proofs
        self._audit(site)
        return (proofs[0], proofs[1])

    # Killed

    def killed(self, *, kills: int, chance: random.Random) -> int:
        """Kill runs at random instants: each file is here or there, and the next run finishes the work.

        :returns: how many of them were at work.
        """
        site, place = self._site(layout="tree")
        untraced(site)
        made = {f"{number:03d}.dat": pattern(4096, str(number)) for number in range(60)}
        made |= {f"large-{number}.dat": pattern(2 * PART + 9, str(number)) for number in range(2)}
        for name, content in made.items():
            site.file(name, content)
        at_work = 0
        for _ in range(kills):
            running = site.start("run", "--quiet", "--retry")
            time.sleep(0.25 + chance.expovariate(1 / 0.4))
            at_work += running.poll() is None
            running.kill()
            left = site.left()
            for name, content in made.items():
                here = content in (left.get(name), left.get(f".{name}.s3u"))
                assert here or place.read(name) == content, f"{name} is lost"
        finished = self._run(site, "run", "--retry")
        if self._cut_bodies and finished.code == 1:
            # A beginning of a file could be somebody else's object, so it is replaced only if the user says so.
            for name, content in site.left().items():
                there = place.read(name)
                assert there is not None, name
                assert content == made[name], name
                assert len(there) < len(content), name
                assert content.startswith(there), name
            finished = self._run(site, "run", "--retry", "--set", "on_conflict=overwrite")
        assert finished.code == 0, finished.stderr[-3000:]
        assert site.left() == {}
        for name, content in made.items():
            assert place.read(name) == content, name
        assert {row["path"] for row in site.history()} == set(made)
        return at_work

    # Tools

    def _site(self, **settings: Any) -> tuple[Site, Place]:
        self._sites += 1
        directory = self._directory / str(self._sites)
        directory.mkdir(parents=True)
        site, place = Site(directory), self._new_place()
        place.point(site, whole=3 * PART if self._whole else None, **settings)
        return site, place

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
