"""How many files and connections this process may have open: the limits of the system, and what is left of them."""

from __future__ import annotations

import contextlib
import errno
import os

_RESERVE = 48
"""For the ledger, the spool's directories, the streams and whatever a library opens."""
_ENOUGH = 65536
_FEWEST = 2

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def raise_limit() -> None:
    """Take as many descriptors as this process may have: the usual soft limit is there for programs with select().

    To be called by a program about itself, never about one that embeds this package.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room() -> int:
    """How many descriptors a run may use beside those that are open already, a few at least."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = _ENOUGH
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = 0  # no /proc
    return max(3 * _FEWEST, soft - used - _RESERVE)


def share(descriptors: int, *, connections: int) -> tuple[int, int]:
    """How many files and how many connections so many descriptors are for.

    A file stays open until it is removed, longer than its connection works for it; so there are more of them.

    :param connections: as many are wanted at the most.
    """
    for_connections = min(connections, max(1, descriptors // 3))
    return max(_FEWEST, descriptors - for_connections), for_connections
