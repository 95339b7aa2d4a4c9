"""Comparison of an object with our bytes: by ranges, or as a whole if the server does not support ranges."""

from __future__ import annotations

import re
from collections.abc import Callable

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import clean_etag, is_encoded, strong_etag
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.engines.base import CONTENT_RANGE, Answer
from s3_uploader.stores.s3.upload import ObjectUpload

_GZIP = b"\x1f\x8b"
"""The first bytes of a gzip file."""
_KNOWS_NO_RANGE = frozenset((400, 405, 416, 501))
"""Statuses of a GET that may be caused by its range."""
_READ = frozenset((403, 404, 412)) | _KNOWS_NO_RANGE


class ByteComparison:
    """Compares an object with our bytes: by ranges, or as a whole if the server does not support ranges.

    :param etag: the object's, empty if unknown yet; all ranges must be of this object.
    :param has_length: the object is known to be as long as our file.
    """

    __slots__ = ("_encoding", "_etag", "_has_length", "_other", "_same", "_unreadable", "_upload", "_whole")

    def __init__(
        self,
        upload: ObjectUpload,
        *,
        etag: str,
        has_length: bool,
        same: Callable[[str], None],
        other: Callable[[str], None],
        unreadable: Callable[[PendingRequest], None],
    ) -> None:
        self._upload = upload
        self._etag = etag
        self._has_length = has_length
        self._same = same
        self._other = other
        self._unreadable = unreadable
        self._whole = False
        self._encoding = upload.options.content_encoding

    def go_on(self, first: int) -> None:
        """Compare the bytes from this offset on."""
        upload = self._upload
        size = upload.source.size
        if first >= size and self._has_length:
            self._same(self._etag)
            return
        end = size if self._whole else min(first + upload.context.part_size, size)
        # One byte more than ours shows whether there are more.
        last = end - 1 if self._has_length or end < size else end
        room = upload.room_to_compare(last - first + 1)
        request = requests.get_object(
            upload.key,
            upload.path,
            first=first,
            last=last,
            etag="" if self._whole else self._etag,
            encoding=self._encoding,
            size=size,
            ranged=not self._whole,
        )
        # Also if the upload is over by then: the call is cancelled at once, and releases the memory at its end.
        upload.context.budget.acquire(
            room, lambda: upload.call(request, lambda call: self._got(call, first, end, room), _READ)
        )

    def _got(self, call: PendingRequest, first: int, end: int, room: int) -> None:
        upload = self._upload
        is_answer = call.error is None and call.status in (200, 206)
        if not is_answer or upload.over:
            upload.context.budget.release(room)
        if upload.over:
            return
        if is_answer:
            upload.on_crew(lambda: self._compare(call, first, end, room))
        elif call.error is not None and call.error.retryable:
            upload.fail(call.error)
        elif call.status == 416 and not upload.source.size and not first:
            self._same(self._etag)
        elif not self._whole and (call.status == 412 or (call.status in _KNOWS_NO_RANGE and not first)):
            self._read_whole()
        else:
            self._unreadable(call)

    def _read_whole(self) -> None:
        """One answer with all bytes is of one object, however the server names or divides it."""
        self._whole = True
        self.go_on(0)

    def _read_as_stored(self) -> None:
        """Read it once more, with a request that takes gzip: a decompressing server sends the bytes as stored then."""
        self._encoding = "gzip"
        self._etag, self._has_length, self._whole = "", False, False
        self.go_on(0)

    def _compare(self, call: PendingRequest, first: int, end: int, room: int) -> None:
        upload = self._upload
        upload.context.budget.release(room)
        answer = call.body
        etag = clean_etag(answer.headers.get("etag", ""))
        is_renamed = bool(self._etag and etag and strong_etag(etag) != strong_etag(self._etag))
        if is_renamed and not self._whole:
            # It was replaced while it was read, or the server gives it a new ETag each time.
            self._read_whole()
            return
        self._etag = self._etag or etag
        if not upload.start_reading():
            return
        may_be_decompressed = False
        try:
            read = self._equal_up_to(answer, first, end)
            if read is None and not self._encoding:
                may_be_decompressed = is_gzip(upload)
        except StoreError as error:
            upload.fail(error)
            return
        finally:
            upload.stop_reading()
        if read is not None:
            self.go_on(read)
        elif may_be_decompressed:
            self._read_as_stored()
        elif is_renamed or is_encoded(answer.headers, self._encoding):
            self._unreadable(call)
        else:
            self._other(self._etag)

    def _equal_up_to(self, answer: Answer, first: int, end: int) -> int | None:
        """The offset up to which the object equals our file, ``None`` if it differs."""
        upload, theirs, size = self._upload, answer.body, self._upload.source.size
        # rclone answers a range with status 200.
        is_piece = "content-range" in answer.headers or len(theirs) == end - first
        if answer.status == 200 and not is_piece:
            if len(theirs) != size:
                return None
            step = upload.context.part_size
            view = memoryview(theirs)
            for begin in range(0, size, step):
                stop = min(begin + step, size)
                if upload.read_again(begin, stop - 1) != view[begin:stop]:
                    return None
            self._has_length = True
            return size
        found = re.fullmatch(CONTENT_RANGE, answer.headers.get("content-range", ""))
        # rclone gives a wrong total, which is not needed if a HEAD has given the length.
        if not self._has_length and found is not None and (int(found[1]) != first or found[3] not in ("*", str(size))):
            return None
        count = min(len(theirs), end - first)
        mine = upload.read_again(first, first + count - 1) if count else b""
        if mine != theirs or (not count and first < size):
            return None
        if first + count == size:
            self._has_length = True  # one byte more was requested, or it was known
        return first + count


def is_gzip(upload: ObjectUpload) -> bool:
    """Whether the file itself is gzip: some servers decompress such objects unless the request accepts gzip."""
    size = len(_GZIP)
    if upload.options.content_encoding or upload.source.size <= size or not upload.start_reading():
        return False
    try:
        return upload.read_again(0, size - 1) == _GZIP
    finally:
        upload.stop_reading()
