"""A store in memory: the worked example of CONTRIBUTING.md for how a store is added."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from s3_uploader.core.errors import ConflictError, ObjectGone, SourceChanged
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, PendingReceipt, PutOptions, Source, ignore
from s3_uploader.stores.keys import derived_key, path_segments
from s3_uploader.stores.workers import UploadTask, Workers


class MemoryStore:
    """Keeps objects in a dictionary, which several stores may share as several programs share a server."""

    loop = None
    keeps_writers_apart = True

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects
        self._workers = Workers(name="memory", count=4)
        self.name = "memory"

    def open(self) -> None:
        """Nothing has to be got ready."""

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """See :meth:`s3_uploader.stores.base.Store.put`."""
        return self._workers.submit(lambda task: self._put(task, key, source, options, replaces), deadline=deadline)

    def _put(self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str) -> Receipt:
        path_segments(key)
        with task.reading_source():
            data = os.pread(source.descriptor, source.size, 0)
        if len(data) != source.size:
            raise SourceChanged(f"The file shrank: {len(data)} of {source.size} bytes were there.")
        digest = hashlib.sha256(data).hexdigest()
        task.check()
        there = self._objects.setdefault(key, data)  # one step, so that of two writers one is first
        if there is not data and there != data and options.on_conflict is OnConflict.KEEP_BOTH:
            key = derived_key(key, digest)
            there = self._objects.setdefault(key, data)
        elif there != data and (options.on_conflict is OnConflict.OVERWRITE or replaces == _etag(there)):
            there = self._objects[key] = data
        if there != data:
            raise ConflictError(f"{self.address(key)} is taken.", existing=_etag(there), hint="Look at both.")
        return Receipt(key=key, size=len(data), proof=Proof.CHECKSUM, etag=digest, already_there=there is not data)

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """See :meth:`s3_uploader.stores.base.Store.confirm`."""
        return self._workers.submit(lambda task: self._confirm(receipt), deadline=deadline)

    def _confirm(self, receipt: Receipt) -> Receipt:
        if receipt.key not in self._objects:
            raise ObjectGone(f"{self.address(receipt.key)} is gone.")
        return receipt

    def cancel(self) -> None:
        """See :meth:`s3_uploader.stores.base.Store.cancel`."""
        self._workers.cancel()

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """There is nothing that could be wrong."""
        return [Finding(Severity.OK, "memory", "objects can be kept.")]

    def address(self, key: str) -> str:
        """See :meth:`s3_uploader.stores.base.Store.address`."""
        return f"memory/{key}"

    def close(self, *, timeout: float) -> None:
        """See :meth:`s3_uploader.stores.base.Store.close`."""
        self._workers.close(timeout=timeout)


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
