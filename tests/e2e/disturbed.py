"""Spools of all kinds of files on their way to all kinds of destinations, and what holds however a run ended."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import Finished, Site, contents, entries, settle
from tests.servers.debian import require
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import or_skip
from tests.servers.pyftpd import PyFtpServer

KINDS = ("plain", "claim", "compress", "ftp", "local")
HOUR = "bedroom/2020/11/29/20"
MEBIBYTE = 2**20
PLACES = ("spool", "claims", "done")
"""The directories below a site in which a file may be that is not delivered yet."""
SIZES = (0, 16, 300_000)
IN_PARTS = 5 * MEBIBYTE + 1
IN_PIECES = MEBIBYTE + 1
"""The smallest file that goes up in parts, and one of which a file server or a directory gets several pieces."""
_RUNS = 4
"""So many runs after the one that was disturbed may it take until all is done."""


class Spool:
    """A spool of small, empty, middle and large files, and where they go."""

    def __init__(self, site: Site, *, sizes: Sequence[int], **settings: Any) -> None:
        self.site = site
        self.made = {
            f"{HOUR}/{minute}-topic.dat": random.Random(minute).randbytes(size) for minute, size in enumerate(sizes, 10)
        }
        site.settings.update({"state_dir": str(site.place / "state"), **settings})
        # Nothing of a killed process can be measured.
        site.environment = {name: value for name, value in site.environment.items() if "COVERAGE" not in name}

    def begin(self) -> None:
        """Put everything back to where it is before a first run."""
        for name in ("state", "spool", "claims", "done"):
            shutil.rmtree(self.site.place / name, ignore_errors=True)
            (self.site.place / name).mkdir(mode=0o700)
        self.forget()
        for path, content in self.made.items():
            self.site.file(path, content)

    def forget(self) -> None:
        """Empty the destination."""
        raise NotImplementedError

    def delivered(self) -> dict[str, bytes]:
        """What is at the destination, under its path."""
        raise NotImplementedError

    def under_hidden_names(self) -> list[str]:
        """What is at the destination and has no final name."""
        return []

    def replaced(self) -> list[str]:
        """What was replaced at the destination, or is there under its final name and is not what was made."""
        return [path for path, content in self.delivered().items() if self.made.get(path, b"") != content]


class OnServer(Spool):
    """An S3 server."""

    def __init__(self, site: Site, server: FaultServer, *, sizes: Sequence[int], **settings: Any) -> None:
        super().__init__(site, sizes=sizes, **settings)
        self.server = server
        # With a port that answers and a server that lives in this process nothing takes long.
        site.ship_to(server, multipart_threshold=5 * MEBIBYTE, part_size=5 * MEBIBYTE, upload_timeout_seconds=20)

    def forget(self) -> None:
        """Empty the bucket."""
        self.server.forget_requests()
        with self.server.store.lock:
            self.server.store.buckets[self.server.bucket].clear()
            self.server.store.uploads.clear()
            self.server.store.replacements.clear()

    def delivered(self) -> dict[str, bytes]:
        """The objects."""
        return self.server.objects()

    def replaced(self) -> list[str]:
        """The server has noticed."""
        return [each.key for each in self.server.replacements] + super().replaced()


class Compressed(OnServer):
    """An S3 server that gets compressed objects."""

    def delivered(self) -> dict[str, bytes]:
        """The objects, decompressed."""
        return {key.removesuffix(".gz"): gzip.decompress(body) for key, body in super().delivered().items()}


class InDirectory(Spool):
    """A directory: of this machine, or one that an FTP server shows."""

    def __init__(self, site: Site, directory: Path, *, sizes: Sequence[int], is_remote: bool = False) -> None:
        super().__init__(site, sizes=sizes)
        self.is_remote = is_remote
        self.directory = directory

    def forget(self) -> None:
        """Empty the directory, which stays the same one."""
        for entry in self.directory.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def delivered(self) -> dict[str, bytes]:
        """The files under final names, and not what is tried or on its way under hidden ones."""
        return {path: content for path, content in contents(self.directory).items() if "/." not in f"/{path}"}

    def under_hidden_names(self) -> list[str]:
        """Parts of files, and directories in which names were tried."""
        return [path for path in entries(self.directory) if "/." in f"/{path}"]


@contextlib.contextmanager
def spool_of(kind: str, site: Site, sizes: Sequence[int] = ()) -> Iterator[Spool]:
    """One of the configurations, with files of these sizes: an empty one, a small one, a middle and a large one."""
    sizes = sizes or (*SIZES, IN_PIECES if kind in ("local", "ftp") else IN_PARTS)
    if kind == "local":
        yield InDirectory(site, site.ship_to_directory(), sizes=sizes)
    elif kind == "ftp":
        root = site.place / "ftp"
        root.mkdir()
        server = PyFtpServer(root)
        site.settings["destination"] = {
            "type": "ftp",
            "host": "127.0.0.1",
            "port": server.port,
            "user": "test",
            "password": "testpw",
            "timeout_seconds": 5,
        }
        try:
            yield InDirectory(site, root, is_remote=True, sizes=sizes)
        finally:
            server.stop()
    else:
        with FaultServer(small_buffers=False) as s3:
            if kind == "compress":
                yield Compressed(site, s3, sizes=sizes, compress={"format": "gzip", "level": 1})
            elif kind == "claim":
                places = {"claim_dir": str(site.place / "claims"), "on_success": {"move_to": str(site.place / "done")}}
                yield OnServer(site, s3, sizes=sizes, **places)
            else:
                yield OnServer(site, s3, sizes=sizes)


class Violation(Exception):
    """A promise was not kept at a point."""


def check_promises(spool: Spool, run: Finished, *, killed: bool) -> None:
    """What holds whenever a run has ended, in whatever way."""
    delivered = spool.delivered()
    on_disk = {content for name in PLACES for content in contents(spool.site.place / name).values()}
    for path, content in spool.made.items():
        if content not in on_disk and delivered.get(path) != content:
            raise Violation(f"{path} is lost")
    if replaced := spool.replaced():
        raise Violation(f"replaced or half written at the destination: {replaced}")
    if "Traceback" in run.stderr:
        raise Violation("a traceback")
    if run.code < 0 and not killed:
        raise Violation(f"ended by signal {-run.code}")
    if not killed and spool.site.left() and not run.stderr:
        raise Violation(f"left in silence: {sorted(spool.site.left())}; exit code {run.code}")


def check_end(spool: Spool, *, run_it: Callable[[], Finished] | None = None, idle_run: bool = True) -> None:
    """The next runs need no help: they end clean, and everything is where it belongs.

    :param run_it: what runs the command once, if it is not started anew each time.
    :param idle_run: whether one more run, which has nothing to do, has to say nothing.
    """
    run_it = run_it or spool.site.run
    for attempt in range(_RUNS):
        for place in (spool.site.spool, spool.site.place / "claims"):
            for path in contents(place):
                # With another time it counts as other content, and a file that failed need not wait for its next try.
                settle(place / path, 7200 + 60 * attempt)
        run = run_it()
        check_promises(spool, run, killed=False)
        if run.code == 0 and not spool.site.left():
            break
    else:
        raise Violation(
            f"run {_RUNS} after it ends with {run.code} and leaves {sorted(spool.site.left())}: {run.stderr}"
        )
    if idle_run:
        last = run_it()
        if last.code != 0 or last.stderr:
            raise Violation(f"a run without work ends with {last.code}: {last.stderr}")
    if spool.delivered() != spool.made:
        raise Violation(f"at the destination: {sorted(spool.delivered())}")
    if hidden := spool.under_hidden_names():
        raise Violation(f"nobody has cleared away: {hidden}")
    claimed = [path for path in contents(spool.site.place / "claims") if not path.endswith("lock")]
    if claimed or list(contents(spool.site.spool)):
        raise Violation(f"left over: {claimed} {list(contents(spool.site.spool))}")


def require_strace() -> None:
    """Skip where there is no strace, or where it may not trace."""
    or_skip(lambda: require("strace"))
    tried = subprocess.run(
        ["strace", "--follow-forks", "--seccomp-bpf", "-o", os.devnull, "true"], capture_output=True, text=True
    )
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()[:200]}")
