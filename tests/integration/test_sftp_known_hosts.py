"""Which host keys are trusted."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.sftp import known_hosts
from s3_uploader.stores.sftp.known_hosts import trust, untrusted

KEY = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
LINE = " ".join(KEY.export_public_key("openssh").decode().split()[:2])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one host, on a port of its own."""
    path = tmp_path / "known"
    path.write_text(f"# comment\n\nnonsense\n@what host {LINE}\n[server]:2222 {LINE}\n*.example.com {LINE}\n")
    return path


@pytest.mark.parametrize(
    ("host", "port", "is_known"),
    [
        ("server", 2222, True),
        ("server", 22, False),
        ("a.example.com", 22, True),
        ("example.com", 22, False),
        ("other", 2222, False),
    ],
)
def test_a_file(file: Path, host: str, port: int, is_known: bool) -> None:
    """Names, ports and patterns are those of OpenSSH; lines that make no sense are passed over."""
    found = trust(file_name=str(file), fingerprints=[], host=host, address="192.0.2.1", port=port)
    assert found.is_known is is_known


def test_a_file_that_is_not_there() -> None:
    """A file that is named has to be there; nothing is trusted for want of it."""
    with pytest.raises(StoreError, match="cannot be read") as caught:
        trust(file_name="/nowhere/known", fingerprints=[], host="h", address="192.0.2.1", port=22)
    assert caught.value.code == "HostKeyUnknown"


def test_no_file_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any file nobody is known; the library is never told not to look."""
    monkeypatch.setattr(known_hosts, "DEFAULT_FILES", ("/nowhere/known",))
    found = trust(file_name=None, fingerprints=[], host="h", address="192.0.2.1", port=22)
    assert found.known is not None
    assert not any(found.known)
    assert not found.is_known


def test_fingerprints_count_alone(file: Path) -> None:
    """With fingerprints the files do not count, with padding or without."""
    found = trust(
        file_name=str(file), fingerprints=["SHA256:abc=", " SHA256:def"], host="server", address="192.0.2.1", port=2222
    )
    assert found.fingerprints == {"SHA256:abc", "SHA256:def"}
    assert not any(found.known)


def test_the_line_that_would_trust_it(file: Path) -> None:
    """The sentence about an unknown key ends with the line for the file, by which the key is known."""
    nobody = trust(file_name=str(file), fingerprints=[], host="new", address="192.0.2.1", port=2022)
    problem = untrusted(KEY, reason="x", host="new", port=2022, file_name=str(file), trusted=nobody)
    assert KEY.get_fingerprint() in problem.message
    with file.open("a") as lines:
        lines.write(problem.hint.partition(f"{file}: ")[2] + "\n")
    assert trust(file_name=str(file), fingerprints=[], host="new", address="192.0.2.1", port=2022).is_known


def test_a_key_with_a_comment_of_any_kind(file: Path) -> None:
    """Nothing but type and key of what the server sent gets into the line."""
    nobody = trust(file_name=str(file), fingerprints=[], host="new", address="192.0.2.1", port=22)
    key = asyncssh.generate_private_key("ssh-ed25519", comment="\x1b[31m nasty").convert_to_public()
    problem = untrusted(key, reason="x", host="new", port=22, file_name=str(file), trusted=nobody)
    assert "nasty" not in str(problem)
    assert str(problem).isprintable()
