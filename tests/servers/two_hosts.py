"""Two "hosts" that share a directory over a network file system, on one machine.

Each has a mount of its own of one directory, by bindfs, with a page cache of its own. Locks on files reach the
directory below; locks on directories do not, as with NFS. Both see it under one path, each in a mount and UTS namespace
of its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers import debian
from tests.servers.namespaces import need_namespaces

NAMES = ("a", "b")
_OPTIONS = ("--enable-lock-forwarding", "--multithreaded", "-o", "attr_timeout=1,entry_timeout=1")


class TwoHosts:
    """The directory below both, and what starts programs on either.

    `below` is the directory itself, `seen` the path under which both hosts see it.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self.below = place / "below"
        self.seen = place / "seen"
        self.below.mkdir()
        self.seen.mkdir()
        for name in NAMES:
            (place / name).mkdir()

    def mount_of(self, name: str) -> Path:
        """Where the mount of a host is seen from outside of its namespace."""
        return self._place / name

    def start(self, name: str, *command: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start a program on a host; its two outputs are read together."""
        script = f'hostname host-{name} && mount --bind "$0" "{self.seen}" && exec "$@"'
        return subprocess.Popen(
            ["unshare", "--mount", "--uts", "bash", "-c", script, str(self.mount_of(name)), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **variables},
        )

    def run(self, name: str, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program on a host to its end."""
        process = self.start(name, *command, **variables)
        output, _ = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, "")


def _unmount(mount: Path) -> None:
    subprocess.run(["umount", "--lazy", mount], check=False)


@contextmanager
def two_hosts(place: Path) -> Iterator[TwoHosts]:
    """Two hosts, as long as the block lasts; the test is skipped where that cannot be had."""
    need_namespaces()
    debian.require("bindfs")
    program = debian.find_program("bindfs")
    assert program is not None
    hosts = TwoHosts(place)
    with ExitStack() as stack:
        for name in NAMES:
            mount = hosts.mount_of(name)
            subprocess.run([program, *_OPTIONS, hosts.below, mount], check=True)
            stack.callback(_unmount, mount)
        yield hosts
