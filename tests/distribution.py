"""Which tests stay together where several processes share them: those of a file, unless it is divided.

``--dist loadfile`` gives a file to one process, so that what is set up for a file is set up once. A test that has a
parameter `shard` has divided its own work, and each shard may go to another process: the parameter's value stands in
the test's name, as ``shard3``. A file whose tests are repeated for each of many servers may name them with an ``@``, as
``ceph@native``: then only the tests of one server stay together.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadFileScheduling

_IS_SHARD = re.compile(r"\[(.*-)?shard\d+(-.*)?\]$")
_SERVER = re.compile(r"\[([^\]]+@[^\]]+)\]$")


def unit_of(name: str) -> str:
    """What a test goes to a process with: its file, the tests of its server, or for a shard nothing but itself."""
    if _IS_SHARD.search(name):
        return name
    file = name.partition("::")[0]
    server = _SERVER.search(name)
    return file if server is None else f"{file}[{server[1]}]"


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """The scheduler of ``--dist loadfile`` with shards."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
