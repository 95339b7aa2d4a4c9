"""The configuration of a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3_uploader.cli.frame import load
from s3_uploader.cli.run import RunOptions
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


def test_what_a_configuration_includes_is_not_shipped_either(tmp_path: Path) -> None:
    """It may lie in the spool although the file that names it does not."""
    spool = tmp_path / "spool"
    (spool / "deep").mkdir(parents=True)
    (spool / "deep/shared.json").write_text('{"bucket": "b", "$include": "more.json"}', encoding="utf-8")
    (spool / "deep/more.json").write_text('{"layout": "tree"}', encoding="utf-8")
    file, settings = tmp_path / "config.json", {"base_dir": str(spool), "$include": "spool/deep/shared.json"}
    file.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(SpoolError, match=r"The configuration .*/shared\.json lies in the spool"):
        load(str(file), RunOptions())
    file.write_text(json.dumps(settings | {"exclude": ["deep/shared.json"]}), encoding="utf-8")
    with pytest.raises(SpoolError, match=r"The configuration .*/more\.json lies in the spool"):
        load(str(file), RunOptions())
    file.write_text(json.dumps(settings | {"exclude": ["deep/*.json"]}), encoding="utf-8")
    assert load(str(file), RunOptions()).layout == "tree"
