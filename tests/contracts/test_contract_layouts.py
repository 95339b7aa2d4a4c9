"""The layouts under the suite that every layout passes, and the two examples of CONTRIBUTING.md under theirs."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import pytest

from s3_uploader.core.model import Proof
from s3_uploader.spool.layouts.base import Globs, Layout
from s3_uploader.spool.layouts.dated import DatedLayout, epoch_function
from s3_uploader.spool.layouts.queue import QueueLayout
from s3_uploader.spool.layouts.tree import TreeLayout
from tests.contracts import day_layout, memory_store
from tests.contracts.layout_contract import LayoutContract
from tests.contracts.store_contract import Stage, StoreContract


def everything() -> Globs:
    """Globs that admit every file."""
    return Globs(include=[], exclude=[])


class TestDatedLayout(LayoutContract):
    """``location/YYYY/MM/DD/HH/mm-topic.dat``."""

    places = ("attic/2020/11/29/20/46-a.dat", "attic/2020/11/29/20/47-a.dat", "cellar/2020/11/30/00/00-b.dat")

    @pytest.fixture
    def layout(self) -> Layout:
        """The layout in UTC."""
        return DatedLayout(settle_seconds=10, globs=everything(), epoch_of=epoch_function("UTC"))


class TestTreeLayout(LayoutContract):
    """Any tree."""

    places = ("x", "a/b/one", "a/b/two")

    @pytest.fixture
    def layout(self) -> Layout:
        """The layout."""
        return TreeLayout(settle_seconds=10, globs=everything())


class TestQueueLayout(LayoutContract):
    """A flat directory of URL-encoded keys."""

    places = ("a%2Fone", "a%2Ftwo")

    @pytest.fixture
    def layout(self) -> Layout:
        """The layout."""
        return QueueLayout(globs=everything())


class TestExampleLayout(LayoutContract):
    """The worked example for a new layout keeps what every layout promises."""

    places = ("2020-11-29/a", "2020-11-29/b", "2020-11-30/a")

    @pytest.fixture
    def layout(self) -> Layout:
        """The layout."""
        return day_layout.DayLayout()


class TestExampleStore(StoreContract):
    """The worked example for a new store keeps what every store promises."""

    @pytest.fixture
    def stage(self, tmp_path: Path) -> Stage:
        """A store on a dictionary."""
        objects: dict[str, bytes] = {}
        return Stage(
            new_store=lambda: memory_store.MemoryStore(objects),
            read=objects.get,
            write=objects.__setitem__,
            keys=lambda: sorted(objects),
            expected_proof=Proof.CHECKSUM,
        )


@pytest.mark.parametrize("module", [day_layout, memory_store], ids=lambda module: module.__name__)
def test_the_examples_are_short(module: ModuleType) -> None:
    """A new store or layout takes fewer than 60 lines of code."""
    lines = inspect.getsource(module).splitlines()
    assert sum(bool(line.strip()) and not line.strip().startswith(("#", '"""')) for line in lines) < 60
