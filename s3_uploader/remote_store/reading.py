"""Reading an object by ranges. All come from one version of it, the next is requested early, and all is verified.

Every range is a request with its own retries, so a download continues where its connection broke.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from s3_uploader.core.errors import StoreError
from s3_uploader.core.text import is_number, quoted, shown_name
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.bucket import Asked, Bucket
from s3_uploader.remote_store.errors import ObjectChanged, ObjectNotFound, RemoteStoreError
from s3_uploader.remote_store.translation import from_store_error
from s3_uploader.remote_store.verification import Verification, has_proof
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import clean_etag, strong_etag
from s3_uploader.stores.s3.engines.base import CONTENT_RANGE, Answer, Request
from s3_uploader.stores.s3.foreign import is_page_for_object, is_web_page, web_page_error

FIRST_PIECE = 2**20
"""Bytes requested first, while the size of the object is unknown."""
PIECE = 8 * 2**20
"""Bytes of each further request. At most two pieces are in memory."""
_WHOLE = 64 * 2**20
"""Most bytes that a server without support for ranges may send at once instead."""
_NO_HEADERS: Mapping[str, str] = {}
_NOT_THERE = frozenset((404,))
_TELLS_NOTHING = frozenset((400, 403, 404, 405, 501))
"""There is no object, or none that this caller may look at (400 for one that is encrypted with another key), or this
server knows no HEAD."""
_FIRST = frozenset((416,))
_FURTHER = frozenset((412, 416))

Consume: TypeAlias = Callable[[bytes], object]
Progress: TypeAlias = Callable[[int, int], object]
"""Called with the number of bytes done, and the total."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An object whose first bytes have arrived.

    :param headers: of the answer about the object as a whole.
    :param data: its first bytes; all of them if there are ``size``.
    """

    headers: Mapping[str, str]
    size: int
    etag: str
    data: bytes


def path_of(key: str) -> str:
    """The key encoded for a URL.

    :raises RemoteStoreError: if S3 does not support such a key.
    """
    try:
        return requests.encode_key(key)
    except StoreError as error:
        raise from_store_error(error) from error


def length_of(headers: Mapping[str, str]) -> int:
    """The length of an object in the answer to a HEAD.

    :raises RemoteStoreError: if the answer does not have it.
    """
    length = headers.get("content-length", "")
    if not is_number(length):
        raise RemoteStoreError("The server does not say how long the object is.", code="InvalidAnswer")
    return int(length)


def answer_about(bucket: Bucket, key: str, path: str, given: Mapping[str, str] = _NO_HEADERS) -> Answer:
    """The answer to a HEAD of an object: a success, or a 404 from S3.

    :param given: further headers.
    :raises RemoteStoreError: if it does not say whether the object exists; a web page with status 404 does not.
    """
    request = requests.head_object(key, path, checksums=False)
    request.headers.update(given)
    answer = bucket.ask(request, expected=_NOT_THERE)
    if is_web_page(answer) if answer.status == 404 else is_page_for_object(answer):
        raise bucket.failed(web_page_error(answer, "HeadObject", proven_useful=False), status=answer.status)
    return answer


def refuse_unmet(bucket: Bucket, key: str, given: Mapping[str, str]) -> None:
    """Look before a write with a condition on the object there: many servers ignore such conditions, and do not say so.

    Where the look is refused or finds no object, the condition decides alone.

    :param given: headers of the write.
    :raises RemoteStoreError: if the object is there and was not to be replaced, or has another ETag than ``If-Match``.
    """
    is_to_be_new, wanted = given.get("if-none-match", "").strip() == "*", given.get("if-match", "").strip()
    if not (is_to_be_new or wanted) or bucket.capabilities.trusted:
        return
    request = requests.head_object(key, path_of(key), checksums=False)
    request.headers.update(header_rules.for_part(given))
    answer = bucket.ask(request, expected=_TELLS_NOTHING)
    if answer.status >= 300:
        return
    etag = strong_etag(clean_etag(answer.headers.get("etag", "")))
    unmet = "exists already" if is_to_be_new else ""
    if etag and wanted not in ("", "*") and etag not in (strong_etag(clean_etag(each)) for each in wanted.split(",")):
        unmet = f"has the ETag {quoted(etag)} now, which is not that of If-Match"
    if unmet:
        address = shown_name(bucket.address(key))
        raise RemoteStoreError(f"{address} {unmet}.", status=412, code="PreconditionFailed")


def headers_of(bucket: Bucket, key: str, path: str, given: Mapping[str, str] = _NO_HEADERS) -> Mapping[str, str]:
    """The headers of the answer to a HEAD of an object.

    :param given: further headers.
    :raises ObjectNotFound: if it does not exist.
    :raises RemoteStoreError: if the server does not say whether it exists.
    """
    answer = answer_about(bucket, key, path, given)
    if answer.status == 404:
        # A HEAD has no document that would tell the two apart.
        address = shown_name(bucket.address(key))
        raise ObjectNotFound(f"{address} does not exist, or its bucket does not exist.", status=404, code="404")
    return answer.headers


def read_object(bucket: Bucket, key: str, consume: Consume, *, progress: Progress | None = None) -> Mapping[str, str]:
    """Pass the bytes of an object to ``consume``, in order, and return the headers of the answer.

    :raises RemoteStoreError: if there is no such object, it is incomplete, or it does not match its ETag or checksum.
    """
    path = path_of(key)
    opened = open_object(bucket, key, path)
    verification = Verification(opened.headers, etag_counts=not bucket.capabilities.etags_are_other)
    received = 0
    for data in _pieces(bucket, key, path, opened):
        verification.update(data)
        consume(data)
        received += len(data)
        if progress is not None:
            progress(received, opened.size)
    verification.conclude()
    return opened.headers


def open_object(bucket: Bucket, key: str, path: str) -> Opened:
    """Read the first bytes of an object. A small object is read completely, with one request.

    :raises RemoteStoreError: if it does not exist or cannot be read.
    """
    answer = bucket.ask(_piece(key, path, 0, FIRST_PIECE, etag=""), expected=_FIRST, size=FIRST_PIECE)
    if answer.status == 416:
        # The object is empty.
        answer = bucket.ask(_whole(key, path), size=FIRST_PIECE)
    if is_page_for_object(answer):
        raise bucket.failed(web_page_error(answer, "GetObject", proven_useful=False), status=answer.status)
    headers, data = answer.headers, answer.body
    etag = clean_etag(headers.get("etag", ""))
    size = _total(answer)
    if size is None and len(data) != FIRST_PIECE:
        size = len(data)
    # rclone gives the length of the piece as the length of the whole.
    is_plausible = size is not None and (size > len(data) or len(data) != FIRST_PIECE)
    if size is not None and is_plausible and has_proof(headers, etag_counts=not bucket.capabilities.etags_are_other):
        _insist_on_beginning(bucket, key, answer, size)
        return Opened(headers=headers, size=size, etag=etag, data=data)
    # A HEAD describes the object as a whole: its length, its checksums.
    head = bucket.ask(requests.head_object(key, path, checksums=bucket.capabilities.form != "md5")).headers
    length = head.get("content-length", "")
    if not is_number(length):
        raise RemoteStoreError(
            f"The answer about {shown_name(bucket.address(key))} does not say how long it is.", code="InvalidAnswer"
        )
    if etag and strong_etag(clean_etag(head.get("etag", ""))) != strong_etag(etag):
        raise _changed(bucket, key)
    _insist_on_beginning(bucket, key, answer, int(length))
    return Opened(headers={**headers, **head}, size=int(length), etag=etag, data=data)


def _insist_on_beginning(bucket: Bucket, key: str, answer: Answer, size: int) -> None:
    """Make sure that the first answer holds the first bytes of an object of that size."""
    place = re.fullmatch(CONTENT_RANGE, answer.headers.get("content-range", ""))
    if len(answer.body) > size or (place is not None and int(place[1]) > 0):
        raise RemoteStoreError(
            f"The server sent other bytes of {shown_name(bucket.address(key))} than its first ones: "
            f"{len(answer.body)} from byte {int(place[1]) if place else 0} on, of {size} in all.",
            code="InvalidAnswer",
        )


def read_range(bucket: Bucket, key: str, path: str, first: int, count: int, *, etag: str) -> bytes:
    """A range of a larger object, provided that it still has that ETag.

    :raises RemoteStoreError: if it cannot be read.
    """
    asked = bucket.begin(_piece(key, path, first, count, etag=etag), expected=_FURTHER, size=count)
    return _checked(bucket, key, asked.answer(), first, count, etag)


def _pieces(bucket: Bucket, key: str, path: str, opened: Opened) -> Iterator[bytes]:
    size, position = opened.size, len(opened.data)
    asked: tuple[Asked, int, int] | None = None
    data = opened.data
    try:
        while True:
            asked = None
            if position < size:
                count = min(PIECE, size - position)
                request = _piece(key, path, position, count, etag=opened.etag)
                asked = (bucket.begin(request, expected=_FURTHER, size=count), position, count)
            yield data
            if asked is None:
                return
            data = _checked(bucket, key, asked[0].answer(), asked[1], asked[2], opened.etag)
            position += len(data)
    finally:
        if asked is not None:
            asked[0].give_up()


def _piece(key: str, path: str, first: int, count: int, *, etag: str) -> Request:
    request = requests.get_object(key, path, first=first, last=first + count - 1, etag=etag, size=_WHOLE)
    request.headers["x-amz-checksum-mode"] = "ENABLED"
    return request


def _whole(key: str, path: str) -> Request:
    request = _piece(key, path, 0, FIRST_PIECE, etag="")
    del request.headers["range"]
    return request


def _total(answer: Answer) -> int | None:
    """The length of the whole object, if the answer to a range has it."""
    found = re.fullmatch(CONTENT_RANGE, answer.headers.get("content-range", ""))
    return None if found is None or found[3] == "*" else int(found[3])


def _checked(bucket: Bucket, key: str, answer: Answer, first: int, count: int, etag: str) -> bytes:
    """The bytes of an answer to a range, after a check that they are the requested ones."""
    found = clean_etag(answer.headers.get("etag", ""))
    if answer.status in _FURTHER or (etag and found and strong_etag(found) != strong_etag(etag)):
        raise _changed(bucket, key)
    data = answer.body
    place = re.fullmatch(CONTENT_RANGE, answer.headers.get("content-range", ""))
    if place is None and len(data) >= first + count:
        # A server without support for ranges sends the whole object.
        return data[first : first + count]
    # A success of 200 is the whole object, whatever its length: this one has become shorter.
    is_other = int(place[1]) != first if place is not None else answer.status == 200 and first > 0
    if is_other or len(data) != count:
        raise RemoteStoreError(
            f"The server sent other bytes of {shown_name(bucket.address(key))} than requested: "
            f"{len(data)} instead of {count} from byte {first} on.",
            code="InvalidAnswer",
        )
    return data


def _changed(bucket: Bucket, key: str) -> RemoteStoreError:
    return ObjectChanged(
        f"{shown_name(bucket.address(key))} was replaced while it was read.", hint="Read it again.", code="Changed"
    )
