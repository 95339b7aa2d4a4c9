"""The limits of open files and connections of this process."""

from __future__ import annotations

import contextlib
import errno
import os

_RESERVE = 48
"""Reserved for the ledger, the spool's directories, the streams and libraries."""
_ENOUGH = 65536
_USUAL = 1024
"""The soft limit nearly everywhere, where it cannot be asked for."""
_FEWEST = 2

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def raise_limit() -> None:
    """Raise the soft limit of descriptors to the hard limit: the usual soft limit is for programs that use select().

    Only for the command line, never inside a program that embeds this package.
    """
    import resource

    # A sandbox may forbid to ask for limits, too.
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room() -> int:
    """The number of descriptors that a run may use besides the open ones, at least a few."""
    import resource

    try:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:
        soft = _USUAL
    if soft == resource.RLIM_INFINITY:
        soft = _ENOUGH
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = 0  # no /proc
    return max(3 * _FEWEST, soft - used - _RESERVE)


def share(descriptors: int, *, connections: int) -> tuple[int, int]:
    """Divide descriptors between files and connections.

    A file stays open until it is removed, longer than a connection is used for it, so files get more.

    :param connections: most connections that are useful.
    """
    for_connections = min(connections, max(1, descriptors // 3))
    return max(_FEWEST, descriptors - for_connections), for_connections
