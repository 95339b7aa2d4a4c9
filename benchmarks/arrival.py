"""Did every file arrive whole, and is the spool empty? What the sink remembers is held against what was sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

Pieces: TypeAlias = tuple[tuple[int, str], ...]
"""Size and MD5 of an object, or of each of its parts."""


def missing_or_wrong(
    arrived: Mapping[str, Pieces],
    *,
    expected: Sequence[str],
    size: int,
    arrives_as: Callable[[int, tuple[int, ...]], Pieces],
) -> str:
    """What is wrong with what arrived, as half a sentence; empty if every file is there, whole, and nothing else is.

    :param arrived: what the destination holds, by key.
    :param expected: the keys, in the order of the files' numbers.
    :param size: of each file, in bytes.
    :param arrives_as: the digests of the file of that number, cut into pieces of those sizes.
    """
    missing = [key for key in expected if key not in arrived]
    if missing:
        return f"{len(missing)} of {len(expected)} files did not arrive, {missing[0]} for one"
    if len(arrived) > len(expected):
        return f"{len(arrived) - len(expected)} objects arrived that nobody sent"
    for number, key in enumerate(expected):
        pieces = arrived[key]
        sizes = tuple(piece[0] for piece in pieces)
        if sum(sizes) != size:
            return f"{key} arrived with {sum(sizes)} of {size} bytes"
        if pieces != arrives_as(number, sizes):
            return f"{key} arrived with other content"
    return ""
