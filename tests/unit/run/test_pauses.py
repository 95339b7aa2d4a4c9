"""What a run goes by: which changes are seen, and that no secret can be read from what is remembered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from s3_uploader.config import from_mapping
from s3_uploader.run.pauses import Configured, configured

AWS = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}


def digits(environ: dict[str, str] | None = None, **keys: Any) -> Configured:
    """Those of a configuration."""
    raw = {"base_dir": "/spool", "bucket": "b", **keys}
    return configured(from_mapping(raw, source="x"), AWS if environ is None else environ)


def test_how_conflicts_are_met_is_told_apart() -> None:
    """A change of on_conflict, of one location too, is seen as that and nothing else."""
    before = digits(locations={"a": {}})
    for keys in (
        {"on_conflict": "overwrite", "locations": {"a": {}}},
        {"locations": {"a": {"on_conflict": "keep-both"}}},
    ):
        after = digits(**keys)
        assert (after.conflicts != before.conflicts, after.others == before.others) == (True, True)


def test_what_else_counts() -> None:
    """Bucket, prefix and credentials count; how long a run may take does not."""
    before = digits()
    assert digits(max_runtime_seconds=60, settle_seconds=1) == before
    assert digits(key_prefix="x/").others != before.others
    assert digits(bucket="c").others != before.others
    assert digits({**AWS, "AWS_SECRET_ACCESS_KEY": "three"}).others != before.others


def test_a_credentials_file_that_was_written_anew(tmp_path: Path) -> None:
    """A file with credentials is looked at for its time, and never read."""
    file = tmp_path / "credentials"
    file.write_text("x")
    environ = {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    before = digits(environ)
    os.utime(file, (1, 1))
    assert digits(environ).others != before.others


def test_so_few_digits_tell_nothing_about_a_secret() -> None:
    """They are 16 bits: enough to see a change, and too few to guess from."""
    assert 0 <= digits().others < 65536
