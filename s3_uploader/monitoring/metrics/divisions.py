"""Metrics files of other divisions of a spool: nobody writes them any longer, so they are out of date.

Every share writes its own file. After the number of shares has changed, the files of the old ones would be collected
for ever: their backlog would be counted in addition to that of the new shares, and their alerts would never end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from s3_uploader.monitoring.metrics.exposition import quoted

if TYPE_CHECKING:
    from s3_uploader.core.shares import Share

_SHARE = "-share-"
_MOST_BYTES = 1 << 20


def remove_other_divisions(path: str, *, spool: str, share: str = "") -> None:
    """Remove the metrics files of shares that have files in common with this one, as no two shares of a division have.

    :param path: the metrics file of this share.
    :param spool: the label of its samples. Files of other spools stay.
    :param share: written as ``K/N``; empty for all files.
    """
    directory, own = os.path.split(path)
    stem, ending = os.path.splitext(own)
    if share:
        stem = stem.rpartition(_SHARE)[0]
    for name, other in _beside(directory or ".", stem, ending):
        if name != own and _meet(share, other):
            found = os.path.join(directory, name)
            with contextlib.suppress(OSError):
                if _is_of(found, spool=spool, share=other):
                    os.unlink(found)


def _beside(directory: str, stem: str, ending: str) -> Iterator[tuple[str, str]]:
    """The names of all metrics files of a spool, each with its share."""
    yield f"{stem}{ending}", ""
    start = f"{stem}{_SHARE}"
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(start) and name.endswith(ending):
                from s3_uploader.core.shares import of_directory

                other = of_directory(name[len(stem) + 1 : len(name) - len(ending)])
                if other is not None:
                    yield name, str(other)


def _meet(one: str, other: str) -> bool:
    """Whether two shares have files in common."""
    if not one or not other:
        return True
    from s3_uploader.core.shares import parse

    first, second = parse(one), parse(other)
    return first.first < _end(second) and second.first < _end(first)


def _end(share: Share) -> int:
    return share.first + share.length


def _is_of(path: str, *, spool: str, share: str) -> bool:
    """Whether this program wrote a file for a share of the spool."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        text = file.read(_MOST_BYTES)
    labels = f'spool="{quoted(spool)}",' + (f'share="{share}",' if share else "")
    return f"\ns3_uploader_build_info{{{labels}version=" in text
