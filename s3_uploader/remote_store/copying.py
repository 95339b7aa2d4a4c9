"""Copying an object within the remote store: in one request, in parts where it is too large for that, onto itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from s3_uploader.core.text import quoted, shown_name
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.connection import RemoteStoreError, S3Connection
from s3_uploader.remote_store.headers import etag_of, is_encrypted, is_md5
from s3_uploader.remote_store.writing import complete, multipart

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CopySourceTypeDef

logger = logging.getLogger("s3_uploader.remote_store")

_MOST_PARTS = 10_000


def copy_object(
    connection: S3Connection,
    source: tuple[str, str],
    destination: tuple[str, str],
    headers: Mapping[str, str],
    *,
    threshold: int,
    part_size: int,
) -> None:
    """Copy ``source`` to ``destination``, both as bucket and key.

    :param threshold: size in bytes above which the copy is made in parts; S3's limit for one request is 5 GiB.
    :raises RemoteStoreError: if the copy is not what the source was.
    """
    client = connection.client
    head = client.head_object(Bucket=source[0], Key=source[1])
    onto_itself = source == destination
    sent = header_rules.for_copy(headers, head["ResponseMetadata"]["HTTPHeaders"], onto_itself=onto_itself)
    if onto_itself and not header_rules.sets_rights(headers):
        sent |= _rights(connection, *source)
    if head["ContentLength"] > threshold:
        _copy_in_parts(connection, source, destination, headers, sent, head, part_size)
        return
    copied_from: CopySourceTypeDef = {"Bucket": source[0], "Key": source[1]}
    condition: dict[str, Any] = {"CopySourceIfMatch": head["ETag"]} if head.get("ETag") else {}
    with connection.sending(sent):
        answer = client.copy_object(Bucket=destination[0], Key=destination[1], CopySource=copied_from, **condition)
    before, after = etag_of(head), etag_of(answer.get("CopyObjectResult", {}))
    # Where both are MD5s they are MD5s of the content; other forms say nothing about it.
    if is_md5(before) and is_md5(after) and before != after and not (is_encrypted(head) or is_encrypted(answer)):
        raise RemoteStoreError(f"the copy has the MD5 {after}, the source has {before}")


def _copy_in_parts(
    connection: S3Connection,
    source: tuple[str, str],
    destination: tuple[str, str],
    given: Mapping[str, str],
    sent: Mapping[str, str],
    head: Any,
    part_size: int,
) -> None:
    size = head["ContentLength"]
    part_size = max(part_size, -(-size // _MOST_PARTS))
    bucket, key = destination
    copied_from: CopySourceTypeDef = {"Bucket": source[0], "Key": source[1]}
    parts: list[CompletedPartTypeDef] = []
    with multipart(connection, bucket, key, _headers_of_parts(connection, source, given, sent, head)) as upload_id:
        for number, offset in enumerate(range(0, size, part_size), start=1):
            last = min(offset + part_size, size) - 1
            with connection.sending(header_rules.for_part(given)) as client:
                answer = client.upload_part_copy(
                    Bucket=bucket,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource=copied_from,
                    CopySourceRange=f"bytes={offset}-{last}",
                    CopySourceIfMatch=head["ETag"],
                )
            etag = answer.get("CopyPartResult", {}).get("ETag")
            if not etag:
                # rclone takes the request for an ordinary part, whose body is empty.
                raise RemoteStoreError("the server does not copy objects in parts")
            parts.append({"PartNumber": number, "ETag": etag})
        _check_parts(connection, bucket, key, upload_id, size)
        complete(connection, bucket, key, upload_id, parts, header_rules.for_completion(given), "")
    stored = connection.client.head_object(Bucket=bucket, Key=key)["ContentLength"]
    if stored != size:
        raise RemoteStoreError(f"the copy has {stored} bytes, the source has {size}")


def _check_parts(connection: S3Connection, bucket: str, key: str, upload_id: str, size: int) -> None:
    """Look at the sizes before the parts take the place of what is there, which may be the source itself."""
    from botocore.exceptions import ClientError

    pages = connection.client.get_paginator("list_parts").paginate(Bucket=bucket, Key=key, UploadId=upload_id)
    try:
        copied = sum(part["Size"] for page in pages for part in page.get("Parts", []))
    except ClientError as error:
        # It needs a right of its own, s3:ListMultipartUploadParts.
        logger.debug("The parts of %s cannot be listed: %s", shown_name(f"{bucket}/{key}"), quoted(str(error)))
        return
    if copied != size:
        raise RemoteStoreError(f"the parts of the copy have {copied} bytes, the source has {size}")


def _headers_of_parts(
    connection: S3Connection, source: tuple[str, str], given: Mapping[str, str], sent: Mapping[str, str], head: Any
) -> dict[str, str]:
    """A copy in parts is a new object: metadata and tags do not come along by themselves."""
    headers = header_rules.for_copy(
        {name: value for name, value in given.items() if not name.endswith("-directive")},
        head["ResponseMetadata"]["HTTPHeaders"],
        onto_itself=True,
    )
    headers |= {name: value for name, value in sent.items() if name.startswith("x-amz-grant-")}
    headers = {name: value for name, value in headers.items() if not name.endswith("-directive")}
    if "x-amz-tagging" not in headers:
        tags = _tags(connection, *source)
        if tags:
            headers["x-amz-tagging"] = tags
    return header_rules.for_create(headers)


def _tags(connection: S3Connection, bucket: str, key: str) -> str:
    """Tags as a header; none where there is no right to read them or the server has no such thing."""
    from botocore.exceptions import ClientError

    try:
        tags = connection.client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    except ClientError as error:
        logger.debug("The tags of %s cannot be read: %s", shown_name(f"{bucket}/{key}"), quoted(str(error)))
        return ""
    return urlencode([(tag["Key"], tag["Value"]) for tag in tags])


def _rights(connection: S3Connection, bucket: str, key: str) -> dict[str, str]:
    """An object's own rights as headers: a copy, even one onto itself, begins with those of a new object."""
    from botocore.exceptions import ClientError

    try:
        acl = connection.client.get_object_acl(Bucket=bucket, Key=key)
    except ClientError as error:
        # Without the right to look (s3:GetObjectAcl), or on a server without ACLs.
        logger.debug("The rights of %s cannot be read: %s", shown_name(f"{bucket}/{key}"), quoted(str(error)))
        return {}
    grants: list[Any] = list(acl.get("Grants", []))
    return header_rules.for_grants(str(acl.get("Owner", {}).get("ID", "")), grants)
