"""What FTP servers answer, as values."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.ftp.replies import (
    Listed,
    Refused,
    fact,
    parse_digest,
    parse_features,
    parse_listed,
    parse_passive,
    parse_time,
    parse_working_directory,
    shown_reply,
)


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
    """What is no entry is passed over."""
    assert parse_listed(line) is None


@pytest.mark.parametrize(
    ("reply", "port"),
    [
        ("227 Entering Passive Mode (127,0,0,1,18,52).", 4660),
        ("227 =127,0,0,1,18,52", 4660),
        ("229 Extended (|||4660|)", 4660),
        ("229 Extended (!!!4660!)", 4660),
        ("229 Extended (|||70000|)", None),
        ("229 Extended (|||0|)", None),
        ("227 what?", None),
        ("227 (1,2,3,4,999,999)", None),
    ],
)
def test_ports_of_data_connections(reply: str, port: int | None) -> None:
    """A port is read in every form, and one that can be none is refused."""
    assert parse_passive(reply) == port


def test_facts() -> None:
    """Facts are read in any case, with or without the code before them."""
    assert fact("250-Listing\n Type=file;SIZE=5; /a b\n250 End", "size") == "5"
    assert fact("250-type=file;size=5; /a\n250 End", "size") == "5"
    assert fact("250 size=5; /a", "size") == "5"
    assert fact("250-Listing\n /a size=5;\n250 End", "size") == ""


def test_features() -> None:
    """Features are read with a blank before each or with the code, in any case; the strongest hash wins."""
    for reply in (
        "211-x\n mlst size*;\n HASH MD5;SHA-256*\n211 End",
        "211-x\n211-MLST size*;\n211-HASH SHA-256\n211 End",
    ):
        features = parse_features(reply)
        assert (features.mlst, features.utf8, features.algorithm) == (True, False, "sha256")
    assert not parse_features("211 nothing").mlst


def test_other_values() -> None:
    """Times, digests and paths are read where they are, and are empty where they are not."""
    assert parse_time("20261120132846") == 1795181326.0
    assert parse_time("99991399000000") is None
    assert parse_digest("213 SHA-256 0-5 " + "a" * 64 + " name", "sha256") == "a" * 64
    assert parse_digest("250 nothing", "sha256") == ""
    assert parse_working_directory('257 "/a ""b"" c" is it') == '/a "b" c'
    assert parse_working_directory("257 what") == ""


def test_messages_are_cut_and_escaped() -> None:
    """Of a reply no more than 500 characters are shown, on one line, with nothing that drives a terminal."""
    shown = Refused("550 \x1b[2J\r\n" + "a" * 60_000).text
    assert len(shown) == 500
    assert "\x1b" not in shown
    assert shown_reply("550 No.") == "550 No"
    assert Refused("5\u00b21 x").code == 0


@given(st.binary(max_size=300))
def test_any_line(line: bytes) -> None:
    """No line of a listing is more than not understood."""
    listed = parse_listed(line)
    assert listed is None or isinstance(listed, Listed)


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=300))
def test_any_reply(reply: str) -> None:
    """No reply is more than not understood."""
    parse_features(reply)
    parse_passive(reply)
    parse_time(reply)
    parse_working_directory(reply)
    parse_digest(reply, "crc32")
    fact(reply, "size")
    shown_reply(reply)


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
