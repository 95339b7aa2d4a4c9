"""The process that holds a lock file at an FTP server."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from s3_uploader.core import procfs
from s3_uploader.stores.file_servers import holder as module
from s3_uploader.stores.file_servers.holder import Holder, LockNotes


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an identifier."""
    monkeypatch.setattr(module, "machine_id", lambda: "a" * 32)


def test_line() -> None:
    """A holder comes back from its line."""
    here = Holder.current()
    assert Holder.of_line(here.line("nonce")) == here


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Lock file",
        "s3-uploader a b c d x f g",
        "s3-uploader a b c d \u00b2 f g",
        "s3-uploader a b c d 99999999999 f g",
    ],
)
def test_other_lines(line: str) -> None:
    """A line of anybody else is that of no holder."""
    assert Holder.of_line(line) is None


def test_who_is_gone() -> None:
    """A process has ended if it is missing on this machine, or the machine was rebooted; of others that is unknown."""
    here = Holder.current()
    changed = msgspec.structs.replace
    for is_noted in (False, True):
        assert not here.is_gone(is_noted=is_noted)
        assert changed(here, started="1").is_gone(is_noted=is_noted)
        assert not changed(here, boot="earlier", machine="b" * 32).is_gone(is_noted=is_noted)
        assert not changed(here, boot="earlier", host="other").is_gone(is_noted=is_noted)
        assert not changed(here, boot="earlier", machine="-").is_gone(is_noted=is_noted)
        assert not changed(here, started="1", pids="pid:[1]").is_gone(is_noted=is_noted)
        assert not changed(here, started="-").is_gone(is_noted=is_noted)


def test_a_reboot_and_a_clone() -> None:
    """What was noted before a reboot has ended; what was not may be at work on a clone of this machine."""
    earlier = msgspec.structs.replace(Holder.current(), boot="earlier")
    assert earlier.is_of_another_boot()
    assert earlier.is_gone(is_noted=True)
    assert not earlier.is_gone(is_noted=False)
    assert not earlier.is_alive()
    assert not Holder.current().is_of_another_boot()


def test_another_container() -> None:
    """Of one that was started again the lock is known if it was noted, and nobody else can have noted it."""
    before = msgspec.structs.replace(Holder.current(), pids="pid:[1]")
    assert before.is_gone(is_noted=True, is_alone=True)
    assert not before.is_gone(is_noted=True)
    assert not before.is_gone(is_noted=False, is_alone=True)
    assert not msgspec.structs.replace(before, host="other").is_gone(is_noted=True, is_alone=True)
    assert not Holder.current().is_gone(is_noted=True, is_alone=True)


def test_who_is_alive() -> None:
    """A process is known to run only where it can be seen."""
    here = Holder.current()
    changed = msgspec.structs.replace
    assert here.is_alive()
    assert not changed(here, started="1").is_alive()
    assert not changed(here, pids="pid:[1]").is_alive()
    assert not changed(here, machine="b" * 32).is_alive()
    assert not changed(here, machine="-").is_alive()


def test_notes(tmp_path: Path) -> None:
    """Locks are noted until they are forgotten; of very many the last ones; without a directory none."""
    notes = LockNotes(str(tmp_path / "notes"))
    notes.add("a lock", "its intent")
    assert notes.has("a lock")
    assert not notes.has("a")
    assert notes.has("its intent")
    notes.forget("another")
    assert notes.has("a lock")
    notes.forget("its intent")
    assert list(tmp_path.iterdir()) == []
    for number in range(100):
        notes.add(f"lock {number}", f"intent {number}")
    assert not notes.has("lock 0")
    assert notes.has("lock 99")
    for nowhere in (LockNotes(None), LockNotes(str(tmp_path / "none" / "notes"))):
        nowhere.add("a lock", "its intent")
        nowhere.forget("a lock")
        assert not nowhere.has("a lock")


def test_who_is_this_process() -> None:
    """Only where everything about a process is known, it can be known as this one."""
    here = Holder.current()
    changed = msgspec.structs.replace
    assert here.is_this_process()
    assert not changed(here, pid=here.pid + 1).is_this_process()
    assert not changed(here, started="1").is_this_process()


def test_a_machine_without_an_identifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is not rebooted its processes are known by the boot, as in a container without machine-id."""
    monkeypatch.setattr(module, "machine_id", lambda: "")
    here = Holder.current()
    changed = msgspec.structs.replace
    assert here.is_this_process()
    assert here.is_alive()
    assert changed(here, started="1").is_gone(is_noted=False)
    assert not changed(here, boot="earlier").is_gone(is_noted=True)
    monkeypatch.setattr(procfs, "boot_id", lambda: "")
    assert not Holder.current().is_this_process()
    assert not changed(Holder.current(), started="1").is_gone(is_noted=True)
