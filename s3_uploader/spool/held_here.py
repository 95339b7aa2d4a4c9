"""The locks of this process on lock files where the kernel ties a lock to the process (FUSE).

It sees no difference there between two runs of one process, in two threads for example.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

_Extent = TypeVar("_Extent")
_guard = threading.Lock()


def hold(
    locked: dict[int, tuple[int, int, _Extent]], descriptor: int, extent: _Extent, excludes: Callable[[_Extent], bool]
) -> bool:
    """Note a lock that is about to be taken; ``False`` if another run of this process has one that excludes it.

    :param locked: descriptor, device, inode and extent of each lock of this process.
    """
    status = os.fstat(descriptor)
    with _guard:
        for other, (device, inode, held) in list(locked.items()):
            if other != descriptor and (device, inode) == (status.st_dev, status.st_ino) and excludes(held):
                return False
        locked[descriptor] = status.st_dev, status.st_ino, extent
    return True
