"""What is fuzzed: each parser of something that comes from outside, with examples of what it really gets."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from s3_uploader import config
from s3_uploader.config.overrides import lay_over, of_command_line, of_environment
from s3_uploader.core.errors import ConfigError, StateError, StoreError
from s3_uploader.core.model import Candidate
from s3_uploader.ledger import columns, records, rows
from s3_uploader.spool.layouts.base import EmptyDirectory, Found, Globs
from s3_uploader.spool.layouts.dated import DatedLayout, epoch_function
from s3_uploader.stores.ftp import entries, replies
from s3_uploader.stores.s3 import errors
from s3_uploader.stores.s3.checksums import clean_etag
from s3_uploader.stores.s3.engines.base import Answer, unescape, xml_leaves
from s3_uploader.stores.s3.engines.http1 import AnswerParser, InvalidAnswer
from s3_uploader.stores.s3.listing import parse_iso, parse_page
from tests.fuzz.corpus import examples


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One parser.

    :param parse: takes an input; whatever it raises is a fault.
    :param microseconds_a_byte: how much time an input may take; far more than it does, far less than it would if that
        grew with the square.
    """

    name: str
    parse: Callable[[bytes], object]
    examples: Sequence[bytes]
    microseconds_a_byte: float = 5.0


def http_answer(data: bytes) -> None:
    """The same answer comes out whole and in pieces."""
    outcomes = []
    step = 1 + sum(data[:3]) % 37
    for size in (max(len(data), 1), step if len(data) < 4000 else 1000 + step):
        parser = AnswerParser(to_head=len(data) % 7 == 0)
        try:
            done = False
            for begin in range(0, len(data), size):
                done = parser.feed(data[begin : begin + size])
                if done:
                    break
            done = done or parser.end()
        except InvalidAnswer:
            continue
        if done and parser.answer is not None:
            outcomes.append((parser.answer.status, parser.answer.headers, parser.answer.body))
    assert len(outcomes) < 2 or outcomes[0] == outcomes[1], "it matters how the answer was cut"


def xml_document(data: bytes) -> None:
    """Leaves, errors and listings out of one body; and the headers that dates and ETags stand in."""
    xml_leaves(data)
    text = data.decode("utf-8", "replace")
    unescape(text)
    with contextlib.suppress(StoreError):
        parse_page(data)
    answer = Answer(status=503, headers={"retry-after": text[:200], "date": text[:100], "etag": text[:100]}, body=data)
    answer.field("Code")
    errors.parse_http_date(text[:100])
    errors.clock_skew(answer, 0.0)
    clean_etag(text[:100])
    parse_iso(text[:100])


def ftp_reply(data: bytes) -> None:
    """Everything that is read out of a reply."""
    text = data.decode("latin-1")
    features = replies.parse_features(text)
    for algorithm in ("sha256", "crc32", features.algorithm):
        if algorithm:
            replies.parse_digest(text, algorithm)
    replies.parse_time(text)
    replies.fact(text, "size")
    assert len(replies.shown_reply(text)) <= 500
    replies.parse_passive(text)
    replies.parse_working_directory(text)
    replies.unwire(text)
    replies.Refused(text, "STOR")


def ftp_listing(data: bytes) -> None:
    """A directory of a server."""
    for line in data.split(b"\r\n"):
        entry = entries.parse_listed(line)
        if entry is not None:
            assert entry.size is None or entry.size >= 0
            os.fsencode(entry.name)


_LAYOUTS = [
    DatedLayout(settle_seconds=10, globs=Globs(include=[], exclude=[]), epoch_of=epoch_function("UTC")),
    DatedLayout(settle_seconds=10, globs=Globs(include=["*/20*/**"], exclude=["*x"]), epoch_of=epoch_function("local")),
    DatedLayout(settle_seconds=10, globs=Globs(include=[], exclude=[]), epoch_of=epoch_function("Europe/Madrid")),
]


class OneFile:
    """A spool with one file in it, as far as a layout looks at one."""

    def __init__(self, path: bytes) -> None:
        self._names = tuple(os.fsdecode(part)[:255] for part in path.split(b"/")[:12] if part not in (b"", b".", b".."))

    def entries(self, names: tuple[str, ...]) -> Iterator[Any]:
        """The one entry below a directory on the way."""
        if len(names) < len(self._names) and self._names[: len(names)] == names:
            yield _Entry(self._names[len(names)], is_last=len(names) + 1 == len(self._names))

    def stat(self, names: tuple[str, ...], name: str) -> os.stat_result:
        """An old regular file."""
        return os.stat_result((stat.S_IFREG | 0o644, 1, 1, 1, 0, 0, 5, 0, 0, 0))


class _Entry:
    def __init__(self, name: str, *, is_last: bool) -> None:
        self.name = name
        self._is_last = is_last

    def is_file(self, *, follow_symlinks: bool) -> bool:
        return self._is_last

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return not self._is_last


def dated_path(data: bytes) -> None:
    """A path of the spool, in three time zones: a file, or a directory that may be pruned."""
    spool: Any = OneFile(data.replace(b"\0", b""))
    for layout in _LAYOUTS:
        found: list[Found] = list(layout.scan(spool, lambda *_: None))
        for each in found:
            assert isinstance(each, (Candidate, EmptyDirectory)), "without shares there is nothing to pass over"
            names = each.directory if isinstance(each, Candidate) else each.names
            for depth in range(1, len(names) + 1):
                layout.may_prune(names[:depth], now=1.7e9, child=names[: depth + 1] or None, mtime=1.6e9)


_WAYS: list[tuple[Callable[[tuple[Any, ...]], Any], Callable[[Any], Any] | None, int]] = [
    (rows.shipped_row, lambda row: records.shipped_values(row, 1), columns.SHIPPED_COLUMNS.count(",") + 1),
    (rows.failing_row, records.failing_values, columns.FAILING_COLUMNS.count(",") + 1),
    (rows.run_row, None, columns.RUN_COLUMNS.count(",") + 1),
]


def ledger_row(data: bytes) -> None:
    """A row with values of any kind: they are understood, or the ledger is said to be damaged."""
    kind, _, rest = data.partition(b"|")
    read, write, width = _WAYS[len(kind) % len(_WAYS)]
    values = (*map(_column, rest.split(b"|")), *(None,) * width)[:width]
    try:
        row = read(values)
    except StateError:
        return
    if write is not None:
        for value in write(row):
            assert value is None or isinstance(value, (int, float, str, bytes))


def _column(data: bytes) -> object:
    """One value of SQLite, whose first letter is its type."""
    kind, rest = data[:1], data[1:]
    try:
        if kind == b"i":
            return records.int64(int(rest))
        if kind == b"f":
            return float(rest)
        if kind == b"t":
            return rest.decode()
    except ValueError:
        return rest
    return None if kind == b"n" else rest


def configuration(data: bytes) -> None:
    """A configuration file, or a setting that is laid over one."""
    if data.lstrip()[:1] == b"{":
        with contextlib.suppress(ConfigError):
            config.decode(data, source="config.json")
        return
    text = os.fsdecode(data[:300])
    problems: list[str] = []
    raw: dict[str, Any] = {"base_dir": "/spool", "bucket": "b"}
    name, _, value = text.partition("=")
    try:
        places = [of_command_line([text], problems), of_environment({f"S3_UPLOADER_{name.strip().upper()}": value})]
        lay_over(raw, places, problems, ())
        config.from_mapping(raw, source="config.json")
    except ConfigError:
        pass


TARGETS = [
    Target(name="http", parse=http_answer, examples=examples("http")),
    Target(name="xml", parse=xml_document, examples=examples("xml")),
    Target(name="ftp-reply", parse=ftp_reply, examples=examples("ftp-reply")),
    Target(name="ftp-listing", parse=ftp_listing, examples=examples("ftp-listing"), microseconds_a_byte=20),
    Target(name="dates", parse=dated_path, examples=examples("dates")),
    Target(name="ledger", parse=ledger_row, examples=examples("ledger")),
    # Each key that is not known is held against all that are.
    Target(name="config", parse=configuration, examples=examples("config"), microseconds_a_byte=400),
]
