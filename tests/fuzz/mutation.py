"""Inputs made from what real servers, disks and people wrote: cut, doubled, mixed, and with odd tokens in between."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_TOKENS = (
    *(b"", b"\0", b"\n", b"\r", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x0b", b"\x1b[2J", b"\x7f", b"\x80", b"\xff\xfe"),
    *(b"0", b"1", b"-1", b"00", b"4294967296", b"18446744073709551616", b"9" * 25, b"1" * 5000, b"1e999", b"NaN"),
    # Digits to some functions, no numbers to others: superscript two in Latin-1 and UTF-8, Arabic, full-width.
    *(b"\xb2", b"\xc2\xb2", "٣".encode(), "１２".encode(), b"0x10", b"1_000", b"+5", b" 7 "),
    *("\u2028".encode(), "\u202e".encode(), "\ud800".encode("utf-8", "surrogatepass"), "é".encode(), "İ".encode()),
    *(b"<", b">", b"&", b"&#0;", b"&#x110000;", b"&#xd800;", b"&amp", b"</", b"<!--", b"<![CDATA[", b"<a:", b"<Key>"),
    *(b":", b";", b"=", b",", b"/", b"//", b"/../", b"..", b".", b"%", b"%zz", b"%00", b'"', b"'", b"\\", b"{", b"}"),
    *(b"[", b"]", b"null", b"true", b"{}", b"[]", b"*", b"**/", b"[!", b"(", b")", b"29", b"02", b"13", b"24", b"60"),
)
_LARGEST_REPEAT = 40_000


class Mutator:
    """Generates inputs from examples; the same seed gives the same inputs.

    :param large_every: one input in so many is a piece that is repeated for kilobytes: time that grows faster than the
        input shows there.
    """

    def __init__(self, examples: Sequence[bytes], *, seed: int, large_every: int = 500) -> None:
        self._examples = examples
        self._random = random.Random(seed)
        self._large_every = large_every

    def inputs(self) -> Iterator[bytes]:
        """Inputs without end, the examples first."""
        yield from self._examples
        while True:
            data = self._random.choice(self._examples)
            for _ in range(1 + int(self._random.expovariate(0.7))):
                data = self._mutated(data)
            if self._random.randrange(self._large_every) == 0:
                data = self._repeated(data)
            yield data

    def _mutated(self, data: bytes) -> bytes:
        chance = self._random.random
        size = len(data)
        begin = int(chance() * (size + 1))
        end = min(size, begin + int(chance() * chance() * 24))
        kind = int(chance() * 8)
        if kind == 0:
            return data[:begin] + data[end:]
        if kind == 1:
            return data[:end] + data[begin:]
        if kind == 2:
            return data[:begin]
        if kind == 3:
            return data[:begin] + bytes((int(chance() * 256),)) + data[begin + 1 :]
        if kind == 4:
            other = self._random.choice(self._examples)
            place = int(chance() * (len(other) + 1))
            return data[:begin] + other[place : place + int(chance() * 60)] + data[end:]
        return data[:begin] + _TOKENS[int(chance() * len(_TOKENS))] + data[end if kind == 5 else begin :]

    def _repeated(self, data: bytes) -> bytes:
        begin = self._random.randrange(len(data) + 1)
        piece = data[begin : begin + self._random.choice((1, 2, 3, 8, 30, 200))] or b"a"
        return data[:begin] + piece * (self._random.randrange(_LARGEST_REPEAT) // len(piece)) + data[begin:]
