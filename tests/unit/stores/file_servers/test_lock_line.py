"""The process that holds a lock file at an FTP server."""

from __future__ import annotations

import msgspec
import pytest

from s3_uploader.stores.file_servers import holder as module
from s3_uploader.stores.file_servers.holder import Holder


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
    assert not here.is_gone()
    changed = msgspec.structs.replace
    assert changed(here, started="1").is_gone()
    assert changed(here, boot="earlier").is_gone()
    assert not changed(here, boot="earlier", machine="b" * 32).is_gone()
    assert not changed(here, boot="earlier", host="other").is_gone()
    assert not changed(here, boot="earlier", machine="-").is_gone()
    assert not changed(here, started="1", pids="pid:[1]").is_gone()
    assert not changed(here, started="-").is_gone()


def test_who_is_this_process() -> None:
    """Only where everything about a process is known, it can be known as this one."""
    here = Holder.current()
    changed = msgspec.structs.replace
    assert here.is_this_process()
    assert not changed(here, pid=here.pid + 1).is_this_process()
    assert not changed(here, started="1").is_this_process()


def test_who_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an identifier of the machine another one may have the same process."""
    monkeypatch.setattr(module, "machine_id", lambda: "")
    assert not Holder.current().is_this_process()
