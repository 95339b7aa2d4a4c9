"""The command ``check``: what it finds beside spool, state directory and destination."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.cli.arguments import CheckOptions
from s3_uploader.cli.check import check


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    """A configuration that compresses the files of one location."""
    for name in ("spool", "archive"):
        (tmp_path / name).mkdir()
    raw = {
        "base_dir": str(tmp_path / "spool"),
        "destination": {"type": "local", "path": str(tmp_path / "archive")},
        "compress": "gzip",
        "locations": {"a": {"compress": "zstd"}},
    }
    (tmp_path / "config.json").write_text(json.dumps(raw))
    return str(tmp_path / "config.json")


def test_a_library_that_is_missing_is_found(
    config_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever is told that all is ready need not install anything for the first run."""
    real = importlib.import_module

    def without_zstd(name: str, *arguments: Any) -> Any:
        if name.endswith("zstd"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", without_zstd)
    assert check(config_file, CheckOptions()) == 2
    told = capsys.readouterr().out
    assert "ok       compress: files can be compressed with gzip." in told
    assert "ERROR    compress: Files cannot be compressed with zstd" in told
    assert "pip install" in told
    assert "Not ready" in told


def test_a_library_that_is_there_is_found_too(config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With everything installed the check ends well, and says what it looked at."""
    assert check(config_file, CheckOptions()) == 0
    assert "ok       compress: files can be compressed with zstd." in capsys.readouterr().out


def test_a_share_without_its_number(
    config_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The number that a scheduler gives is missing on the machine where its job is written; all else is looked at."""
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)
    assert check(config_file, CheckOptions(settings=("share=/4",))) == 2
    told = " ".join(capsys.readouterr().out.split())
    assert "ERROR share: The share /4 does not say which one it is." in told
    assert "To check as one of these runs would: --set share=0/4." in told
    assert "ok spool:" in told
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert check(config_file, CheckOptions(settings=("share=/4",))) == 0
    assert "share-1-of-4 can be written" in " ".join(capsys.readouterr().out.split())


def test_a_damaged_ledger_is_left_to_the_next_run(
    config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check says that the next run sets it aside, and does not do so itself, without a word."""
    settings = (f"state_dir={tmp_path / 'state'}",)
    assert check(config_file, CheckOptions(settings=settings)) == 0
    (directory,) = (tmp_path / "state").iterdir()
    (directory / "ledger.sqlite3").write_bytes(b"no ledger" * 500)
    before = sorted(directory.iterdir())
    capsys.readouterr()
    assert check(config_file, CheckOptions(settings=settings)) == 0
    assert "The next run sets it aside and starts a new one." in " ".join(capsys.readouterr().out.split())
    assert sorted(directory.iterdir()) == before
