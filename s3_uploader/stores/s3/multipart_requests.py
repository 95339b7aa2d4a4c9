"""The requests of an upload in parts, and the size of its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from s3_uploader.stores.s3.engines.base import Request, escape
from s3_uploader.stores.s3.requests import Condition, content_md5, quoted_etag

_MAXIMUM_PARTS = 10_000
_MEBIBYTE = 1024 * 1024


def create_multipart_upload(key: str, path: str, headers: dict[str, str], *, checksums: str = "full") -> Request:
    """Begin an upload in parts.

    :param checksums: ``full``: it has one checksum of the whole in the end; ``composite``: one of the parts' checksums;
        ``none``: the server is asked for none.
    """
    if checksums != "none":
        headers["x-amz-checksum-algorithm"] = "CRC32"
    if checksums == "full":
        headers["x-amz-checksum-type"] = "FULL_OBJECT"
    return Request(
        operation="CreateMultipartUpload", method="POST", key=key, path=path, query=(("uploads", ""),), headers=headers
    )


def upload_part(
    key: str, path: str, body: bytes, *, upload_id: str, number: int, crc32: str, payload_hash: str, md5: str = ""
) -> Request:
    """Send one part.

    :param crc32: empty to leave it out.
    :param md5: hexadecimal, to send it as Content-MD5.
    """
    headers = {"x-amz-sdk-checksum-algorithm": "CRC32", "x-amz-checksum-crc32": crc32} if crc32 else {}
    if md5:
        headers["content-md5"] = content_md5(md5)
    return Request(
        operation="UploadPart",
        method="PUT",
        key=key,
        path=path,
        query=(("partNumber", str(number)), ("uploadId", upload_id)),
        headers=headers,
        body=body,
        payload_hash=payload_hash,
        handled_bytes=len(body),
    )


def complete_multipart_upload(
    key: str,
    path: str,
    *,
    upload_id: str,
    etags: Sequence[str],
    checksums: Sequence[str],
    whole_crc32: str,
    size: int,
    condition: Condition,
) -> Request:
    """Make an object of the parts.

    :param checksums: CRC32 of each part; empty where the server does not answer with checksums. Then none is sent:
        Swift takes a checksum in the headers of this request for one of the request's body.
    :param whole_crc32: empty where the upload has none.
    """
    parts = tuple(
        (index + 1, quoted_etag(etag), checksums[index] if checksums else "") for index, etag in enumerate(etags)
    )
    elements = [
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag>"
        + (f"<ChecksumCRC32>{checksum}</ChecksumCRC32>" if checksum else "")
        + "</Part>"
        for number, etag, checksum in parts
    ]
    body = (
        '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{''.join(elements)}</CompleteMultipartUpload>"
    ).encode()
    headers = {"content-type": "application/xml"}
    if checksums and whole_crc32:
        headers["x-amz-checksum-crc32"] = whole_crc32
        headers["x-amz-checksum-type"] = "FULL_OBJECT"
        headers["x-amz-mp-object-size"] = str(size)
    if condition.header:
        headers[condition.header] = condition.value
    return Request(
        operation="CompleteMultipartUpload",
        method="POST",
        key=key,
        path=path,
        query=(("uploadId", upload_id),),
        headers=headers,
        body=body,
        payload_hash=hashlib.sha256(body).hexdigest(),
        parts=parts,
        handled_bytes=size,
        may_be_repeated=False,  # whether they were joined has to be looked for: the upload may be gone
    )


def abort_multipart_upload(key: str, path: str, *, upload_id: str) -> Request:
    """Have the parts removed."""
    return Request(
        operation="AbortMultipartUpload", method="DELETE", key=key, path=path, query=(("uploadId", upload_id),)
    )


def part_size_for(size: int, wanted: int) -> int:
    """The size of the parts of a file: what is wanted, in whole MiB more where 10,000 parts are too few."""
    needed = -(-size // _MAXIMUM_PARTS)
    return wanted if needed <= wanted else -(-needed // _MEBIBYTE) * _MEBIBYTE
