"""The drawings of the state machines in the documentation are their tables."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path

import pytest

from s3_uploader.stores.s3 import multipart_states as multipart
from s3_uploader.stores.s3.engines import states as connection

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "architecture.md"


def drawn(title: str) -> dict[str, set[str]]:
    """What the drawing of that title says may follow each state."""
    drawing = DOCUMENT.read_text().partition(f"<!-- {title} -->\n```text\n")[2].partition("```")[0]
    found = {}
    for line in drawing.splitlines():
        state, arrow, rest = line.partition("→")
        assert arrow
        found[state.strip()] = {word for word in rest.split() if word.isupper() and word != "TLS"}
    return found


@pytest.mark.parametrize(
    ("title", "table", "end"),
    [
        ("states of a connection", connection.TRANSITIONS, "CLOSED"),
        ("stages of an upload in parts", multipart.TRANSITIONS, ""),
    ],
)
def test_the_drawing_is_the_table(title: str, table: Mapping[enum.Enum, frozenset[enum.Enum]], end: str) -> None:
    """Each state is drawn with the states that may follow it; a last one that may follow any of them is not."""
    assert drawn(title) == {
        old.name: {new.name for new in after if new.name != end} for old, after in table.items() if old.name != end
    }
