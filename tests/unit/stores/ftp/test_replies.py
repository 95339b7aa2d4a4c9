"""What FTP servers answer, as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.ftp.replies import (
    Refused,
    fact,
    parse_digest,
    parse_features,
    parse_passive,
    parse_time,
    parse_working_directory,
    shown_reply,
)


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
    """At most 500 characters of a reply are shown, on one line and without control characters."""
    shown = Refused("550 \x1b[2J\r\n" + "a" * 60_000).text
    assert len(shown) == 500
    assert "\x1b" not in shown
    assert shown_reply("550 No.") == "550 No"
    assert Refused("5\u00b21 x").code == 0


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
