"""The cron daemon, with crontabs and a mail program of its own: the machine's jobs are not run beside a test's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.debian import Unavailable, find_program, require

_MAIL_PROGRAM = """\
#!/bin/sh
cat >> "{mail}"
"""
# cron looks for the mail program at this one place, so the whole directory is replaced for it.
_BOOT = """\
set -e
mount --bind "$1/cron.d" /etc/cron.d
mount --bind "$1/nothing" /etc/crontab
mount -t tmpfs tmpfs /var/spool/cron
mkdir /var/spool/cron/crontabs
mount -t tmpfs tmpfs /run
mount --bind "$1/sbin" /usr/sbin
mount -t proc proc /proc
exec /usr/sbin/cron -f
"""


class Cron:
    """A running cron daemon.

    :param place: a directory for its crontabs and the mail that it sends.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.crontabs = place / "cron.d"
        self._mail = place / "mail"
        self._process: subprocess.Popen[bytes] | None = None
        self.crontabs.mkdir(parents=True)

    def start(self) -> None:
        """Start it; what is in `crontabs` by then is read at once. Raises `Unavailable` where it cannot run."""
        require("cron")
        program = find_program("cron")
        if os.geteuid() != 0 or program is None:
            raise Unavailable("cron with crontabs of its own needs root")
        (self.place / "nothing").touch(mode=0o644)
        sbin = self.place / "sbin"
        sbin.mkdir()
        shutil.copy2(program, sbin / "cron")
        (sbin / "sendmail").write_text(_MAIL_PROGRAM.format(mail=self._mail))
        (sbin / "sendmail").chmod(0o755)
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _BOOT, "boot", self.place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"]},
        )

    def is_running(self) -> bool:
        """Whether it is still there."""
        return self._process is not None and self._process.poll() is None

    def mail(self) -> str:
        """What it has mailed to anybody."""
        return self._mail.read_text(errors="replace") if self._mail.exists() else ""

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
