"""Pruning: only empty directories, only when their layout allows, never the spool itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.spool.layouts.dated import DatedLayout, utc_epoch
from s3_uploader.spool.prune import prune_upwards
from s3_uploader.spool.root import Names, SpoolRoot
from tests.fakes import NO_GLOBS, NOW, write

LAYOUT = DatedLayout(settle_seconds=10, globs=NO_GLOBS, epoch_of=utc_epoch)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[SpoolRoot]:
    """The spool."""
    opened = SpoolRoot(str(tmp_path))
    yield opened
    opened.close()


def pruned(root: SpoolRoot, path: str, *, now: float = NOW) -> tuple[list[str], OSError | None]:
    """What was pruned, and what stopped it."""
    gone: list[str] = []

    def note(names: Names) -> None:
        gone.append("/".join(names))

    error = prune_upwards(root, LAYOUT, tuple(path.split("/")), now=now, pruned=note)
    return gone, error


def test_upwards(root: SpoolRoot, tmp_path: Path) -> None:
    """The whole chain goes that is empty and over, and the spool stays."""
    (tmp_path / "a/2018/01/01/00").mkdir(parents=True)
    assert pruned(root, "a/2018/01/01/00") == (["a/2018/01/01/00", "a/2018/01/01", "a/2018/01", "a/2018", "a"], None)
    assert tmp_path.exists()


def test_stops_at_what_still_runs(root: SpoolRoot, tmp_path: Path) -> None:
    """The day that still runs stays although its hour is over."""
    (tmp_path / "a/2020/09/13/11").mkdir(parents=True)
    (tmp_path / "a/2020/09/13/12").mkdir(parents=True)
    assert pruned(root, "a/2020/09/13/12") == ([], None)
    assert pruned(root, "a/2020/09/13/11") == (["a/2020/09/13/11"], None)
    assert (tmp_path / "a/2020/09/13/12").exists()


def test_not_empty(root: SpoolRoot, tmp_path: Path) -> None:
    """A directory with anything in it stays, also if it came this very moment."""
    write(tmp_path / "a/2018/01/01/00/.hidden")
    assert pruned(root, "a/2018/01/01/00") == ([], None)


def test_gone_or_a_link(root: SpoolRoot, tmp_path: Path) -> None:
    """A directory that is gone, or became a link or a file, is left alone."""
    assert pruned(root, "a/2018/01") == ([], None)
    (tmp_path / "outside").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/2018").symlink_to("../outside")
    (tmp_path / "b").symlink_to("outside")
    assert pruned(root, "a/2018") == ([], None)
    assert pruned(root, "b/2018") == ([], None)
    assert (tmp_path / "outside").exists()


def test_error(root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be removed is reported."""
    (tmp_path / "a/2018").mkdir(parents=True)
    failure = PermissionError(errno.EACCES, "Permission denied")

    def rmdir(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(os, "rmdir", rmdir)
    assert pruned(root, "a/2018") == ([], failure)


@given(st.floats(1e9, 3e9), st.lists(st.integers(1, 31), min_size=0, max_size=3), st.sampled_from([2001, 2020, 2040]))
def test_never_a_period_that_runs(now: float, numbers: list[int], year: int) -> None:
    """No directory may go while its period runs, or within the settle time after it."""
    names = ("a", str(year), *(f"{number:02}" for number in numbers))
    end = LAYOUT._period_end(names)
    if end is not None and end + 10 > now:
        assert not LAYOUT.may_prune(names, now=now, child=None, mtime=0)
