"""Slurm: its controller and several nodes on one machine, each node with processes of its own that die with it.

The daemons are Debian's, unpacked into the cache. They listen on 127.0.0.1 only, and authenticate with a key of their
own. A node is a namespace of processes under a host name: killing it is what a power cut is to a machine.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers import unpacked
from tests.servers.base import Server
from tests.servers.process import ServerProcess, free_ports, wait_until

NODES = ("node1", "node2", "node3")

_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost=controller(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# How long a task that is requeued waits, too.
AuthInfo=socket={directory}/munge.socket,cred_expire=15
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
PluginDir={plugins}
PlugStackConfig=/dev/null
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
MpiDefault=none
SwitchType=switch/none
SlurmdTimeout=6
"""
_NODE = "NodeName={name} NodeAddr=127.0.0.1 NodeHostname={name} Port={port} CPUs=2 RealMemory=4096\n"
_PARTITION = "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"

# The daemons listen on the address of the name of their host.
_AS_A_HOST = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"'
_APART = ("unshare", "--mount", "--pid", "--mount-proc", "--uts", "--fork", "--kill-child", "sh", "-c", _AS_A_HOST)
_CALL_SECONDS = 60


class SlurmError(Exception):
    """A command of Slurm has failed; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task of an array; `node` is where it is or was last, empty while it waits."""

    index: int
    state: str
    restarts: int
    node: str


class Slurm(Server):
    """A cluster of three nodes with two processors each. Needs root and namespaces."""

    name = "slurm"

    def __init__(self) -> None:
        super().__init__()
        self._root = Path()
        self._libraries = Path()
        self._nodes: dict[str, ServerProcess] = {}

    def _launch(self) -> None:
        self._root = unpacked.program("slurm", ".")
        daemon = unpacked.program("slurm", "usr/sbin/slurmd-wlm")
        (self._libraries,) = {path.parent for path in self._root.glob("usr/lib/*/libmunge.so.2")}
        self._configure()
        munged = self._start_munged()
        controller = self._host("controller", self._root / "usr/sbin/slurmctld-wlm", "-D", "-v")
        steps = self._root / "usr/sbin/slurmstepd-wlm"
        self._nodes = {name: self._host(name, daemon, "-D", "-v", "-N", name, "-d", steps) for name in NODES}
        started = [munged, controller, *self._nodes.values()]
        wait_until(self._is_ready, what="all nodes were idle", processes=started, timeout_seconds=60)

    def _configure(self) -> None:
        (self.directory / "state").mkdir()
        port, *ports = free_ports(1 + len(NODES))
        settings = _CONFIGURATION.format(port=port, directory=self.directory, plugins=self._libraries / "slurm-wlm")
        nodes = "".join(_NODE.format(name=name, port=port) for name, port in zip(NODES, ports, strict=True))
        self._configuration.write_text(settings + nodes + _PARTITION)
        names = ["localhost", "controller", *NODES]
        self._hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in names))

    def _start_munged(self) -> ServerProcess:
        key = self.directory / "munge.key"
        key.touch(0o400)
        key.write_bytes(secrets.token_bytes(128))
        places = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munge.log"}
        places |= {"seed-file": "munge.seed"}
        # It insists on directories that only their owner may write in.
        self.directory.chmod(0o755)
        options = [f"--{option}={self.directory / name}" for option, name in places.items()]
        command: list[str | Path] = [self._root / "usr/sbin/munged", "--foreground", *options]
        process = self._run("munged", command, environment=self._environment())
        wait_until((self.directory / "munge.socket").exists, what="munged listened", processes=[process])
        return process

    def _host(self, name: str, *command: str | Path) -> ServerProcess:
        apart: list[str | Path] = [*_APART, name, self._hosts, *command]
        return self._run(name, apart, environment=self._environment())

    def _environment(self) -> dict[str, str]:
        libraries = f"{self._libraries}:{self._libraries / 'slurm-wlm'}"
        return {"SLURM_CONF": str(self._configuration), "LD_LIBRARY_PATH": libraries}

    @property
    def _configuration(self) -> Path:
        return self.directory / "slurm.conf"

    @property
    def _hosts(self) -> Path:
        return self.directory / "hosts"

    def _is_ready(self) -> bool:
        with suppress(SlurmError):
            told = self._call("sinfo", "--noheader", "--Node", "--format=%N %T")
            return sorted(told.splitlines()) == [f"{name} idle" for name in NODES]
        return False

    def _grace_seconds(self) -> float:
        # Nothing of it is used again.
        return 0.0

    def submit(self, *script: Path, directory: Path, environment: Mapping[str, str]) -> str:
        """Submit a script with its arguments from a directory, in an environment; returns the number of the job."""
        return self._call("sbatch", "--parsable", *script, directory=directory, environment=environment).strip()

    def tasks(self, job: str) -> list[Task]:
        """The tasks of an array, also those that have ended."""
        columns = "ArrayTaskID:20,State:20,RestartCnt:20,NodeList:20"
        told = self._call("squeue", "--array", "--noheader", "--states=all", f"--jobs={job}", f"--Format={columns}")
        found = []
        for line in told.splitlines():
            index, state, restarts, *node = line.split()
            found.append(Task(index=int(index), state=state, restarts=int(restarts), node="".join(node)))
        return sorted(found, key=lambda task: task.index)

    def requeue(self, job: str, index: int) -> None:
        """End a task where it runs, and start it anew."""
        self._call("scontrol", "requeue", f"{job}_{index}")

    def kill_node(self, name: str) -> None:
        """Everything that runs on a node is gone at once, its daemon too."""
        process = self._nodes.pop(name)
        process.stop(grace_seconds=0)
        self.processes.remove(process)

    def _call(
        self,
        program: str,
        *arguments: str | Path,
        directory: Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> str:
        finished = subprocess.run(
            [self._root / "usr/bin" / program, *arguments],
            cwd=directory,
            env={**environment, **self._environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CALL_SECONDS,
            check=False,
        )
        if finished.returncode:
            raise SlurmError(f"{program}: {finished.stderr}")
        return finished.stdout
