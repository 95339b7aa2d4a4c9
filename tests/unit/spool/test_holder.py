"""The holder of a spool's lock: what the kernel shows, what is reported, and who can be an uploader."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from s3_uploader.core import procfs
from s3_uploader.core.procfs import Credentials, start_ticks
from s3_uploader.spool import holder as holders
from s3_uploader.spool.holder import may_be_a_run, may_write, pids_of_lock

TABLE = """\
1: POSIX  ADVISORY  WRITE 10 fe:00:131 0 EOF
2: FLOCK  ADVISORY  WRITE 11 fe:00:131 0 EOF
2: -> FLOCK  ADVISORY  WRITE 12 fe:00:131 0 EOF
3: FLOCK  ADVISORY  READ  13 fe:00:1131 0 EOF
4: FLOCK  ADVISORY  READ  -1 fe:00:132 0 EOF
5: FLOCK  ADVISORY  READ  14 00:2a:133 0 EOF
6: FLOCK
""".splitlines()


@pytest.mark.parametrize(
    ("device", "inode", "pids"),
    [
        (os.makedev(0xFE, 0), 131, [11]),
        (os.makedev(0xFE, 0), 1131, [13]),
        (os.makedev(0xFE, 0), 132, [0]),
        (os.makedev(0xFE, 0), 133, []),
        (os.makedev(0xFE, 0), 31, []),
        (None, 133, [14]),
        (None, 131, [11]),
        (None, 999, []),
    ],
)
def test_the_kernels_table_names_the_holder(device: int | None, inode: int, pids: list[int]) -> None:
    """Only a holder counts, not one who waits; the device need not be right where the kernel knows another one."""
    assert pids_of_lock(TABLE, device=device, inode=inode) == pids


@pytest.mark.parametrize(("file_system", "pids"), [("ext4", []), ("", [14])])
def test_the_device_counts_where_it_is_that_of_a_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_system: str, pids: list[int]
) -> None:
    """A file of the same inode number on another mount is another file; on btrfs ``stat`` gives no mount's number."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    line = f"5: FLOCK  ADVISORY  READ  14 ff:ff:{os.fstat(descriptor).st_ino} 0 EOF"
    monkeypatch.setattr(holders, "lock_table", lambda: [line])
    monkeypatch.setattr(holders, "file_system_of", lambda device: file_system)
    try:
        assert holders.pids_in_kernel_table(descriptor) == pids
    finally:
        os.close(descriptor)


def test_locks_of_a_process_are_seen_without_a_look_at_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file that it has open may lie on a disk that does not answer, and whoever asked would hang."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)

    def hang(*arguments: object, **options: object) -> None:
        raise AssertionError(f"{arguments} was looked at")

    try:
        monkeypatch.setattr(os, "stat", hang)
        lines = procfs.locks_of(os.getpid())
        monkeypatch.undo()
        assert holders.pids_in_kernel_table(descriptor, lines=lines) == [os.getpid()]
        assert procfs.locks_of(2**22 + 1) == []
    finally:
        os.close(descriptor)


def test_a_process_that_is_gone_has_no_start() -> None:
    """What /proc does not know is unknown."""
    assert start_ticks(2**22 + 1) == 0
    assert start_ticks(os.getpid()) > 0


def test_without_proc_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without /proc gives no answer, and no error."""
    descriptor = os.open(tmp_path, os.O_RDONLY)

    def refuse(*arguments: object, **options: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr("builtins.open", refuse)
    assert holders.pids_in_kernel_table(descriptor) is None
    assert procfs.boot_time() == 0.0
    assert holders.from_proc(os.getpid()) is None
    assert procfs.credentials_of(os.getpid()) is None
    assert procfs.file_system_at(descriptor) == ""
    os.close(descriptor)


class Directory(NamedTuple):
    """What ``stat`` says of a spool's directory."""

    st_uid: int = 1000
    st_gid: int = 100
    st_mode: int = stat.S_IFDIR | 0o755


def user(uid: int, *groups: int, overrides: bool = False) -> Credentials:
    """A user."""
    return Credentials(uid, frozenset(groups), overrides)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list as the kernel gives it."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.parametrize(
    ("who", "mode", "may"),
    [
        (user(0), 0o555, True),
        (user(1000), 0o555, True),  # the owner can allow himself to
        (user(1001), 0o755, False),
        (user(1001, 100), 0o755, False),
        (user(1001, 100), 0o775, True),
        (user(1001), 0o775, False),
        (user(1001), 0o1777, True),
        (user(1001, overrides=True), 0o755, True),
    ],
)
def test_who_may_write_can_be_an_uploader(who: Credentials, mode: int, may: bool) -> None:
    """The permissions of the directory decide."""
    assert may_write(who, Directory(st_mode=stat.S_IFDIR | mode)) is may  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "may"),
    [
        ([], False),
        ([(0x02, 7, 1001)], True),
        ([(0x02, 5, 1001)], False),
        ([(0x02, 7, 1002), (0x08, 7, 51)], False),
        ([(0x01, 7, 1001), (0x08, 6, 50)], True),
    ],
)
def test_access_control_lists_count(entries: list[tuple[int, int, int]], may: bool) -> None:
    """A user or a group that is named in a list may write, if the list says so."""
    assert may_write(user(1001, 50), Directory(), acl(*entries)) is may  # type: ignore[arg-type]


@pytest.mark.parametrize("damaged", [b"", b"\2\0\0\0", b"\2\0\0\0\2\0\7"])
def test_a_list_that_is_cut_short_gives_no_right(damaged: bytes) -> None:
    """What cannot be understood names nobody."""
    assert not may_write(user(1001), Directory(), damaged)  # type: ignore[arg-type]


def test_a_process_that_is_gone_is_no_run(tmp_path: Path) -> None:
    """Whoever has left his lock to a child and ended was no uploader; one that cannot be seen may be one."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    try:
        assert not may_be_a_run(ended.pid, descriptor)
        assert may_be_a_run(0, descriptor)
        assert may_be_a_run(os.getpid(), descriptor)
    finally:
        os.close(descriptor)


def test_a_process_that_cannot_be_looked_at_may_be_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc hides the processes of others there is no telling, and nobody is passed over."""
    monkeypatch.setattr(holders, "credentials_of", lambda pid: None)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert may_be_a_run(1, descriptor)
    finally:
        os.close(descriptor)


def test_credentials_are_those_of_the_real_user() -> None:
    """Of this process they are known: user, groups, and whether permissions hold it up."""
    found = procfs.credentials_of(os.getpid())
    assert found is not None
    assert found.uid == os.getuid()
    assert found.groups == {os.getgid(), *os.getgroups()}


def test_the_file_system_of_a_directory_is_known() -> None:
    """Whatever /proc is mounted as, it is no file system that other hosts share or that keeps files."""
    descriptor = os.open("/proc/self", os.O_RDONLY)
    try:
        assert procfs.file_system_at(descriptor) == "proc"
    finally:
        os.close(descriptor)
    assert procfs.file_system_at(descriptor) == ""
    assert [procfs.is_local(name) for name in ("ext4", "nfs4", "fuse.sshfs", "9p", "")] == [True, *[False] * 4]
