"""The lock of a spool between real processes: it dies with its holder, and names it across users."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.core.errors import LockHeld
from s3_uploader.core.shares import Share
from s3_uploader.spool import holder
from s3_uploader.spool.holder import holder_of
from s3_uploader.spool.lock import Lock, acquire
from s3_uploader.spool.lock_file import Extent

HOLDER = """
import os, sys, time
from s3_uploader.core.shares import Share
from s3_uploader.spool.lock import acquire
from s3_uploader.spool.lock_file import Extent
if {user}:
    # Not with Popen(user=...): that user may not be able to reach the interpreter.
    os.setgroups([]), os.setgid({user}), os.setuid({user})
spool = os.open(sys.argv[1], os.O_RDONLY)
lock = acquire(spool, base_dir=sys.argv[1], state_dir=sys.argv[2], wait_seconds=float(sys.argv[3]),
               clock=time.monotonic, sleep=time.sleep, now=time.time, extent={extent})
print("held", flush=True)
{then}
sys.stdin.read()
"""

NOBODY = 65534


class Holding:
    """A process that holds the lock of a spool."""

    def __init__(
        self, spool: Path, state: Path, *, wait: float = 0.0, then: str = "", user: int = 0, extent: str = ""
    ) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                HOLDER.format(then=then, user=user, extent=extent or None),
                str(spool),
                str(state),
                str(wait),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """The next thing that the process says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def tmp_path(place_for_all: Path) -> Path:
    """Where other users are, too."""
    return place_for_all


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool."""
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Its state directory."""
    path = tmp_path / "state"
    path.mkdir()
    return path


@pytest.fixture
def descriptor(spool: Path) -> Iterator[int]:
    """The spool, open."""
    found = os.open(spool, os.O_RDONLY)
    yield found
    os.close(found)


def take(descriptor: int, state: Path, *, wait: float = 0.0, extent: Extent | None = None) -> Lock:
    """Take the lock in this process."""
    return acquire(
        descriptor,
        base_dir="/spool",
        state_dir=str(state),
        wait_seconds=wait,
        clock=time.monotonic,
        sleep=time.sleep,
        now=time.time,
        extent=extent,
    )


def test_a_killed_holder_holds_nothing(spool: Path, state: Path, descriptor: int) -> None:
    """The next run gets the spool after SIGKILL, and is not misled by what the dead one noted."""
    with Holding(spool, state) as holding:
        assert holding.line() == "held"
        with pytest.raises(LockHeld) as caught:
            take(descriptor, state)
        assert caught.value.pid == holding.process.pid
        assert caught.value.held_since == pytest.approx(time.time(), abs=60)
        holding.process.send_signal(signal.SIGKILL)
        holding.process.wait()
        assert holder_of(descriptor, str(state)) is None
        with take(descriptor, state) as lock:
            assert holder_of(descriptor, str(state)) == lock.holder


def test_a_stopped_holder_still_holds(spool: Path, state: Path, descriptor: int) -> None:
    """A run that hangs keeps the spool and is named."""
    with Holding(spool, state) as holding:
        assert holding.line() == "held"
        holding.process.send_signal(signal.SIGSTOP)
        with pytest.raises(LockHeld, match=f"process {holding.process.pid} of user"):
            take(descriptor, state)


def test_waiting_gets_the_spool_when_its_holder_ends(spool: Path, state: Path, descriptor: int) -> None:
    """Who waits for the lock gets it once it is free."""
    lock = take(descriptor, state)
    with Holding(spool, state, wait=60) as waiting:
        lock.release()
        assert waiting.line() == "held"
        assert holder_of(descriptor, str(state)) is not None


def test_a_program_that_the_holder_started_does_not_hold(spool: Path, state: Path, descriptor: int) -> None:
    """When the run is killed, a program that it has started does not keep the spool locked."""
    then = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True)"
    with Holding(spool, state, then=then) as holding:
        assert holding.line() == "held"
        child = int(holding.line())
        try:
            holding.process.kill()
            holding.process.wait()
            take(descriptor, state).release()
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("inherited", ["all locks", "that of the directory"])
def test_a_worker_of_a_killed_run_holds(spool: Path, state: Path, descriptor: int, inherited: str) -> None:
    """Until it has finished its uploads in flight nobody else has the spool, and it is named, for it may hang."""
    then = (
        "import subprocess; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', "
        f"'s3_uploader.run.worker'], pass_fds=lock.descriptors()[:{2 if inherited == 'all locks' else 1}]); "
        "print(child.pid, flush=True)"
    )
    with Holding(spool, state, then=then) as holding:
        assert holding.line() == "held"
        worker = int(holding.line())
        try:
            holding.process.kill()
            holding.process.wait()
            with pytest.raises(
                LockHeld, match=f": process {worker} .*: a worker of a run .* that was killed"
            ) as caught:
                take(descriptor, state)
            assert not caught.value.is_stranger
            found = holder_of(descriptor, str(state))
            assert found is not None
            assert (found.pid, found.is_stranger) == (worker, False)
        finally:
            os.kill(worker, signal.SIGKILL)
        while holder_of(descriptor, str(state)) is not None:
            time.sleep(0.01)
        take(descriptor, state).release()


def test_a_share_whose_note_is_elsewhere_is_named(spool: Path, descriptor: int, tmp_path: Path, state: Path) -> None:
    """Of shares the kernel's table names nobody, and the note may be in another place: on this machine it is found."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with Holding(spool, theirs, extent="Extent(share=Share(1, 2))") as holding:
        assert holding.line() == "held"
        with pytest.raises(LockHeld, match=f"process {holding.process.pid} of user .* with the share 1/2, for"):
            take(descriptor, state, extent=Extent(share=Share(3, 4)))


def theirs_in(tmp_path: Path) -> Path:
    """A state directory of another user."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    return theirs


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_users_with_nothing_in_common_exclude_each_other(
    spool: Path, state: Path, descriptor: int, tmp_path: Path
) -> None:
    """Uploaders of two users, each with a state directory of its own, do not run at once, and see who it is."""
    theirs = theirs_in(tmp_path)
    spool.chmod(0o777)
    with Holding(spool, theirs, user=NOBODY) as holding:
        assert holding.line() == "held"
        with pytest.raises(LockHeld, match=f"process {holding.process.pid} of user nobody") as caught:
            take(descriptor, state)
        assert "python" in caught.value.holder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
@pytest.mark.parametrize("how", ["itself", "left to a child", "with set-user-ID"])
def test_who_may_only_read_the_spool_cannot_stop_uploads(spool: Path, state: Path, descriptor: int, how: str) -> None:
    """Anybody may lock a directory that he may read. That holds up no run, and the run says who does it."""
    spool.chmod(0o755)
    then = {
        "itself": "print('held', flush=True); sys.stdin.read()",
        "left to a child": "os.fork() and os._exit(0); print('held', flush=True); time.sleep(60)",
        "with set-user-ID": "os.setresuid(-1, 0, -1); print('held', flush=True); sys.stdin.read()",
    }[how]
    script = (
        "import fcntl, os, sys, time\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setresuid({NOBODY}, {NOBODY}, 0)\n"
        f"fcntl.flock(os.open({str(spool)!r}, os.O_RDONLY), fcntl.LOCK_EX)\n{then}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        said: list[str] = []
        with acquire(
            descriptor,
            base_dir="/spool",
            state_dir=str(state),
            wait_seconds=0,
            clock=time.monotonic,
            sleep=time.sleep,
            now=time.time,
            notice=said.append,
        ):
            assert "is not a run of this program" in said[0]
            with pytest.raises(LockHeld):
                take(descriptor, state)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("operation", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_older_versions_keep_out_and_are_kept_out(spool: Path, state: Path, descriptor: int, operation: int) -> None:
    """Versions that lock the directory alone, and this one, have the spool one after the other."""
    theirs = os.open(spool, os.O_RDONLY)
    fcntl.flock(theirs, operation)
    with pytest.raises(LockHeld):
        take(descriptor, state)
    fcntl.flock(theirs, fcntl.LOCK_UN)
    with take(descriptor, state), pytest.raises(BlockingIOError):
        fcntl.flock(theirs, operation | fcntl.LOCK_NB)
    os.close(theirs)


def test_of_many_at_once_one_gets_it(spool: Path, state: Path) -> None:
    """Of ten runs that start in the same moment, one has the spool, and as it ends the next."""
    holders = [Holding(spool, state, wait=60, then="lock.release(); print('done', flush=True)") for _ in range(10)]
    try:
        assert all(holding.process.wait(60) is not None for holding in holders if holding.process.communicate("")[0])
        assert [holding.process.returncode for holding in holders] == [0] * 10
    finally:
        for holding in holders:
            holding.process.kill()
            holding.process.wait()
    assert os.listdir(state) == []
    assert os.listdir(spool) == []


STRANGER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
{how}
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (".s3-uploader.lock", "fcntl.lockf(descriptor, fcntl.LOCK_EX)"),
        (".", "fcntl.flock(descriptor, fcntl.LOCK_EX)"),
    ],
)
def test_another_program_is_named_at_once(
    spool: Path, state: Path, descriptor: int, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    """A lock that is no run's is told with its process, both to a run that is kept out and to whoever asks."""
    monkeypatch.setattr(holder, "command_of", lambda pid: "case.py")
    script = STRANGER.format(how=how)
    if name == ".":
        script = script.replace("os.O_RDWR | os.O_CREAT, 0o600", "os.O_RDONLY")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(spool / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockHeld) as caught:
            take(descriptor, state)
        found = holder_of(descriptor, str(state))
        other.communicate()
    assert (caught.value.pid, caught.value.is_stranger) == (other.pid, True)
    assert "does not look like a run of this program" in str(caught.value)
    assert found is not None
    assert (found.pid, found.is_stranger) == (other.pid, True)
    with take(descriptor, state):
        pass
