"""What was observed of a server."""

from __future__ import annotations

import msgspec


class Refused(msgspec.Struct, frozen=True):
    """Names of one kind that a server did not take, with one of them and what was said of it."""

    count: int
    example: str
    said: str


class Finding(msgspec.Struct, frozen=True):
    """What `check` says of one subject."""

    severity: str
    subject: str
    fact: str
    meaning: str


class Names(msgspec.Struct, frozen=True):
    """What became of the odd names, by kind.

    :param stored: how many were stored as they are.
    :param renamed: how many are there under another name now.
    :param refused: how many were not stored, and what was said.
    """

    stored: dict[str, int]
    renamed: dict[str, int]
    refused: dict[str, Refused]

    @property
    def numbers(self) -> dict[str, tuple[int, int, int]]:
        """By kind: how many were stored, renamed and refused."""
        return {
            kind: (stored, self.renamed.get(kind, 0), self.refused[kind].count if kind in self.refused else 0)
            for kind, stored in self.stored.items()
        }


class Sizes(msgspec.Struct, frozen=True):
    """How files of each size were proven.

    :param proofs: by size.
    :param in_parts: what was said to the first large file, where the server takes none in parts.
    """

    proofs: dict[str, str]
    in_parts: str


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What one server does, seen through one engine or in one protocol.

    :param check: what `check` says about the server.
    :param ready: its exit code.
    :param second: what became of a second file, of the same and of other content, for each value of `on_conflict`.
    :param compressed: how a small and a large compressed file were proven.
    :param killed: how many runs were killed in the middle of their work.
    """

    check: tuple[Finding, ...]
    ready: int
    names: Names
    sizes: Sizes
    second: dict[str, str]
    compressed: tuple[str, str] = ("", "")
    killed: int = 0
