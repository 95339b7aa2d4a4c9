"""Kept files whose destination keeps its name and is in another place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3_uploader.config.loading import from_mapping
from s3_uploader.config.schema import Config
from s3_uploader.core.events import Event
from s3_uploader.core.model import Fingerprint, Proof
from s3_uploader.ledger import Ledger, ShippedRow
from s3_uploader.run.kept_files import forget_those_of_another_place, were_shipped_elsewhere

FILE = Fingerprint(device=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
"""Of a file that was shipped and kept."""
SHIPPED = ShippedRow(
    path="a", key="a", destination="b", size=3, mtime_ns=4, shipped_at=1.0, proof=Proof.CHECKSUM, kept=FILE
)


def config(**settings: Any) -> Config:
    """A configuration that keeps what was shipped."""
    return from_mapping({"base_dir": "/spool", "bucket": "b", "on_success": "keep", **settings}, source="a test")


@pytest.mark.parametrize(
    ("settings", "environ"),
    [
        ({"endpoint_url": "https://other.example"}, {}),
        ({}, {"AWS_ENDPOINT_URL": "https://other.example"}),
        ({"key_prefix": "other/"}, {}),
        ({"locations": {"kitchen": {"key_prefix": "other/"}}}, {}),
    ],
)
def test_another_place(tmp_path: Path, settings: dict[str, Any], environ: dict[str, str]) -> None:
    """The bucket has the same name, and nobody has shipped the file there."""
    with Ledger.open(str(tmp_path / "ledger.sqlite3")) as ledger:
        told: list[Event] = []

        def begin(config: Config, environ: dict[str, str]) -> bool:
            """Begin a run; returns whether the file counts as shipped."""
            elsewhere = were_shipped_elsewhere(config, ledger, environ=environ, now=1.0)
            forget_those_of_another_place(config, ledger, environ=environ, now=1.0, emit=told.append)
            remembered = ledger.remembers("a", FILE, destination="b")
            assert elsewhere is not remembered
            return remembered

        ledger.commit_batch(shipped=[SHIPPED])
        assert begin(config(), {}), "it is not known where a former version shipped it"
        assert begin(config(), {})
        assert told == []
        assert not begin(config(**settings), environ)
        assert len(told) == 1
        ledger.commit_batch(shipped=[SHIPPED])
        assert begin(config(**settings), environ)
        assert len(told) == 1


@pytest.mark.parametrize("kind", ["ftp", "sftp"])
def test_another_user_of_a_file_server(tmp_path: Path, kind: str) -> None:
    """Under the same path many servers show each user a directory of their own."""

    def keeping(user: str) -> Config:
        destination = {"type": kind, "host": "h", "path": "/up", "user": user}
        return from_mapping({"base_dir": "/spool", "destination": destination, "on_success": "keep"}, source="a test")

    with Ledger.open(str(tmp_path / "ledger.sqlite3")) as ledger:
        forget_those_of_another_place(keeping("ann"), ledger, environ={}, now=1.0, emit=lambda event: None)
        ledger.commit_batch(shipped=[msgspec.structs.replace(SHIPPED, destination="h/up")])
        assert not were_shipped_elsewhere(keeping("ann"), ledger, environ={}, now=1.0)
        assert were_shipped_elsewhere(keeping("bob"), ledger, environ={}, now=1.0)
        forget_those_of_another_place(keeping("bob"), ledger, environ={}, now=1.0, emit=lambda event: None)
        assert not ledger.remembers("a", FILE, destination="h/up")


def test_another_destination_is_left_alone(tmp_path: Path) -> None:
    """What was shipped to a bucket is known when the spool goes to that bucket again."""
    with Ledger.open(str(tmp_path / "ledger.sqlite3")) as ledger:
        ledger.commit_batch(shipped=[SHIPPED])
        for settings in ({}, {"bucket": "c"}, {"bucket": "c", "key_prefix": "x/"}, {}):
            forget_those_of_another_place(config(**settings), ledger, environ={}, now=1.0, emit=lambda event: None)
        assert ledger.remembers("a", FILE, destination="b")
