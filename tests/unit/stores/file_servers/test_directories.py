"""Directories on a file server: which of them are looked for, and which are made."""

from __future__ import annotations

from typing import cast

import pytest

from s3_uploader.stores.file_servers.base import FileSession
from s3_uploader.stores.file_servers.directories import KnownDirectories
from s3_uploader.stores.file_servers.learned import Learned
from s3_uploader.stores.file_servers.parts import PartNames


class Tree:
    """The directories of a server, and what was asked of it."""

    base = "/in"

    def __init__(self, *paths: str) -> None:
        self.paths = {"/", "/in", *paths}
        self.looks: list[str] = []
        self.in_vain = 0

    def is_directory(self, path: str) -> bool:
        """See `FileSession`."""
        self.looks.append(path)
        self.in_vain += path not in self.paths
        return path in self.paths

    def make_directory(self, path: str) -> None:
        """See `FileSession`."""
        assert path not in self.paths
        assert path.rpartition("/")[0] in self.paths
        self.paths.add(path)


class NoParts:
    """Nothing is swept."""

    def sweep(self, session: FileSession, directory: str) -> None:
        """See `PartNames`."""


def ensured(tree: Tree, path: str) -> KnownDirectories:
    """Make a path there, whose directories are not known yet."""
    directories = KnownDirectories(parts=cast(PartNames, NoParts()), learned=Learned())
    assert directories.ensure(cast(FileSession, tree), path, hidden=False)
    return directories


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 60])
def test_few_looks_in_vain(depth: int) -> None:
    """However many directories are missing, at most three are looked for: some servers punish each such look."""
    tree = Tree()
    path = "/in" + "/d" * depth
    ensured(tree, path)
    assert path in tree.paths
    assert tree.in_vain <= 3


def test_an_hour_that_begins_costs_two_looks() -> None:
    """Where nothing but the last directory is missing, nothing above its parent is looked for."""
    tree = Tree("/in/hall", "/in/hall/2020", "/in/hall/2020/11", "/in/hall/2020/11/29")
    directories = ensured(tree, "/in/hall/2020/11/29/20")
    assert tree.looks == ["/in/hall/2020/11/29/20", "/in/hall/2020/11/29"]
    tree.looks.clear()
    directories.ensure(cast(FileSession, tree), "/in/hall/2020/11/29/21", hidden=False)
    assert tree.looks == ["/in/hall/2020/11/29/21"]


def test_what_is_there_costs_one_look() -> None:
    """A directory that exists is looked for once, and its parents are not."""
    tree = Tree("/in/a", "/in/a/b", "/in/a/b/c")
    ensured(tree, "/in/a/b/c")
    assert tree.looks == ["/in/a/b/c"]
