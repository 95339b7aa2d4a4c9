"""The place of a run: no file of this program is shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.core.errors import SpoolError
from s3_uploader.ledger.state_directory import spool_name
from s3_uploader.run.place import open_place
from tests.fakes import write


def opened(tmp_path: Path, **settings: Any) -> None:
    """Open the place of a configuration."""
    raw = {"base_dir": str(tmp_path / "spool"), "layout": "tree", "state_dir": str(tmp_path / "state"), **settings}
    (tmp_path / "spool").mkdir(exist_ok=True)
    with open_place(config.from_mapping(raw if "destination" in raw else {**raw, "bucket": "b"}, source="test")):
        pass


@pytest.mark.parametrize("path", ["spool/x.prom", "spool/deep/er/x.prom", "link/x.prom"])
def test_a_metrics_file_in_the_spool_is_refused(tmp_path: Path, path: str) -> None:
    """It would be shipped after each run, and the next run would write it anew."""
    (tmp_path / "link").symlink_to(tmp_path / "spool")
    with pytest.raises(SpoolError, match=r"metrics_file .* would be shipped like any other file"):
        opened(tmp_path, metrics_file=str(tmp_path / path))


def test_a_password_in_the_spool_is_refused(tmp_path: Path) -> None:
    """It would be sent to the server that it is for, and be gone here."""
    password = str(write(tmp_path / "spool" / "password"))
    ftp = {"type": "ftp", "host": "h", "password_file": password}
    with pytest.raises(SpoolError, match=r"password_file .* would be shipped"):
        opened(tmp_path, destination=ftp)


@pytest.mark.parametrize(
    "settings",
    [{"layout": "dated"}, {"exclude": ["*.prom"]}, {"include": ["*.dat"]}],
    ids=["layout", "exclude", "include"],
)
def test_a_file_that_no_run_ships_may_lie_there(tmp_path: Path, settings: dict[str, Any]) -> None:
    """What the layout does not recognise, or the globs keep out, is left alone."""
    opened(tmp_path, metrics_file=str(tmp_path / "spool" / "x.prom"), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        lambda path: {"destination": {"type": "local", "path": path}},
        lambda path: {"claim_dir": path},
        lambda path: {"on_success": {"move_to": path}},
        lambda path: {"on_failure": {"move_to": path}},
    ],
    ids=["destination", "claim_dir", "on_success", "on_failure"],
)
def test_files_beside_the_ledger_are_refused(tmp_path: Path, settings: Callable[[str], dict[str, Any]]) -> None:
    """One of them may be called like the ledger."""
    own = tmp_path / "state" / spool_name(str(tmp_path / "spool"))
    for path in (own, own / "below"):
        with pytest.raises(SpoolError, match=r"lies in the state directory .*, which holds the ledger"):
            opened(tmp_path, **settings(str(path)))
    opened(tmp_path, **settings(str(tmp_path / "state" / "beside")))


@pytest.mark.parametrize("target", ["claims", "claims/archive"])
def test_an_archive_in_the_claim_directory_is_refused(tmp_path: Path, target: str) -> None:
    """Its files would be taken for those that another program has left there."""
    (tmp_path / "spool").mkdir()
    with pytest.raises(SpoolError, match="lies in claim_dir"):
        opened(
            tmp_path,
            claim_dir=str(tmp_path / "claims"),
            destination={"type": "local", "path": str(tmp_path / target)},
        )
    opened(
        tmp_path,
        claim_dir=str(tmp_path / "claims"),
        destination={"type": "local", "path": str(tmp_path / "claims-archive")},
    )
