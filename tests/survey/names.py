"""Names of objects that some server does not like: three hundred, of every kind that is known to make trouble."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Literal

LONGEST = 1024
"""S3's limit for the name of an object, in bytes of UTF-8."""

_WORDS = ("Größe", "éclair", "ñandú", "Ångström", "Việt Nam", "한국어", "がぎぐ", "Йошкар", "ἀρχή", "çedilla")
_PUNCTUATION = "+&=?#;:@,$!*'\"()[]{}<>|^`~\\"
_EMOJI = (
    "😀", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪", "❤️", "❤", "🏳️‍🌈", "1️⃣", "🧑🏿‍🚀", "☃",
    "😀😀😀", "𝔘𝔫𝔦", "𠜎", "🫠", "👁‍🗨", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "©️", "™", "♟︎", "🀄",
)  # fmt: skip
_PERCENT = (
    "%", "%%", "100%", "%25", "%2F", "a%2Fb", "%2f", "%20", "a%20b", "%00", "%0A", "%2e%2e%2fup", "%zz", "%2", "50%off",
    "%E4%B8%AD", "%C3%28", "%u0041", "%s%n%x", "a%b%c", "%2525", "%+", "+%2B", "%7E", "~%7e",
)  # fmt: skip
_BLANKS = (
    " leading", "trailing ", " both ", "two  blanks", "a b", "   ", " ", "a /b", "a/ b", "a / b", "before .dat",
    "no-break\u00a0space", "thin\u2009space", "ideographic\u3000space", "line\u2028separator", "paragraph\u2029end",
    "zero\u200bwidth", "a \u00a0 b", "tab\tinside", "mixed \t blanks",
)  # fmt: skip
_SLASHES = (
    "/", "//", "///", "/leading", "//leading", "trailing/", "trailing//", "in//side", "in///side", "a//b//c",
    "end/ /", "/ends/", "two/ends//", "a/ /b", "ends/ /x", "s3://bucket/key", "http://host/path", "C:/file",
    "back\\slash", "\\\\unc\\path", "mixed/\\slash", "fraction\u2044slash", "division\u2215slash", "full\uff0fwidth",
    "e/n/d/",
)  # fmt: skip
_DOTS = (
    ".", "..", "...", "....", "./a", "../a", "a/.", "a/..", "a/./b", "a/../b", "../../up", "a/...", ".hidden",
    "..hidden", "trailing.", "trailing..", "a./b", "a../b", ".a/b", "a/.b", "a.b.c", "./x/", "../x/",
    "one\u2024dot", "two\u2025",
)  # fmt: skip
_RESERVED = (
    "CON", "nul.txt", "aux/file", "COM1.dat", "lpt1", "desktop.ini", ".DS_Store", "Thumbs.db", ".minio.sys/config",
    "?acl", "?uploads", "key?uploadId=1", "key?versionId=null", "#fragment", "key#?both", "<key>", "&amp;", "]]>",
    "<?xml version", "{{template}}", "${HOME}", "$(id)", "`id`", "' OR 1=1", "robots.txt", "index.html", "soap",
    ".metadata", "_delimiter", "null",
)  # fmt: skip
_STRANGE = (
    "right\u202eleft", "\ufeffmark", "mark\ufeff", "joiner\u200d", "private\ue000use", "last\U0010ffff", "not\ufffea",
    "character\uffff", "replacement\ufffd", "soft\u00adhyphen", "variation\ufe0f", "tag\U000e0041",
    "isolate\u2066x\u2069", "combining\u0301\u0302\u0303\u0304", "\u0301first", "a" + "\u0301" * 40,
)  # fmt: skip


def odd_names() -> dict[str, list[str]]:
    """Every name by its kind; none is there twice."""
    kinds: dict[str, list[str]] = {
        "accents": [f"accents-{word}.dat" for word in _WORDS],
        "blanks": [*_BLANKS],
        "empty steps": [*_SLASHES],
        "dots": [*_DOTS],
        "long": list(_long()),
        "case pairs": [name for word in _LETTERS for name in (f"case-{word}", f"case-{word.swapcase()}")],
        "Unicode pairs": list(_normal_forms()),
        "control characters": [f"control{chr(code)}x" for code in (*range(1, 32), 127, *range(0x80, 0x8A))],
        "percent signs": [*_PERCENT],
        "punctuation": [f"sign{sign}x" for sign in _PUNCTUATION] + [f"{sign}{sign}" for sign in "+&=?;@,!"],
        "emoji": [f"emoji-{sign}" for sign in _EMOJI],
        "reserved words": [*_RESERVED],
        "strange characters": [*_STRANGE],
    }
    return kinds


_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
_LETTERS = (
    "abc",
    "README",
    "straße",
    "ÄÖÜ",
    "i",
    "İstanbul",
    "ΣΊΣΥΦΟΣ",
    "ǆ",
    "file.DAT",
    "Mixed/Case",
    "ﬁn",
    "k",
    "å",
    "жук",
    "z",
)


def _normal_forms() -> Iterator[str]:
    for word in _WORDS:
        for form in _FORMS:
            yield "pair-" + unicodedata.normalize(form, word)
    yield from ("pair-ﬁ", "pair-fi", "pair-①", "pair-1", "pair-Å", "pair-\u212b", "pair-K", "pair-\u212a")


def _long() -> Iterator[str]:
    for size in (100, 143, 200, 240, 250, 251, 254, 255):
        yield "n" * size
    yield from ("é" * 127, "日" * 85, "😀" * 63)
    for size in (256, 512, 900, 1000, 1023, LONGEST):
        yield ("deep/" * LONGEST)[: size - 1].rstrip("/").ljust(size, "x")
    yield "/".join(["s" * 200] * 5)
    yield "/".join(["é" * 100] * 5)
    yield "/".join("abcdefghijklmnop" * 8)


def kind_of(names: Mapping[str, list[str]]) -> dict[str, str]:
    """The kind of each name."""
    return {name: kind for kind, each in names.items() for name in each}
