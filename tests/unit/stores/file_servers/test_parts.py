"""The names under which bytes lie at an FTP server until they are proven."""

from __future__ import annotations

from typing import cast

import pytest

from s3_uploader.core import procfs
from s3_uploader.stores.file_servers import parts as module
from s3_uploader.stores.file_servers.base import FileSession, Lost
from s3_uploader.stores.file_servers.names import is_plain, scratch_directory
from s3_uploader.stores.file_servers.parts import INTENT, NAMES, PartNames


def test_new_names() -> None:
    """Each name is new, plain but for the dot, and short enough for servers that cut names."""
    parts = PartNames("/spool")
    names = {parts.new(hidden=False) for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) <= 64 and is_plain(name) for name in names)
    assert parts.new(hidden=True).startswith(".")


def test_of_a_living_run() -> None:
    """What a run that lives has under way is not left over, be it this one or another of the same spool."""
    name = PartNames("/spool").new(hidden=True)
    assert not PartNames("/spool").is_left_over(name)
    # Nor by the clock of a server that has none.
    assert not PartNames("/spool").is_left_over(name, modified=1.0)


def test_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process knows its own names for one spool, and those of no other process or spool."""
    parts = PartNames("/spool")
    assert parts.is_of_this_process(parts.new(hidden=True, kind=INTENT))
    assert parts.is_of_this_process(PartNames("/spool").new(hidden=False))
    assert not parts.is_of_this_process(PartNames("/other").new(hidden=False))
    monkeypatch.setattr(procfs, "start_ticks", lambda _: 12345)
    assert not parts.is_of_this_process(PartNames("/spool").new(hidden=False))


@pytest.mark.parametrize("kind", [module.PART, NAMES, INTENT])
def test_of_a_dead_run(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What a dead run left is known by its process, also when its number has come round again."""
    with monkeypatch.context() as patch:
        patch.setattr(procfs, "start_ticks", lambda _: 12345)
        name = PartNames("/spool").new(hidden=True, kind=kind)
        others = PartNames("/other").new(hidden=True, kind=kind)
    assert PartNames("/spool").is_left_over(name)
    assert not PartNames("/spool").is_left_over(others)


def test_after_the_machine_was_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process outlives its machine, if it is known to be the same machine."""
    with monkeypatch.context() as patch:
        patch.setattr(procfs, "boot_id", lambda: "earlier")
        patch.setattr(module, "machine_id", lambda: "f" * 32)
        name = PartNames("/spool").new(hidden=True)
    monkeypatch.setattr(module, "machine_id", lambda: "f" * 32)
    assert PartNames("/spool").is_left_over(name)
    assert PartNames("/spool").is_of_another_boot(name)
    assert not PartNames("/other").is_of_another_boot(name)
    assert PartNames("/spool").is_left_over(name, modified=procfs.boot_time() - 1)
    # A clone of this machine is writing it.
    assert not PartNames("/spool").is_left_over(name, modified=procfs.boot_time() + 120)
    monkeypatch.setattr(module, "machine_id", lambda: "")
    with monkeypatch.context() as patch:
        patch.setattr(procfs, "boot_id", lambda: "earlier")
        name = PartNames("/spool").new(hidden=True)
    assert not PartNames("/spool").is_left_over(name)
    assert PartNames("/spool", now=lambda: 1_000_000.0).is_left_over(name, modified=1.0)


class Losing:
    """A session that is lost at its first request, or none that is."""

    def __init__(self, *, is_lost: bool) -> None:
        self.usable = True
        self.deleted: list[str] = []
        self._is_lost = is_lost

    def make_directory(self, path: str) -> None:
        """Make a directory; the answer does not come."""
        self.usable = False
        raise Lost("it was closed")

    def delete(self, path: str) -> bool:
        """Delete a file."""
        if self._is_lost:
            self.usable = False
            raise Lost("it was closed")
        self.deleted.append(path)
        return True


def test_what_was_to_be_removed_when_the_connection_was_lost() -> None:
    """It is removed over the next connection."""
    parts = PartNames("/spool")
    parts.leave_behind("/archive/part")
    parts.remove_leftovers(cast(FileSession, Losing(is_lost=True)))
    assert parts.leftovers == {"/archive/part"}
    living = Losing(is_lost=False)
    parts.remove_leftovers(cast(FileSession, living))
    assert (living.deleted, parts.leftovers) == (["/archive/part"], set())


def test_a_directory_whose_answer_was_lost() -> None:
    """A directory for trying names may have been made though nobody said so; the next connection removes it."""
    parts = PartNames("/spool")
    session = cast(FileSession, Losing(is_lost=True))
    with pytest.raises(Lost), scratch_directory(session, "/archive", parts, hidden=True):
        pass
    (left,) = parts.leftovers
    assert left.startswith("/archive/.")
    assert left.endswith(NAMES)


def test_of_another_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a process in another container lives is unknown, so its files stay."""
    with monkeypatch.context() as patch:
        patch.setattr(procfs, "pid_namespace", lambda: "pid:[1]")
        name = PartNames("/spool").new(hidden=True)
    assert not PartNames("/spool").is_left_over(name)


@pytest.mark.parametrize("name", ["a.csv", ".s3-uploader-part", "x" * 60, "12345"])
def test_other_files(name: str) -> None:
    """No file of anybody else is taken for one of ours."""
    assert not PartNames("/spool").is_left_over(name, modified=0.0)
