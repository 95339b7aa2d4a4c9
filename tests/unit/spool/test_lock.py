"""The lock of a spool: that it has one holder, who that is, and what is done where something cannot be locked."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import FAILING_DISK, LockHeld, SpoolError, StateError
from s3_uploader.core.shares import Share
from s3_uploader.spool import holder as holders
from s3_uploader.spool import lock as lock_module
from s3_uploader.spool import lock_file
from s3_uploader.spool.holder import holder_of
from s3_uploader.spool.lock import Lock, acquire
from s3_uploader.spool.lock_file import Extent, Holder

NOW = 1_600_000_000.0
HOST = os.uname().nodename


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[int]:
    """Descriptor of a spool, beside which there is a state directory."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "state").mkdir()
    descriptor = os.open(tmp_path / "spool", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def state(tmp_path: Path) -> str:
    """The state directory."""
    return str(tmp_path / "state")


class Time:
    """A monotonic clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.at_sleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds
        self.at_sleep()


def take(spool: int, state: str, *, wait: float = 0.0, time: Time | None = None, **options: object) -> Lock:
    """Take the lock."""
    time = time or Time()
    values: dict = {"command": ["s3-uploader-cli", "config.json"], **options}
    return acquire(
        spool,
        base_dir="/spool",
        state_dir=state,
        wait_seconds=wait,
        clock=lambda: time.now,
        sleep=time.sleep,
        now=lambda: NOW,
        **values,
    )


def test_a_spool_has_one_holder(spool: int, state: str) -> None:
    """While one run has the spool, another one does not get it; afterwards it does."""
    with take(spool, state), pytest.raises(LockHeld):
        take(spool, state)
    take(spool, state).release()


def test_who_holds_it_is_said(spool: int, state: str) -> None:
    """The second run is told process, user, since when and what it runs."""
    with take(spool, state), pytest.raises(LockHeld) as caught:
        take(spool, state)
    user = lock_file._user_name(os.geteuid())
    holder = f"process {os.getpid()} of user {user}, for 0.0 s: s3-uploader-cli config.json"
    assert str(caught.value) == f"Another run has the spool /spool: {holder}."
    assert caught.value.holder == holder
    assert (caught.value.pid, caught.value.held_since) == (os.getpid(), NOW)


def test_a_run_that_must_not_wait_looks_twice(spool: int, state: str) -> None:
    """A start that comes in the instant in which ``status`` has the lock does not step aside for that."""
    time = Time()
    other = take(spool, state)
    time.at_sleep = other.release
    take(spool, state, time=time).release()
    assert time.slept == [0.05]


def test_waiting_ends_when_the_time_is_over(spool: int, state: str) -> None:
    """Waiting for the lock takes as long as asked for, and not longer."""
    time = Time()
    with take(spool, state), pytest.raises(LockHeld):
        take(spool, state, wait=3.0, time=time)
    assert time.now == pytest.approx(3.0)
    assert max(time.slept) <= 0.5


def test_children_do_not_inherit_the_lock(spool: int, state: str) -> None:
    """The lock's descriptor is closed in programs that a run starts."""
    with take(spool, state) as lock:
        for descriptor in (lock._locks._directory, lock._locks._file):
            assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_the_lock_does_not_depend_on_the_callers_descriptor(spool: int, state: str, tmp_path: Path) -> None:
    """Closing the descriptor of the spool does not release its lock."""
    own = os.open(tmp_path / "spool", os.O_RDONLY)
    lock = take(own, state)
    os.close(own)
    with pytest.raises(LockHeld):
        take(spool, state)
    lock.release()
    lock.release()


def test_nobody_holds_a_free_spool(spool: int, state: str) -> None:
    """A spool that was never locked, or is no longer, has no holder, and asking leaves no trace."""
    assert holder_of(spool, state) is None
    take(spool, state).release()
    assert holder_of(spool, state) is None
    assert os.listdir(state) == []
    assert os.listdir(spool) == []


def test_the_holder_can_be_asked_for(spool: int, state: str) -> None:
    """``status`` learns who holds the lock, and holds up nobody."""
    with take(spool, state) as lock:
        assert holder_of(spool, state) == lock.holder
        assert lock.holder.command == "s3-uploader-cli config.json"
        assert lock.holder.since == NOW


def test_a_holder_with_another_state_directory_is_found_by_the_kernel(spool: int, state: str, tmp_path: Path) -> None:
    """Where there is no note, process, user, command line and start come from the kernel."""
    (tmp_path / "other").mkdir()
    with take(spool, state):
        holder = holder_of(spool, str(tmp_path / "other"))
    assert holder is not None
    assert (holder.pid, holder.uid, holder.host) == (os.getpid(), os.getuid(), HOST)
    assert "python" in holder.command
    assert holder.since is not None
    assert abs(holder.since - os.stat("/proc/self").st_ctime) < 3600


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"pid": 1, "host": "elsewhere"}', None])
def test_a_note_that_is_not_current_is_not_believed(spool: int, state: str, content: bytes | None) -> None:
    """A note that a dead run left, or that is damaged, does not hide the real holder."""
    with take(spool, state):
        note = os.path.join(state, "holder.json")
        if content is None:  # the same process number, but another process
            content = b'{"pid": %d, "host": "%s", "started": 1}' % (os.getpid(), HOST.encode())
        Path(note).write_bytes(content)
        holder = holder_of(spool, state)
    assert holder is not None
    assert holder.pid == os.getpid()
    assert holder.started > 1


def test_killed_runs_leave_no_notes_behind(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs are killed while they write the note, the next one leaves nothing in the state directory."""

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", kill)
        for process in (4711, 4712):
            patch.setattr(os, "getpid", lambda process=process: process)
            with pytest.raises(Killed):
                lock_file.write_note_at(os.path.join(state, "holder.json"), Holder(pid=process))
    with take(spool, state):
        assert os.listdir(state) == ["holder.json"]
    assert os.listdir(state) == []


def test_a_holder_that_cannot_be_seen_is_called_so(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder in another container, or one that is just ending, is an unknown one."""
    monkeypatch.setattr(holders, "pids_in_kernel_table", lambda descriptor: [0, 2**22 + 1])
    holder = holder_of(spool, state)
    assert holder == Holder(pid=0)
    assert holder.described(now=NOW) == "a process that cannot be seen from here"


def test_without_a_process_table_the_lock_is_tried(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is not mounted, the holder is still known from its note, and a free spool is known to be free."""
    monkeypatch.setattr(holders, "pids_in_kernel_table", lambda descriptor: None)
    assert holder_of(spool, state) is None
    with take(spool, state) as lock:
        assert holder_of(spool, state) == lock.holder
        os.unlink(os.path.join(state, "holder.json"))
        assert holder_of(spool, state) == Holder(pid=0)


def test_a_note_of_another_machine_is_believed(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared file system the holder may be another machine's process, which only its note describes."""
    monkeypatch.setattr(lock_file, "try_lock", lambda descriptor, **options: False)
    Path(state, "holder.json").write_bytes(b'{"pid": 7, "host": "elsewhere", "uid": 4000000}')
    with pytest.raises(LockHeld, match="process 7 of user 4000000 on elsewhere") as caught:
        take(spool, state)
    assert caught.value.held_since is None


def test_a_command_line_cannot_forge_a_line(spool: int, state: str) -> None:
    """Control characters in the holder's command line are escaped."""
    with take(spool, state, command=["evil\n2020 - INFO", "\x1b[2J", "\udcff"]), pytest.raises(LockHeld) as caught:
        take(spool, state)
    assert str(caught.value).isprintable()
    assert "evil\\n2020" in str(caught.value)


def test_the_default_command_line_is_that_of_the_process(spool: int, state: str) -> None:
    """Without a command given, it is what the program was started with."""
    with take(spool, state, command=None) as lock:
        assert lock.holder.command


def test_a_state_directory_that_cannot_be_written_costs_only_the_note(spool: int, tmp_path: Path) -> None:
    """The note is only for people: without it the lock holds all the same."""
    nowhere = str(tmp_path / "nowhere")
    with take(spool, nowhere), pytest.raises(LockHeld):
        take(spool, nowhere)


# ------------------------------------------------------------------------------------------------ no locks


@pytest.fixture
def no_directory_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that answers like NFS: a lock needs a descriptor that is open for writing."""
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, operation)

    monkeypatch.setattr("s3_uploader.core.files.fcntl.flock", flock)


@pytest.fixture
def no_lock_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which byte ranges cannot be locked."""
    monkeypatch.setattr(lock_file, "try_lock", lambda descriptor, **options: None)


@pytest.mark.usefixtures("no_directory_locks")
def test_where_directories_cannot_be_locked_the_lock_file_is(spool: int, state: str, tmp_path: Path) -> None:
    """On NFS the lock in the spool is enough: uploaders with another state directory see it too, and who has it."""
    (tmp_path / "other").mkdir()
    with take(spool, state, notice=pytest.fail) as lock:
        with pytest.raises(LockHeld, match="Another run has the spool"):
            take(spool, str(tmp_path / "other"))
        assert holder_of(spool, state) == lock.holder
        assert holder_of(spool, str(tmp_path / "other")) == Holder(pid=0)
    assert holder_of(spool, state) is None


@pytest.mark.usefixtures("no_directory_locks", "no_lock_file")
def test_where_nothing_in_the_spool_can_be_locked_a_file_is(spool: int, state: str) -> None:
    """Without locks in the spool there is one in the state directory, which is said since it sees less."""
    notices: list[str] = []
    with take(spool, state, notice=notices.append) as lock:
        assert "another state directory do not see it" in notices[0]
        with pytest.raises(LockHeld, match=f"process {os.getpid()}"):
            take(spool, state)
        assert holder_of(spool, state) == lock.holder
    assert holder_of(spool, state) is None
    take(spool, state).release()


@pytest.mark.usefixtures("no_directory_locks", "no_lock_file")
def test_a_lock_file_that_cannot_be_opened_is_said(spool: int, tmp_path: Path) -> None:
    """Without a lock nothing runs, and the error says what to do."""
    with pytest.raises(StateError, match="cannot be opened: No such file") as caught:
        take(spool, str(tmp_path / "nowhere"))
    assert "state_dir" in caught.value.hint


def test_a_disk_that_fails_is_said(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock file that the disk does not give back names the spool, and what to look at."""
    real = os.open

    def fail(path: str, *arguments: Any, **options: Any) -> int:
        if path == lock_file.LOCK_NAME:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *arguments, **options)

    said = r"The lock file /spool/\.s3-uploader\.lock cannot be opened: Input/output error\."
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(SpoolError, match=said) as caught:
            take(spool, state)
    assert caught.value.hint == FAILING_DISK
    with take(spool, state) as lock:
        monkeypatch.setattr(os, "open", fail)
        os.unlink(lock_file.LOCK_NAME, dir_fd=spool)
        with pytest.raises(StateError, match=said):
            lock.confirm()


@pytest.mark.usefixtures("no_lock_file")
def test_where_nothing_can_be_locked_nothing_runs(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither the spool nor the state directory can be locked, the error says so, and nobody is said to hold it."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("s3_uploader.core.files.fcntl.flock", flock)
    with pytest.raises(StateError, match=r"Neither /spool nor .*/lock can be locked"):
        take(spool, state)
    monkeypatch.setattr(holders, "pids_in_kernel_table", lambda descriptor: None)
    assert holder_of(spool, state) is None


def test_an_error_of_the_disk_is_no_held_lock(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that has nothing to do with locks comes out as it is, and leaves no descriptor open."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("s3_uploader.core.files.fcntl.flock", flock)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output error"):
        take(spool, state)
    assert os.listdir("/proc/self/fd") == before


# ------------------------------------------------------------------------------------------------ strangers


@pytest.fixture
def stranger(spool: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A lock on the directory by a process that may not write in it."""
    descriptor = os.open(".", os.O_RDONLY, dir_fd=spool)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(holders, "may_be_a_run", lambda pid, directory: False)
    yield descriptor
    os.close(descriptor)


@pytest.mark.usefixtures("stranger")
def test_who_may_only_read_the_spool_keeps_nobody_out(spool: int, state: str) -> None:
    """The lock of a process that cannot be an uploader is passed over and said, and the file keeps others out."""
    said: list[str] = []
    with take(spool, state, notice=said.append) as lock:
        assert len(said) == 1
        assert f"locked by process {os.getpid()}" in said[0]
        assert "may not write in it" in said[0]
        with pytest.raises(LockHeld) as caught:
            take(spool, state)
        assert caught.value.pid == lock.holder.pid
        assert holder_of(spool, state) == lock.holder
    assert holder_of(spool, state) is None


@pytest.mark.usefixtures("stranger", "no_lock_file")
def test_with_a_stranger_and_no_file_the_state_directory_is_locked(spool: int, state: str) -> None:
    """One of the locks holds at least."""
    with take(spool, state), pytest.raises(LockHeld):
        take(spool, state)


@pytest.mark.parametrize(
    ("command", "is_stranger"), [("python case.py", True), ("/usr/bin/python3 /opt/s3-uploader-cli c.json", False)]
)
def test_a_lock_that_is_no_runs_is_said_as_such(
    spool: int, state: str, monkeypatch: pytest.MonkeyPatch, command: str, is_stranger: bool
) -> None:
    """A holder with write access keeps the spool, like a run of an older version; another program is named at once."""
    descriptor = os.open(".", os.O_RDONLY, dir_fd=spool)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(holders, "command_of", lambda pid: command)
    try:
        with pytest.raises(LockHeld) as caught:
            take(spool, state)
    finally:
        os.close(descriptor)
    assert caught.value.is_stranger is is_stranger
    assert ("does not look like a run of this program" in str(caught.value)) is is_stranger
    assert os.listdir(spool) == []


@pytest.mark.parametrize("extent", [Extent(claims=True), Extent(share=Share(0, 2))])
def test_one_that_ends_keeps_no_other_out(spool: int, state: str, extent: Extent) -> None:
    """At its end an uploader has all of the lock file for a moment, which may be long on a busy machine."""
    descriptor = lock_file.open_lock_file(spool, base_dir="/spool")
    assert lock_file.try_lock(descriptor, shared=False, by_process=False)
    time = Time()
    sleeps: list[None] = []

    def end_at_last() -> None:
        sleeps.append(None)
        if len(sleeps) == 3:
            os.close(descriptor)

    time.at_sleep = end_at_last
    take(spool, state, time=time, extent=extent).release()


def test_a_run_that_has_just_ended_is_no_stranger(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that is gone before it could be looked at is looked for again, and not called another program."""
    descriptor = os.open(".", os.O_RDONLY, dir_fd=spool)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(holders, "pids_in_kernel_table", lambda descriptor, *, kind="FLOCK": [])
    time = Time()
    sleeps: list[None] = []

    def end_at_last() -> None:
        sleeps.append(None)
        if len(sleeps) == 3:
            os.close(descriptor)

    time.at_sleep = end_at_last
    take(spool, state, time=time).release()


@pytest.mark.parametrize(
    ("command", "is_stranger"), [("python case.py", True), ("/usr/bin/python3 /opt/s3-uploader-cli c.json", False)]
)
def test_whoever_asks_is_told_of_a_stranger(
    spool: int, state: str, monkeypatch: pytest.MonkeyPatch, command: str, is_stranger: bool
) -> None:
    """`status` reports that the holder does not look like a run, as a blocked run does."""
    descriptor = os.open(".", os.O_RDONLY, dir_fd=spool)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(holders, "command_of", lambda pid: command)
    found = holder_of(spool, state)
    os.close(descriptor)
    assert found is not None
    assert (found.pid, found.is_stranger) == (os.getpid(), is_stranger)
    with take(spool, state, command=["my-program"]):
        held = holder_of(spool, state)
        assert held is not None
        assert not held.is_stranger


def test_a_run_among_the_holders_is_no_stranger(spool: int, state: str, tmp_path: Path) -> None:
    """A program that embeds the uploader holds the file too, and is known by that, whatever it is called."""
    with take(spool, state, command=["my-program"]):
        with pytest.raises(LockHeld) as caught:
            take(spool, str(tmp_path / "no-note-here"))
        assert not caught.value.is_stranger


# ------------------------------------------------------------------------------------------------ the file


def test_uploaders_that_claim_share_the_file(spool: int, state: str) -> None:
    """Several that claim have the spool together; one that does not keeps out; the last one removes the file."""
    first, second = take(spool, state, extent=Extent(claims=True)), take(spool, state, extent=Extent(claims=True))
    with pytest.raises(LockHeld):
        take(spool, state)
    first.release()
    assert os.listdir(spool) == [lock_file.LOCK_NAME]
    with pytest.raises(LockHeld):
        take(spool, state)
    second.release()
    assert os.listdir(spool) == []
    with take(spool, state), pytest.raises(LockHeld):
        take(spool, state, extent=Extent(claims=True))


def test_a_lock_whose_file_was_removed_is_taken_anew(spool: int, state: str) -> None:
    """Somebody who tidies up the spool does not let a second run in."""
    with take(spool, state) as lock:
        os.unlink(lock_file.LOCK_NAME, dir_fd=spool)
        lock.confirm()
        assert os.listdir(spool) == [lock_file.LOCK_NAME]
        lock.confirm()
    assert os.listdir(spool) == []


@pytest.mark.usefixtures("no_directory_locks")
def test_a_lock_that_another_run_has_by_now_is_lost(spool: int, state: str) -> None:
    """If the file was replaced and another host was faster, nothing more is recorded or removed."""
    with take(spool, state) as lock:
        os.unlink(lock_file.LOCK_NAME, dir_fd=spool)
        with take(spool, state), pytest.raises(StateError, match="removed or replaced"):
            lock.confirm()


def test_a_lock_file_that_a_killed_run_left_is_taken(spool: int, state: str) -> None:
    """The file alone means nothing; the next run removes it."""
    os.close(os.open(lock_file.LOCK_NAME, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=spool))
    assert holder_of(spool, state) is None
    take(spool, state).release()
    assert os.listdir(spool) == []


def test_where_other_hosts_may_come_the_file_stays(
    spool: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network file system the file is not removed, and tells other hosts who has the spool."""
    for module in (lock_module, holders):
        monkeypatch.setattr(module, "file_system_at", lambda descriptor: "nfs4")
    with take(spool, state) as lock:
        monkeypatch.setattr(holders, "pids_in_kernel_table", lambda descriptor: [])
        (tmp_path / "other").mkdir()
        assert holder_of(spool, str(tmp_path / "other")) == lock.holder
    assert os.listdir(spool) == [lock_file.LOCK_NAME]
    assert os.stat(lock_file.LOCK_NAME, dir_fd=spool).st_size == 0
    assert holder_of(spool, state) is None


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_file_that_cannot_be_made(spool: int, state: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A full spool can be emptied: the lock on the directory is enough on one host."""

    def fail(*arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock_file, "open_lock_file", fail)
    said: list[str] = []
    with take(spool, state, notice=said.append), pytest.raises(LockHeld):
        take(spool, state)
    assert said == []
    monkeypatch.setattr(lock_module, "file_system_at", lambda descriptor: "fuse.sshfs")
    take(spool, state, notice=said.append).release()
    assert "uploaders on other hosts are not kept out" in said[0]


def test_what_a_worker_may_inherit(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is held as long as any process has its descriptors open, but for FUSE, where it is the process's."""
    with take(spool, state) as lock:
        inherited = lock.descriptors()
        assert inherited is not None
        assert lock.lock_file in inherited
    monkeypatch.setattr(lock_module, "file_system_at", lambda descriptor: "fuse.sshfs")
    with take(spool, state) as lock:
        assert lock.lock_file >= 0
        assert lock.descriptors() is None


def test_a_name_that_is_in_a_stale_cache_is_waited_for(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another host has just removed is still in the cache of this one for a moment."""
    real, answers = lock_file.open_lock_file, [errno.ENOENT, errno.ESTALE]

    def stale(*arguments: object, **options: object) -> int:
        if answers:
            raise OSError(answers.pop(), "stale")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lock_file, "open_lock_file", stale)
    take(spool, state, wait=1.0).release()


def test_a_file_that_is_replaced_again_and_again(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock file that is replaced again and again does not cause an endless loop."""
    monkeypatch.setattr(lock_file, "is_in_place", lambda descriptor, base_fd: False)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(LockHeld):
        take(spool, state)
    assert os.listdir("/proc/self/fd") == before


def test_who_may_not_write_in_the_spool_keeps_out_only_his_own(
    spool: int, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A user who keeps the files of a spool that is read-only for him locks neither it nor anything in it."""
    monkeypatch.setattr(os, "access", lambda *arguments, **options: False)
    said: list[str] = []
    with take(spool, state, notice=said.append):
        with pytest.raises(LockHeld):
            take(spool, state)
        (tmp_path / "other").mkdir()
        take(spool, str(tmp_path / "other")).release()
    assert (said, os.listdir(spool)) == ([], [])


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo", "hard link"])
def test_something_else_under_its_name_is_said(spool: int, state: str, tmp_path: Path, kind: str) -> None:
    """What is planted in its place is neither followed, opened nor changed."""
    path = tmp_path / "spool" / lock_file.LOCK_NAME
    precious = tmp_path / "precious"
    precious.write_text("data")
    precious.chmod(0o644)
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.hardlink_to(precious)
    with pytest.raises(SpoolError, match="is not the lock file"):
        take(spool, state)
    assert (precious.read_text(), precious.stat().st_mode & 0o777) == ("data", 0o644)
    assert not (tmp_path / "nowhere").exists()
    assert holder_of(spool, state) is None


def test_a_lock_whose_file_system_has_died(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a mount can be closed without an error once its program has died, and that is not what is told."""
    lock = take(spool, state)
    held, close, closed = lock.lock_file, os.close, []

    def close_in_vain(descriptor: int) -> None:
        close(descriptor)
        closed.append(descriptor)
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def gone(*arguments: object, **options: object) -> int:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr(os, "close", close_in_vain)
    monkeypatch.setattr(lock_file, "is_in_place", gone)
    monkeypatch.setattr(lock_file, "open_lock_file", gone)
    with pytest.raises(StateError):
        lock.confirm()
    lock.release()
    monkeypatch.undo()
    assert held in closed
    assert lock.lock_file == -1
