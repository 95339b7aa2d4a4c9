"""OpenSSH's server, for SFTP: by a program of its own or within, chrooted, read-only, or not speaking it at all."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

from tests.servers import debian
from tests.servers.base import Server
from tests.servers.process import accepts_connections, free_ports, make_directory, remove_directory, wait_until

_CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host_key
PidFile {directory}/sshd.pid
AuthorizedKeysFile {directory}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
MaxStartups {startups}
X11Forwarding no
AllowTcpForwarding no
{how}
"""

HOW = {
    "program": "Subsystem sftp {program}",
    "internal": "Subsystem sftp internal-sftp",
    "read-only": "Subsystem sftp internal-sftp -R",
    "forced": "Subsystem sftp /bin/false\nForceCommand internal-sftp",
    "chroot": "Subsystem sftp internal-sftp\nChrootDirectory {jail}",
    "shell": "Subsystem sftp /bin/false\nForceCommand echo Welcome, stranger; sleep 1",
}
"""The ways to serve, by the name of each."""


class OpensshServer(Server):
    """An SSH server whose user is the one that runs the tests, with a key of its own.

    :param how: one of `HOW`. A chroot needs root.
    :param startups: connections that have not logged in yet, as `MaxStartups` has them.
    """

    name = "openssh"

    def __init__(self, how: str = "internal", *, startups: str = "200") -> None:
        super().__init__()
        self.how = how
        self._startups = startups
        self.host = "127.0.0.1"
        self.port = 0
        self.username = getpass.getuser()
        self._own_jail: Path | None = None

    @property
    def root(self) -> Path:
        """The directory in which files are stored, as this machine sees it."""
        return self._jail / "up"

    @property
    def _jail(self) -> Path:
        return self._own_jail or self.directory / "jail"

    @property
    def path(self) -> str:
        """The same as the server shows it."""
        return "/up" if self.how == "chroot" else str(self.root)

    @property
    def private_key(self) -> Path:
        """The key with which the user logs in."""
        return self.directory / "user_key"

    @property
    def known_hosts(self) -> Path:
        """A file that trusts the server."""
        return self.directory / "known_hosts"

    def settings(self) -> dict[str, object]:
        """The keys of the destination, but for its type."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.username,
            "path": self.path,
            "private_key_file": str(self.private_key),
            "known_hosts_file": str(self.known_hosts),
        }

    def new_host_key(self) -> None:
        """Make another host key; the server shows it when it is started anew."""
        for suffix in ("", ".pub"):
            (self.directory / f"host_key{suffix}").unlink(missing_ok=True)
        _make_key(self.directory / "host_key")

    def restart(self) -> None:
        """End the server and start it again, with what it has."""
        while self.processes:
            self.processes.pop().stop()
        self._serve()

    def _launch(self) -> None:
        debian.require("openssh")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        (self.port,) = free_ports()
        for name in ("host_key", "user_key"):
            _make_key(self.directory / name)
        (self.directory / "authorized_keys").write_bytes(self.private_key.with_name("user_key.pub").read_bytes())
        public = (self.directory / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {public[0]} {public[1]}\n")
        if self.how == "chroot":
            if os.geteuid() != 0:
                raise debian.Unavailable("only root can have an SSH server that chroots")
            # Nobody but root may write above it, so it cannot be below /tmp.
            self._own_jail = make_directory(below="/run")
            self._own_jail.chmod(0o755)
        self.root.mkdir(parents=True)
        self._serve()

    def _clean_up(self) -> None:
        super()._clean_up()
        jail, self._own_jail = self._own_jail, None
        if jail is not None:
            remove_directory(jail)

    def _serve(self) -> None:
        program = debian.find_program("sshd")
        helper = debian.find_file("usr/lib/openssh/sftp-server")
        how = HOW[self.how].format(program=helper, jail=self._jail)
        configuration = self.directory / "sshd_config"
        configuration.write_text(
            _CONFIGURATION.format(port=self.port, directory=self.directory, how=how, startups=self._startups)
        )
        assert program is not None
        process = self._run("sshd", [program, "-D", "-e", "-f", configuration])
        wait_until(lambda: accepts_connections(self.port), what="sshd listened", processes=[process])


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path], check=True)
