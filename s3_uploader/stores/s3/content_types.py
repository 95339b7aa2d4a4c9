"""The content type of an object, by the ending of its name."""

from __future__ import annotations

import os

_CONTENT_TYPES: dict[str, str] = {}
"""By ending, as far as there were keys with it."""


def content_type_of(key: str) -> str:
    """A content type by the name's ending; ``application/octet-stream`` where it says nothing."""
    dot = key.rfind(".")
    # Most keys of a run end alike. A name that begins with dots has no ending by them.
    known = _CONTENT_TYPES.get(key[dot:]) if dot > 0 and key[dot - 1] not in "/." else None
    return _found_content_type(os.path.splitext(key)[1].lower()) if known is None else known


def _found_content_type(ending: str) -> str:
    known = _CONTENT_TYPES.get(ending)
    if known is None:
        import mimetypes

        try:
            kind, encoding = mimetypes.guess_type(f"name{ending}", strict=True)
        except (OSError, ValueError):
            # One of the machine's own lists cannot be read, or is not in UTF-8. The one of Python is always there.
            kind, encoding = mimetypes.MimeTypes().guess_type(f"name{ending}", strict=True)
        # A compressed file is not of the type of what is inside.
        known = "application/octet-stream" if kind is None or encoding else kind
        if len(_CONTENT_TYPES) < 1000:
            _CONTENT_TYPES[ending] = known
    return known
