"""What every layout promises, whatever paths it reads.

A subclass of :class:`LayoutContract` puts a layout under test: it says which layout it is and where that finds files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.core.model import Candidate, Left
from s3_uploader.spool.layouts.base import EmptyDirectory, Layout
from s3_uploader.spool.root import Names, SpoolRoot, taken_name

LONG_AGO = 1_600_000_000.0


class LayoutContract:
    """The suite. ``places`` are paths that the layout makes candidates, in the order of their data."""

    places: tuple[str, ...]

    @pytest.fixture
    def layout(self) -> Layout:
        """The layout under test, that lets a directory settle for ten seconds."""
        raise NotImplementedError

    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[SpoolRoot]:
        """A spool with a file at each of the places."""
        for number, place in enumerate(self.places):
            path = tmp_path / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * (number + 1))
            os.utime(path, (LONG_AGO + number, LONG_AGO + number))
        root = SpoolRoot(str(tmp_path))
        yield root
        root.close()

    def scanned(self, layout: Layout, root: SpoolRoot) -> tuple[list[Candidate], list[Names], dict[str, Left]]:
        """Candidates, empty directories and what was skipped."""
        skipped: dict[str, Left] = {}

        def skip(names: Names, name: str, reason: Left, detail: str) -> None:
            skipped["/".join((*names, name))] = reason

        found = list(layout.scan(root, skip))
        candidates = [each for each in found if isinstance(each, Candidate)]
        return candidates, [each.names for each in found if isinstance(each, EmptyDirectory)], skipped

    def test_each_file_is_a_candidate_once_oldest_first(self, layout: Layout, root: SpoolRoot) -> None:
        """What lies where the layout looks is found, once, in the order of its data, with its size and time."""
        candidates, _, _ = self.scanned(layout, root)
        assert [each.path for each in candidates] == list(self.places)
        assert [each.size for each in candidates] == [number + 1 for number in range(len(self.places))]
        assert [each.mtime_ns for each in candidates] == [int(LONG_AGO + n) * 10**9 for n in range(len(self.places))]

    def test_no_two_files_share_a_key(self, layout: Layout, root: SpoolRoot) -> None:
        """Each file has a key of its own."""
        candidates, _, _ = self.scanned(layout, root)
        assert len({each.key for each in candidates}) == len(candidates)

    def test_a_file_on_its_way_out_comes_back_under_its_own_key(
        self, layout: Layout, root: SpoolRoot, tmp_path: Path
    ) -> None:
        """What a killed run left under a private name is a candidate with the key of its producer's name."""
        before, _, _ = self.scanned(layout, root)
        path = tmp_path / self.places[0]
        private = taken_name(path.name)
        assert private is not None
        path.rename(path.with_name(private))
        after, _, _ = self.scanned(layout, root)
        assert {each.key for each in after} == {each.key for each in before}
        assert private in {each.name for each in after}

    def test_links_and_pipes_are_reported_and_never_followed(
        self, layout: Layout, root: SpoolRoot, tmp_path: Path
    ) -> None:
        """A link, a FIFO or a directory where a file should be is no candidate."""
        parent = (tmp_path / self.places[0]).parent
        (parent / "link").symlink_to(tmp_path / self.places[0])
        os.mkfifo(parent / "pipe")
        candidates, _, skipped = self.scanned(layout, root)
        assert [each.path for each in candidates] == list(self.places)
        assert [skipped[str((parent / name).relative_to(tmp_path))] for name in ("link", "pipe")] == [Left.SPECIAL] * 2

    def test_unfinished_files_are_left(self, layout: Layout, root: SpoolRoot, tmp_path: Path) -> None:
        """A name that programs give to an unfinished file is no candidate."""
        path = tmp_path / self.places[0]
        path.rename(path.with_name(path.name + ".tmp"))
        candidates, _, _ = self.scanned(layout, root)
        assert [each.path for each in candidates] == list(self.places[1:])

    def test_an_empty_directory_is_found(self, layout: Layout, root: SpoolRoot, tmp_path: Path) -> None:
        """A directory that holds nothing is reported, so that it can be pruned."""
        path = tmp_path / self.places[0]
        if path.parent == tmp_path:
            pytest.skip("this layout has no directories")
        for each in path.parent.iterdir():
            each.unlink()
        _, empty, _ = self.scanned(layout, root)
        assert tuple(path.parent.relative_to(tmp_path).parts) in empty

    def test_a_spool_that_vanishes_is_no_traceback(self, layout: Layout, root: SpoolRoot, tmp_path: Path) -> None:
        """Entries that go while the spool is read are no errors."""
        seen = []
        for found in layout.scan(root, lambda *_: None):
            seen.append(found)
            for place in self.places:
                (tmp_path / place).unlink(missing_ok=True)
        assert len(seen) <= len(self.places)
