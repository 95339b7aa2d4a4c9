"""A machine on which the command is installed: a spool, a configuration, an environment as bare as cron's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.servers.base import S3Endpoint, S3Server

COMMAND = Path(sys.executable).with_name("s3-uploader-cli")
"""The command as pip installed it, beside the interpreter that runs the tests."""

ENGINES = ("native", "boto3")
"""What sends the requests; the promises are the same with each."""

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - (  INFO|WARNING| ERROR| DEBUG) - (.*)")
"""A line of the log."""

LOCK_FILE = ".s3-uploader.lock"
"""What lies in a spool while a run is at work."""

_SETTLED = 3600.0


# The numbers of a child, measured from a small process: what is forked from the tests would count their memory as its
# own, for the kernel keeps the peak of a process when it becomes another program.
_MEASURED = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump({"cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}, file)
sys.exit(code)
"""


@dataclass(frozen=True)
class Finished:
    """A process that has ended.

    `cpu_seconds` is what it used of processors.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float

    @property
    def log(self) -> list[tuple[str, str]]:
        """Level and sentence of each line on standard error; every line must be one of the log."""
        parsed = [(line, LINE.fullmatch(line)) for line in self.stderr.splitlines()]
        strange = [line for line, found in parsed if found is None]
        assert not strange, f"no lines of the log: {strange}"
        return [(found[1].strip(), found[2]) for _, found in parsed if found is not None]

    def sentences(self, level: str) -> list[str]:
        """The sentences of one level."""
        return [sentence for found, sentence in self.log if found == level]


class Running:
    """A process of the command; what it prints goes to files, so that it never waits for the test."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self.process = process
        self._stdout = stdout
        self._stderr = stderr
        self._began = time.monotonic()
        self._finished: Finished | None = None

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._stderr.read_bytes().decode("utf-8", "backslashreplace")

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        return self._stdout.read_bytes().decode("utf-8", "backslashreplace")

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> Finished | None:
        """What came of it, ``None`` while it runs."""
        if self._finished is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._note(status, usage)
        return self._finished

    def wait(self, timeout: float = 60.0) -> Finished:
        """Wait for its end; after the timeout kill it and fail."""
        until = time.monotonic() + timeout
        while (finished := self.poll()) is None:
            if time.monotonic() > until:
                self.kill()
                raise AssertionError(f"still running after {timeout:g} s; standard error: {self.stderr[-3000:]}")
            time.sleep(0.003)
        return finished

    def kill(self) -> Finished:
        """End it with SIGKILL."""
        if self._finished is None:
            self.send(signal.SIGKILL)
        while (finished := self.poll()) is None:
            time.sleep(0.001)
        return finished

    def wait_until(self, holds: Callable[[], object], what: str, timeout: float = 45.0) -> None:
        """Wait until something holds while the process runs.

        On a machine that is busy a start takes its time. What only the next pass would find takes a minute or longer.
        """
        until = time.monotonic() + timeout
        while not holds():
            assert self.poll() is None, f"ended before {what}: {self.stderr[-3000:]}"
            assert time.monotonic() < until, f"{what}: not within {timeout:g} s; {self.stderr[-3000:]}"
            time.sleep(0.005)

    def _note(self, status: int, usage: resource.struct_rusage) -> None:
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self._finished = Finished(
            code=self.process.returncode,
            stdout=self.stdout,
            stderr=self.stderr,
            seconds=time.monotonic() - self._began,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
        )


class Site:
    """A spool with its configuration, a home directory, and the environment that cron would give.

    `settings` is the configuration, `environment` the variables; both may be changed between runs.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.spool = place / "spool"
        self.home = place / "home"
        self.config_file = place / "config.json"
        self.settings: dict[str, Any] = {"base_dir": str(self.spool)}
        self.environment = bare_environment(self.home)
        self._started: list[Running] = []
        self.spool.mkdir()
        self.home.mkdir()

    # Before a run

    def ship_to(self, server: S3Server | S3Endpoint, **settings: Any) -> None:
        """Let the spool be shipped to a server's bucket."""
        self.settings.update({"bucket": (server if isinstance(server, S3Endpoint) else server.endpoint).bucket})
        self.settings.update(settings)
        self.environment.update(server.environment())

    def ship_to_directory(self, **settings: Any) -> Path:
        """Let the spool be shipped to a directory, which is returned."""
        archive = self.place / "archive"
        archive.mkdir(exist_ok=True)
        self.settings["destination"] = {"type": "local", "path": str(archive), **settings}
        return archive

    def file(self, path: str | bytes, content: bytes = b"a reading\n", *, age: float = _SETTLED) -> Path:
        """Write a file of the spool that was last changed so many seconds ago."""
        full = self.spool / os.fsdecode(path)
        in_its_directory(full, lambda: full.write_bytes(content))
        settle(full, age)
        return full

    def files(self, count: int, size: int = 16, *, location: str = "bedroom") -> list[Path]:
        """Write so many files with contents of their own."""
        made = []
        for number in range(count):
            path = f"{location}/2020/11/{number // 1440 + 1:02d}/{number // 60 % 24:02d}/{number % 60:02d}-topic.dat"
            made.append(self.file(path, f"{path} ".encode().ljust(size, b".")))
        return made

    # Runs

    def run(self, *arguments: str, timeout: float = 120.0, **options: Any) -> Finished:
        """Run ``s3-uploader-cli [ARGUMENTS] CONFIG_FILE`` to its end; without arguments in the form that cron uses."""
        return self.start(*arguments, **options).wait(timeout)

    def start(
        self,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        command: list[str] | None = None,
        stdout: IO[bytes] | int | None = None,
        stderr: IO[bytes] | int | None = None,
        **options: Any,
    ) -> Running:
        """Start it; the test's end ends it at the latest.

        The first argument is the command, the configuration file comes after it.

        :param prefix: a program that starts the command, with its arguments.
        :param environment: variables on top of the site's own.
        :param command: the whole command line instead.
        """
        if command is None:
            self.write_config()
        line = command or [str(COMMAND), *arguments[:1], str(self.config_file), *arguments[1:]]
        number = len(self._started)
        out, err = self.place / f"stdout-{number}", self.place / f"stderr-{number}"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                [*prefix, *line],
                cwd=self.home,
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=to_out if stdout is None else stdout,
                stderr=to_err if stderr is None else stderr,
                **options,
            )
        running = Running(process, out, err)
        self._started.append(running)
        return running

    def write_config(self) -> None:
        """Write the configuration file from `settings`."""
        self.config_file.write_text(json.dumps(self.settings, indent=4))

    def end(self) -> None:
        """Kill what still runs."""
        for running in self._started:
            running.kill()

    # After a run

    def left(self) -> dict[str, bytes]:
        """Path below the spool and content of every regular file in it.

        The lock file of a run counts as soon as none of the site's runs is at work: a run takes it away at its end.
        """
        found = contents(self.spool)
        if any(running.poll() is None for running in self._started):
            found.pop(LOCK_FILE, None)
        return found

    def history(self) -> list[dict[str, Any]]:
        """What the command says it shipped."""
        finished = self.run("history", "--format", "json")
        assert finished.code == 0, finished.stderr
        return [json.loads(line) for line in finished.stdout.splitlines()]

    def status(self) -> dict[str, Any]:
        """What the command says about the spool."""
        finished = self.run("status", "--json")
        assert finished.code == 0, finished.stderr
        answer = json.loads(finished.stdout)
        assert isinstance(answer, dict)
        return answer


def bare_environment(home: Path) -> dict[str, str]:
    """The variables that cron sets, and those with which coverage follows into other processes."""
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    return variables | {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


def in_its_directory(path: Path, action: Callable[[], object]) -> None:
    """Do something in a directory of the spool that is made for it.

    A run at work may prune it at once, for the files are of long ago: then it is made anew, as a producer would.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            action()
        except FileNotFoundError:
            continue
        return


def settle(path: Path, age: float = _SETTLED) -> None:
    """Let a file look as if it had been left alone for so long."""
    moment = time.time() - age
    os.utime(path, (moment, moment), follow_symlinks=False)


def contents(directory: Path) -> dict[str, bytes]:
    """Relative path and content of every regular file below a directory; one that goes meanwhile is not there."""
    found = {}
    for below, _, names in os.walk(directory):
        for name in names:
            path = Path(below, name)
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    found[str(path.relative_to(directory))] = path.read_bytes()
    return found


def take_away(directory: Path) -> None:
    """Remove a directory with all that is in it, also while a run makes its lock file there."""
    while directory.exists():
        with contextlib.suppress(OSError):
            shutil.rmtree(directory)


def entries(directory: Path) -> list[str]:
    """The relative paths of everything below a directory."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def without_privileges() -> tuple[str, ...]:
    """What starts a program as a user to whom the modes of files apply: for root, without its capabilities."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "setpriv of util-linux is missing"
    return (setpriv, "--bounding-set=-all", "--inh-caps=-all")


def stop(running: Running, number: int = signal.SIGTERM, timeout: float = 20) -> None:
    """Tell it to stop, and see that it does so in good order."""
    running.send(number)
    finished = running.wait(timeout)
    assert finished.code == 128 + number, finished.stderr
    assert "Traceback" not in finished.stderr


def untraced(site: Site) -> None:
    """Coverage would be measured instead of the program."""
    site.environment = {name: value for name, value in site.environment.items() if not name.startswith("COVERAGE_")}


def measured(site: Site, *arguments: str, timeout: float = 250.0) -> tuple[Finished, float, int]:
    """A run with its processor seconds and its peak of memory in bytes."""
    untraced(site)
    numbers = site.place / "numbers.json"
    prefix = (sys.executable, "-I", "-S", "-c", _MEASURED, str(numbers))
    finished = site.run(*arguments, prefix=prefix, timeout=timeout)
    found: dict[str, Any] = json.loads(numbers.read_text())
    return finished, found["cpu"], found["peak"]
