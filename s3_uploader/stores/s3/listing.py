"""The inventory of a bucket: listed page by page, and looked up key by key."""

from __future__ import annotations

import calendar
import concurrent.futures
import functools
import math
import re
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from s3_uploader.core.errors import KeyRefused, Scope, StoreError, UploadCancelled
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import is_number
from s3_uploader.stores.listing import OUT_OF_TIME, CannotList, Entry, LookDenied, key_order
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import clean_etag
from s3_uploader.stores.s3.client import PendingRequest, S3Client
from s3_uploader.stores.s3.engines.base import Request, unescape, xml_leaves
from s3_uploader.stores.s3.errors import parse_http_date
from s3_uploader.stores.s3.meanings import DENIALS, Kind, kind_of
from s3_uploader.stores.s3.store import S3Store
from s3_uploader.stores.threads import ThreadPool

_CONTENTS = re.compile(rb"<(/?)(?:\w+:)?Contents>")
_LEAF = re.compile(rb"<(?:\w+:)?(Key|Size|ETag|LastModified)>([^<]*)</")
"""What an entry is made of. The other leaves of an element are passed over, as a listing may have millions of them."""
_LISTED_SIZE = re.compile(rb"[0-9]{1,18}")
_MOST_EMPTY_PAGES = 100
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z?", re.A)
_MOST_SECONDS = 300.0
_NO_LISTING = DENIALS | {Kind.UNSUPPORTED}
_CHECKSUM = "x-amz-checksum-"


class Page(msgspec.Struct, frozen=True):
    """One answer of ListObjectsV2; ``token`` is empty on the last one."""

    entries: list[Entry]
    token: str


class S3Inventory:
    """A bucket as :class:`~s3_uploader.stores.listing.Inventory`.

    :param store: not open yet; the inventory uses its client.
    :param seconds: longest time for one page or look, with all attempts.
    :param until: the end of all of them, by the monotonic clock.
    """

    looks_are_cheap = True

    def __init__(self, store: S3Store, *, seconds: float = _MOST_SECONDS, until: float = math.inf) -> None:
        self._store = store
        self._seconds = min(seconds, _MOST_SECONDS)
        self._until = until
        self._client: S3Client | None = None
        self._can_start_anywhere = True

    @property
    def name(self) -> str:
        """The bucket."""
        return self._store.name

    @property
    def concurrency(self) -> int:
        """As many lookups at once as uploads, up to this program's limit of threads."""
        return min(32, self._store.maximum_concurrency)

    @property
    def lists_in_order(self) -> bool:
        """Whether listings are sorted. Those of directory buckets are not, and have no start-after (ListObjectsV2)."""
        return not self.name.endswith("--x-s3")

    def open(self) -> None:
        """Find the endpoint and the credentials; see :meth:`S3Store.open`."""
        if self._until < math.inf:
            self._open_in_time()
        else:
            self._store.open()
        self._client = self._store.client
        self._can_start_anywhere = self.lists_in_order

    def _open_in_time(self) -> None:
        """Open the store on another thread, because a credential helper may take longer than the time that is left."""
        opening = ThreadPool(name="open", count=1).submit(self._store.open)
        try:
            opening.result(timeout=max(0.0, self._until - time.monotonic()))
        except concurrent.futures.TimeoutError:
            raise StoreError(
                f"The endpoint and credentials of {self.name} were not found {OUT_OF_TIME}.",
                code="Timeout",
                scope=Scope.DESTINATION,
            ) from None

    def close(self) -> None:
        """Close the store."""
        self._store.close(timeout=2.0)

    def address(self, key: str) -> str:
        """``bucket/key``."""
        return self._store.address(key)

    def entries(self, prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        """List page by page. The next page is requested while one is read, and pages before ``wanted`` are skipped."""
        after = self._start(prefix, wanted(), "")
        begun = self._begin(requests.list_objects(prefix, after=after))
        first = True
        progress = ListingProgress()
        while True:
            page = self._page(begun, first=first)
            first = False
            progress.saw(page)
            entries = page.entries
            if after:
                # A server without support for start-after begins with the first key.
                there = key_order(after)
                entries = [entry for entry in entries if key_order(entry.key) > there]
                self._can_start_anywhere = self._can_start_anywhere and len(entries) == len(page.entries)
            after = ""
            if page.token:
                last = page.entries[-1].key if page.entries else ""
                # After an empty page the same start would be asked for again and again.
                if last and key_order(wanted()) > key_order(last):
                    after = self._start(prefix, wanted(), last)
                    if after:
                        entries = []
                        # A server without support for start-after lists the first keys once more.
                        progress = ListingProgress()
                begun = self._begin(requests.list_objects(prefix, token="" if after else page.token, after=after))
            yield from entries
            if not page.token:
                return

    def look(self, key: str, *, content: bool) -> Entry | None:
        """Look up a key by HEAD, which also returns the checksums."""
        try:
            path = requests.encode_key(key)
        except KeyRefused:
            return None  # S3 does not support such a key
        call = self._finished(self._begin(requests.head_object(key, path), expected=frozenset((404,))))
        error = call.error
        if error is not None:
            if error.origin is Origin.FILE_RIGHT:
                raise LookDenied(error.message, code=error.code, hint=error.hint, origin=error.origin)
            raise error
        if call.status == 404:
            return None
        headers = call.body.headers
        composite = headers.get("x-amz-checksum-type", "").upper() == "COMPOSITE"
        length = headers.get("content-length", "")
        if not is_number(length):
            raise StoreError(f"The answer about {self.address(key)} does not have its length.", code="InvalidAnswer")
        return Entry(
            key=key,
            size=int(length),
            etag=clean_etag(headers.get("etag", "")),
            modified=parse_http_date(headers.get("last-modified", "")),
            version_id=headers.get("x-amz-version-id", ""),
            checksums={
                name.removeprefix(_CHECKSUM): value
                for name, value in headers.items()
                # For an object made of parts: a checksum of their checksums, with their number.
                if name.startswith(_CHECKSUM) and name != "x-amz-checksum-type" and not composite and "-" not in value
            },
        )

    def _start(self, prefix: str, wanted: str, last: str) -> str:
        """A key just before ``wanted``, to start a listing after; empty if that saves nothing."""
        before = wanted[:-1]
        if not self._can_start_anywhere or len(before) <= len(prefix) or key_order(before) <= key_order(last):
            return ""
        return before

    def _begin(
        self, request: Request, *, expected: frozenset[int] = frozenset()
    ) -> tuple[PendingRequest, threading.Event]:
        if self._client is None:
            raise RuntimeError("the inventory is not open")
        over = threading.Event()
        deadline = min(time.monotonic() + self._seconds, self._until)
        call = self._client.prepare(request, lambda call: over.set(), deadline=deadline, expected=expected)
        self._client.begin(call)
        return call, over

    def _finished(self, begun: tuple[PendingRequest, threading.Event]) -> PendingRequest:
        call, over = begun
        if not over.wait(max(0.0, call.deadline - time.monotonic())):
            call.cancel(UploadCancelled("The listing timed out."))
            limit = OUT_OF_TIME if call.deadline == self._until else f"in {self._seconds:g} s"
            raise StoreError(
                f"The {call.request.operation} operation got no answer {limit}.",
                code="Timeout",
                scope=Scope.DESTINATION,
            )
        return call

    def _page(self, begun: tuple[PendingRequest, threading.Event], *, first: bool) -> Page:
        call = self._finished(begun)
        error = call.error
        if error is not None:
            if first and kind_of(error) in _NO_LISTING and error.scope is Scope.FILE:
                raise CannotList(error.message, code=error.code, hint=error.hint)
            # Without a listing the bucket cannot be read at all.
            error.scope = Scope.DESTINATION
            raise error
        page = parse_page(call.body.body)
        if self._client is not None:
            # From now on a refusal concerns a key, not the bucket.
            self._client.proven_useful = True
        return page


def parse_page(body: bytes) -> Page:
    """Parse an answer to ListObjectsV2.

    :raises StoreError: if it is invalid.
    """
    contents, rest = _elements(body)
    head = xml_leaves(rest)
    if "IsTruncated" not in head:
        raise StoreError(
            "The answer to ListObjectsV2 is not a list of objects.",
            code="InvalidAnswer",
            scope=Scope.DESTINATION,
            hint="Check endpoint_url: is this an S3 server?",
        )
    encoded = head.get("EncodingType", "") == "url"
    token = head.get("NextContinuationToken", "")
    if head["IsTruncated"].strip().lower() == "true" and not token:
        raise StoreError(
            "The server lists only a part of the keys and does not say how to continue.",
            code="InvalidAnswer",
            scope=Scope.DESTINATION,
        )
    if head["IsTruncated"].strip().lower() != "true":
        token = ""
    return Page([_entry(element, encoded=encoded) for element in contents], token)


def _elements(body: bytes) -> tuple[list[bytes], bytes]:
    """The contents of the elements ``Contents``, and the document without them. Each byte is searched only once."""
    before, *pieces = body.split(b"<Contents>")
    parted = [piece.partition(b"</Contents>") for piece in pieces]
    if b":Contents>" in body or not all(end for _, end, _ in parted):
        return _odd_elements(body)
    return [element for element, _, _ in parted], b"".join([before, *[after for _, _, after in parted]])


def _odd_elements(body: bytes) -> tuple[list[bytes], bytes]:
    """The same of a document with prefixes, or with elements that are not closed."""
    contents: list[bytes] = []
    rest: list[bytes] = []
    done = 0
    begin: re.Match[bytes] | None = None
    for tag in _CONTENTS.finditer(body):
        if not tag[1]:
            begin = begin or tag
        elif begin is not None:
            rest.append(body[done : begin.start()])
            contents.append(body[begin.end() : tag.start()])
            done, begin = tag.end(), None
    rest.append(body[done:])
    return contents, b"".join(rest)


class ListingProgress:
    """Checks that a listing makes progress from page to page.

    It remembers one earlier page, and replaces it after 1, 2, 4, 8 … pages. So it recognises circles of any length
    (Brent, "An improved Monte Carlo factorization algorithm", 1980).
    """

    def __init__(self) -> None:
        self._token = ""
        self._key: str | None = None
        self._pages = 0
        self._remembered_next = 1
        self._empty = 0

    def saw(self, page: Page) -> None:
        """Check another page.

        :raises StoreError: if the listing would never end.
        """
        self._empty = 0 if page.entries else self._empty + 1
        key = page.entries[0].key if page.entries else None
        # No key is listed twice, whatever the tokens are.
        repeats = (page.token and page.token == self._token) or (key is not None and key == self._key)
        if repeats or self._empty > _MOST_EMPTY_PAGES:
            raise StoreError(
                "The server lists the same keys again and again, or none, and says that there are more.",
                code="InvalidAnswer",
                scope=Scope.DESTINATION,
            )
        self._pages += 1
        if self._pages == self._remembered_next:
            self._remembered_next *= 2
            self._token, self._key = page.token, key


def _entry(element: bytes, *, encoded: bool) -> Entry:
    leaves = _LEAF.findall(element)
    leaves.reverse()  # of equal names the first counts
    found = dict(leaves)
    key = _text(found.get(b"Key", b""))
    size = found.get(b"Size", b"")
    return Entry(
        key=_decoded(key) if encoded and ("%" in key or "+" in key) else key,
        size=int(size) if _LISTED_SIZE.fullmatch(size) else -1,
        etag=clean_etag(unescape(_text(found.get(b"ETag", b"")))),
        modified=parse_iso(_text(found.get(b"LastModified", b""))),
    )


def _text(leaf: bytes) -> str:
    return unescape(leaf.decode("utf-8", "replace"))


def _decoded(key: str) -> str:
    from urllib.parse import unquote_plus

    # A plus stands for a space, as Amazon writes it; a real plus is always encoded.
    return unquote_plus(key, errors="surrogateescape")


def parse_iso(value: str) -> float | None:
    """Seconds since the epoch of a time as S3 writes it in documents: ``2026-11-20T15:04:05.000Z``."""
    found = _ISO.match(value)
    if found is None:
        return None
    date, hour, minute, second, fraction = found.groups()
    try:
        begin = _begin_of_day(date)
    except (ValueError, OverflowError):
        return None  # for example the 31st of February
    return begin + int(hour) * 3600 + int(minute) * 60 + int(second) + float((fraction or "")[:10] or 0)


@functools.lru_cache(maxsize=1000)
def _begin_of_day(date: str) -> int:
    """The beginning of a day, which the objects of a listing share, in seconds since the epoch."""
    year, month, day = date.split("-")
    return calendar.timegm((int(year), int(month), int(day), 0, 0, 0))
