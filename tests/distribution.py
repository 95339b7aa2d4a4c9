"""Which tests stay together where several processes share them: those of a file, unless they are shards.

``--dist loadfile`` gives a file to one process, so that what is set up for a file is set up once. A test that has a
parameter `shard` has divided its own work, and each shard may go to another process: the parameter's value stands in
the test's name, as ``shard3``.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadFileScheduling

_IS_SHARD = re.compile(r"\[(.*-)?shard\d+(-.*)?\]$")


def unit_of(name: str) -> str:
    """What a test goes to a process with: its file, or for a shard nothing but itself."""
    return name if _IS_SHARD.search(name) else name.partition("::")[0]


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """The scheduler of ``--dist loadfile`` with shards."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
