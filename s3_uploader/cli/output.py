"""What commands print on standard output: aligned tables, JSON, times."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from s3_uploader.core.text import printable_json, shown_name

_WITHOUT_ESCAPES = ("", "dumb", "unknown")
"""Values of TERM."""


class OutputLost(OSError):
    """Standard output cannot be written to."""


class Sources(msgspec.Struct):
    """The state of printing the same about several configurations in turn.

    :param now: the name of the current one.
    :param is_headed: whether the head of the common table has been printed.
    """

    now: str = ""
    is_headed: bool = False


_sources: Sources | None = None


@contextlib.contextmanager
def about_several() -> Iterator[Sources]:
    """Add the name of the configuration to all JSON that is printed meanwhile."""
    global _sources
    _sources = Sources()
    try:
        yield _sources
    finally:
        _sources = None


def sources() -> Sources | None:
    """The state of printing about several configurations; ``None`` if there is only one."""
    return _sources


def print_note(text: str) -> None:
    """Print a line beside the output of a command, on standard error; of several configurations it names its own."""
    name = "" if _sources is None else _sources.now
    print(f"{shown_name(name)}: {text}" if name else text, file=sys.stderr)


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = (), width: int | None = None
) -> list[str]:
    """Format a table with columns as wide as needed; the columns in ``right`` are aligned right.

    :param width: of the terminal. Where the columns have no room side by side, each row becomes a few lines; only the
        last column may be cut, if it is not flush right.
    """
    cells = [list(heads), *(list(row) for row in rows)]
    widths = [max(room(row[column]) for row in cells) for column in range(len(heads))]
    may_be_cut = len(heads) - 1 not in right
    needed = sum(widths[:-1]) + 2 * (len(heads) - 1) + (len(heads[-1]) if may_be_cut else widths[-1])
    if width is not None and needed > width:
        return [line for row in cells[1:] for line in _stacked(heads, row, width)]
    lines = []
    for row in cells:
        padded = [
            " " * (width - room(cell)) + cell if column in right else cell + " " * (width - room(cell))
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(cut("  ".join(padded).rstrip(), width))
    return lines


def _stacked(heads: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """A row as a line for its first cell, and the others below it, each with its head."""
    first, *others = [(head.strip(), cell.strip()) for head, cell in zip(heads, row, strict=True)]
    begin = " " * (len(heads[0]) - len(heads[0].lstrip()))
    rest = ", ".join(f"{head} {cell}" for head, cell in others if cell)
    return [
        *wrapped(f"{begin}{first[0]} {first[1]}", width, indent=len(begin) + 2),
        *wrapped(f"{begin}  {rest}", width, indent=len(begin) + 2),
    ]


def columns() -> int | None:
    """The width of the terminal; ``None`` without a terminal, so that nothing is wrapped or cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def takes_escapes() -> bool:
    """Whether standard output is a terminal that does not print escape sequences, as that of an editor does."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in _WITHOUT_ESCAPES


def cut(line: str, width: int | None) -> str:
    """Cut the line to ``width`` columns."""
    if width is None or room(line) <= width:
        return line
    if line.isascii():
        return line[: width - 1] + "…"
    end, taken = 0, 0
    while taken + room(line[end]) < width:
        taken += room(line[end])
        end += 1
    return line[:end] + "…"


def room(text: str) -> int:
    """The columns of a terminal that a text takes: two for each character of most East Asian scripts."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.category(each) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def wrapped(line: str, width: int | None, *, indent: int) -> list[str]:
    """Wrap the line between words where it is wider than the terminal; paths and URLs stay whole.

    :param indent: of all lines but the first.
    """
    if width is None or len(line) <= width:
        return [line]
    import textwrap

    start = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip(),
        max(width, 20),
        initial_indent=start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_json(value: Any) -> None:
    r"""One JSON document, indented. Names that are not text keep their bytes as ``\\udcNN`` escapes."""
    document = json_bytes(with_source(value))
    try:
        text = msgspec.json.format(document, indent=2).decode()
    except msgspec.DecodeError:  # It takes no escapes of lone surrogates.
        import json

        text = json.dumps(json.loads(document), indent=2)
    _write_utf8(printable_json(text) + "\n")


def print_json_line(value: Any) -> None:
    """The same on one line."""
    _write_utf8(printable_json(json_bytes(with_source(value)).decode()) + "\n")


def with_source(value: Any) -> Any:
    """A record, with the name of its configuration as ``config`` where there are several."""
    if _sources is None or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [with_source(each) for each in value]
    return value if "config" in value else {"config": _sources.now, **value}


def json_bytes(value: Any) -> bytes:
    """``value`` as JSON; lone surrogates, which UTF-8 has no bytes for, as escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        import json

        return json.dumps(msgspec.to_builtins(value)).encode("ascii")


def _write_utf8(text: str) -> None:
    """Write JSON, which is UTF-8 whatever the locale is (RFC 8259, 8.1)."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
        stream.reconfigure(encoding="utf-8")
    with _writing():
        stream.write(text)


def write_text(text: str) -> None:
    """Write to standard output, whatever its encoding can show."""
    with _writing():
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def write_bytes(data: bytes) -> None:
    """Write to standard output as it is."""
    with _writing():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Name what an error is about: after a large write has failed, nothing is left that flushing would fail at."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.errno, error.strerror) from error


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output."""
    for line in lines:
        write_text(line + "\n")


def local_time(epoch: float | None) -> str:
    """``2026-11-20 15:04:05`` in local time, for columns whose head names the zone; a dash for none."""
    return "-" if epoch is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))


def zoned_time(epoch: float) -> str:
    """``2026-11-20 15:04:05 CET``: local time with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(epoch))


def zone_name() -> str:
    """The name of the local time zone, with that of summer time if it differs: ``UTC``, ``CET/CEST``."""
    names = time.tzname if time.daylight else time.tzname[:1]
    return "/".join(dict.fromkeys(names))


def utc_time(epoch: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, for machines."""
    if epoch is None:
        return None
    whole = int(epoch // 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((epoch - whole) * 1000):03d}Z"
