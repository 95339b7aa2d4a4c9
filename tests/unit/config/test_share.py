"""The configuration of a run that ships a share: resolved with the environment, and undone for who only looks."""

from __future__ import annotations

import pytest

from s3_uploader import config
from s3_uploader.config.loading import resolved
from s3_uploader.config.share import share_name, share_of, unasked, whole
from s3_uploader.core.errors import ConfigError
from s3_uploader.core.shares import Share

SLURM = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}


def configured(**settings: object) -> config.Config:
    """A configuration."""
    return config.from_mapping({"base_dir": "/spool", "bucket": "b", **settings}, source="test")


def test_without_a_share_nothing_changes() -> None:
    """A run of all files has the configuration that was given."""
    given = configured(metrics_file="/m.prom")
    assert resolved(given, {}) is given
    assert share_of(given) is None
    assert share_name(given) == ""


def test_a_share_has_its_own_metrics_file() -> None:
    """Shares do not overwrite each other's metrics, however often the configuration is resolved."""
    given = configured(share="/2", metrics_file="/a.b/m.prom")
    once = resolved(given, {"JOB_COMPLETION_INDEX": "1"})
    assert share_of(once) == Share(1, 2)
    assert once.metrics_file == "/a.b/m-share-1-of-2.prom"
    assert resolved(once, {}) == once
    assert resolved(once, SLURM) == once


def test_one_share_is_all_files() -> None:
    """0/1 is no share, and holds against what a scheduler says."""
    loaded = resolved(configured(share="0/1", metrics_file="m.prom"), SLURM)
    assert share_of(loaded) is None
    assert loaded.metrics_file == "m.prom"


def test_a_share_that_nobody_asked_for_is_told() -> None:
    """A task of a Slurm array may have a spool of its own: that it ships a part only is said."""
    given = configured()
    loaded = resolved(given, SLURM)
    assert share_name(loaded) == "1/2"
    assert "--share /2" in unasked(given, loaded)
    asked = configured(share="/2")
    assert unasked(asked, resolved(asked, SLURM)) == ""
    assert unasked(given, given) == ""


def test_who_looks_sees_all_files() -> None:
    """A configuration with a share is one of all files for the commands that only look."""
    assert whole(configured(share="1/2")).share is None


@pytest.mark.parametrize("share", ["2/2", "0/0", "0/20000", "half", "1", "/0", 1])
def test_what_is_refused(share: object) -> None:
    """A share that cannot be is found with all other problems of a configuration."""
    with pytest.raises(ConfigError, match="share: "):
        configured(share=share)


@pytest.mark.parametrize("share", ["junk", "", "4/4", "0/0", "0/123456", "-1/2"])
def test_what_is_no_share_is_told_in_words(share: str) -> None:
    """Whoever mistypes a share reads how one is written, not the pattern that it does not match."""
    with pytest.raises(ConfigError, match="share: must be K/N with K from 0 to N - 1, and N at most 10,000, not"):
        configured(share=share)
