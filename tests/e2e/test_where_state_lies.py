"""A state directory that is full, read-only, damaged or somebody else's: the run says so and deletes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.mounts import mounting
from tests.e2e.site import Site, without_privileges
from tests.servers.fault_server import FaultServer

FILES = 100


@pytest.fixture
def waiting(site: Site, fault_server: FaultServer) -> Site:
    """A hundred files and a state directory of its own."""
    site.ship_to(fault_server, state_dir=str(site.place / "state"))
    site.files(FILES)
    return site


def nothing_deleted_unrecorded(site: Site, server: FaultServer, made: int = FILES) -> None:
    """Each file that is gone is an object, and the next run with a good state directory finishes the work."""
    gone = made - len(site.left())
    assert gone <= len(server.objects())
    site.settings["state_dir"] = str(site.place / "good-state")
    finished = site.run()
    assert finished.code == 0, finished.stderr
    assert site.left() == {}
    assert len(server.objects()) == made
    assert server.replacements == []


def test_it_cannot_be_created(waiting: Site, fault_server: FaultServer) -> None:
    """A state directory that cannot be made ends the run before anything is uploaded: exit code 2, and a hint."""
    (waiting.place / "file").touch()
    waiting.settings["state_dir"] = str(waiting.place / "file" / "state")
    finished = waiting.run()
    assert finished.code == 2
    assert "state_dir" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not fault_server.counts()
    assert len(waiting.left()) == FILES


def test_it_is_read_only(waiting: Site, fault_server: FaultServer) -> None:
    """One that may not be written ends the run in the same way, whether it is new or has a ledger already."""
    state = waiting.place / "state"
    state.mkdir()
    state.chmod(0o500)
    assert waiting.run(prefix=without_privileges()).code == 2
    state.chmod(0o700)
    waiting.settings["max_runtime_seconds"] = 0.001
    waiting.run()
    (own,) = state.iterdir()
    fault_server.forget_requests()
    left = len(waiting.left())
    own.chmod(0o500)
    try:
        finished = waiting.run(prefix=without_privileges())
    finally:
        own.chmod(0o700)
    assert finished.code == 2
    assert "cannot be" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not fault_server.counts()
    assert len(waiting.left()) == left


def limit_file_size(size: int) -> None:
    """Let no file that this process writes grow beyond so many bytes: what a full disk looks like, without one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.rotated("size")
@pytest.mark.parametrize("size", [0, 512, 4096, 20_000, 60_000, 100_000])
def test_the_ledger_cannot_grow(waiting: Site, fault_server: FaultServer, size: int) -> None:
    """If the ledger cannot be written, at the start or in the midst, the run says so and deletes nothing unrecorded."""
    finished = waiting.run(preexec_fn=lambda: limit_file_size(size), stderr=subprocess.DEVNULL)
    assert finished.code in (1, 2)
    left = len(waiting.left())
    waiting.settings["state_dir"] = str(waiting.place / "state")
    recorded = len(waiting.history()) if finished.code == 1 else 0
    assert FILES - left <= recorded
    nothing_deleted_unrecorded(waiting, fault_server)


def test_a_full_disk_at_the_start(waiting: Site, fault_server: FaultServer, small_disk: Path) -> None:
    """On a full disk no run begins, or it ends before it removes anything; what to do is said."""
    (small_disk / "filler").write_bytes(b"x" * 256 * 1024)
    waiting.settings["state_dir"] = str(small_disk / "state")
    finished = waiting.run()
    assert finished.code in (1, 2)
    assert "Traceback" not in finished.stderr
    assert "full" in finished.stderr or "space" in finished.stderr
    assert len(waiting.left()) == FILES
    nothing_deleted_unrecorded(waiting, fault_server)


def test_a_disk_that_fills_up(waiting: Site, fault_server: FaultServer, small_disk: Path) -> None:
    """When the disk fills up in the midst, the run ends with 1; what is removed is recorded, and room heals it."""
    waiting.settings["state_dir"] = str(small_disk / "state")
    for location in ("kitchen", "attic", "cellar", "garage"):
        waiting.files(FILES, location=location)
    made = 5 * FILES
    finished = waiting.run()
    assert finished.code == 1, finished.stderr[-2000:]
    assert "Traceback" not in finished.stderr
    (sentence,) = finished.sentences("ERROR")
    assert sentence.startswith("The run was ended, because shipped files cannot be recorded. Files are kept: ")
    assert 0 < len(waiting.left()) < made
    assert made - len(waiting.left()) <= len(waiting.history())
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    finished = waiting.run()
    assert finished.code == 0, finished.stderr[-2000:]
    assert waiting.left() == {}
    assert len(fault_server.objects()) == made
    assert len(waiting.history()) == made
    assert fault_server.replacements == []


@pytest.mark.parametrize("damage", ["garbage", "truncated", "half", "empty", "directory"])
def test_a_damaged_ledger_is_set_aside(waiting: Site, fault_server: FaultServer, damage: str) -> None:
    """A ledger that is damaged costs its history and nothing else: a new one is begun, the files are shipped."""
    waiting.run()
    (ledger,) = (waiting.place / "state").rglob("ledger.sqlite3")
    for other in ledger.parent.glob("ledger.sqlite3-*"):
        other.unlink()
    whole = ledger.read_bytes()
    ledger.unlink()
    if damage == "directory":
        ledger.mkdir()
    else:
        spoilt = {
            "garbage": os.urandom(len(whole)),
            "truncated": whole[: len(whole) // 2],
            "half": whole[:4096] + os.urandom(len(whole) - 4096),
            "empty": b"",
        }
        ledger.write_bytes(spoilt[damage])
    waiting.files(20, location="kitchen")
    finished = waiting.run()
    assert "Traceback" not in finished.stderr
    if damage == "directory":
        assert finished.code in (0, 2)
        return
    assert finished.code == 0, finished.stderr
    assert waiting.left() == {}
    assert len(fault_server.objects()) == FILES + 20
    assert waiting.run("history").code == 0


def test_a_lost_ledger_costs_nothing_else(waiting: Site, fault_server: FaultServer) -> None:
    """Without its ledger a run ships what is left, and finds what was uploaded before to be there."""
    waiting.settings["max_runtime_seconds"] = 0.2
    fault_server.latency_seconds = 0.05
    waiting.run()
    assert waiting.left()
    fault_server.latency_seconds = 0
    del waiting.settings["max_runtime_seconds"]
    shutil.rmtree(waiting.place / "state")
    assert waiting.run().code == 0
    assert waiting.left() == {}
    assert len(fault_server.objects()) == FILES
    assert fault_server.replacements == []


def test_a_ledger_of_a_newer_version(waiting: Site, fault_server: FaultServer) -> None:
    """A ledger that a newer version has brought forward is not touched, and nothing is deleted."""
    import sqlite3

    waiting.run()
    (ledger,) = (waiting.place / "state").rglob("ledger.sqlite3")
    with sqlite3.connect(ledger) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version = {version + 1000}")
    waiting.files(20, location="kitchen")
    fault_server.forget_requests()
    finished = waiting.run()
    assert finished.code == 2, finished.stderr
    assert "newer" in finished.stderr
    assert len(waiting.left()) == 20
    assert not fault_server.counts()


def test_no_home_at_all(waiting: Site) -> None:
    """Without HOME the directory of the user is taken from the system, or the run asks for state_dir."""
    del waiting.settings["state_dir"]
    waiting.environment["HOME"] = ""
    waiting.environment["XDG_STATE_HOME"] = str(waiting.place / "xdg")
    assert waiting.run().code == 0
    assert list((waiting.place / "xdg" / "s3-uploader").iterdir())


def test_systemd_names_the_state_directory(waiting: Site) -> None:
    """STATE_DIRECTORY, which systemd sets, is where the ledger lives."""
    del waiting.settings["state_dir"]
    assert waiting.run(environment={"STATE_DIRECTORY": str(waiting.place / "systemd")}).code == 0
    assert len(list((waiting.place / "systemd").rglob("ledger.sqlite3"))) == 1


def test_a_spool_that_fills_the_disk_of_the_ledger(site: Site, fault_server: FaultServer, small_disk: Path) -> None:
    """Spool and ledger share a disk that is full to the last block: it is emptied all the same, and all is noted."""
    subprocess.run(["mount", "-o", "remount,size=6m", str(small_disk)], check=True)
    spool = small_disk / "spool"
    spool.mkdir()
    site.ship_to(fault_server, base_dir=str(spool), layout="tree", state_dir=str(small_disk / "state"))
    assert site.run().code == 0  # while there is room, some of it is put aside
    made = {}
    with contextlib.suppress(OSError):
        for number in range(1000):
            name, content = f"{number:03d}", os.urandom(50_000)
            (spool / name).write_bytes(content)
            made[name] = content
    for path in spool.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))
    assert len(made) > 50
    finished = site.run()
    assert finished.code == 0, finished.stderr
    assert [path.name for path in spool.iterdir()] == []
    objects = fault_server.objects()
    assert {name: objects[name] for name in made} == made
    history = [json.loads(line) for line in site.run("history", "--json").stdout.splitlines()]
    assert len(history) == len(objects)


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose state directory is mounted by a program that was killed, with a file that waits."""
    site = Site(tmp_path_factory.mktemp("dead"))
    site.ship_to_directory()
    state, real = site.place / "state", site.place / "real"
    site.settings["state_dir"] = str(state)
    real.mkdir()
    site.files(1)
    with mounting() as mounts:
        mounts.fuse(real, state)
        assert site.run().code == 0
        site.files(1)
        (pid,) = subprocess.run(
            ["pgrep", "-f", f"bindfs {real} {state}"], check=True, capture_output=True, text=True
        ).stdout.split()
        os.kill(int(pid), signal.SIGKILL)
        yield site
    site.end()


@pytest.mark.parametrize(
    "command", [(), ("check",), ("status",), ("status", "--plugin"), ("history",), ("audit",), ("run", "--dry-run")]
)
def test_a_state_directory_whose_mount_is_dead(dead: Site, command: tuple[str, ...]) -> None:
    """Nobody is told to delete a file or to become another user where a file system has lost its program."""
    finished = dead.run(*command)
    said = " ".join((finished.stdout + finished.stderr).split())
    assert finished.code == (3 if "--plugin" in command else 2)
    assert "Transport endpoint is not connected" in said
    assert "Mount its file system again, or repair its disk or server" in said
    assert "Delete it" not in said
    assert "Run this as" not in said
    assert len(dead.left()) == 1
