"""Pages of a listing as a server should not write them."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.listing import Entry
from s3_uploader.stores.s3.listing import ListingProgress, Page, parse_iso, parse_page

LAST = b"<ListBucketResult><IsTruncated>false</IsTruncated>"


@pytest.mark.parametrize(
    "element", [b"<Contents>", b"</Contents>", b"<Contents><Key>", b"<a:Contents>", b"<Contents", b"<a"]
)
def test_elements_that_are_never_closed(element: bytes) -> None:
    """Sixteen megabytes of beginnings without an end are read once, not once for each of them."""
    page = parse_page(LAST + element * (4_000_000 // len(element)))
    assert page.entries == []


def test_what_stands_around_the_entries_is_read() -> None:
    """Entries are taken out of the document; what is between them is the page's."""
    page = parse_page(
        b"<R><Contents><Key>a</Key><Size>1</Size></Contents><IsTruncated>true</IsTruncated>"
        b"<s3:Contents><Key>b</Key><Size>2</Size></s3:Contents><NextContinuationToken>t</NextContinuationToken></R>"
    )
    assert [(entry.key, entry.size) for entry in page.entries] == [("a", 1), ("b", 2)]
    assert page.token == "t"


@pytest.mark.parametrize("size", ["", "-1", "1e3", "²", "٣", "9" * 5000])
def test_a_size_that_is_none(size: str) -> None:
    """An entry whose size is no number of bytes is an entry of unknown size."""
    page = parse_page(LAST + f"<Contents><Key>a</Key><Size>{size}</Size></Contents>".encode())
    assert [(entry.key, entry.size) for entry in page.entries] == [("a", -1)]


@pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z", "٢٠٢٦-01-01T00:00:00Z", "soon", ""])
def test_a_time_that_is_none(text: str) -> None:
    """A time that is no date is no time."""
    assert parse_iso(text) is None


def test_a_listing_that_goes_in_circles() -> None:
    """A token that repeats would be asked with for ever."""
    progress = ListingProgress()
    page = Page([Entry(key="a", size=1)], "token")
    progress.saw(page)
    with pytest.raises(StoreError, match="again and again"):
        progress.saw(page)


@pytest.mark.parametrize("length", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("what", ["tokens", "keys"])
def test_a_listing_that_goes_in_wide_circles(length: int, what: str) -> None:
    """So would tokens or keys that come round again after some pages."""
    progress = ListingProgress()

    def listed() -> None:
        for number in range(4 * length + 4):
            token, key = f"token-{number}", f"key-{number}"
            if what == "tokens":
                token = f"token-{number % length}"
            else:
                key = f"key-{number % length}"
            progress.saw(Page([Entry(key=key, size=1)], token))

    with pytest.raises(StoreError, match="again and again"):
        listed()


def test_a_long_listing() -> None:
    """A listing whose keys and tokens are new on each page may be as long as it likes."""
    progress = ListingProgress()
    for number in range(5000):
        progress.saw(Page([Entry(key=f"key-{number}", size=1)], f"token-{number}"))
    progress.saw(Page([], ""))


def test_a_listing_of_nothing_without_an_end() -> None:
    """Some empty pages are a server that filters; hundreds in a row are none."""
    progress = ListingProgress()
    for number in range(100):
        progress.saw(Page([], f"token-{number}"))
    with pytest.raises(StoreError, match="again and again"):
        progress.saw(Page([], "one more"))


def test_entries_have_the_leaves_they_need() -> None:
    """Of equal names the first counts, whatever an element has, and quotes of an ETag may be written in any way."""
    (one, other) = parse_page(
        LAST + b"<Contents><Owner><ID>Key</ID></Owner><Key>a+b%2B&lt;c</Key><Key>z</Key><x:Size>7</x:Size>"
        b"<ETag>&quot;1&amp;quot;&#34;</ETag></Contents><Contents><Key>d</Key><Size>8</Size><ETag>W/&quot;2&quot;</ETag>"
        b"<LastModified>2020-09-13T12:26:40.500Z</LastModified></Contents>"
    ).entries
    assert (one.key, one.size, one.etag, one.modified) == ("a+b%2B<c", 7, "1", None)
    assert (other.key, other.size, other.etag, other.modified) == ("d", 8, "W/2", 1600000000.5)


def test_an_element_in_an_element() -> None:
    """An element that begins before the one before it has ended makes one entry of both, and no key appears twice."""
    page = parse_page(
        LAST + b"<Contents><Key>a</Key><Contents><Key>b</Key></Contents><Contents><Key>c</Key></Contents>"
    )
    assert [entry.key for entry in page.entries] == ["a", "c"]
