"""How names, sizes and times are shown to people.

What comes from outside (names of files, answers of servers) may hold newlines, terminal escapes or bytes that are no
text. Shown, it can neither forge a line of the log nor drive a terminal.
"""

from __future__ import annotations

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def shown_name(name: str) -> str:
    r"""The name of a file or key on one line: what cannot be printed is escaped, a byte that is no text as ``\xNN``.

    Backslashes are doubled, so that no name looks like the escaped form of another.
    """
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(map(_escaped, name))


def shown_text(text: str) -> str:
    """A message on one line: like :func:`shown_name`, but backslashes stay, for it may hold names shown already."""
    if text.isprintable():
        return text
    return "".join(character if character == "\\" else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    # isprintable() is also false for what hides or reorders text: zero-width and bidirectional control characters.
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        # U+0085, not byte 0x85: the two must not look the same.
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def shown_size(size: float) -> str:
    """A number of bytes in decimal units: ``999 B``, ``3.4 MB``, ``120 GB``."""
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
    """A duration in the unit that fits: ``0.4 s``, ``12 s``, ``5 min``, ``3 h``, ``9 days``."""
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
