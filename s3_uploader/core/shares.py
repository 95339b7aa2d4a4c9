"""A share K/N of a spool's files: which files it owns, how it is written, and where it is given.

Each share owns a range of all CRC-32s, and the files whose names have a CRC-32 in it. Ranges are used, not remainders,
because a share is then a range of bytes in the spool's lock file: shares of any two divisions exclude each other
exactly if they have files in common.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from s3_uploader.core.errors import UsageProblem

HASHES = 1 << 32
"""How many CRC-32s there are."""
MOST_SHARES = 10_000

_FORM = re.compile("[0-9]{1,5}/[0-9]{1,5}")
_DIRECTORY = re.compile("share-([0-9]{1,5})-of-([0-9]{1,5})")
_SLURM_INDEX, _SLURM_COUNT = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"
_SLURM_FIRST, _SLURM_LAST = "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX"
_KUBERNETES_INDEX = "JOB_COMPLETION_INDEX"
INDEXES = (_SLURM_INDEX, _KUBERNETES_INDEX)
"""The variables in which schedulers pass K to the task that ships a share ``/N``."""


class Share(msgspec.Struct, frozen=True, order=True):
    """The share ``index`` of ``count``, counted from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def first(self) -> int:
        """The first of its hashes."""
        return -(-self.index * HASHES // self.count)

    @property
    def length(self) -> int:
        """How many hashes it has."""
        return -(-(self.index + 1) * HASHES // self.count) - self.first

    @property
    def name(self) -> str:
        """The share as a part of a file's name."""
        return f"share-{self.index}-of-{self.count}"

    def owns_hash(self, value: int) -> bool:
        """Whether the file with this CRC-32 belongs to it."""
        return value * self.count >> 32 == self.index

    def owns(self, path: str) -> bool:
        """Whether the file that its producer calls ``path``, relative to the spool, belongs to it."""
        return self.owns_hash(zlib.crc32(os.fsencode(path)))

    def select(self, directory: Sequence[str], names: Iterable[str]) -> list[bool]:
        """For each name of a directory whether it belongs to the share."""
        start = zlib.crc32(os.fsencode("".join(f"{name}/" for name in directory)))
        crc32, encode, count, index = zlib.crc32, os.fsencode, self.count, self.index
        return [crc32(encode(name), start) * count >> 32 == index for name in names]


def parse(text: str) -> Share:
    """The share that is written as ``K/N``, with K from 0 to N - 1.

    :raises UsageProblem: if it is not one.
    """
    index, _, count = text.partition("/")
    if not _FORM.fullmatch(text) or not int(index) < int(count) <= MOST_SHARES:
        raise UsageProblem(
            f"{text} is not a share of the files.",
            hint=f"Write it as K/N with K from 0 to N - 1, for example 0/4, and N at most {MOST_SHARES:,}.",
        )
    return Share(int(index), int(count))


def of_directory(name: str) -> Share | None:
    """The share to which a directory of that name belongs; see :attr:`Share.name`."""
    found = _DIRECTORY.fullmatch(name)
    if found is None:
        return None
    share = Share(int(found[1]), int(found[2]))
    return share if share.index < share.count <= MOST_SHARES and share.name == name else None


def of_range(first: int, length: int) -> Share | None:
    """The share that has exactly these hashes; ``None`` if these are all hashes, or no share has these."""
    if not 0 < length < HASHES:
        return None
    count = round(HASHES / length)
    share = Share(round(first * count / HASHES), count)
    return share if share.count <= MOST_SHARES and (share.first, share.length) == (first, length) else None


def chosen(text: str | None, environ: Mapping[str, str]) -> Share | None:
    """The share that a run has to ship, ``None`` for all files.

    ``K/N`` is complete. ``/N`` takes K from the task of a Slurm array or from the pod of an indexed Kubernetes job.
    If nothing is given, a Slurm array provides both numbers.

    :raises UsageProblem: if what is given makes no share.
    """
    if text is None:
        if _SLURM_INDEX not in environ or _SLURM_COUNT not in environ:
            return None
        return _of_slurm(environ)
    if not text.startswith("/"):
        share = parse(text)
        return None if share.count == 1 else share
    return _with_index(text, environ)


def _with_index(count: str, environ: Mapping[str, str]) -> Share | None:
    """The share whose index a scheduler provides; ``count`` is written as ``/N``."""
    said = {name: _number(environ[name]) for name in INDEXES if name in environ}
    if not said:
        raise UsageProblem(
            f"The share {count} does not say which one it is.",
            hint=f"Write it as K{count}, or set {_KUBERNETES_INDEX} or {_SLURM_INDEX} to K.",
        )
    if len(set(said.values())) > 1:
        told = " and ".join(f"{name} is {value}" for name, value in said.items())
        raise UsageProblem(
            f"{told}: which of them is K of the share {count} is not clear.", hint=f"Write it as K{count}."
        )
    if _SLURM_LAST in environ:
        # If one task of an array has no share, every task is refused, because then some share has no task.
        said[_SLURM_LAST] = _number(environ[_SLURM_LAST])
    for name, value in said.items():
        try:
            parse(value + count)
        except UsageProblem:
            raise UsageProblem(
                f"{name} is {value}, and {value}{count} is not a share of the files.",
                hint=f"Let the tasks count from 0 to N - 1, with N at most {MOST_SHARES:,}, or write the share as K/N.",
            ) from None
    return chosen(next(iter(said.values())) + count, environ)


def _of_slurm(environ: Mapping[str, str]) -> Share | None:
    index, count = _number(environ[_SLURM_INDEX]), _number(environ[_SLURM_COUNT])
    first, last = _number(environ.get(_SLURM_FIRST, "0")), _number(environ.get(_SLURM_LAST, index))
    if (index, count, first, last) == ("0", "1", "0", "0"):
        return None
    # In an array that is numbered otherwise a task may have the number of a share, but another share has no task.
    is_divided = first == "0" and (_SLURM_LAST not in environ or last == _before(count))
    try:
        if is_divided:
            return parse(f"{index}/{count}")
    except UsageProblem:
        pass
    raise UsageProblem(
        f"The task {index} of a Slurm array of {count}"
        f"{f', from {first} to {last},' if _SLURM_LAST in environ else ''} is not a share of the files.",
        hint="Let the array count from 0 without gaps (--array=0-3), or say which share it is with --share: /N takes K "
        "from the task's number, and 0/1 is all files.",
    )


def _before(number: str) -> str:
    return str(int(number) - 1) if number != "?" else ""


def _number(text: str) -> str:
    return text[:20] if text.isascii() and text.isdigit() else "?"
