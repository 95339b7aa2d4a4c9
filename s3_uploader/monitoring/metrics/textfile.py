"""The metrics file for node_exporter's textfile collector.

It is rewritten at the end of each run, and often in ``watch``.

A long run writes it each minute, so that it differs from a run that never began. The totals come from the ledger. A run
that cannot begin writes the file too, and changes only the last attempt and the problems.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

from s3_uploader.core.errors import remedy_of
from s3_uploader.core.events import Emit, Measurement, Notice, RunInProgress, RunMeasured
from s3_uploader.core.files import insist_on_file, replace_file
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.text import shown_name
from s3_uploader.monitoring.metrics.divisions import remove_other_divisions
from s3_uploader.monitoring.metrics.samples import exposition, progress_exposition

_LOCK_TIMEOUT_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 0.01
_MOST_BEFORE = 64 * 1024 * 1024
"""Characters of a metrics file that are read back. One of this program is smaller, with any number of locations."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_WRITABLE = "Make its directory writable for this user, or correct metrics_file."
_BLOCK = 512
"""The unit of ``st_blocks``, see stat(2)."""


class MetricsFile:
    """Writes the file. A failure is a warning.

    :param path: the file that the collector reads; its name must end in ``.prom``.
    :param notice: called if the file cannot be written.
    :param share: the share of the files that is measured; empty for all.
    """

    def __init__(self, path: str, *, notice: Emit, share: str = "") -> None:
        self._path = path
        self._share = share
        self._notice = notice

    def measure(self, measurement: Measurement) -> None:
        """Write a measurement, and leave the values that it lacks as they are."""
        if isinstance(measurement, RunMeasured) and measurement.report.dry_run:
            return
        knows_all = isinstance(measurement, RunMeasured) and measurement.locations is not None
        self._update(lambda: exposition(measurement, before="" if knows_all else self._before(), share=self._share))
        if knows_all and isinstance(measurement, RunMeasured):
            remove_other_divisions(self._path, spool=shown_name(measurement.report.base_dir), share=self._share)

    def progress(self, progress: RunInProgress) -> None:
        """Write that a run is at work, and leave the values that only its end can tell as they are."""
        self._update(lambda: progress_exposition(progress, before=self._before(), share=self._share), durable=False)

    def write(self, text: str) -> None:
        """Write the text. It is not flushed to the disk, because it will be written again soon."""
        self._update(lambda: text, durable=False)

    def _before(self) -> str:
        try:
            # A pipe would wait for its writer.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, encoding="utf-8") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return ""
                text = file.read(_MOST_BEFORE + 1)
                return text if len(text) <= _MOST_BEFORE else ""
        except (OSError, UnicodeDecodeError):
            return ""

    def _update(self, make: Callable[[], str], *, durable: bool = True) -> None:
        try:
            # One that steps aside reads the file and writes it again, and must not do so with the numbers of a run that
            # ends in between.
            with _alone_in(os.path.dirname(self._path) or "."):
                self._replace(make().encode(), durable=durable)
        except OSError as error:
            self._notice(
                Notice(
                    "warning",
                    f"The metrics file {shown_name(self._path)} cannot be written: {error.strerror}. "
                    + (remedy_of(error, denied=_WRITABLE) or _WRITABLE),
                    "metrics",
                )
            )

    def _replace(self, data: bytes, *, durable: bool) -> None:
        try:
            replace_file(self._path, data, durable=durable, mode=0o644)
        except OSError as error:
            # The full disk may be what the metrics are to tell of.
            if error.errno not in _NO_ROOM or not _overwrite(self._path, data):
                raise


def check_metrics_file(path: str) -> Finding:
    """Check that a temporary file can be made beside the metrics file, and that this user may replace the old one."""
    directory = os.path.dirname(path) or "."
    temporary = os.path.join(directory, f".{os.path.basename(path)}.check-{os.getpid()}")
    problem = ""
    try:
        insist_on_file(path)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.unlink(temporary)
        if os.path.isdir(path):
            problem = os.strerror(errno.EISDIR)
        elif _belongs_to_another(path, directory):
            problem = "it belongs to another user, and its directory has the sticky bit"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        return Finding(
            Severity.ERROR,
            "metrics_file",
            f"{shown_name(path)} cannot be written: {problem}.",
            "Make its directory writable for the user that runs this program, or correct metrics_file.",
        )
    if not path.endswith(".prom"):
        return Finding(
            Severity.WARNING,
            "metrics_file",
            f"{shown_name(path)} can be written, but the name does not end in .prom.",
            "node_exporter's textfile collector reads no other files.",
        )
    return Finding(Severity.OK, "metrics_file", f"{shown_name(path)} can be written.")


def _belongs_to_another(path: str, directory: str) -> bool:
    """Whether a file cannot be replaced although its directory can be written (the sticky bit, inode(7))."""
    me = os.geteuid()
    above = os.stat(directory)
    if me in (0, above.st_uid) or not above.st_mode & stat.S_ISVTX:
        return False
    try:
        return os.stat(path, follow_symlinks=False).st_uid != me
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _alone_in(directory: str) -> Iterator[None]:
    """Lock a directory against other runs that write metrics, for a moment and where possible."""
    descriptor = -1
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        until = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        while not _is_locked(descriptor) and time.monotonic() < until:
            time.sleep(_ASK_AGAIN_SECONDS)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _overwrite(path: str, data: bytes) -> bool:
    """Overwrite the file in its own blocks; returns whether they were enough.

    A reader may see half of it for a moment, or after a crash. Replacing the file is better if there is room.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "r+b", buffering=0) as file:
        if os.fstat(descriptor).st_blocks * _BLOCK < len(data):
            return False
        old = file.read()
        try:
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
        except OSError:  # a file system that never writes in place
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, old, 0)
            return False
    return True
