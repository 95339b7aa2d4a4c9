"""Another look at a file that was found on the server, by reading its last byte."""

from __future__ import annotations

from s3_uploader.core.errors import ObjectGone
from s3_uploader.core.model import Receipt
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.ftp.session import Session

_WHOLE_BYTES = 256 * 1024
"""A file of up to this size is read completely if the server cannot start at its last byte (``REST``)."""


def confirm(session: Session, path: str, receipt: Receipt, *, address: str) -> Receipt:
    """Ask for the size, and read the last byte of the file.

    A gateway with a cache may report the size of a deleted file, but it cannot return its bytes.

    :raises ObjectGone: if it does not exist, has another size, or cannot be read.
    """
    size = receipt.size if receipt.stored_size is None else receipt.stored_size
    if session.size(path, thoroughly=True) != size and session.other_size(path) != size:
        raise ObjectGone(f"{address} no longer exists, or has another size.")
    if not size:
        return receipt
    try:
        received = _read(session, path, begin=size - 1, size=size)
    except Refused as refused:
        if refused.verb != "REST":
            raise ObjectGone(f"{address} cannot be read: {refused.text}") from None
        if size > _WHOLE_BYTES:
            return receipt
        try:
            received = _read(session, path, begin=0, size=size)
        except Refused as whole:
            raise ObjectGone(f"{address} cannot be read: {whole.text}") from None
    if not received:
        raise ObjectGone(f"{address} is empty now.")
    return receipt


def _read(session: Session, path: str, *, begin: int, size: int) -> int:
    received = 0

    def count(chunk: bytes) -> None:
        nonlocal received
        received += len(chunk)

    session.retrieve(path, count, begin=begin, most=size - begin)
    return received
