"""A spool whose disk does not answer: somebody who asks how it stands is told that, within seconds."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from s3_uploader import config
from s3_uploader.core.control import Clock
from s3_uploader.core.errors import SpoolError
from s3_uploader.core.findings import Cause, Severity
from s3_uploader.inspection import patience


def test_a_look_that_does_not_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is what is wrong, and nothing else is claimed to be known."""
    forever = threading.Event()
    monkeypatch.setattr(patience, "standing_of", lambda config, **_: forever.wait())
    configuration = config.from_mapping({"base_dir": str(tmp_path), "bucket": "bucket"}, source="test")
    found = patience.standing_in_time(configuration, clock=Clock(), seconds=0.05)
    forever.set()
    (problem,) = found.problems
    assert (problem.cause, problem.severity) == (Cause.UNREADABLE, Severity.ERROR)
    assert f"the disk of {tmp_path} has not answered" in problem.sentence
    assert found.ledger_error is not None


def test_a_look_that_computes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledgers of thousands of shares take longer than the timeout, and no disk is blamed for that."""
    enough = threading.Event()
    monkeypatch.setattr(patience, "standing_of", lambda config, **_: enough.wait() and "known")
    configuration = config.from_mapping({"base_dir": str(tmp_path), "bucket": "bucket"}, source="test")
    asked: list[float] = []

    def computed() -> float:
        asked.append(len(asked) * 0.01)
        if len(asked) == 8:
            enough.set()
        return asked[-1]

    found = patience.standing_in_time(configuration, clock=Clock(), seconds=0.02, computed=computed)
    assert found == "known"  # type: ignore[comparison-overlap]


def test_what_goes_wrong_while_looking_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the look is that of who asked."""

    def fail(config: object, **_: object) -> None:
        raise SpoolError("no")

    monkeypatch.setattr(patience, "standing_of", fail)
    configuration = config.from_mapping({"base_dir": str(tmp_path), "bucket": "bucket"}, source="test")
    with pytest.raises(SpoolError, match="no"):
        patience.standing_in_time(configuration, clock=Clock())
