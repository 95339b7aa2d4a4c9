"""A control group with hardly any memory: the kernel kills whoever asks for more.

Needs root, and a memory controller that may be written to (https://docs.kernel.org/admin-guide/cgroup-v1/memory.html,
https://docs.kernel.org/admin-guide/cgroup-v2.html).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from tests.servers.debian import Unavailable
from tests.servers.process import wait_until

_PLACES = {
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}
"""Where the groups are, and the file with the limit of one: in the first version, and in the second."""
_BYTES = 64 * 1024


class MemoryGroup:
    """The group. What a process had before it was moved there is not counted."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def starve(self, pid: int) -> None:
        """Let a process get no more memory."""
        (self._directory / "cgroup.procs").write_text(str(pid))

    def killed(self) -> int:
        """How many processes the kernel has killed in this group."""
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(FileNotFoundError):
                words = (self._directory / name).read_text().split()
                return int(words[words.index("oom_kill") + 1])
        raise Unavailable("this kernel does not count whom it kills")


@contextlib.contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """Make a group, and remove it when its processes have ended.

    Raises `Unavailable` where none can be made.
    """
    for place, limit in _PLACES.items():
        directory = place / f"s3u-{secrets.token_hex(4)}"
        try:
            directory.mkdir()
        except OSError:
            continue
        try:
            if (directory / limit).exists():
                (directory / limit).write_text(str(_BYTES))
                yield MemoryGroup(directory)
                return
        finally:
            _remove(directory)
    raise Unavailable("this user may not make a control group with a limit of memory")


def _remove(directory: Path) -> None:
    wait_until(lambda: not (directory / "cgroup.procs").read_text(), what="the group was empty")
    directory.rmdir()
