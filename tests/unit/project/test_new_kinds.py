"""What a new kind of store, or a new layout, must not forget."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from docs.generate import TABLES
from s3_uploader.config.describe import choices
from s3_uploader.config.schema import DESTINATIONS, Config, Destination, hint_of
from s3_uploader.spool.layouts.strangers import FORMS

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


@pytest.mark.parametrize("kind", sorted(DESTINATIONS))
def test_a_destination_has_what_a_run_asks_for(kind: str) -> None:
    """Each kind of destination has the settings of uploads, and a section in the reference."""
    struct = DESTINATIONS[kind]
    assert hasattr(struct, "name")
    assert {"on_conflict", "minimum_proof", "max_concurrency"} <= set(struct.__struct_fields__)
    assert struct in get_args(Destination)
    assert TABLES[kind] is struct
    assert re.search(rf"<!-- keys of {kind} -->", REFERENCE.read_text())


def test_each_layout_has_a_form() -> None:
    """The messages of `check` and of runs can say what every layout expects."""
    assert set(FORMS) == set(choices(hint_of(Config, "layout")))
