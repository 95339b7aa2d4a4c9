"""Another look at a file that was found on the server, by reading its last byte."""

from __future__ import annotations

from s3_uploader.core.errors import ObjectGone
from s3_uploader.core.model import Receipt
from s3_uploader.stores.sftp.errors import Refused
from s3_uploader.stores.sftp.session import Session


def confirm(session: Session, path: str, receipt: Receipt, *, address: str) -> Receipt:
    """Ask for the size, and read the last byte of the file.

    :raises ObjectGone: if it does not exist, has another size, or cannot be read.
    """
    size = receipt.size if receipt.stored_size is None else receipt.stored_size
    if session.size(path) != size:
        raise ObjectGone(f"{address} no longer exists, or has another size.")
    received = 0

    def count(chunk: bytes) -> None:
        nonlocal received
        received += len(chunk)

    if size:
        try:
            session.retrieve(path, count, begin=size - 1, most=1)
        except Refused as refused:
            raise ObjectGone(f"{address} cannot be read: {refused.text}.") from None
        if not received:
            raise ObjectGone(f"{address} is shorter now.")
    return receipt
