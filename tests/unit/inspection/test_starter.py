"""Which unit starts the runs of a configuration: read from unit files, and asked of systemd, which is played here."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.health.observations import Starter
from s3_uploader.inspection.starter import Starters


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What systemd is asked. Of two timers ``idle`` is stopped, and the other one elapses."""
    commands: list[list[str]] = []

    def answer(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        state = "inactive" if "idle" in command[-1] else "active"
        text = f"LoadState=loaded\nActiveState={state}\nNextElapseUSecRealtime=Tue 2023-11-14 22:13:20 UTC\n"
        return subprocess.CompletedProcess(command, 0, text.encode(), b"")

    monkeypatch.setattr(subprocess, "run", answer)
    return commands


def starters(place: Path, **units: str) -> Starters:
    """With these services, by name, each with what it starts."""
    for name, command in units.items():
        (place / f"{name}.service").write_text(f"[Service]\nExecStart=\nExecStart={command}\n")
    return Starters(environ={"SYSTEMD_UNIT_PATH": str(place), "HOME": "/nonexistent"})


def test_the_configuration_or_its_directory(tmp_path: Path, asked: list[list[str]]) -> None:
    """A service is known by the file that it runs, or the directory of it, however that is written in a unit."""
    found = starters(
        tmp_path,
        one=f'/usr/bin/s3-uploader-cli "{tmp_path}/a 100%%.json"',
        many=f"/usr/bin/s3-uploader-cli run --quiet {tmp_path}/conf.d",
        watching=f"/usr/bin/s3-uploader-cli watch {tmp_path}/w.json",
        other="/usr/bin/another /etc/x.json",
    )
    assert found.of(f"{tmp_path}/a 100%.json") == Starter(unit="one.timer", is_active=True, next_at=1.7e9)
    assert found.of(f"{tmp_path}/conf.d/x.json") == Starter(unit="many.timer", is_active=True, next_at=1.7e9)
    watch = found.of(f"{tmp_path}/w.json")
    assert watch is not None
    assert watch.unit == "watching.service"
    assert found.of("/etc/x.json") is None
    assert found.of(f"{tmp_path}/conf.d/y.json") is not None
    assert len(asked) == 3


def test_an_active_one_comes_before_one_that_is_stopped(tmp_path: Path, asked: list[list[str]]) -> None:
    """A unit that was replaced by another one is no reason to worry; one alone that is stopped is."""
    command = f"/usr/bin/s3-uploader-cli {tmp_path}/a.json"
    both = starters(tmp_path, an_idle_one=command, working=command).of(f"{tmp_path}/a.json")
    assert both is not None
    assert both.unit == "working.timer"
    (tmp_path / "working.service").unlink()
    alone = starters(tmp_path).of(f"{tmp_path}/a.json")
    assert alone == Starter(unit="an_idle_one.timer", is_active=False)


def test_instances_of_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the Debian package's templates, those instances count that run or would at the next start of the machine."""
    states = {
        "s3-uploader@kitchen.timer": "ActiveState=active\nNextElapseUSecRealtime=Tue 2023-11-14 22:13:20 UTC\n",
        "s3-uploader-watch@my-den.service": "ActiveState=active\nUnitFileState=enabled-runtime\n",
        "s3-uploader@attic.timer": "ActiveState=inactive\nUnitFileState=enabled\n",
    }

    def answer(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        state = states.get(command[-1], "ActiveState=inactive\nUnitFileState=disabled\n")
        return subprocess.CompletedProcess(command, 0, f"LoadState=loaded\n{state}".encode(), b"")

    monkeypatch.setattr(subprocess, "run", answer)
    templates = {
        "s3-uploader@": f"/usr/bin/s3-uploader-cli run {tmp_path}/%i.json",
        "s3-uploader-watch@": f"/usr/bin/s3-uploader-cli watch {tmp_path}/%i.json",
    }
    found = {name: starters(tmp_path, **templates).of(f"{tmp_path}/{name}.json") for name in ("kitchen", "my-den")}
    assert found == {
        "kitchen": Starter(unit="s3-uploader@kitchen.timer", is_active=True, next_at=1.7e9),
        "my-den": Starter(unit="s3-uploader-watch@my-den.service", is_active=True),
    }
    stopped = starters(tmp_path, **templates).of(f"{tmp_path}/attic.json")
    assert stopped == Starter(unit="s3-uploader@attic.timer", is_active=False)
    for name in ("cellar.json", "kitchen.jsonc", "x/kitchen.json", "a b.json"):
        assert starters(tmp_path, **templates).of(f"{tmp_path}/{name}") is None


def test_an_instance_with_a_file_of_its_own(tmp_path: Path, asked: list[list[str]]) -> None:
    """In a unit file for one instance its name stands for itself."""
    command = f"/usr/bin/s3-uploader-cli run {tmp_path}/%i.json"
    found = starters(tmp_path, **{"s3-uploader@kitchen": command}).of(f"{tmp_path}/kitchen.json")
    assert found == Starter(unit="s3-uploader@kitchen.timer", is_active=True, next_at=1.7e9)
    assert starters(tmp_path).of(f"{tmp_path}/den.json") is None


def test_a_service_that_was_edited(tmp_path: Path, asked: list[list[str]]) -> None:
    """What `systemctl edit` puts beside a unit file counts; of two files of a name that of the first place."""
    starters(tmp_path, edited=f"/usr/bin/s3-uploader-cli {tmp_path}/old.json")
    own, vendor = tmp_path / "edited.service.d", tmp_path / "usr" / "edited.service.d"
    for directory, name, config in ((own, "20-b", "new"), (own, "10-a", "older"), (vendor, "20-b", "vendor")):
        directory.mkdir(parents=True, exist_ok=True)
        command = f"/usr/bin/s3-uploader-cli {tmp_path}/{config}.json"
        (directory / f"{name}.conf").write_text(f"[Service]\nExecStart=\nExecStart={command}\n")
    found = Starters(environ={"SYSTEMD_UNIT_PATH": f"{tmp_path}:{tmp_path}/usr", "HOME": "/nonexistent"})
    assert found.of(f"{tmp_path}/new.json") == Starter(unit="edited.timer", is_active=True, next_at=1.7e9)
    assert not any(found.of(f"{tmp_path}/{config}.json") for config in ("old", "older", "vendor"))


@pytest.mark.parametrize("trouble", [FileNotFoundError(), subprocess.TimeoutExpired("systemctl", 2)])
def test_without_an_answer_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """In a container there are unit files at times, and nobody to ask."""

    def fail(command: list[str], **options: Any) -> None:
        raise trouble

    monkeypatch.setattr(subprocess, "run", fail)
    assert starters(tmp_path, one=f"/usr/bin/s3-uploader-cli {tmp_path}/a.json").of(f"{tmp_path}/a.json") is None
