"""One more look at a file that was found on the server, by reading its last byte."""

from __future__ import annotations

from s3_uploader.core.errors import ObjectGone
from s3_uploader.core.model import Receipt
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.ftp.session import Session

_WHOLE_BYTES = 256 * 1024
"""Of a file up to this size the whole is read where the server cannot begin at its last byte (``REST``)."""


def confirm(session: Session, path: str, receipt: Receipt, *, address: str) -> Receipt:
    """Ask for the size, and read the last byte of the file.

    A server that remembers names (a gateway with a cache) tells the size of what has gone; it cannot give its bytes.

    :raises ObjectGone: if it is not there, has another size, or cannot be read.
    """
    size = receipt.size if receipt.stored_size is None else receipt.stored_size
    found = session.size(path)
    if found != size:
        raise ObjectGone(f"{address} is not there any more, or has another size.")
    begin = size - 1
    if begin > 0:
        try:
            session.command(f"REST {begin}")
        except Refused:
            begin = 0
    if not size or (begin == 0 and size > _WHOLE_BYTES):
        return receipt
    received = 0

    def count(chunk: bytes) -> None:
        nonlocal received
        received += len(chunk)

    try:
        session.retrieve(path, count)
    except Refused as refused:
        raise ObjectGone(f"{address} cannot be read: {refused.text}") from None
    if not received:
        raise ObjectGone(f"{address} is empty now.")
    return receipt
