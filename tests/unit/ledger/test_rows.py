"""Rows of a ledger that is damaged where SQLite does not look: in what its columns hold."""

from __future__ import annotations

from typing import Any

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import Proof
from s3_uploader.ledger import records, rows
from s3_uploader.ledger.rows import FailingRow, ShippedRow

SHIPPED = ShippedRow(
    path="b\udcff/46-topic.dat", key="k", destination="bucket", size=5, mtime_ns=2**63, shipped_at=1.5, proof=Proof.MD5
)
FAILING = FailingRow(
    path="p",
    key="k",
    size=5,
    mtime_ns=7,
    attempts=1,
    first_failed_at=1,
    last_failed_at=2,
    next_try_at=3.5,
    code="c",
    message="m",
    origin="file",
)
RUN = (1, 1.5, None, 7, "host", "bucket", 1, 0.5, None, 0, 0, 0, 0, '{"fresh": 2}', 0, 0, None, 0, "", b"\xff", "", "")


def with_value(values: tuple[Any, ...], place: int, value: object) -> tuple[Any, ...]:
    """The row with another value in one column."""
    return (*values[:place], value, *values[place + 1 :])


def test_rows_come_back_as_they_were() -> None:
    """What was written is what is read."""
    assert rows.failing_row(records.failing_values(FAILING)) == FAILING
    back = rows.shipped_row(with_value(records.shipped_values(SHIPPED, 1), 3, "bucket"))
    assert (back.path, back.key, back.proof) == (SHIPPED.path, "k", Proof.MD5)
    assert rows.run_row(RUN).left == {"fresh": 2}


@pytest.mark.parametrize("value", [b"\0", "text", 1.5, None], ids=["bytes", "text", "fraction", "nothing"])
@pytest.mark.parametrize("place", [4, 7, 9, 13])
def test_a_value_of_another_kind_is_damage(place: int, value: object) -> None:
    """SQLite keeps any value in any column; one that does not belong there is told as damage, not as a bug."""
    values = with_value(records.shipped_values(SHIPPED, 1), 3, "bucket")
    if isinstance(value, float) and place == 7:
        pytest.skip("a time may have a fraction")
    with pytest.raises(StateError, match="The ledger is damaged: it contains"):
        rows.shipped_row(with_value(values, place, value))


@pytest.mark.parametrize(("place", "value"), [(2, "x"), (3, None), (7, b"1"), (0, 5)])
def test_a_failing_row_of_other_kinds_is_damage(place: int, value: object) -> None:
    """The same for the files that keep failing."""
    with pytest.raises(StateError, match="damaged"):
        rows.failing_row(with_value(records.failing_values(FAILING), place, value))


@pytest.mark.parametrize(
    ("place", "value"), [(0, "x"), (1, b""), (13, "no JSON"), (13, None), (13, '{"a": "b"}'), (13, "[" * 5000), (4, 7)]
)
def test_a_run_of_other_kinds_is_damage(place: int, value: object) -> None:
    """The same for runs, and for the numbers inside of one that are kept as JSON."""
    with pytest.raises(StateError, match="damaged"):
        rows.run_row(with_value(RUN, place, value))
