"""Another look at an object that was found stored, by reading its last byte."""

from __future__ import annotations

from s3_uploader.core.errors import ObjectGone
from s3_uploader.core.model import Receipt
from s3_uploader.stores.base import PendingReceipt
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.client import PendingRequest, S3Client

_GONE = frozenset((404, 410, 416, 500))
"""Statuses for an object whose file was removed below a gateway. rclone has its name in a cache and answers a GET with
500, but a HEAD with 200."""
_DENIED = 403


class Look:
    """Reads the last byte of an object, or looks it up if its bytes cannot be read.

    :param address: the key for messages.
    """

    def __init__(self, client: S3Client, receipt: Receipt, *, address: str, deadline: float) -> None:
        self._client = client
        self._receipt = receipt
        self._address = address
        self._deadline = deadline
        self._path = requests.encode_key(receipt.key)
        self.future = PendingReceipt()

    def begin(self) -> None:
        """Start. An empty object is only looked up."""
        receipt = self._receipt
        size = receipt.size if receipt.stored_size is None else receipt.stored_size
        if size:
            # A server without support for ranges sends the whole object.
            request = requests.get_object(receipt.key, self._path, first=size - 1, last=size - 1, etag="", size=size)
            self._client.call_in_time(request, self._read, deadline=self._deadline, expected=_GONE | {_DENIED})
        else:
            self._ask()

    def _ask(self) -> None:
        request = requests.head_object(self._receipt.key, self._path)
        self._client.call_in_time(request, self._conclude, deadline=self._deadline, expected=_GONE | {_DENIED})

    def _read(self, call: PendingRequest) -> None:
        if call.error is None and call.status == _DENIED:
            # Archived objects cannot be read, and a writer may lack permission to read. But a lookup may work.
            self._ask()
        elif call.error is None and call.status < 300 and not call.body.body:
            self.future.complete(ObjectGone(f"{self._address} is empty now."))
        else:
            self._conclude(call)

    def _conclude(self, call: PendingRequest) -> None:
        if call.error is not None:
            self.future.complete(call.error)
        elif call.status >= 300:
            self.future.complete(ObjectGone(f"{self._address} does not exist, or cannot be read ({call.status})."))
        else:
            self.future.complete(self._receipt)


def confirm(client: S3Client, receipt: Receipt, *, address: str, deadline: float) -> PendingReceipt:
    """See :meth:`s3_uploader.stores.base.Store.confirm`."""
    look = Look(client, receipt, address=address, deadline=deadline)
    look.begin()
    return look.future
