"""One run: make the spool, start the program, see what it took, and see whether it did its work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks import contestants
from benchmarks.arrival import missing_or_wrong
from benchmarks.cases import Line
from benchmarks.contestants import Contestant, Job
from benchmarks.machine import Busy
from benchmarks.spools import Plan, Spool
from benchmarks.summary import Run
from tests.servers.base import S3Endpoint
from tests.servers.guard import session_members
from tests.servers.nginx_sink import NginxSink

_LAUNCHER = Path(__file__).with_name("launch.py")
_TIMEOUT_SECONDS = 3600.0
_FRESH_SECONDS = 10
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")


class Bench:
    """A sink, a place on the disk, and the programs: what every run needs.

    :param place: a directory of our own on the file system that is to be measured.
    :param programs: their paths, by the contestants' names.
    """

    def __init__(self, sink: NginxSink, place: str, programs: dict[str, Path]) -> None:
        self._sink = sink
        self._place = place
        self._programs = programs
        self._spool = Spool(place)

    def has(self, contestant: Contestant) -> bool:
        """Whether its program is there."""
        return contestant.name in self._programs

    def run(self, contestant: Contestant, plan: Plan, line: Line, *, keep_state_as: str) -> Run:
        """Have a contestant empty a new spool.

        :param keep_state_as: runs with the same name share what the program keeps from one to the next.
        """
        endpoint = self._endpoint(line)
        state = os.path.join(self._place, "state", keep_state_as)
        os.makedirs(state, exist_ok=True)
        job = Job(
            spool=self._spool.path,
            state=state,
            endpoint=endpoint,
            fresh_seconds=_FRESH_SECONDS if plan.fresh else 0,
        )
        shutil.rmtree(self._spool.path, ignore_errors=True)
        paths = self._spool.make(plan)
        if not plan.fresh:
            # Else the disk would be busy with these files while the program is measured.
            os.sync()
        self._sink.objects(reset=True)
        run, code = self._launch(contestant, job)
        problem = ""
        if not contestant.accepts(code, files=plan.files):
            problem = f"exit code {code}"
        elif plan.fresh:
            problem = self._untouched(plan)
        else:
            problem = self._arrived(plan, paths, endpoint.bucket)
        if problem:
            print(f"{contestants.label(contestant)}: {problem}\n{self._tail()}", file=sys.stderr)
        return Run(seconds=run.seconds, cpu=run.cpu, peak=run.peak, others=run.others, problem=problem)

    def forget_state(self, keep_state_as: str) -> None:
        """Remove what a program keeps."""
        shutil.rmtree(os.path.join(self._place, "state", keep_state_as), ignore_errors=True)
        shutil.rmtree(os.path.join("/dev/shm", keep_state_as), ignore_errors=True)

    def _endpoint(self, line: Line) -> S3Endpoint:
        return {
            "plain": self._sink.endpoint,
            "slow": self._sink.slow_endpoint,
            "tls": self._sink.tls_endpoint,
        }[line]

    def _launch(self, contestant: Contestant, job: Job) -> tuple[Run, int]:
        command = contestant.command(job)
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment |= job.endpoint.environment() | command.environment
        sink = [member for process in self._sink.processes for member in session_members(process.identifier)]
        before = Busy.now(sink)
        with subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(_LAUNCHER), self._output),
                *(str(self._programs[contestant.name]), *command.arguments),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as launcher:
            try:
                said, _ = launcher.communicate(timeout=_TIMEOUT_SECONDS)
            except BaseException:
                os.killpg(launcher.pid, signal.SIGKILL)
                raise
        took = json.loads(said)
        others = Busy.now(sink).others_since(before, took["seconds"])
        return Run(seconds=took["seconds"], cpu=took["cpu"], peak=took["peak"], others=others), took["code"]

    @property
    def _output(self) -> str:
        return os.path.join(self._place, "output")

    def _tail(self) -> str:
        with open(self._output, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-5:])

    def _untouched(self, plan: Plan) -> str:
        arrived = len(self._sink.objects())
        left = self._spool.left()
        return "" if (arrived, left) == (0, plan.files) else f"{arrived} files were sent, {left} are left"

    def _arrived(self, plan: Plan, paths: list[str], bucket: str) -> str:
        prefix = bucket + "/"
        arrived = {
            path.removeprefix(prefix): tuple((piece.size, piece.md5) for piece in pieces)
            for path, pieces in self._sink.objects().items()
        }
        problem = missing_or_wrong(arrived, expected=paths, size=plan.size, arrives_as=plan.arrives_as)
        left = self._spool.left()
        return problem or (f"{left} files are left in the spool" if left else "")
