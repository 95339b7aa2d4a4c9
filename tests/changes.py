"""What producers do to a file while it is looked at."""

from __future__ import annotations

import os
from pathlib import Path


def append(path: Path) -> None:
    """Write more at the end."""
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    """Write other bytes of the same length over the first ones."""
    with path.open("r+b") as file:
        file.write(b"DATA")


def overwrite_and_put_mtime_back(path: Path) -> None:
    """The same, and hide it from whoever looks only at the time of the last change."""
    before = path.stat()
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
