"""What a replayed recording may look like after a power cut: the tests that rely on it find what they look for."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.e2e.power import Recording


def quoted(text: str | bytes) -> str:
    """A string as strace writes it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(text)) + '"'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a spool and an archive."""
    for name in ("spool", "archive"):
        (tmp_path / name).mkdir()
    (tmp_path / "spool/file").write_bytes(b"content")
    return tmp_path


def recorded(place: Path, *, syncs: bool) -> Recording:
    """A careful or a careless move of the file to the archive."""
    archive, spool = f"5<{place}/archive>", f"6<{place}/spool>"
    lines = [
        f"openat({archive}, {quoted('.part')}, O_WRONLY|O_CREAT|O_EXCL, 0666) = 7<{place}/archive/.part>",
        f"write(7<{place}/archive/.part>, {quoted(b'content')}, 7) = 7",
        f"fsync(7<{place}/archive/.part>) = 0",
        f"renameat({archive}, {quoted('.part')}, {archive}, {quoted('file')}) = 0",
        f"fsync({archive}) = 0",
        f"unlinkat({spool}, {quoted('file')}, 0) = 0",
    ]
    log = place.parent / "log"
    log.write_text(
        "\n".join(f"1 {number}.5 {line}" for number, line in enumerate(lines) if syncs or "fsync" not in line)
    )
    made = Recording(place)
    made.read(log)
    return made


def states(recording: Recording, disk: str) -> list[dict[str, bytes]]:
    """Many of the states after a cut at any moment."""
    chance = random.Random(1)
    return [
        recording.after(cut, disk, chance, share).files()
        for cut in range(len(recording.changes) + 1)
        for share in (0.0, 1.0, *[0.5] * 20)
    ]


@pytest.mark.parametrize("disk", ["ordered", "any"])
def test_what_was_synced_is_there(place: Path, disk: str) -> None:
    """With a sync of the bytes and one of the name before the removal, no state is without the file."""
    found = states(recorded(place, syncs=True), disk)
    assert all(b"content" in (files.get("spool/file"), files.get("archive/file")) for files in found)
    assert all(files.get("archive/file", b"content") == b"content" for files in found)
    assert {"archive/file": b"content"} in found


@pytest.mark.parametrize("disk", ["ordered", "any"])
def test_what_was_not_synced_may_be_gone(place: Path, disk: str) -> None:
    """Without them there are states in which the file is lost, and such in which an empty one has its name."""
    found = states(recorded(place, syncs=False), disk)
    assert any(b"content" not in (files.get("spool/file"), files.get("archive/file")) for files in found)
    assert any(files.get("archive/file") == b"" for files in found)
