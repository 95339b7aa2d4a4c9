"""What a run is composed of: how many files and connections it has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.config import Config, S3Destination, from_mapping
from s3_uploader.config.destinations import FtpDestination, SftpDestination
from s3_uploader.run import assembly
from s3_uploader.run.context import RunContext
from s3_uploader.run.file_servers import server_store
from s3_uploader.run.run import run_once
from tests.fakes import FakeStore


@pytest.mark.parametrize("descriptors", [0, 1, 6, 100, 200, 1000, 65536])
@pytest.mark.parametrize("connections", [1, 2, 256])
@pytest.mark.parametrize("of_upload", [1, 2])
def test_files_and_connections_fit_together(descriptors: int, connections: int, of_upload: int) -> None:
    """However few there are, something can go on; however many, no more connections than wanted."""
    files, for_connections = assembly.shared_descriptors(descriptors, connections=connections, of_upload=of_upload)
    assert 1 <= for_connections <= connections
    assert files >= 2
    assert files + of_upload * for_connections <= max(descriptors, 2 + of_upload)


def test_many_descriptors_limit_nothing() -> None:
    """Where there are enough a run has the connections that it is configured for."""
    assert assembly.shared_descriptors(1000, connections=256)[1] == 256


def test_descriptors_are_counted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The store has a connection for each upload in flight, although fewer descriptors are left when it is made."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "ready").write_text("content")
    os.utime(tmp_path / "spool" / "ready", (0, 0))
    mapping = {"base_dir": "spool", "bucket": "b", "layout": "tree", "state_dir": "state"}
    paths = {name: str(tmp_path / mapping[name]) for name in ("base_dir", "state_dir")}
    settings = from_mapping({**mapping, **paths}, source="x")
    counts = [30, 12, 9]
    monkeypatch.setattr(assembly, "free_descriptors", lambda: counts.pop(0))
    made: list[int] = []

    def make_store(config: Config, **_: Any) -> FakeStore:
        bucket = config.destination
        assert isinstance(bucket, S3Destination)
        store = assembly.s3_store(config, bucket, notice=lambda level, sentence: None, memory=None)
        made.append(store.maximum_concurrency)
        return FakeStore()

    report = run_once(settings, RunContext(emit=lambda event: None, make_store=make_store))
    assert report.shipped == 1
    assert (made, counts) == ([assembly.shared_descriptors(30, connections=256)[1]], [12, 9])


@pytest.mark.parametrize("path", ["", "/", ".", "./in", "in/", "/srv/in"])
@pytest.mark.parametrize("port", [None, 2121])
@pytest.mark.parametrize("kind", ["ftp", "sftp"])
def test_a_file_server_has_one_name(kind: str, port: int | None, path: str) -> None:
    """The ledger looks up by the destination's name what a store of that name has shipped and kept."""
    where = {"type": kind, "host": "files.example", "user": "u", "path": path} | ({"port": port} if port else {})
    where |= {"password": "secret"} if kind == "ftp" else {}
    settings = from_mapping({"base_dir": "/spool", "destination": where}, source="x")
    destination = settings.destination
    assert isinstance(destination, (FtpDestination, SftpDestination))
    store = server_store(settings, destination, notice=lambda level, sentence: None, memory=None)
    assert store.name == destination.name
    assert destination.name.startswith("files.example:2121" if port else "files.example")
