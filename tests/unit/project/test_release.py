"""What a maintainer publishes: only what is committed, has a section in the changelog, and was not published before."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from docs.release import checksums, notes, problems
from s3_uploader._version import DISTRIBUTION

ROOT = Path(__file__).resolve().parents[3]
CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.1.0] - 2026-11-28

### Added

- Something.

## [1.0.0] - 2026-11-01

- The first.
"""


def test_the_notes_of_a_version() -> None:
    """They are its section and no other's; what is not released has none."""
    assert notes(CHANGELOG, "1.1.0") == "### Added\n\n- Something.\n"
    assert notes(CHANGELOG, "1.0.0") == "- The first.\n"
    assert notes(CHANGELOG, "1x0.0") == notes(CHANGELOG, "2.0.0") == notes(CHANGELOG, "Unreleased") == ""


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"version": "2.0.0"}, "nothing under ## [2.0.0]"),
        ({"version": "1.1"}, "is no version"),
        ({"tags": ["v1.1.0"]}, "is tagged already"),
        ({"changed": " M setup.py\n"}, "not committed:\n M setup.py"),
    ],
)
def test_what_is_in_the_way(changed: dict[str, object], expected: str) -> None:
    """Each reason is told with what to do about it; without one it is built."""
    given: dict[str, object] = {
        "version": "1.1.0",
        "changelog": CHANGELOG,
        "tags": ["v1.0.0"],
        "changed": "",
        **changed,
    }
    found = "\n".join(problems(**given))  # type: ignore[arg-type]
    assert expected in found
    assert bool(found) == bool(expected)


def test_checksums(tmp_path: Path) -> None:
    """They are in the form that ``sha256sum --check`` reads."""
    (tmp_path / "a.whl").write_bytes(b"x")
    assert checksums([tmp_path / "a.whl"]) == f"{hashlib.sha256(b'x').hexdigest()}  a.whl\n"


def texts() -> list[Path]:
    """Everything that tells people what to install."""
    places = [
        "README.md",
        "CONTRIBUTING.md",
        "docs",
        "examples",
        "deploy",
        "s3_uploader",
        "Containerfile",
        "compose.yaml",
    ]
    roots = [ROOT / place for place in places]
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    return [
        path for path in files if path.suffix in (".md", ".py", ".yaml", ".service") or path.name == "Containerfile"
    ]


def test_nobody_is_told_to_install_what_is_not_ours() -> None:
    """The name that the command has is another project's where pip looks: it is never the one to install."""
    lines = [(str(path), line) for path in texts() for line in path.read_text().splitlines()]
    assert len(lines) > 10_000
    for path, line in lines:
        for name in re.findall(r"(?:pip|pipx|uv tool) install[^`]*?['\" ](s3[A-Za-z0-9_.-]*)", line):
            assert name == DISTRIBUTION, (path, line)
        assert not re.search(r"s3[-_]uploader\[", line), (path, line)
