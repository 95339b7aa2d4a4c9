"""A file in flight: open, with its key and its future row in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.model import Left, Receipt
from s3_uploader.ledger.rows import ShippedRow
from s3_uploader.spool.layouts.base import original_name
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.stores.base import PutOptions

if TYPE_CHECKING:
    from s3_uploader.core.model import Fingerprint
    from s3_uploader.run.directories import Directories


class FileTask(msgspec.Struct):
    """A file under way to the store. It owns the descriptor, and one place in the count of its directory.

    It has three ends: it is left, it failed, or it is proven and gone (:mod:`s3_uploader.run.settlement`).

    :param began: monotonic time of the submission.
    :param successes_before: number of successful uploads at that time.
    :param failed_before: whether an earlier run could not ship it.
    :param replaces: see :meth:`s3_uploader.stores.base.Store.put`.
    """

    file: OpenFile
    key: str
    began: float
    successes_before: int
    failed_before: bool = False
    replaces: str = ""
    options: PutOptions = PutOptions()
    _directories: Directories | None = None

    def begin(self, directories: Directories) -> None:
        """Count it in its directory until :meth:`end`; one that is sent once more is counted already."""
        if self._directories is None:
            self._directories = directories
            directories.begin(self.file.candidate.directory)

    def end(self, *, removed: bool = False) -> None:
        """Let go of descriptor and directory. May be called twice.

        :param removed: the file is gone, and an empty directory may go with it.
        """
        if self.file.descriptor >= 0:  # what is removed was closed with its batch
            self.file.close()
        directories, self._directories = self._directories, None
        if directories is not None:
            directories.settle(self.file.candidate.directory, removed=removed)

    def shipped_row(
        self, receipt: Receipt, *, run: int | None, destination: str, now: float, seconds: float, is_kept: bool
    ) -> ShippedRow:
        """Make the ledger's row of the shipped file.

        :param now: wall-clock time, in seconds since the epoch; the upload took ``seconds``.
        :param is_kept: the file stays in the spool.
        """
        candidate, fingerprint = self.file.candidate, self.file.fingerprint
        kept: Fingerprint | None = fingerprint if is_kept else None
        return ShippedRow(
            run=run,
            # What a killed run has left under a private name is its producer's file all the same.
            path="/".join((*candidate.directory, original_name(candidate.name))),
            location=candidate.location,
            destination=destination,
            key=receipt.key,
            size=receipt.size,
            mtime_ns=fingerprint.mtime_ns,
            period_begin=candidate.period_begin,
            shipped_at=now,
            seconds=seconds,
            proof=receipt.proof,
            checksum=receipt.checksum,
            etag=receipt.etag,
            version_id=receipt.version_id,
            already_there=receipt.already_there,
            stored_size=receipt.stored_size,
            encoding=receipt.encoding,
            kept=kept,
        )


def why_changed(file: OpenFile) -> Left | None:
    """:meth:`OpenFile.why_changed`; a file that cannot be examined counts as changed."""
    try:
        return file.why_changed()
    except OSError:
        return Left.CHANGED
