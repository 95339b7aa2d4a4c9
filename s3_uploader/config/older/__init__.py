"""Translates the configurations of older programs into the keys of this one.

The INI file of zc.s3uploadqueue, the YAML file of s3, and the command line of jollyae, in a script or alone.
"""

from __future__ import annotations

import re

from s3_uploader.config.older.found import Older

__all__ = ["Older", "understood"]

_OF_S3 = re.compile(r"(?:^|[{,])\s*['\"]?(default_bucket|secret_access_key)['\"]?\s*:", re.MULTILINE)


def understood(text: str) -> Older | None:
    """Translate a file or command line of an older program; ``None`` if the program is not a known one."""
    if re.search(r"^[ \t]*\[Queue\]", text, re.MULTILINE | re.IGNORECASE):
        from s3_uploader.config.older.queue import of_queue

        return of_queue(text)
    if re.search(r"\bjollyae(\.py)?\b", text):
        from s3_uploader.config.older.jollyae import of_jollyae

        return of_jollyae(text)
    if _OF_S3.search(text):
        from s3_uploader.config.older.library import of_library

        return of_library(text)
    return None
