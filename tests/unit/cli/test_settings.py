"""The configuration of a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3_uploader.cli.run import RunOptions
from s3_uploader.cli.settings import load
from s3_uploader.core.errors import SpoolError


def test_a_configuration_in_its_own_spool_is_refused(tmp_path: Path) -> None:
    """The first run would ship it, and the second would not find it."""
    file = tmp_path / "config.json"
    for layout in ("tree", "dated"):
        file.write_text(json.dumps({"base_dir": str(tmp_path), "bucket": "b", "layout": layout}), encoding="utf-8")
        if layout == "tree":
            with pytest.raises(SpoolError, match=r"The configuration .* would be shipped like any other file"):
                load(str(file), RunOptions())
        else:
            assert load(str(file), RunOptions()).layout == layout
