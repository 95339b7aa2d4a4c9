"""The table of all metrics in `docs/metrics.md`, from the code that writes them."""

from __future__ import annotations

import re
from pathlib import Path

from s3_uploader.core.model import Left
from s3_uploader.monitoring.metrics.exposition import FAMILIES, Family
from s3_uploader.monitoring.metrics.samples import CAUSES, OUTCOMES

PAGE = Path(__file__).with_name("metrics.md")
BLOCK = re.compile(r"(<!-- metrics -->\n).*?(<!-- end -->\n)", re.DOTALL)
VALUES = {
    "reason": [reason.value for reason in Left],
    "cause": list(CAUSES),
    "outcome": list(OUTCOMES),
}


def generated(page: str) -> str:
    """The page with its tables written anew."""
    always = [family for family in FAMILIES if not family.only_in_watch]
    in_watch = [family for family in FAMILIES if family.only_in_watch]
    parts = [_table(always), "Of a `watch` only:\n", _table(in_watch), _labels()]
    return BLOCK.sub(lambda found: found[1] + "\n" + "\n".join(parts) + "\n" + found[2], page)


def _table(families: list[Family]) -> str:
    rows = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in ("spool", *family.labels))
        rows.append(f"| `{family.full_name}` | {family.kind} | {labels} | {family.meaning} |")
    return "\n".join(rows) + "\n"


def _labels() -> str:
    rows = ["| label | values |", "| --- | --- |"]
    rows += [f"| `{label}` | {', '.join(f'`{value}`' for value in values)} |" for label, values in VALUES.items()]
    return "\n".join(rows) + "\n"
