"""The leader's end of a worker, with processes that end in every way that a worker may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import Config
from s3_uploader.core.interpreter import python
from s3_uploader.core.model import RunEnd
from s3_uploader.run import worker_process
from s3_uploader.run.worker_pipe import READY, SIGNALS, STOP, Outcome, Task, send
from s3_uploader.run.worker_process import Worker

PATIENCE = 60.0
Start = Callable[..., Worker]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A worker's task: its share of a spool of ten old files, for a destination that nobody listens at."""
    spool, state = tmp_path / "spool", tmp_path / "state"
    spool.mkdir()
    state.mkdir()
    for number in range(10):
        (spool / f"{number}.dat").write_text(f"content {number}")
        os.utime(spool / f"{number}.dat", (0, 0))
    destination = S3Destination(bucket="b", endpoint_url="http://127.0.0.1:1", region="here")
    config = Config(base_dir=str(spool), destination=destination, layout="tree", share="0/1")
    return Task(
        config=config,
        run=1,
        started_at=time.time(),
        state_dir=str(state),
        lock_file=-1,
        of=2,
        max_runtime_seconds=None,
        retries=False,
    )


@pytest.fixture
def start(task: Task, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a process in place of a worker, or a worker."""
    started: list[Worker] = []

    def begin(program: str = "") -> Worker:
        if program:
            monkeypatch.setattr(worker_process, "_PROGRAM", program)
        worker = Worker(task, locks=(), wake=lambda: None)
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        worker.end()
        assert worker.process.poll() is not None


def said(worker: Worker) -> object:
    """The next message of a worker."""
    return worker.messages.get(timeout=PATIENCE)


def open_descriptors() -> set[str]:
    """The descriptors of this process."""
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("raise SystemExit(7)", "ended with exit code 7"),
        ("import sys; sys.exit('the ledger cannot be opened')", "ended with exit code 1 (the ledger cannot be opened)"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import os; os.kill(os.getpid(), 40)", "was killed by signal 40"),
        (
            "raise OSError(24, 'Too many open files')",
            "ended with exit code 1 (OSError: [Errno 24] Too many open files)",
        ),
        ("raise MemoryError", "ran out of memory"),
        ("import os; os.write(2, b'MemoryError\\n'); os._exit(1)", "ran out of memory"),
        ("raise ImportError('libz.so.1: failed to map segment from shared object')", "ran out of memory"),
    ],
)
def test_one_sentence_says_how_it_ended(
    start: Start, capfd: pytest.CaptureFixture[str], program: str, how: str
) -> None:
    """A worker that ends before its time is told of in the terms of the field, and prints nothing beside the log."""
    worker = start(program)
    assert said(worker) is None
    assert worker.how_it_ended() == how
    worker.is_over = True
    worker.end()
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_the_program_is_shown_whole(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """The traceback of an unexpected error is passed on, so that it can be reported."""
    worker = start("{}['share']")
    assert said(worker) is None
    assert worker.how_it_ended() == "ended with exit code 1 (KeyError: 'share')"
    printed = capfd.readouterr().err
    assert printed.startswith("Traceback (most recent call last)")
    assert printed.endswith("KeyError: 'share'\n")


def test_one_that_prints_without_end_is_not_held_up(start: Start) -> None:
    """Of what a worker prints only a bounded part is kept, and nothing waits for somebody who reads it."""
    worker = start(
        "import os\nfor _ in range(1000):\n try: os.write(2, b'x' * 1000)\n except BlockingIOError: os._exit(3)"
    )
    assert said(worker) is None
    assert worker.process.wait(PATIENCE) == 3
    assert len(worker.how_it_ended()) < 1000


def test_one_that_closes_its_pipe_and_goes_on_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot say any more what it does must not go on, and its leader does not wait for it for ever."""
    monkeypatch.setattr(worker_process, "_LAST_SECONDS", 0.2)
    worker = start("import os, sys, time; os.close(int(sys.argv[2])); time.sleep(1000)")
    assert said(worker) is None
    assert worker.how_it_ended() == "was killed by SIGKILL"


def test_one_that_says_something_else_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that nobody understands ends the worker, not the run."""
    monkeypatch.setattr(worker_process, "_LAST_SECONDS", 0.2)
    worker = start("import os, sys, time; os.write(int(sys.argv[2]), b'\\0\\0\\0\\4abcd'); time.sleep(1000)")
    assert said(worker) is None
    assert worker.how_it_ended() == "was killed by SIGKILL"


def test_it_takes_no_module_from_the_current_directory(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may be started in any directory, in the spool too: what is named like a module there is never executed."""
    for name in ("json", "queue", "typing", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is not yours')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as with `python -m`
    assert said(start()) == READY


def test_it_finds_modules_where_its_leader_does(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may have put the places of packages into ``sys.path`` itself; without them no worker could begin."""
    (tmp_path / "only_here.py").write_text("found = 7")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    worker = start("import sys, only_here; sys.exit(only_here.found)")
    assert said(worker) is None
    assert worker.how_it_ended() == "ended with exit code 7"


def test_signals_wait_until_it_can_heed_them(start: Start) -> None:
    """A worker that the terminal interrupts in its first moment does not end with a traceback."""
    worker = start(
        "import signal, sys\n"
        "held_back = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "sys.exit(' '.join(sorted(number.name for number in held_back)))"
    )
    assert said(worker) is None
    names = " ".join(sorted(number.name for number in SIGNALS))
    assert worker.how_it_ended() == f"ended with exit code 1 ({names})"
    assert not set(SIGNALS) & signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_cannot_be_started_leaves_nothing_open(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that gets no more processes or descriptors goes on, and loses none of those that it has."""
    before = open_descriptors()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(FileNotFoundError):
        Worker(task, locks=(), wake=lambda: None)
    assert open_descriptors() == before
    pipes = iter([os.pipe()])
    monkeypatch.setattr(os, "pipe", lambda: next(pipes))
    with pytest.raises(StopIteration):
        Worker(task, locks=(), wake=lambda: None)
    assert open_descriptors() == before


def test_closed_standard_streams(task: Task) -> None:
    """A lock with the number of a stream that its program has closed cannot be passed on: no worker goes without it."""
    before = open_descriptors()
    with pytest.raises(ValueError, match="standard input, output or error is closed"):
        Worker(task, locks=(9, 2), wake=lambda: None)
    assert open_descriptors() == before


def test_no_thread_for_it(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the process is not left behind, and nothing of it stays open."""
    before, killed = open_descriptors(), []

    def no_thread(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    class Process(subprocess.Popen[bytes]):
        """Tells that it was killed."""

        def kill(self) -> None:
            """See :meth:`subprocess.Popen.kill`."""
            super().kill()
            killed.append(self.wait())

    monkeypatch.setattr(worker_process, "start_thread", no_thread)
    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(RuntimeError):
        Worker(task, locks=(), wake=lambda: None)
    assert killed == [-signal.SIGKILL]
    assert open_descriptors() == before


def test_one_that_was_not_told_to_begin_sends_nothing(start: Start, task: Task) -> None:
    """Told to stop while its leader may still have any file in flight, a worker does not open a single one."""
    worker = start()
    assert said(worker) == READY
    worker.order(STOP)
    outcome = said(worker)
    assert isinstance(outcome, Outcome)
    assert outcome.ended_by == RunEnd.SIGNAL.name
    assert (outcome.counters.shipped, outcome.counters.failures, outcome.counters.waiting) == (0, 0, {})
    assert len(os.listdir(task.config.base_dir)) == 10


@pytest.mark.parametrize("has_a_task", [True, False])
def test_a_leader_that_dies_while_it_starts_a_worker(task: Task, has_a_task: bool) -> None:
    """The worker ends at once, and prints nothing on the terminal of whoever started the run."""
    to_worker, orders = os.pipe()
    answers, from_worker = os.pipe()
    if has_a_task:
        send(orders, task)
    os.close(orders)
    os.close(answers)
    ended = subprocess.run(
        python(worker_process._PROGRAM, str(to_worker), str(from_worker)),
        pass_fds=(to_worker, from_worker),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    os.close(to_worker)
    os.close(from_worker)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_one_without_a_spool(start: Start, task: Task, capfd: pytest.CaptureFixture[str]) -> None:
    """What keeps a worker from its share is one sentence of this program, as in a run of one process."""
    for name in os.listdir(task.config.base_dir):
        os.unlink(os.path.join(task.config.base_dir, name))
    os.rmdir(task.config.base_dir)
    worker = start()
    assert said(worker) is None
    how = worker.how_it_ended()
    assert how.startswith("ended with exit code 1 (")
    assert task.config.base_dir in how
    assert capfd.readouterr() == ("", "")


def test_nobody_waits_for_messages_that_nobody_takes(start: Start) -> None:
    """A worker that tells more than its leader takes is ended all the same."""
    worker = start(
        "import os, pickle, struct, sys\n"
        "data = pickle.dumps([])\n"
        "while True: os.write(int(sys.argv[2]), struct.pack('!I', len(data)) + data)\n"
    )
    assert said(worker) == []
    worker.end()
    assert worker.process.returncode == -signal.SIGKILL
    assert "worker" not in [thread.name for thread in threading.enumerate()]
