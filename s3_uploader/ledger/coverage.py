"""Remembers which shipped files were audited: spans of time for each destination.

An audit of part of the files (``--match``, ``--location``) covers nothing, because the ledger cannot tell which files
it left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from s3_uploader.core.model import NOT_JSON
from s3_uploader.ledger.columns import restored
from s3_uploader.ledger.pages import Read
from s3_uploader.ledger.records import stored

NOTED_AS = "audited"
"""The name in the ledger for the coverage."""
ALWAYS = float("-inf")
_MOST_SPANS = 100
_PIECE = 2000
_MOST_PIECES = 10
_WORTH_NOTING = 200

Span = tuple[float, float]
"""From the first moment up to, and without, the second."""


class LastAudit(msgspec.Struct, frozen=True, kw_only=True):
    """The last audit. ``since`` is ``None`` if it began with the first file; ``problems`` counts what it found."""

    destination: str
    at: float
    since: float | None
    until: float
    problems: int


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What audits have covered.

    :param spans: by destination, in order; no two touch. JSON has no infinity, so a span that begins with the first
        file begins with ``None``.
    """

    spans: dict[str, list[tuple[float | None, float]]] = {}
    last: LastAudit | None = None

    @classmethod
    def recalled(cls, text: str | None) -> Coverage:
        """Parse a note. If there is none or it is damaged, nothing is covered."""
        if text:
            try:
                return msgspec.json.decode(text, type=cls)
            except NOT_JSON:
                pass
        return cls()

    def noted(self) -> str:
        """Format this for :meth:`recalled`."""
        return msgspec.json.encode(self).decode()

    def of(self, destination: str) -> list[Span]:
        """The spans of a destination."""
        return [(ALWAYS if begin is None else begin, end) for begin, end in self.spans.get(_named(destination), [])]

    def with_audit(self, audit: LastAudit) -> Coverage:
        """A copy with one more audit."""
        begin = ALWAYS if audit.since is None else audit.since
        spans = united([*self.of(audit.destination), (begin, audit.until)])
        named = msgspec.structs.replace(audit, destination=_named(audit.destination))
        return Coverage(spans={**self.spans, named.destination: _finite(spans)}, last=named)

    def with_spans(self, destination: str, spans: Sequence[Span]) -> Coverage:
        """A copy with other spans for a destination."""
        return msgspec.structs.replace(self, spans={**self.spans, _named(destination): _finite(spans)})


def united(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, with overlapping or touching spans joined. If there are too many, the oldest are dropped."""
    found: list[Span] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found[-_MOST_SPANS:]


def common(one: Sequence[Span], other: Sequence[Span]) -> list[Span]:
    """The spans that both cover."""
    return united((max(a[0], b[0]), min(a[1], b[1])) for a in one for b in other)


def gaps(spans: Sequence[Span], end: float) -> list[Span]:
    """The spans before ``end`` that are not covered."""
    found: list[Span] = []
    at = ALWAYS
    for begin, until in spans:
        found.append((at, min(begin, end)))
        at = max(at, until)
    found.append((at, end))
    return [(begin, until) for begin, until in found if begin < until]


def unaudited(read: Read, coverage: Coverage, *, end: float) -> Mapping[str, int]:
    """Count the files shipped before ``end`` that no audit has covered, by destination."""
    counts: dict[str, int] = {}
    for number, value in read("SELECT id, name FROM destinations ORDER BY id", ()):
        name = restored(value)
        for begin, until in gaps(coverage.of(name), end):
            ((count,),) = read(
                "SELECT count(*) FROM shipped WHERE shipped_at >= ? AND shipped_at < ? AND destination = ?",
                (begin, until, number),
            )
            if count:
                counts[name] = counts.get(name, 0) + count
    return counts


def find_unaudited(
    read: Read, coverage: Coverage, destination: str, *, begin: float, end: float
) -> tuple[bool, float | None]:
    """Whether there is a file shipped to a destination from ``begin`` to ``end`` that no audit has covered.

    Looks at a bounded number of files: those of other destinations, to which millions may have been shipped before,
    must not make every run slow. The second value says where to go on the next time; ``None`` if that gains nothing.
    """
    rows = read("SELECT id FROM destinations WHERE name = ?", (stored(destination),))
    reached: float | None = None
    pieces = _MOST_PIECES if rows else 0
    for first, until in gaps(coverage.of(destination), end):
        at = max(first, begin)
        while at < until and pieces:
            pieces -= 1
            span = "FROM shipped WHERE shipped_at >= ? AND shipped_at < ? ORDER BY shipped_at LIMIT ?"
            ((found,),) = read(
                f"SELECT EXISTS (SELECT 1 FROM (SELECT destination {span}) WHERE destination = ?)",
                (at, until, _PIECE, rows[0][0]),
            )
            if found:
                return True, None
            ((files, last),) = read(
                f"SELECT count(*), max(shipped_at) FROM (SELECT shipped_at {span})", (at, until, _PIECE)
            )
            if files >= _WORTH_NOTING:
                reached = last
            if files < _PIECE:
                break
            # Not as many files as in a piece are shipped in one moment.
            at = last if last > at else math.nextafter(at, math.inf)
    return False, reached


def _finite(spans: Sequence[Span]) -> list[tuple[float | None, float]]:
    return [(None if begin == ALWAYS else begin, end) for begin, end in spans]


def _named(destination: str) -> str:
    """The name in a form that JSON can hold."""
    value = stored(destination)
    return value if isinstance(value, str) else value.decode("latin-1")
