"""Durable steps on files: names made durable, files replaced; how many files may be open."""

from __future__ import annotations

import errno
import os
import resource
import stat
import tempfile
from pathlib import Path

import pytest

from s3_uploader.core import files
from s3_uploader.core.files import (
    free_descriptors,
    is_missing,
    is_stream,
    open_at_once,
    raise_limit,
    replace_file,
)


@pytest.mark.parametrize(("number", "is_let_off"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_directories_that_cannot_be_synced(monkeypatch: pytest.MonkeyPatch, number: int, is_let_off: bool) -> None:
    """A file system that cannot make names durable is let off; one that fails is not."""

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if is_let_off:
        files.sync_directory(0)
    else:
        with pytest.raises(OSError, match="Input/output"):
            files.sync_directory(0)


class TestOpenAtOnce:
    def test_reads_a_file(self, tmp_path: Path) -> None:
        """A file is opened as ever."""
        (tmp_path / "file").write_bytes(b"content")
        with open_at_once(str(tmp_path / "file")) as file:
            assert file.read() == b"content"

    def test_refuses_a_pipe(self, tmp_path: Path) -> None:
        """A named pipe is refused, and nobody waits for its writer."""
        os.mkfifo(tmp_path / "pipe")
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="Is a named pipe"):
            open_at_once(str(tmp_path / "pipe"))
        assert os.listdir("/proc/self/fd") == before

    def test_a_directory(self, tmp_path: Path) -> None:
        """A directory is refused, and its descriptor does not stay open."""
        before = os.listdir("/proc/self/fd")
        with pytest.raises(IsADirectoryError):
            open_at_once(str(tmp_path))
        assert os.listdir("/proc/self/fd") == before


class TestUnnamedFile:
    def test_no_directory_has_to_be_writable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file is in memory: where nothing may be written, as in a container, there is one all the same."""
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
        with files.unnamed_file(b"content") as file:
            assert os.pread(file.fileno(), 100, 0) == b"content"

    def test_it_is_on_disk_where_a_python_knows_none_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A Python that was built for older systems writes a temporary file."""
        monkeypatch.delattr(os, "memfd_create", raising=False)
        with files.unnamed_file(b"content") as file:
            assert os.pread(file.fileno(), 100, 0) == b"content"

    def test_it_is_closed_if_it_cannot_be_filled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without room for its content nothing stays open."""
        full = open("/dev/full", "wb")  # noqa: SIM115 - it is closed by what is tested.
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        with pytest.raises(OSError, match="No space"):
            files.unnamed_file(b"content")
        assert full.closed


def test_only_what_is_not_there_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be looked at is there, as that on a dead mount, where a run may still be at work."""
    (tmp_path / "file").touch()
    assert is_missing(str(tmp_path / "none"))
    assert is_missing(str(tmp_path / "file" / "spool"))
    assert not is_missing(str(tmp_path))

    def refuse(path: str) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)

    monkeypatch.setattr(os, "lstat", refuse)
    assert not is_missing(str(tmp_path))


class TestReplaceFile:
    """A file that takes the place of another in one step."""

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
    @pytest.mark.parametrize("mode", [None, 0o600])
    def test_a_device_stays(self, tmp_path: Path, mode: int | None) -> None:
        """Root does not take a device, or what a link to one leads to, from all other programs."""
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (tmp_path / "link").symlink_to("null")
        for name in ("null", "link"):
            with pytest.raises(OSError, match="Is not a regular file"):
                replace_file(str(tmp_path / name), b"x", mode=mode)
        assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
        assert sorted(os.listdir(tmp_path)) == ["link", "null"]

    @pytest.mark.parametrize(("umask", "expected"), [(0, 0o644), (0o022, 0o644), (0o077, 0o600)])
    def test_others_never_write_to_a_new_one(self, tmp_path: Path, umask: int, expected: int) -> None:
        """The umask may forbid more than writing, but what it allows is not allowed to others."""
        before = os.umask(umask)
        try:
            replace_file(str(tmp_path / "x"), b"x", mode=None)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == expected

    @pytest.mark.parametrize("mode", [0o640, 0o600, 0o664])
    def test_what_somebody_has_permitted_stays(self, tmp_path: Path, mode: int) -> None:
        """A file that was made readable for a service, or for nobody else, is so afterwards."""
        path = tmp_path / "x"
        path.write_text("old")
        path.chmod(mode)
        group = 4711 if os.geteuid() == 0 else os.getegid()
        os.chown(path, -1, group)
        replace_file(str(path), b"new", mode=None)
        assert (path.read_text(), stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == ("new", mode, group)

    @pytest.mark.parametrize("mode", [None, 0o600, 0o644])
    def test_permissions_that_belong_to_the_mount(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None
    ) -> None:
        """On FAT or SMB, where nobody but the owner of all files may set them, a file is replaced all the same."""

        def refuse(descriptor: int, mode: int) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "fchmod", refuse)
        for content in (b"first", b"second"):
            replace_file(str(tmp_path / "x"), content, mode=mode)
            assert (tmp_path / "x").read_bytes() == content


def test_names_of_open_files(tmp_path: Path) -> None:
    """A name below /proc leads to what a process has open, directly or by links; other names do not."""
    (tmp_path / "file").write_text("")
    (tmp_path / "plain").symlink_to("file")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "output").symlink_to("/proc/self/fd/1")
    (tmp_path / "fd").symlink_to("/proc/self/fd")
    (tmp_path / "twice").symlink_to("output")
    names = ("file", "plain", "round", "missing", "output", "fd/1", "twice")
    assert [name for name in names if is_stream(str(tmp_path / name))] == ["output", "fd/1", "twice"]


def test_what_is_open_already_counts() -> None:
    """A program with many files open leaves fewer for the run in it."""
    before = free_descriptors()
    mine = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    try:
        assert free_descriptors() == before - len(mine)
    finally:
        for descriptor in mine:
            os.close(descriptor)


def test_the_soft_limit_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program takes what it may have, within reason; one that may not have more goes on with what it has."""
    limits = [(1024, 4096)]
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: taken.append(wanted))
    raise_limit()
    limits[0] = (1024, 10**9)
    raise_limit()
    limits[0] = (1024, 1024)
    raise_limit()
    limits[0] = (100_000, 200_000)
    raise_limit()
    assert taken == [(4096, 4096), (65536, 10**9)]

    def refuse(_: int, __: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    limits[0] = (1024, 4096)
    raise_limit()


def test_limits_that_may_not_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sandbox that refuses the question a run goes on with what is usual."""

    def refuse(_: int) -> tuple[int, int]:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(resource, "getrlimit", refuse)
    raise_limit()
    assert 0 < free_descriptors() < 1024
