"""Pure-FTPd and vsftpd: real FTP servers that change names, refuse some, and may be made to refuse nearly everything.

Their packages exclude one another in Debian, so they are unpacked into the cache, not installed. Both need root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tests.servers import unpacked
from tests.servers.base import Server
from tests.servers.debian import Unavailable
from tests.servers.process import accepts_connections, free_ports, wait_until


class _FtpServer(Server):
    """An FTP server with one user, whose files lie below `root`."""

    def __init__(self) -> None:
        super().__init__()
        self.host = "127.0.0.1"
        self.port = 0
        self.username = ""
        self.password = ""

    @property
    def root(self) -> Path:
        """The directory that the user sees as `/`."""
        return self.directory / "root"

    def files(self) -> dict[str, bytes]:
        """Return every file below `root` by its path."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            with contextlib.suppress(OSError):
                if path.is_file():
                    found[os.fsdecode(path.relative_to(self.root))] = path.read_bytes()
        return found

    def _prepare(self, owner: str) -> None:
        if os.geteuid() != 0:
            raise Unavailable(f"{self.name} needs root, to change to the user {owner}")
        (self.port,) = free_ports()
        self.directory.chmod(0o755)
        self.root.mkdir()
        shutil.chown(self.root, owner)


PASSWORD = "only-for-tests"
CHEAP_HASH = "$1$readings$T5lj4HFfb4lNtfqiJLt7F/"
"""Of the password, as crypt makes it from MD5.

pure-pw would take one that keeps an idle processor busy for as long as it thinks bearable, once when the account is
made and then at each login. A few logins at once on a busy machine would last longer than clients wait.
"""


class PureFtpd(_FtpServer):
    """Pure-FTPd with a virtual user.

    It drops blanks at the end of names and characters that cannot be printed.

    :param options: further ones of its command line, e.g. `-x` (no names with a dot) or `-r` (keeps old files).
    """

    name = "pure-ftpd"

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options

    def _launch(self) -> None:
        program = unpacked.program("pure-ftpd", "usr/sbin/pure-ftpd")
        manager = unpacked.program("pure-ftpd", "usr/bin/pure-pw")
        self._prepare("nobody")
        self.username, self.password = "tester", PASSWORD
        passwords, database = self.directory / "passwd", self.directory / "users.pdb"
        owner = pwd.getpwnam("nobody")
        passwords.write_text(f"tester:{CHEAP_HASH}:{owner.pw_uid}:{owner.pw_gid}::{self.root}/./{':' * 12}\n", "ascii")
        subprocess.run([manager, "mkdb", database, "-f", passwords], check=True, capture_output=True)
        command = [
            str(program),
            "-S",
            f"{self.host},{self.port}",
            "-H",
            "-4",
            "-E",
            "-A",
            "-u",
            "1",
            "-l",
            f"puredb:{database}",
        ]
        process = self._run("pure-ftpd", [*command, *self._options])
        wait_until(lambda: accepts_connections(self.port), what="pure-ftpd listened", processes=[process])


class Vsftpd(_FtpServer):
    """Vsftpd with anonymous uploads. Without further options nothing may be renamed, deleted or made.

    :param options: further lines of its configuration.
    """

    name = "vsftpd"

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options

    def _launch(self) -> None:
        program = unpacked.program("vsftpd", "usr/sbin/vsftpd")
        owner = next((each.pw_name for each in pwd.getpwall() if each.pw_uid and os.path.isdir(each.pw_dir)), None)
        if owner is None:
            raise Unavailable("vsftpd needs a user with a home directory that is not root")
        self._prepare(owner)
        self.username, self.password = "ftp", "anybody@"
        # What an anonymous user sees as / must not be writable.
        upload = self.root / "upload"
        shutil.chown(self.root, "root")
        upload.mkdir()
        shutil.chown(upload, owner)
        empty = self.directory / "empty"
        empty.mkdir()
        settings = {
            "listen": "YES",
            "listen_ipv6": "NO",
            "listen_address": self.host,
            "listen_port": str(self.port),
            "background": "NO",
            "anonymous_enable": "YES",
            "local_enable": "NO",
            "write_enable": "YES",
            "anon_upload_enable": "YES",
            "anon_root": str(self.root),
            "anon_umask": "022",
            "ftp_username": owner,
            "secure_chroot_dir": str(empty),
            "no_anon_password": "YES",
            "seccomp_sandbox": "NO",
            "xferlog_enable": "NO",
        }
        configuration = self.directory / "vsftpd.conf"
        lines = [*(f"{name}={value}" for name, value in settings.items()), *self._options]
        configuration.write_text("\n".join(lines) + "\n")
        process = self._run("vsftpd", [str(program), str(configuration)])
        wait_until(lambda: accepts_connections(self.port), what="vsftpd listened", processes=[process])
