"""systemd itself, as the first process of namespaces of its own: units really run, and the machine does not notice.

It sees none of the machine's units, but minimal targets and those that a test installs into its `/etc/systemd/system`.
`/etc/s3-uploader`, `/home`, `/run`, `/srv` and `/var/lib` are its own and empty at first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.servers.debian import Unavailable

_CONFIGURATIONS = Path("/etc/s3-uploader")
"""Where a file system of its own is mounted; the directory must be there for that."""

_PROGRAM = Path("/lib/systemd/systemd")
_TARGETS = (
    "default",
    "sysinit",
    "basic",
    "shutdown",
    "multi-user",
    "network-online",
    "timers",
    "sockets",
    "paths",
    "slices",
    "umount",
    "final",
    "local-fs",
)
_BOOT = """\
set -e
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd /run/lock /etc/systemd/system /var/lib /srv /home
for each in /etc/s3-uploader /home /srv /var/lib; do mount -t tmpfs -o mode=755 tmpfs $each; done
mount --bind "$1" /etc/systemd/system
mount -t proc proc /proc
exec "$2" --system --unit=default.target --log-target=console --show-status=no
"""
_LOG_OF_SERVICES = "[Service]\nStandardOutput=append:/run/services.log\nStandardError=append:/run/services.log\n"
_START_SECONDS = 20.0


class Systemd:
    """A running systemd.

    :param place: a directory for its units and its log.
    :param before: what a shell does in the namespaces before it becomes systemd.
    """

    def __init__(self, place: Path, *, before: str = "") -> None:
        self._before = before
        self._units = place / "units"
        self._log = place / "systemd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._leftovers: list[Path] = []

    def start(self) -> None:
        """Start it and wait until it answers. Raises `Unavailable` where it cannot run."""
        if os.geteuid() != 0 or not _PROGRAM.exists() or shutil.which("nsenter") is None:
            raise Unavailable("systemd in a namespace needs root, and the Debian packages systemd and util-linux")
        self._units.mkdir(parents=True)
        if not _CONFIGURATIONS.exists():
            _CONFIGURATIONS.mkdir()
            self._leftovers.append(_CONFIGURATIONS)
        for name in _TARGETS:
            text = f"[Unit]\nDescription={name}\nDefaultDependencies=no\n"
            (self._units / f"{name}.target").write_text(text)
        (self._units / "service.d").mkdir()
        (self._units / "service.d" / "log.conf").write_text(_LOG_OF_SERVICES)
        namespaces = ["--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--kill-child"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "unshare",
                    *namespaces,
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    f"set -e\n{self._before}\n{_BOOT}",
                    "boot",
                    self._units,
                    _PROGRAM,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "container": "other", "SYSTEMD_UNIT_PATH": "/etc/systemd/system"},
            )
        until = time.monotonic() + _START_SECONDS
        while not self._is_running():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise Unavailable(f"systemd does not run in a namespace here: {self.log[-500:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and with it everything in its namespaces."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        while self._leftovers:
            self._leftovers.pop().rmdir()

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace")

    @property
    def services_log(self) -> str:
        """What its services have said."""
        return self.inside("sh", "-c", "cat /run/services.log || true")

    def entrance(self) -> list[str]:
        """What stands before a command that is to run in its namespaces."""
        return ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--uts", "--ipc"]

    def inside(self, *command: str | os.PathLike[str], check: bool = True, **options: object) -> str:
        """Run a command in its namespaces; returns what it printed."""
        finished = subprocess.run(
            [*self.entrance(), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            **options,  # type: ignore[call-overload]
        )
        if check:
            assert finished.returncode == 0, (
                f"{command}: {finished.stdout}\n{self.log[-2000:]}\n{self.services_log[-4000:]}"
            )
        return str(finished.stdout)

    def _is_running(self) -> bool:
        if not self._pid:
            assert self._process is not None
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if not children:
                return False
            self._pid = int(children[0])
        finished = subprocess.run(
            ["nsenter", "--target", str(self._pid), "--mount", "--pid", "systemctl", "is-system-running"],
            capture_output=True,
            text=True,
            check=False,
        )
        return finished.stdout.strip() in ("running", "degraded")
