"""A process that has loaded the command already, so that a run of it takes a fork and not a start of the interpreter.

What tries thousands of runs would spend most of its time on imports. Each run is a process of its own with its own
arguments, environment and streams; nothing of the package is loaded in the tests' process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import mmap
import os
import pkgutil
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.site import COMMAND, Finished, Site

ROOT = Path(__file__).parents[2]
_ATTACHED = b"attached"
_WAITS, _GOES = 1, 2
_GLANCE_SECONDS = 0.001
_NOT_NEEDED = ("s3_uploader.stores.sftp", "s3_uploader.remote_store", "s3_uploader.cli.audit", "s3_uploader.cli.report")
"""What no run of a spool that is in `disturbed.KINDS` imports, and what takes longest to import."""


class Preloaded:
    """The process; `run` starts ``s3-uploader-cli CONFIG_FILE`` as a child of it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._process = self._start()

    def run(self, tracer: Sequence[str] = (), timeout: float = 60.0) -> Finished:
        """Run the command to its end, from its first step on under a tracer that takes a process by ``-p``."""
        site = self._site
        site.write_config()
        out, err = site.place / "stdout", site.place / "stderr"
        began = time.monotonic()
        self._tell(
            arguments=[str(COMMAND), str(site.config_file)],
            environment=site.environment,
            streams=[str(out), str(err)],
            directory=str(site.home),
        )
        pid = self._answer()["pid"]
        try:
            with _traced(tracer, pid):
                self._tell()
                ended = self._answer(timeout)
        except BaseException:
            # Another run would get the answers of this one.
            self.end()
            self._process = self._start()
            raise
        return Finished(
            code=os.waitstatus_to_exitcode(ended["status"]),
            stdout=out.read_bytes().decode("utf-8", "backslashreplace"),
            stderr=err.read_bytes().decode("utf-8", "backslashreplace"),
            seconds=time.monotonic() - began,
            cpu_seconds=ended["cpu"],
        )

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        self._site.write_config()
        return subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.preloaded", str(self._site.config_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=self._site.home,
            env={**self._site.environment, "PYTHONPATH": str(ROOT)},
        )

    def _tell(self, **request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self, timeout: float = 60.0) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        assert ready, f"still running after {timeout:g} s"
        answer = json.loads(self._process.stdout.readline())
        assert isinstance(answer, dict)
        return answer


@contextlib.contextmanager
def preloaded(site: Site) -> Iterator[Preloaded]:
    """A process for the runs of one site."""
    process = Preloaded(site)
    try:
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def _traced(tracer: Sequence[str], pid: int) -> Iterator[None]:
    """A tracer that has taken hold of a process, and that ends with it."""
    process = subprocess.Popen([*tracer, "-p", str(pid)], stderr=subprocess.PIPE) if tracer else None
    try:
        if process is not None:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert _ATTACHED in said, f"the tracer did not take hold of the process: {said!r}"
        yield
        if process is not None:
            process.communicate(timeout=30)
    except BaseException:
        # The tracer ends with what it traces.
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        if process is not None:
            process.kill()
            process.communicate()


def serve() -> int | str | None:
    """Take runs from standard input until it ends; in a child, what the command returned."""
    _load(sys.argv[1])
    while request := sys.stdin.buffer.readline():
        gate = mmap.mmap(-1, 1)
        pid = os.fork()
        if pid == 0:
            return _child(json.loads(request), gate)
        while gate[0] != _WAITS:
            time.sleep(_GLANCE_SECONDS)
        _say(pid=pid)
        sys.stdin.buffer.readline()
        gate[0] = _GOES
        _, status, usage = os.wait4(pid, 0)
        _say(status=status, cpu=usage.ru_utime + usage.ru_stime)
    return 0


def _load(config_file: str) -> None:
    """Import what a run may import, and let it be kept what is found out once in a process about the configuration."""
    package = importlib.import_module("s3_uploader")
    for each in pkgutil.walk_packages(package.__path__, "s3_uploader."):
        # What a run without an extra cannot import, no run of these tests needs.
        if not each.name.startswith(_NOT_NEEDED) and not each.name.endswith("__main__"):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(each.name)
    for name in ("gzip", "sqlite3", "ssl", "zoneinfo"):
        importlib.import_module(name)
    importlib.import_module("s3_uploader.config").load(config_file)
    gc.collect()
    gc.freeze()


def _child(request: dict[str, Any], gate: mmap.mmap) -> int | str | None:
    """Become the command: streams, directory, environment and arguments are those of its caller."""
    for number, path in ((0, os.devnull), *enumerate(request["streams"], 1)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    # In memory, and asleep: whoever traces it counts its calls, and none of those that are counted is one of these.
    gate[0] = _WAITS
    while gate[0] != _GOES:
        time.sleep(_GLANCE_SECONDS)
    main: Callable[[], int | str | None] = importlib.import_module("s3_uploader.cli").main
    code = main()
    if isinstance(code, int):
        _end(code)
    return code


def _end(code: int) -> None:
    """End as the interpreter does, but do not take it apart: that takes as long as ten runs, and nobody sees it."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the threads that are not daemons
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(serve())
