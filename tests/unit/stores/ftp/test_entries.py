"""The lines of a listing that an FTP server sends, as values."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.file_servers.base import Listed
from s3_uploader.stores.ftp.entries import parse_listed


@pytest.mark.parametrize(
    ("line", "name", "kind", "size"),
    [
        (b"-rw-r--r--    1 1000     1000            5 Jan  1 00:00 name with  two", "name with  two", "file", 5),
        (b"-rw-r--r-- 1 u g 5 Jan  1  2026  leading", " leading", "file", 5),
        (b"-rw-r--r--+ 1 DOMAIN+User Domain Users 77 Jan  1 00:00 z", "z", "file", 77),
        (b"-rw-r--r-- 1 u g 5 Jan  1 00:00 x 7 Feb  2 11:11 y", "x 7 Feb  2 11:11 y", "file", 5),
        (b"drwxr-xr-x   2 ftp ftp 4096 Dez 31 23:59 dir", "dir", "dir", 4096),
        (b"lrwxrwxrwx 1 u g 5 2026-01-01 00:00 l -> x", "l", "other", 5),
        (b"01-15-26  03:04PM       <DIR>          my dir", "my dir", "dir", None),
        (b"01-15-26  03:04PM                  123 a b.txt", "a b.txt", "file", 123),
        (b"Type=File;Size=9;MODIFY=20260101000000.123; X y", "X y", "file", 9),
        (b"size=9; caf\xe9", "caf\udce9", "", 9),
        (b"size=-1;type=file; a", "a", "file", None),
    ],
)
def test_lines_of_listings(line: bytes, name: str, kind: str, size: int | None) -> None:
    """Lines of every kind in use are understood, with names as their bytes are."""
    listed = parse_listed(line)
    assert listed is not None
    assert (listed.name, listed.kind, listed.size) == (name, kind, size)


@pytest.mark.parametrize("line", [b"total 5", b"", b"type=file;size=5;", b"-rw-r--r-- nonsense"])
def test_lines_that_are_none(line: bytes) -> None:
    """Lines that are not entries are skipped."""
    assert parse_listed(line) is None


@given(st.binary(max_size=300))
def test_any_line(line: bytes) -> None:
    """No line of a listing is more than not understood."""
    listed = parse_listed(line)
    assert listed is None or isinstance(listed, Listed)


@pytest.mark.parametrize(
    "line",
    [
        b"-rw-r--r-- " + b"1 " * 4000,
        b"-rw-r--r-- " + b" " * 8000,
        b"-rwx" + b"1 Jan " * 1300,
        b"-rwx " + b"1" * 8000,
        b"a=b;" * 2000 + b" x",
        b"01-15-26 " + b" " * 8000,
    ],
)
def test_long_lines_take_no_time(line: bytes) -> None:
    """A line that is made to be hard takes no time to speak of."""
    begun = time.process_time()
    parse_listed(line)
    assert time.process_time() - begun < 0.2
