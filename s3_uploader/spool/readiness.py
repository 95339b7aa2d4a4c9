"""When is a file ready: the two clocks, and the probe for a writer.

:func:`still_settling` is a function of values. :func:`is_being_written` asks the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import signal

FUTURE_TOLERANCE = 300.0
"""Seconds by which an mtime may lie in the future before it counts as wrong and no longer holds a file back."""

_NO_LEASE_HERE = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)


def still_settling(
    *, period_begin: float | None, period_end: float | None, mtime: float, now: float, settle_seconds: float
) -> str:
    """Why a file is too fresh, or an empty string if it is not.

    A period in the path holds a file back only while it runs and until ``settle_seconds`` after its end. One in the
    future (a wrong clock, local time read as UTC) or none at all leaves the decision to ``mtime``; an ``mtime`` that
    lies more than :data:`FUTURE_TOLERANCE` in the future decides nothing either, so that no file is stranded.

    All times are seconds since the epoch.
    """
    if period_begin is not None and period_end is not None and period_begin <= now < period_end + settle_seconds:
        return f"its minute ended less than {settle_seconds:g} s ago" if now >= period_end else "its minute is not over"
    age = now - mtime
    if age < settle_seconds and age >= -FUTURE_TOLERANCE:
        return f"written {max(age, 0.0):.0f} s ago, less than {settle_seconds:g} s"
    return ""


def is_being_written(descriptor: int) -> bool | None:
    """Whether anybody has the file open for writing, also through a shared mapping; ``None`` if there is no telling.

    A read lease is granted only while there is no writer (``fcntl(2)``, ``F_SETLEASE``). It is given back at once: a
    lease that is held makes the next writer's ``open`` wait for us. Should a writer arrive in that very moment, the
    kernel tells us with a signal; the default, ``SIGIO``, would end the process, so another one is asked for whose
    default is to be ignored.

    There is no telling on network file systems, and for a user who neither owns the file nor has ``CAP_LEASE``.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return True
        if error.errno in _NO_LEASE_HERE:
            return None
        raise
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
