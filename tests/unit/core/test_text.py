"""What comes from outside is shown such that it can neither forge a line nor drive a terminal."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.errors import ConfigError, UploaderError
from s3_uploader.core.text import (
    LONGEST_QUOTE,
    counted,
    printable_json,
    quoted,
    shown_duration,
    shown_name,
    shown_size,
    shown_text,
    with_hint,
    without_passwords,
    without_secrets,
)

NAMES = st.binary(max_size=30).map(os.fsdecode) | st.text(max_size=30)


@given(name=NAMES)
def test_what_is_shown_can_be_printed(name: str) -> None:
    """No name and no message, whatever is in it, comes out with a character that does more than look."""
    for shown in (shown_name(name), shown_text(name)):
        assert shown.isprintable()
        shown.encode()


@given(first=NAMES, second=NAMES)
def test_different_names_look_different(first: str, second: str) -> None:
    """No name can pass itself off as another one."""
    assert (shown_name(first) == shown_name(second)) == (first == second)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain näme 日本.dat", "plain näme 日本.dat"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\x1b[31mred\x07\x7f", "\\x1b[31mred\\x07\\x7f"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\x85\u202e\U000e0001", "\\u0085\\u202e\\U000e0001"),
        ("back\\slash", "back\\\\slash"),
        ("\ud800", "\\ud800"),
    ],
)
def test_names_are_escaped(name: str, shown: str) -> None:
    """Names that can be printed stay as they are; everything else is escaped, bytes that are no text by their value."""
    assert shown_name(name) == shown


def test_messages_keep_their_backslashes() -> None:
    """A message may hold a name that is escaped already."""
    assert shown_text("a\\nb\n") == "a\\nb\\n"


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_994, "10.0 kB"),
        (9_995, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (3_400_000, "3.4 MB"),
        (120e9, "120 GB"),
        (5e12, "5.0 TB"),
        (2.5e15, "2.5 PB"),
    ],
)
def test_sizes_are_shown_in_the_unit_that_fits(size: float, shown: str) -> None:
    """Sizes have two or three digits and a decimal unit."""
    assert shown_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (12, "12 s"), (300, "5 min"), (7200, "2 h"), (10 * 86400, "10 days")],
)
def test_durations_are_shown_in_the_unit_that_fits(seconds: float, shown: str) -> None:
    """Durations have the unit in which one would say them."""
    assert shown_duration(seconds) == shown


def test_numbers_agree_with_their_nouns() -> None:
    """One file, two files, one entry, two entries."""
    assert counted(1, "file") == "1 file"
    assert counted(12000, "file") == "12,000 files"
    assert counted(2, "entry", "entries") == "2 entries"


@given(said=st.text(max_size=2000), longest=st.integers(min_value=1, max_value=LONGEST_QUOTE))
def test_what_others_say_is_bounded(said: str, longest: int) -> None:
    """What a server says takes no more room than it is given, however it is escaped, and stays as it is if it fits."""
    shown = quoted(said, longest=longest)
    assert shown.isprintable()
    assert len(shown) <= longest
    assert quoted(shown, longest=longest) == shown
    if len(shown_text(said)) <= longest:
        assert shown == shown_text(said)


def test_a_message_of_any_size_is_cut() -> None:
    """Twenty megabytes of an error text become five hundred characters, and one sees that it went on."""
    assert quoted("A" * (20 << 20)) == "A" * 499 + "…"


@pytest.mark.parametrize(
    ("message", "hint", "text"),
    [
        ("It is gone", "Look for it.", "It is gone. Look for it."),
        ("It is gone.", "Look for it.", "It is gone. Look for it."),
        ("Is it gone?", "Look for it.", "Is it gone? Look for it."),
        ("It is gone", "", "It is gone"),
        ("", "Look for it.", "Look for it."),
    ],
)
def test_a_message_and_its_hint_are_two_sentences(message: str, hint: str, text: str) -> None:
    """Whoever made the message, with a full stop or without, the advice is a sentence of its own."""
    assert with_hint(message, hint) == text
    assert str(UploaderError(message, hint=hint)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@host/path", "https://…@host/path"),
        ("no http://u:p@s@host:9000 and http://token@other.", "no http://…@host:9000 and http://…@other."),
        ("http://key:se/cr+et#1?@host:9000/x", "http://…@host:9000/x"),
        ("http://user:12345@host, http://host:80/a@b", "http://…@host, http://host:80/a@b"),
        ("'http://host:80','a@b' http://[::1]:80/a@b", "'http://host:80','a@b' http://[::1]:80/a@b"),
        ("https://host/a@b", "https://host/a@b"),
        ("mail@host", "mail@host"),
        ("Write sftp://user@host/path, or https://user@host/x", "Write sftp://user@host/path, or https://…@host/x"),
        ("https://host", "https://host"),
    ],
)
def test_passwords_in_urls_are_not_shown(text: str, shown: str) -> None:
    """A URL is shown without what comes before the host, in every error of ours."""
    assert without_passwords(text) == shown
    assert UploaderError(text, hint=text).message == shown
    assert UploaderError(text, hint=text).hint == shown
    assert shown in str(ConfigError("c.json", [text]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"AccessKeyId": "AK", "SecretAccessKey": "abc/+="}', '{"AccessKeyId": "AK", "SecretAccessKey": …}'),
        ("aws_secret_access_key = abcdefgh, region", "aws_secret_access_key = …, region"),
        ('said {\\"SessionToken\\": \\"abc\\"}', 'said {\\"SessionToken\\": …}'),
        ("login failed: password='a b' for x", "login failed: password=… for x"),
        ("Token: Bearer abcdefghijk.", "Token: Bearer …"),
        ('"SecretAccessKey": "cut off', '"SecretAccessKey": …'),
        ("Error loading SSO Token: Token for x does not exist", "Error loading SSO Token: Token for x does not exist"),
        ("no token in /run/token", "no token in /run/token"),
    ],
)
def test_named_secrets_are_not_shown(text: str, shown: str) -> None:
    """What a program calls a secret does not come into a message."""
    assert without_secrets(text) == shown


@given(value=st.recursive(NAMES.filter(lambda name: name.isascii() or name.isprintable()), st.lists, max_leaves=5))
def test_json_for_people_holds_the_same_values(value: object) -> None:
    """JSON on a terminal has no character that drives it, and reads as what it was."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    assert all(character.isprintable() or character == "\n" for character in printable_json(text))
    assert json.loads(printable_json(text)) == value


@pytest.mark.parametrize("character", ["\x9b", "\u202e", "\u2028", "\U000e0001"])
def test_json_escapes_what_drives_a_terminal(character: str) -> None:
    """C1 controls, bidirectional overrides, separators and tags are escapes in JSON, too."""
    assert json.loads(printable_json(json.dumps(character, ensure_ascii=False))) == character
    assert character not in printable_json(json.dumps(character, ensure_ascii=False))
