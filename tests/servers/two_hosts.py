"""Two "hosts" that share a directory over a network file system, on one machine.

Each has a mount of its own, with a page cache of its own, and both see it under one path, each in a mount and UTS
namespace of its own. There are two file systems. With bindfs locks on files reach the directory below, and locks on
directories do not, as with NFS. JuiceFS is a network file system: its clients have nothing in common but a database of
names and locks, and a store of blocks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.servers import debian, environments
from tests.servers.namespaces import need_namespaces
from tests.servers.process import ServerProcess, wait_until

NAMES = ("a", "b")
FILE_SYSTEMS = ("bindfs", "juicefs")
_BINDFS_OPTIONS = ("--enable-lock-forwarding", "--multithreaded", "-o", "attr_timeout=1,entry_timeout=1")
_JUICEFS_OPTIONS = ("--no-usage-report", "--backup-meta=0", "--no-bgjob", "--no-agent", "--metrics=127.0.0.1:0")


class TwoHosts:
    """The directory below both, and what starts programs on either.

    `below` is the directory as seen from outside, `seen` the path under which both hosts see it.
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


def _mount_bindfs(hosts: TwoHosts, stack: ExitStack) -> None:
    debian.require("bindfs")
    program = debian.find_program("bindfs")
    assert program is not None
    for name in NAMES:
        mount = hosts.mount_of(name)
        subprocess.run([program, *_BINDFS_OPTIONS, hosts.below, mount], check=True)
        stack.callback(_unmount, mount)


def _mount_juicefs(hosts: TwoHosts, stack: ExitStack) -> None:
    program = environments.installed("juicefs") / "juicefs"
    place = hosts.below.parent
    database = f"sqlite3://{place}/names.sqlite3"
    home = {"HOME": str(place)}
    form: list[str | Path] = [
        program,
        "format",
        "--storage=file",
        f"--bucket={place}/blocks/",
        "--trash-days=0",
        database,
        "hosts",
    ]
    subprocess.run(form, check=True, capture_output=True, timeout=60, env={**os.environ, **home})
    # What is seen from outside is never old.
    fresh, aged = (
        [f"--attr-cache={seconds}", f"--entry-cache={seconds}", f"--dir-entry-cache={seconds}"] for seconds in (0, 1)
    )
    for mount, caches in [(hosts.below, fresh), *((hosts.mount_of(name), aged) for name in NAMES)]:
        options = [*_JUICEFS_OPTIONS, *caches, f"--cache-dir={place}/cache-{mount.name}"]
        command: list[str | Path] = [program, "mount", *options, database, mount]
        process = ServerProcess(command, log=place / f"mount-{mount.name}.log", environment=home)
        stack.callback(process.stop)
        stack.callback(_unmount, mount)
        wait_until(mount.is_mount, what=f"{mount} was mounted", processes=[process])


_MOUNT = {"bindfs": _mount_bindfs, "juicefs": _mount_juicefs}


@contextmanager
def two_hosts(place: Path, file_system: str) -> Iterator[TwoHosts]:
    """Two hosts, as long as the block lasts; the test is skipped where that cannot be had."""
    need_namespaces()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no file systems in user space here")
    with ExitStack() as stack:
        hosts = TwoHosts(place)
        _MOUNT[file_system](hosts, stack)
        yield hosts
