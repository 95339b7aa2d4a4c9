"""The limit of the size of files that this process may write (``ulimit -f``); it looks like a failing or full disk."""

from __future__ import annotations

import errno

RAISE_SIZE_LIMIT = "Raise the limit of the size of files (ulimit -f, LimitFSIZE= of a unit)."


def size_limit() -> int | None:
    """The bytes that a file of this process may have at most; ``None`` without a limit, or if nobody says so."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    except (ImportError, OSError):  # no descriptor is left to load it, or a sandbox forbids to ask
        return None
    return None if limit == resource.RLIM_INFINITY else limit


def is_of_the_size_limit(error: OSError) -> bool:
    """Whether a file could not grow for this limit, and not because its file system takes no larger ones."""
    return error.errno == errno.EFBIG and size_limit() is not None
