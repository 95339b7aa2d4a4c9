"""Copies within the remote store: in one request, in parts if the object is too large, or onto itself."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode

import msgspec

from s3_uploader.core.text import quoted, quoted_code, shown_name
from s3_uploader.remote_store import copy_requests, documents
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.bucket import Asked, Bucket
from s3_uploader.remote_store.errors import RemoteStoreError
from s3_uploader.remote_store.reading import Progress, headers_of, length_of, path_of, refuse_unmet
from s3_uploader.stores.s3 import multipart_requests, requests
from s3_uploader.stores.s3.checksums import clean_etag, etag_is_md5, strong_etag
from s3_uploader.stores.s3.client import S3Client
from s3_uploader.stores.s3.meanings import Kind, kind_of
from s3_uploader.stores.s3.requests import UNCONDITIONAL

logger = logging.getLogger("s3_uploader.remote_store")

_ABORT_SECONDS = 10.0
"""How long the caller of a failed copy also waits until its parts are removed."""


class Place(msgspec.Struct, frozen=True):
    """An object: its bucket, its key, and the key encoded for a URL."""

    bucket: Bucket
    key: str
    path: str

    @property
    def address(self) -> str:
        """The object's address for people."""
        return shown_name(self.bucket.address(self.key))


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One copy. ``head``: headers of the source. ``given``: headers of the caller. ``sent``: the result of both."""

    source: Place
    target: Place
    head: Mapping[str, str]
    given: Mapping[str, str]
    sent: Mapping[str, str]
    size: int
    client: S3Client

    @property
    def etag(self) -> str:
        """The source's ETag without quotes."""
        return clean_etag(self.head.get("etag", ""))

    @property
    def copied_from(self) -> str:
        """The source in the form of the header."""
        return copy_requests.source_header(self.source.bucket.name, self.source.path)


def copy_object(
    source: tuple[Bucket, str],
    target: tuple[Bucket, str],
    headers: Mapping[str, str],
    *,
    threshold: int,
    part_size: int,
    progress: Progress | None = None,
) -> None:
    """Copy ``source`` to ``target``, both given as bucket and key.

    :param threshold: size in bytes above which the copy is made in parts. S3's limit for one request is 5 GiB.
    :raises RemoteStoreError: if the copy failed, or differs from the source.
    """
    here = Place(*source, path_of(source[1]))
    there = Place(*target, path_of(target[1]))
    head = headers_of(here.bucket, here.key, here.path, header_rules.about_source(headers))
    unmet = copy_requests.unmet_condition(headers, head)
    if unmet:
        raise RemoteStoreError(
            f"{here.address} does not meet the condition {unmet}.", status=412, code="PreconditionFailed"
        )
    refuse_unmet(there.bucket, there.key, headers)
    onto_itself = (here.bucket.name, here.key) == (there.bucket.name, there.key)
    sent = header_rules.for_copy(headers, head, onto_itself=onto_itself)
    if onto_itself and not header_rules.sets_acl(headers):
        sent |= _acl(here, headers)
    copy = Copy(
        source=here,
        target=there,
        head=head,
        given=headers,
        sent=sent,
        size=length_of(head),
        client=there.bucket.client_with(headers),
    )
    if copy.size > threshold:
        _copy_in_parts(copy, part_size, progress)
    else:
        _copy_at_once(copy)
    if progress is not None:
        progress(copy.size, copy.size)


def _copy_at_once(copy: Copy) -> None:
    there = copy.target
    counted = there.bucket.counted_of_copy(copy.size)
    request = copy_requests.copy_object(
        there.key, there.path, source=copy.copied_from, etag=copy.etag, headers=copy.sent, counted=counted
    )
    asked = there.bucket.begin(request, client=copy.client, size=counted)
    try:
        answer = asked.answer()
    except RemoteStoreError:
        if _is_refused_repetition(asked) and _is_done(copy):
            return
        raise
    before, after = copy.etag, clean_etag(answer.field("ETag"))
    # If both are MD5s, they are MD5s of the content. Other forms say nothing about it.
    if etag_is_md5(before, copy.head) and etag_is_md5(after, answer.headers) and before.lower() != after.lower():
        raise RemoteStoreError(f"The copy has the MD5 {after}, but the source has {before}.", code="NotProven")


def _is_refused_repetition(asked: Asked) -> bool:
    """Whether a condition failed in a further attempt: the first one may have done the work, and made it fail.

    A copy onto itself changes the ETag of an object that was written in parts, or is encrypted with a key of KMS.
    """
    error = asked.call.error
    return error is not None and kind_of(error) is Kind.TAKEN and asked.call.attempts > 1


def _is_done(copy: Copy) -> bool:
    """Whether the target is what the copy was to make."""
    there = copy.target
    found = there.bucket.ask(requests.head_object(there.key, there.path), client=copy.client).headers
    before, after = copy.etag, clean_etag(found.get("etag", ""))
    is_other = etag_is_md5(before, copy.head) and etag_is_md5(after, found) and before.lower() != after.lower()
    wanted = copy.head if copy.sent.get("x-amz-metadata-directive", "COPY") == "COPY" else copy.sent
    is_same = header_rules.metadata_of(found) == header_rules.metadata_of(wanted)
    return is_same and not is_other and length_of(found) == copy.size


def _copy_in_parts(copy: Copy, part_size: int, progress: Progress | None) -> None:
    there, size = copy.target, copy.size
    part_size = multipart_requests.part_size_for(size, part_size)
    etags: list[str] = []
    with _begun(copy) as upload_id:
        for number, first in enumerate(range(0, size, part_size), start=1):
            last = min(first + part_size, size) - 1
            counted = there.bucket.counted_of_copy(last - first + 1)
            request = copy_requests.upload_part_copy(
                there.key,
                there.path,
                source=copy.copied_from,
                etag=copy.etag,
                headers=header_rules.for_part_copy(copy.given),
                upload_id=upload_id,
                number=number,
                first=first,
                last=last,
                counted=counted,
            )
            answer = there.bucket.ask(request, client=copy.client, size=counted)
            etag = clean_etag(answer.field("ETag"))
            if not etag:
                # rclone treats the request as an ordinary part with an empty body.
                raise RemoteStoreError("The server does not copy objects in parts.", code="NotImplemented")
            etags.append(strong_etag(etag))
            if progress is not None:
                progress(last + 1, size)
        _check_parts(copy, upload_id)
        _complete(copy, upload_id, etags)
    stored = length_of(there.bucket.ask(requests.head_object(there.key, there.path), client=copy.client).headers)
    if stored != size:
        raise RemoteStoreError(f"The copy has {stored} bytes, but the source has {size}.", code="NotProven")


@contextlib.contextmanager
def _begun(copy: Copy) -> Iterator[str]:
    """Create a multipart upload. It is aborted if anything fails, because its parts are invisible and cost money."""
    there = copy.target
    request = multipart_requests.create_multipart_upload(
        there.key, there.path, _headers_of_parts(copy), checksums="none"
    )
    upload_id = there.bucket.ask(request, client=copy.client).field("UploadId")
    if not upload_id:
        raise RemoteStoreError("The server created a multipart upload but did not name it.", code="InvalidAnswer")
    try:
        yield upload_id
    except BaseException:
        abort = multipart_requests.abort_multipart_upload(there.key, there.path, upload_id=upload_id)
        try:
            there.bucket.ask(abort, client=copy.client, expected=frozenset((404,)), seconds=_ABORT_SECONDS)
        except RemoteStoreError as error:
            said = quoted(str(error))
            logger.warning(
                "The multipart upload %s of %s could not be aborted: %s", quoted_code(upload_id), there.address, said
            )
        raise


def _complete(copy: Copy, upload_id: str, etags: list[str]) -> None:
    """Complete the upload. An error may come after the work was done, so the object itself decides.

    It counts as the copy if it is not the one that was there before, which may have the same size and as many parts.
    """
    there = copy.target
    before = _looked_up(copy)
    request = multipart_requests.complete_multipart_upload(
        there.key,
        there.path,
        upload_id=upload_id,
        etags=etags,
        checksums=(),
        whole_crc32="",
        size=copy.size,
        condition=UNCONDITIONAL,
    )
    asked = there.bucket.begin(request, client=copy.client, size=copy.size)
    try:
        asked.answer()
    except RemoteStoreError:
        refused = asked.call.error
        if refused is None or kind_of(refused) is not Kind.NO_UPLOAD or asked.call.attempts < 2:
            raise
        head = _looked_up(copy)
        is_in_parts = clean_etag(head.get("etag", "")).endswith(f"-{len(etags)}")
        if not is_in_parts or length_of(head) != copy.size or _identity(head) == _identity(before):
            raise


def _looked_up(copy: Copy) -> Mapping[str, str]:
    """The headers of the object under the target's key, or those with which the server says that there is none.

    Without permission to list, Amazon says so with 403.
    """
    there = copy.target
    request = requests.head_object(there.key, there.path)
    return there.bucket.ask(request, client=copy.client, expected=frozenset((403, 404))).headers


def _identity(head: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(head.get(name, "") for name in ("etag", "last-modified", "x-amz-version-id"))


def _check_parts(copy: Copy, upload_id: str) -> None:
    """Compare the size before the parts replace the existing object, which may be the source itself."""
    there = copy.target
    copied, after = 0, ""
    while True:
        request = copy_requests.list_parts(there.key, there.path, upload_id=upload_id, after=after)
        try:
            answer = there.bucket.ask(request, client=copy.client)
        except RemoteStoreError as error:
            # That needs the permission s3:ListMultipartUploadParts.
            logger.debug("The parts of %s cannot be listed: %s", there.address, quoted(str(error)))
            return
        size, following = documents.part_sizes(answer.body)
        copied += size
        if not following or following == after:
            break
        after = following
    if copied != copy.size:
        raise RemoteStoreError(
            f"The parts of the copy have {copied} bytes, but the source has {copy.size}.", code="NotProven"
        )


def _headers_of_parts(copy: Copy) -> dict[str, str]:
    """The headers of a copy in parts, which is a new object: metadata and tags are not copied by themselves."""
    given = header_rules.directed(copy.given)
    headers = header_rules.for_copy(given, copy.head, onto_itself=True)
    headers |= {name: value for name, value in copy.sent.items() if name.startswith("x-amz-grant-")}
    headers = {name: value for name, value in headers.items() if not name.endswith("-directive")}
    if "x-amz-tagging" not in headers and copy.given.get("x-amz-tagging-directive") != "REPLACE":
        tags = _tags(copy.source, copy.given)
        if tags:
            headers["x-amz-tagging"] = tags
    return header_rules.for_create(headers)


def _tags(place: Place, given: Mapping[str, str]) -> str:
    """The tags as a header; empty without permission to read them, or if the server does not support tags."""
    request = copy_requests.subresource("GetObjectTagging", place.key, place.path, "tagging")
    request.headers.update(header_rules.about_bucket_of_source(given))
    try:
        answer = place.bucket.ask(request)
    except RemoteStoreError as error:
        logger.debug("The tags of %s cannot be read: %s", place.address, quoted(str(error)))
        return ""
    return urlencode(documents.tags(answer.body))


def _acl(place: Place, given: Mapping[str, str]) -> dict[str, str]:
    """The object's ACL as headers, because every copy, even one onto itself, begins with the ACL of a new object."""
    request = copy_requests.subresource("GetObjectAcl", place.key, place.path, "acl")
    request.headers.update(header_rules.about_bucket_of_source(given))
    try:
        answer = place.bucket.ask(request)
    except RemoteStoreError as error:
        # The permission s3:GetObjectAcl is missing, or the server has no ACLs.
        logger.debug("The ACL of %s cannot be read: %s", place.address, quoted(str(error)))
        return {}
    return header_rules.for_grants(documents.owner(answer.body), documents.grants(answer.body))
