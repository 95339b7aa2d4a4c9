"""Parses durations and sizes with units: ``"10s"``, ``"6h"``, ``"2MB"``."""

from __future__ import annotations

import re

DURATION = r"^\s*\d+(\.\d+)?\s*(ms|s|sec|min|m|h|d|w)\s*$"
SIZE = r"^\s*\d+(\.\d+)?\s*([kKMGT]i?)?B\s*$"
"""The patterns that the schema names."""

_SECONDS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZES = ("max_bandwidth", "multipart_threshold", "part_size")


def is_duration(key: str) -> bool:
    """Whether a key takes a duration: a plain number is in seconds or in days."""
    return key.endswith("_seconds") or key == "history_days"


def is_size(key: str) -> bool:
    """Whether a key takes a number of bytes."""
    return key in _SIZES


def number(key: str, text: str) -> float | int | None:
    """Parse the value of a key with its unit; ``None`` if it has none, or the key takes none."""
    if is_size(key):
        return _bytes(text)
    if not is_duration(key) or re.match(DURATION, text) is None:
        return None
    digits, unit = re.fullmatch(r"\s*([\d.]+)\s*(\w+)\s*", text).groups()  # type: ignore[union-attr]
    seconds = float(digits) * _SECONDS[unit]
    if key != "history_days":
        return seconds
    days = seconds / 86400
    return int(days) if days == int(days) else None


def _bytes(text: str) -> int | None:
    if re.match(SIZE, text) is None:
        return None
    digits, prefix, binary = re.fullmatch(r"\s*([\d.]+)\s*([kKMGT]?)(i?)B\s*", text).groups()  # type: ignore[union-attr]
    return int(float(digits) * (1024 if binary else 1000) ** _BYTES.get(prefix, 0))
