"""The lock of a spool: who holds it, and what is done where directories cannot be locked."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3_uploader.core import procfs
from s3_uploader.core.errors import LockHeld, StateError
from s3_uploader.core.procfs import start_ticks
from s3_uploader.spool import lock as lock_module
from s3_uploader.spool.lock import Holder, Lock, acquire, holder_of, pids_of_lock

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
    user = lock_module._user_name(os.geteuid())
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
        assert fcntl.fcntl(lock._descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


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


def test_a_holder_that_cannot_be_seen_is_called_so(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder in another container, or one that is just ending, is an unknown one."""
    monkeypatch.setattr(lock_module, "_pids_in_kernel_table", lambda descriptor: [0, 2**22 + 1])
    holder = holder_of(spool, state)
    assert holder == Holder(pid=0)
    assert holder.described(now=NOW) == "a process that cannot be seen from here"


def test_without_a_process_table_the_lock_is_tried(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is not mounted, the holder is still known from its note, and a free spool is known to be free."""
    monkeypatch.setattr(lock_module, "_pids_in_kernel_table", lambda descriptor: None)
    assert holder_of(spool, state) is None
    with take(spool, state) as lock:
        assert holder_of(spool, state) == lock.holder
        os.unlink(os.path.join(state, "holder.json"))
        assert holder_of(spool, state) == Holder(pid=0)


def test_a_note_of_another_machine_is_believed(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared file system the holder may be another machine's process, which only its note describes."""
    monkeypatch.setattr(lock_module, "_try_lock", lambda descriptor, shared=False: False)
    monkeypatch.setattr(lock_module, "_pids_in_kernel_table", lambda descriptor: [])
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


# ------------------------------------------------------------------------------------------------ the kernel's table

TABLE = """\
1: POSIX  ADVISORY  WRITE 10 fe:00:131 0 EOF
2: FLOCK  ADVISORY  WRITE 11 fe:00:131 0 EOF
2: -> FLOCK  ADVISORY  WRITE 12 fe:00:131 0 EOF
3: FLOCK  ADVISORY  READ  13 fe:00:1131 0 EOF
4: FLOCK  ADVISORY  READ  -1 fe:00:132 0 EOF
5: FLOCK  ADVISORY  READ  14 00:2a:133 0 EOF
6: FLOCK
""".splitlines()


@pytest.mark.parametrize(("inode", "pids"), [(131, [11]), (1131, [13]), (132, [0]), (133, [14]), (31, []), (999, [])])
def test_the_kernels_table_names_the_holder(inode: int, pids: list[int]) -> None:
    """Only a holder counts, not one who waits; the device may differ (btrfs) where no line has the right one."""
    assert pids_of_lock(TABLE, device=os.makedev(0xFE, 0), inode=inode) == pids


def test_the_right_device_is_preferred() -> None:
    """Two files of the same inode number on two file systems are told apart."""
    assert pids_of_lock(
        [*TABLE, "7: FLOCK  ADVISORY  WRITE 15 00:2a:131 0 EOF"], device=os.makedev(0, 0x2A), inode=131
    ) == [15]


def test_what_is_not_known_of_a_holder_is_left_out() -> None:
    """A holder is described by what is known of it."""
    assert Holder(pid=7).described(now=NOW) == "process 7"


def test_a_process_that_is_gone_has_no_start() -> None:
    """What /proc does not know is unknown."""
    assert start_ticks(2**22 + 1) == 0
    assert start_ticks(os.getpid()) > 0


def test_without_proc_nothing_is_known(monkeypatch: pytest.MonkeyPatch, spool: int) -> None:
    """A machine without /proc gives no answer, and no error."""

    def refuse(*arguments: object, **options: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr("builtins.open", refuse)
    assert lock_module._pids_in_kernel_table(spool) is None
    assert procfs.boot_time() == 0.0
    assert lock_module._from_proc(os.getpid()) is None


# ------------------------------------------------------------------------------------------------ no locks


@pytest.fixture
def no_directory_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that answers like NFS: a lock needs a descriptor that is open for writing."""
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, operation)

    monkeypatch.setattr("s3_uploader.spool.lock.fcntl.flock", flock)


@pytest.mark.usefixtures("no_directory_locks")
def test_where_directories_cannot_be_locked_a_file_is(spool: int, state: str) -> None:
    """On NFS the lock is a file in the state directory, which is said since it sees less."""
    notices: list[str] = []
    with take(spool, state, notice=notices.append) as lock:
        assert "another state directory do not see it" in notices[0]
        with pytest.raises(LockHeld, match=f"process {os.getpid()}"):
            take(spool, state)
        assert holder_of(spool, state) == lock.holder
    assert holder_of(spool, state) is None
    take(spool, state).release()


@pytest.mark.usefixtures("no_directory_locks")
def test_a_lock_file_that_cannot_be_opened_is_said(spool: int, tmp_path: Path) -> None:
    """Without a lock nothing runs, and the error says what to do."""
    with pytest.raises(StateError, match="cannot be opened: No such file") as caught:
        take(spool, str(tmp_path / "nowhere"))
    assert "state_dir" in caught.value.hint


def test_where_nothing_can_be_locked_nothing_runs(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither the spool nor the state directory can be locked, the error says so, and nobody is said to hold it."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("s3_uploader.spool.lock.fcntl.flock", flock)
    with pytest.raises(StateError, match=r"Neither /spool nor .*/lock can be locked"):
        take(spool, state)
    monkeypatch.setattr(lock_module, "_pids_in_kernel_table", lambda descriptor: None)
    assert holder_of(spool, state) is None


def test_an_error_of_the_disk_is_no_held_lock(spool: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that has nothing to do with locks comes out as it is, and leaves no descriptor open."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("s3_uploader.spool.lock.fcntl.flock", flock)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output error"):
        take(spool, state)
    assert os.listdir("/proc/self/fd") == before
