"""What all layouts share: globs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.spool.layouts.base import Globs


class TestGlobs:
    @pytest.mark.parametrize(
        ("pattern", "path", "matches"),
        [
            ("*.dat", "a/b/x.dat", True),
            ("*.dat", "a/b/x.tmp", False),
            ("a/*.dat", "a/x.dat", True),
            ("a/*.dat", "a/b/x.dat", False),
            ("a/**/x.dat", "a/x.dat", True),
            ("a/**/x.dat", "a/b/c/x.dat", True),
            ("a/**", "a/b/c/x.dat", True),
            ("a/**", "b/a/x", False),
            ("**/c/*", "a/b/c/x", True),
            ("/x", "x", True),
            ("/x", "a/x", False),
            ("a/", "a/b/x", True),
            ("a/", "b/x", False),
            ("?", "a/x", True),
            ("a?x", "a/x", False),
            ("/a?x", "a/x", False),
            ("[ab]x", "bx", True),
            ("[!ab]x", "bx", False),
            ("[^ab]x", "cx", True),
            ("/a[!b]x", "a/x", False),
            ("[a-c]", "b", True),
            ("[a-c]", "-", False),
            ("[a-]", "-", True),
            ("[c-a]", "b", False),
            ("[!c-a]", "b", True),
            ("[]]", "]", True),
            ("[!]]", "]", False),
            ("[!]]", "x", True),
            ("[[]", "[", True),
            ("[a&&b]", "&", True),
            ("[\\d]", "d", True),
            ("[\\d]", "5", False),
            ("[!]", "[!]", True),
            ("[", "[", True),
            ("a.b", "axb", False),
            ("x\n*", "x\ny\n", True),
        ],
    )
    def test_patterns(self, pattern: str, path: str, matches: bool) -> None:
        """A pattern matches as the shell's do: wildcards and sets stop at a slash, ``**`` does not."""
        *directory, name = path.split("/")
        assert Globs(include=[pattern], exclude=[]).admits(tuple(directory), name) is matches

    def test_exclude_wins(self) -> None:
        """What is excluded is left, whatever is included."""
        globs = Globs(include=["*.dat"], exclude=["b/*"])
        assert globs.admits(("a",), "x.dat")
        assert not globs.admits(("b",), "x.dat")
        assert not globs.admits(("a",), "x.txt")

    def test_no_globs_admit_all(self) -> None:
        """Without patterns everything is considered."""
        assert Globs(include=[], exclude=[]).admits((), "anything")

    @given(st.text(alphabet="ab/*?[]!^-\\.{}()&~|", max_size=12), st.text(alphabet="ab[]-", min_size=1, max_size=5))
    def test_any_pattern_can_be_used(self, pattern: str, name: str) -> None:
        """No pattern is so odd that it cannot be read."""
        Globs(include=[pattern], exclude=[]).admits(("a",), name)
