"""What a further row costs an audit, counted in calls: an audit may have millions of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from s3_uploader.inspection.audit import Audit, Discrepancy
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.snapshot import Snapshot
from s3_uploader.stores.listing import Entry
from s3_uploader.stores.s3.listing import parse_page
from tests.ledger_values import shipped

FEW, MANY = 100, 300
MOST_CALLS = 64
"""From the ledger and the page of a listing to the judgement, with those of builtins."""
_ELEMENT = (
    "<Contents><Key>{}</Key><LastModified>2020-09-13T12:26:40.000Z</LastModified><ETag>&quot;{}&quot;</ETag>"
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


class Listed:
    """A bucket that is read by its pages alone."""

    name = "bucket"
    concurrency = 1
    looks_are_cheap = True
    lists_in_order = True

    def __init__(self, pages: list[bytes]) -> None:
        self._pages = pages

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def address(self, key: str) -> str:
        """As a bucket would."""
        return f"bucket/{key}"

    def entries(self, prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        """All of them."""
        for page in self._pages:
            yield from parse_page(page).entries

    def look(self, key: str, *, content: bool) -> Entry | None:
        """Nothing that was listed with its ETag needs this."""
        raise AssertionError(key)


def calls_for(place: Path, files: int) -> int:
    """The calls of an audit of so many files, all of which are there."""
    place.mkdir()
    path = str(place / "ledger.sqlite3")
    rows = [shipped(f"room/2020/09/13/12/26-{number:06}.dat", destination="bucket") for number in range(files)]
    with Ledger.open(path) as ledger:
        ledger.commit_batch(shipped=rows)
    elements = "".join(_ELEMENT.format(row.key, row.etag, row.size) for row in rows)
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{elements}</ListBucketResult>".encode()
    told: list[Discrepancy] = []
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    with Snapshot(path, destination="bucket") as snapshot:
        bounds = snapshot.select()
        audit = Audit(Listed([page]), deep=False, tell=told.append, notice=lambda sentence: None)
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            summary = audit.run(snapshot.rows(), bounds)
        finally:
            sys.setprofile(before)
    assert (summary.same, told) == (files, [])
    return calls


def test_a_further_row_costs_few_calls(tmp_path: Path) -> None:
    """An audit takes seconds for a million files because it does little for each."""
    calls_for(tmp_path / "warm", 3)
    further = calls_for(tmp_path / "many", MANY) - calls_for(tmp_path / "few", FEW)
    assert further / (MANY - FEW) <= MOST_CALLS
