"""How many processors may be used, and whether a process is bound by its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3_uploader.core import processors


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups, in the second of which this process is."""
    monkeypatch.setattr(processors, "_CGROUPS", str(tmp_path))
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n0::/above/own\n")
    monkeypatch.setattr(processors, "_OWN_GROUP", str(own))
    (tmp_path / "above/own").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("affinity", "above", "own", "expected"),
    [
        (8, None, None, 8),
        (8, "max 100000", "max 100000", 8),
        (8, "max 100000", "250000 100000", 2),
        (8, "300000 100000", "max 100000", 3),
        (2, "300000 100000", "nonsense", 2),
        (8, "max 100000", "50000 100000", 1),
    ],
)
def test_what_is_allowed(
    groups: Path, monkeypatch: pytest.MonkeyPatch, affinity: int, above: str | None, own: str | None, expected: int
) -> None:
    """The affinity counts, and the quota of every control group on the way up."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))
    for place, quota in (("above", above), ("above/own", own)):
        if quota is not None:
            (groups / place / "cpu.max").write_text(f"{quota}\n")
    assert processors.allowed() == expected


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(
    ("above", "own", "expected"), [(-1, -1, 8), (-1, 250_000, 2), (300_000, 400_000, 3), (-1, 20_000, 1)]
)
def test_control_groups_of_version_1(
    groups: Path, monkeypatch: pytest.MonkeyPatch, controllers: str, above: int, own: int, expected: int
) -> None:
    """The older kind, with which many clusters still limit their containers, counts as well."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (groups / "cgroup").write_text(f"5:cpuset:/x\n4:{controllers}:/above/own\n1:name=systemd:/x\n0::/\n")
    for place, quota in (("above", above), ("above/own", own)):
        directory = groups / controllers / place
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (directory / "cpu.cfs_period_us").write_text("100000\n")
    assert processors.allowed() == expected


def test_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel tells nothing of them, the affinity alone counts."""
    monkeypatch.setattr(processors, "_OWN_GROUP", str(tmp_path / "missing"))
    assert processors.allowed() == len(os.sched_getaffinity(0))


def test_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time on a processor and time spent waiting for one count, time spent waiting for others does not."""
    moments, busy = iter([0.0, 10.0, 20.0]), iter([5.0, 13.0, 15.0])
    monkeypatch.setattr(processors.time, "monotonic", lambda: next(moments))  # type: ignore[attr-defined]
    monkeypatch.setattr(processors, "_busy_seconds", lambda: next(busy))
    effort = processors.Effort()
    assert effort.share() == 0.8
    assert effort.share() == 0.5


def test_a_process_that_works() -> None:
    """The kernel's count grows while something is done."""
    before = processors._busy_seconds()
    sum(number * number for number in range(300_000))
    assert processors._busy_seconds() > before
