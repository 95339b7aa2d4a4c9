"""ProFTPD's mod_sftp: an SFTP server that is not OpenSSH's, with passwords, and with hashes (`check-file`)."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.servers import debian
from tests.servers.base import Server
from tests.servers.process import accepts_connections, free_ports, wait_until
from tests.servers.proftpd import COMMON, password_entry

_CONFIGURATION = f"""\
LoadModule mod_sftp.c
{COMMON}\
SFTPEngine on
SFTPHostKey {{directory}}/host_key
SFTPAuthMethods password
"""


class ProftpdSftpServer(Server):
    """One user with a password, whose directory is `root`."""

    name = "proftpd_sftp"

    def __init__(self) -> None:
        super().__init__()
        self.host = "127.0.0.1"
        self.port = 0
        self.username = "tester"
        self.password = ""

    @property
    def root(self) -> Path:
        """The directory that the user sees as `/`."""
        return self.directory / "root"

    def settings(self) -> dict[str, Any]:
        """The keys of the destination, but for its type; the password is given as the store takes it."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.username,
            "password": self.password,
            "path": "/",
            "known_hosts_file": str(self.directory / "known_hosts"),
        }

    def _launch(self) -> None:
        debian.require("proftpd")
        if debian.find_file("usr/lib/proftpd/mod_sftp.so") is None:
            raise debian.Unavailable("ProFTPD's mod_sftp is not installed")
        if os.geteuid() != 0:
            raise debian.Unavailable("only root can have a ProFTPD that shows its user one directory as /")
        program = debian.find_program("proftpd")
        assert program is not None
        (self.port,) = free_ports()
        self.password = secrets.token_hex(12)
        self.root.mkdir()
        key = self.directory / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", key], check=True)
        public = (self.directory / "host_key.pub").read_text().split()
        (self.directory / "known_hosts").write_text(f"[{self.host}]:{self.port} {public[0]} {public[1]}\n")
        owner = pwd.getpwnam("nobody")
        self.directory.chmod(0o755)
        shutil.chown(self.root, owner.pw_uid, owner.pw_gid)
        passwd = self.directory / "passwd"
        passwd.touch(mode=0o600)
        passwd.write_text(password_entry(self.username, self.password, owner, self.root))
        configuration = self.directory / "proftpd.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                port=self.port,
                user=owner.pw_name,
                group=grp.getgrgid(owner.pw_gid).gr_name,
                directory=self.directory,
            )
        )
        process = self._run("proftpd", [program, "-n", "-q", "-c", configuration])
        wait_until(lambda: accepts_connections(self.port), what="proftpd listened", processes=[process])
