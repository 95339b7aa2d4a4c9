"""What a run would do, for those who only look."""

from __future__ import annotations

import os
from pathlib import Path

from s3_uploader.core.model import Left
from s3_uploader.inspection.preview import survey
from s3_uploader.run.admission import Admission
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NO_GLOBS, NOW, Skips, write


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_survey(tmp_path: Path) -> None:
    """A rehearsal says of each candidate what a run would do, and leaves nothing open."""
    write(tmp_path / "a/ready")
    write(tmp_path / "a/fresh", mtime=NOW - 1)
    write(tmp_path / "x.tmp")
    (tmp_path / "empty").mkdir()
    root = SpoolRoot(str(tmp_path))
    before, skips = open_descriptors(), Skips()
    layout = TreeLayout(settle_seconds=10, globs=NO_GLOBS)
    admission = Admission(root, settle_seconds=10, known_failure=lambda path: None, is_remembered=lambda file: False)
    verdicts = {
        verdict.candidate.path: verdict.reason
        for verdict in survey(root, layout, admission, now=lambda: NOW, skip=skips)
    }
    assert verdicts == {"a/ready": None, "a/fresh": Left.FRESH}
    assert skips.reasons() == {"x.tmp": Left.UNMATCHED}
    root.refresh()
    assert open_descriptors() == before
    root.close()
