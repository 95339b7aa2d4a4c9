"""What ``check`` finds out about this machine by doing what a run does."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.ledger import LEDGER_NAME, Ledger
from s3_uploader.ledger.state_directory import own_state_directory
from s3_uploader.run import needs
from s3_uploader.run.needs import check_key_prefixes, check_needs, check_telling
from s3_uploader.run.place import open_place

OK, NOTE, WARNING, ERROR = Severity.OK, Severity.NOTE, Severity.WARNING, Severity.ERROR


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A spool, its state directory, a destination, and a file where a directory is needed."""
    for name in ("spool", "state", "archive"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    return tmp_path


def settings_of(site: Path) -> dict[str, Any]:
    """The shortest configuration."""
    return {
        "base_dir": str(site / "spool"),
        "state_dir": str(site / "state"),
        "layout": "tree",
        "destination": {"type": "local", "path": str(site / "archive")},
    }


def findings(site: Path, **settings: Any) -> dict[str, list[Finding]]:
    """What is found, by subject; the spool and the rest of the site must be as they were."""
    loaded = config.from_mapping(settings_of(site) | settings, source="test")
    before = sorted(site.rglob("*"))
    with open_place(loaded) as place:
        os.makedirs(place.state_dir, exist_ok=True)
        found = [*check_needs(place), *check_telling(loaded)]
        os.rmdir(place.state_dir)
    assert sorted(site.rglob("*")) == before
    by_subject: dict[str, list[Finding]] = {}
    for finding in found:
        by_subject.setdefault(finding.subject, []).append(finding)
    return by_subject


def test_what_is_right_is_said(site: Path) -> None:
    """Each thing that a run does on this machine is tried, and nothing is left behind."""
    found = findings(
        site,
        claim_dir=str(site / "work" / "claims"),
        on_success={"move_to": str(site / "done" / "deep")},
        on_failure={"move_to": str(site / "failed")},
        metrics_file=str(site / "state" / "s3.prom"),
        ping_url="https://hc.example.com/secret",
    )
    assert set(found) == {"ledger", "claim_dir", "on_success", "on_failure", "metrics_file", "ping_url"}
    assert {each.severity for several in found.values() for each in several} == {OK}
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("claim_dir", "file/claims"),
        ("on_success", {"move_to": "file/done"}),
        ("on_failure", {"move_to": "file/failed"}),
        ("on_success", {"move_to": "file"}),
        ("metrics_file", "nowhere/s3.prom"),
        ("metrics_file", "file/s3.prom"),
        ("metrics_file", "archive"),
    ],
)
def test_what_no_run_could_use_is_an_error(site: Path, key: str, value: Any) -> None:
    """A directory that cannot be made, or is a file, is found out before the first file is shipped."""
    absolute = {"move_to": str(site / value["move_to"])} if isinstance(value, dict) else str(site / value)
    (finding,) = findings(site, **{key: absolute})[key]
    assert finding.severity is ERROR
    assert str(site) in finding.fact
    assert finding.meaning


def test_another_file_system(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename that the kernel refuses ends the claims, whatever the device numbers say (bind mounts)."""
    real = os.rename

    def rename(source: Any, target: Any, **where: Any) -> None:
        if "s3-uploader-check" in str(source):
            raise OSError(18, "Invalid cross-device link")
        real(source, target, **where)

    monkeypatch.setattr(os, "rename", rename)
    (finding,) = findings(site, claim_dir=str(site / "claims"))["claim_dir"]
    assert finding.severity is ERROR
    assert "Invalid cross-device link" in finding.fact


def test_a_disk_that_is_mounted_in_the_spool_is_noted(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another mount no file can be renamed into claim_dir."""
    monkeypatch.setattr(needs, "mounted_below", lambda path: [f"{path}/disk", f"{path}/other"])
    usable, nested = findings(site, claim_dir=str(site / "claims"))["claim_dir"]
    assert (usable.severity, nested.severity) == (OK, WARNING)
    assert nested.fact == (
        f"no file below {site}/spool/disk can be claimed, because that is a mount of its own (1 other mount too)."
    )


def test_what_another_program_left_in_claim_dir_is_noted(site: Path) -> None:
    """Files there that are no claims are shipped by nobody, so the check names them, a few of many."""
    (site / "claims").mkdir()
    for number in range(9):
        (site / "claims" / f"left-{number}").touch()
    usable, strange = findings(site, claim_dir=str(site / "claims"))["claim_dir"]
    assert usable.severity is OK
    assert strange.severity is WARNING
    assert strange.fact.startswith(f"{site}/claims contains ")
    assert strange.fact.count("left-") == 5
    assert "and others" in strange.fact
    assert "move them back to their spool" in strange.meaning


def test_a_move_that_copies_is_noted(site: Path) -> None:
    """A directory of another file system takes files, by copying them, and that is said."""
    elsewhere = Path("/dev/shm")
    if not os.access(elsewhere, os.W_OK) or elsewhere.stat().st_dev == site.stat().st_dev:
        pytest.skip("there is no second file system here")
    target = elsewhere / f"s3-uploader-test-{os.getpid()}"
    found = findings(site, on_success={"move_to": str(target)})["on_success"]
    assert [finding.severity for finding in found] == [OK, NOTE]
    assert not target.exists()


def test_a_ledger_of_somebody_else(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that another user made, by trying the program as root for one, is an error."""
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith(LEDGER_NAME))
    monkeypatch.setattr(os.path, "lexists", lambda path: True)
    (finding,) = findings(site)["ledger"]
    assert finding.severity is ERROR


@pytest.mark.parametrize("kind", ["directory", "pipe", "dangling", "newer", "damaged", "good"])
def test_a_ledger_that_no_run_can_write(site: Path, kind: str) -> None:
    """What ends each run is an error; a damaged ledger is set aside by the next run, which is a warning."""
    state = Path(own_state_directory(config.from_mapping(settings_of(site), source="test")))
    state.mkdir()
    ledger = state / LEDGER_NAME
    if kind == "directory":
        ledger.mkdir()
    elif kind == "pipe":
        os.mkfifo(ledger)
    elif kind == "dangling":
        ledger.symlink_to("nowhere")
    elif kind == "damaged":
        ledger.write_bytes(b"no database" * 1000)
    else:
        Ledger.open(str(ledger)).close()
        if kind == "newer":
            connection = sqlite3.connect(ledger)
            connection.execute("PRAGMA user_version = 9999")
            connection.close()
    with open_place(config.from_mapping(settings_of(site), source="test")) as place:
        (finding,) = [found for found in check_needs(place) if found.subject == "ledger"]
    assert finding.severity is {"damaged": WARNING, "good": OK}.get(kind, ERROR), finding
    if kind in ("directory", "pipe"):
        assert "it is not a regular file" in finding.fact


@pytest.mark.parametrize("prefix", ["../archive/", "/archive/", "a//b/", f"{'a' * 256}/", "a/./{location}/"])
@pytest.mark.parametrize(
    "destination",
    [{"type": "local", "path": "/archive"}, {"type": "ftp", "host": "h"}, {"type": "sftp", "host": "h", "user": "u"}],
)
def test_a_prefix_that_is_no_path(site: Path, prefix: str, destination: dict[str, Any]) -> None:
    """Where keys are paths, a prefix with which every file would be refused is an error. S3 is asked itself."""
    given = {**settings_of(site), "destination": destination}
    for settings in ({"key_prefix": prefix}, {"locations": {"attic": {"key_prefix": prefix}}}):
        (found,) = check_key_prefixes(config.from_mapping({**given, **settings}, source="test"))
        assert (found.severity, found.subject) == (ERROR, "key_prefix")
        assert "NAME" in found.fact
    assert not check_key_prefixes(config.from_mapping({**given, "key_prefix": "archive/{location}-"}, source="test"))
    del given["destination"]
    assert not check_key_prefixes(config.from_mapping({**given, "bucket": "b", "key_prefix": prefix}, source="test"))


def test_metrics_that_nobody_reads(site: Path) -> None:
    """A metrics file that the collector passes over is a warning."""
    (finding,) = findings(site, metrics_file=str(site / "state" / "metrics.txt"))["metrics_file"]
    assert finding.severity is WARNING
