"""The content type of an object, by the extension of its name."""

from __future__ import annotations

import os

_CONTENT_TYPES: dict[str, str] = {}
"""Known content types by extension."""


def content_type_of(key: str) -> str:
    """The content type by the extension of the name; ``application/octet-stream`` if unknown."""
    dot = key.rfind(".")
    # Most keys of a run have the same extension. Leading dots do not begin one.
    known = _CONTENT_TYPES.get(key[dot:]) if dot > 0 and key[dot - 1] not in "/." else None
    return _found_content_type(os.path.splitext(key)[1].lower()) if known is None else known


def _found_content_type(ending: str) -> str:
    known = _CONTENT_TYPES.get(ending)
    if known is None:
        import mimetypes

        try:
            kind, encoding = mimetypes.guess_type(f"name{ending}", strict=True)
        except (OSError, ValueError):
            # One of the machine's own lists is unreadable or not UTF-8. Python's own list is always there.
            kind, encoding = mimetypes.MimeTypes().guess_type(f"name{ending}", strict=True)
        # A compressed file does not have the type of its content.
        known = "application/octet-stream" if kind is None or encoding else kind
        if len(_CONTENT_TYPES) < 1000:
            _CONTENT_TYPES[ending] = known
    return known
