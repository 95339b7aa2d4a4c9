"""Proposes a configuration for a spool from the files in it. Takes a moment and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from s3_uploader.core.text import counted, shown_size
from s3_uploader.spool.layouts.queue import decode_key
from s3_uploader.spool.layouts.strangers import FORMS, files_below, matches
from s3_uploader.spool.layouts.strangers import proposal as change_for
from s3_uploader.spool.root import SpoolRoot

_MOST_FILES = 5_000
_LOOK_SECONDS = 2.0
_LARGE = 256 * 10**6
_USUAL_SETTLE, _LONG_SETTLE = 10, 60


class Proposal(msgspec.Struct, frozen=True):
    """Proposed keys of the configuration, with the reason for each."""

    settings: dict[str, Any]
    reasons: dict[str, str]


def proposal_for(base_dir: str, *, monotonic: Callable[[], float]) -> Proposal:
    """Look at a spool and make a proposal.

    :raises SpoolError: if it cannot be used.
    """
    paths: list[tuple[str, ...]] = []
    largest = 0
    until = monotonic() + _LOOK_SECONDS
    root = SpoolRoot(base_dir)
    try:
        for name in sorted(entry.name for entry in root.entries(()) if entry.name != "lost+found"):
            for names, found, status in files_below(root, (), name):
                if monotonic() > until or len(paths) >= _MOST_FILES:
                    break
                if status is not None:
                    paths.append((*names, found))
                    largest = max(largest, status.st_size)
    finally:
        root.close()
    settings, reasons = _layout(paths, base_dir)
    settings["settle_seconds"] = _LONG_SETTLE if largest > _LARGE else _USUAL_SETTLE
    reasons["settle_seconds"] = "How long a file must have been left alone before it is shipped."
    if largest > _LARGE:
        reasons["settle_seconds"] += f" There are large files ({shown_size(largest)}), which may pause on their way in."
    return Proposal(settings, reasons)


def _layout(paths: list[tuple[str, ...]], base_dir: str) -> tuple[dict[str, Any], dict[str, str]]:
    if not paths:
        return {"layout": "tree"}, {"layout": f"No file is there yet. tree: {FORMS['tree']}; dated: {FORMS['dated']}."}
    dated = sum(matches("dated", path) for path in paths)
    number = counted(len(paths), "file")
    if dated * 2 >= len(paths):
        return {"layout": "dated"}, {"layout": f"{dated:,} of {number} are {FORMS['dated']}."}
    change, taken = change_for("dated", paths, base_dir=base_dir)
    if "base_dir" in change:
        return {**change, "layout": "dated"}, {"layout": f"{taken:,} of {number} are {FORMS['dated']} there."}
    is_flat = all(len(path) == 1 for path in paths)
    if is_flat and any(re.search("%[0-9A-Fa-f]{2}", path[0]) and decode_key(path[0]) for path in paths):
        return {"layout": "queue"}, {"layout": f"The names of the {number} are URL-encoded keys."}
    taken = sum(matches("tree", path) for path in paths)
    return {"layout": "tree"}, {
        "layout": f"With tree, {taken:,} of {number} would be shipped, each under its relative path."
    }
