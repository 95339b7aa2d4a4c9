"""Shows names, sizes and times to people.

Text from outside (names of files, answers of servers) may contain newlines, terminal escapes or invalid bytes. Escaped,
it can neither forge a line of the log nor control a terminal.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable

LONGEST_QUOTE = 500
"""Most characters of a message from outside (a server, a helper, a library), wherever it is shown."""
_LONGEST_CODE = 100
_PLAIN_PATH = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99})*"
SERVER_URL = (
    r"(?P<scheme>(?i:https?))://(?:(?P<user>[^/@]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:?#@\s]+)"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^?#\s]*)?"
)
"""The URL of an HTTP server, be it a proxy or an endpoint."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def parsed_server_url(url: str) -> re.Match[str] | None:
    """The parts of the URL of an HTTP server by their names in :data:`SERVER_URL`; ``None`` if it is none."""
    found = re.fullmatch(SERVER_URL, url.strip(), re.ASCII)
    return found if found is not None and 0 < int(found["port"] or 1) < 65536 else None


def is_plain(path: str) -> bool:
    """Whether every destination accepts this name: short, of unreserved ASCII characters, no empty or dotted steps."""
    return (
        len(path) <= 200 and re.fullmatch(_PLAIN_PATH, path) is not None and "./" not in path and not path.endswith(".")
    )


def shown_name(name: str) -> str:
    r"""Show the name of a file or key on one line.

    Unprintable characters are escaped, a byte that is not text as ``\xNN``.

    Backslashes are doubled, so that no name looks like the escaped form of another.
    """
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(map(_escaped, name))


def shown_text(text: str) -> str:
    """Show a message on one line, like :func:`shown_name`, but keep backslashes: it may contain escaped names."""
    if text.isprintable():
        return text
    return "".join(character if character == "\\" else _escaped(character) for character in text)


def shown_value(value: object) -> str:
    """A value of a configuration as JSON, cut where it is long."""
    # Only a problem needs it, and a run without problems need not wait for its import.
    import json

    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def quoted(text: str, *, longest: int = LONGEST_QUOTE) -> str:
    """Quote text from outside in a message: like :func:`shown_text`, and cut if it is long.

    To be called where the text comes in, so that log, ledger, pings and pages need not escape it.
    """
    text = text[: longest + 1] if len(text) > longest else text
    shown = shown_text(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def quoted_code(text: str) -> str:
    """The same for the code of an error, which is short."""
    return quoted(text, longest=_LONGEST_CODE)


def ended(sentence: str) -> str:
    """Add a full stop to a sentence, unless it ends with a punctuation mark."""
    return sentence if sentence.endswith((".", "!", "?", "…")) or not sentence else sentence + "."


def with_hint(message: str, hint: str) -> str:
    """Join a message and its hint as two sentences; the message stays as it is without a hint."""
    return f"{ended(message.rstrip())} {hint}" if hint and message.strip() else message or hint


def is_number(text: str) -> bool:
    """Whether this is a whole number of at most 18 digits: ``int()`` raises for thousands of them."""
    return 0 < len(text) <= 18 and text.isascii() and text.isdigit()


_PORT = r"[0-9]{1,5}(?:[/?#.,:;)\]}\"'<>\s]|$)"
_USER_IN_URL = (
    rf"://(?!user@host/path[,. ])(?:(?!\[)[^\s/?#:\"'<>]{{0,500}}:(?!{_PORT})\S{{0,500}}|[^\s/?#\"'<>]{{0,1000}})@"
)

_NAMED_SECRET = (
    r"(?i)((?:secret|token|passw|passphrase|private.?key)[\w-]{0,40}[\\\"']{0,2}\s{0,4}[:=]\s{0,4}(?:bearer\s{1,4})?)"
    r"(?:\\?\"[^\"]{1,4000}\"?|'[^']{1,4000}'?|[^\s,;}\"']{8,4000})"
)
"""A name and its value. A word after a colon may be plain text, so an unquoted value must be long to match."""


_SHORTEST_TOKEN = 100
_TOKEN = rf"[A-Za-z0-9+/=_.~%-]{{{_SHORTEST_TOKEN},}}"


def without_passwords(text: str) -> str:
    """Remove users and passwords from the URLs in a text: ``https://…@host``.

    Passwords that should have been percent-encoded are found too: generated ones often have a slash. The form of a URL
    that an advice shows (``sftp://user@host/path``) is kept.
    """
    return re.sub(_USER_IN_URL, "://…@", text) if "@" in text else text


def without_secrets(text: str) -> str:
    """Hide what a program names as a secret in its messages: ``SecretAccessKey": "…"``, ``password=…``."""
    return re.sub(_NAMED_SECRET, r"\1…", text)


def without_tokens(text: str) -> str:
    """Hide what is as long as a session token, signed in base64 or as a JWT, whoever repeats it."""
    return re.sub(_TOKEN, "…", text) if len(text) >= _SHORTEST_TOKEN else text


def file_server_name(host: str, port: int, path: str, *, default_port: int) -> str:
    """What a directory of a file server is called in messages and in the ledger: ``host/path``, ``host:2121``.

    :param default_port: the protocol's port, which the name omits.
    """
    directory = path.strip("/").removeprefix("./")
    number = "" if port == default_port else f":{port}"
    shown_host = f"[{host}]" if ":" in host else host
    return f"{shown_host}{number}/{'' if directory == '.' else directory}".rstrip("/")


def host_to_look_up(host: str) -> str | bytes:
    """A host as ``socket.getaddrinfo`` takes it at once.

    For a text it first imports a codec, which takes time and may fail, and then as something else than an ``OSError``.
    """
    return host.encode() if host.isascii() else host


def printable_json(text: str) -> str:
    """Escape every unprintable character of a JSON document; line breaks between values stay.

    The values stay the same, because JSON has such characters only inside strings.
    """
    if text.isprintable():
        return text
    return "".join(character if character == "\n" else _json_escaped(character) for character in text)


def _json_escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _escaped(character: str) -> str:
    # isprintable() is also false for what hides or reorders text: zero-width and bidirectional control characters.
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        # U+0085, not byte 0x85: the two must not look the same.
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def names_are_utf8() -> bool:
    """Whether this process decodes names of files as UTF-8; an embedding program may use another encoding."""
    return sys.getfilesystemencoding().lower() in ("utf-8", "utf8")


def shown_size(size: float) -> str:
    """Show a number of bytes in decimal units: ``999 B``, ``3.4 MB``, ``120 GB``."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 9.995:
            return f"{size:.1f} {unit}"
        if size < 999.5:
            return f"{size:.0f} {unit}"
    return f"{size / 1000:.1f} PB"


def shown_duration(seconds: float) -> str:
    """Show a duration in a fitting unit: ``0.4 s``, ``12 s``, ``5 min``, ``3 h``, ``9 days``."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 119.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 47.5 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``2 files``, ``12,000 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def names_of(paths: Iterable[str]) -> dict[str, str]:
    """What each of several files is called: its name, or its path where another of them has the same name."""
    names = {path: os.path.basename(path) for path in paths}
    seen = Counter(names.values())
    return {path: name if seen[name] == 1 else path for path, name in names.items()}
