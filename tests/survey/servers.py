"""The servers of the survey, and what their versions are."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.site import ENGINES
from tests.servers import debian, environments, unpacked
from tests.servers.base import S3Server, Server
from tests.servers.ceph_rgw import CephServer
from tests.servers.moto_server import MotoServer
from tests.servers.openssh import OpensshServer
from tests.servers.other_ftpds import PureFtpd, Vsftpd
from tests.servers.proftpd import ProftpdServer
from tests.servers.rclone_s3 import RcloneServer
from tests.servers.small_s3 import SMALL_SERVERS
from tests.servers.swift_s3 import SwiftServer
from tests.survey.observe import Survey
from tests.survey.places import BucketPlace, DirectoryPlace

S3_SERVERS: dict[str, Callable[[], S3Server]] = {
    "moto": MotoServer,
    "rclone": RcloneServer,
    "ceph": CephServer,
    "swift": SwiftServer,
    **SMALL_SERVERS,
}
"""Each by its name; those of the quick suite first."""

ALWAYS_THERE = ("moto", "rclone")
"""Servers that come with the project's own environment."""

WITHOUT_PARTS = ("pys3local",)
"""Servers that take nothing in parts; their large files go as a whole."""

CUT_BODIES = ("localbucket", "localstack", "s3rver")
"""Servers for which a body ends where the connection does. After a broken one its beginning is the object."""


def _vsftpd() -> Vsftpd:
    return Vsftpd("anon_mkdir_write_enable=YES", "anon_other_write_enable=YES")


@dataclass(frozen=True)
class FileServer:
    """How one of them is started and reached.

    :param below: the directory of its root that files go to.
    :param password: the variable of the environment that the password is in.
    """

    start: Callable[[], Any]
    type: str
    below: str = ""
    password: str = "S3_UPLOADER_FTP_PASSWORD"
    settings: Mapping[str, object] = field(default_factory=dict)

    def new_place(self, server: Any) -> DirectoryPlace:
        """A new directory of a server that runs."""
        if hasattr(server, "settings"):
            destination = dict(server.settings())
        else:
            destination = {"host": server.host, "port": server.port, "user": server.username, "path": "/"}
        destination.pop("password", None)
        root: Path = server.root / self.below if self.below else server.root
        owner = root.stat()
        chrooted = destination["path"] == "/" and os.geteuid() == 0
        return DirectoryPlace(
            root,
            f"/{self.below}" if chrooted else str(root),
            {"type": self.type, **destination},
            {self.password: server.password} if hasattr(server, "password") else {},
            lambda path: os.chown(path, owner.st_uid, owner.st_gid),
        )


FILE_SERVERS: dict[str, FileServer] = {
    "openssh": FileServer(OpensshServer, "sftp"),
    "proftpd": FileServer(ProftpdServer, "ftp"),
    "pure-ftpd": FileServer(PureFtpd, "ftp"),
    "vsftpd": FileServer(_vsftpd, "ftp", below="upload"),
}
"""Those of Debian, each by its name. Not ProFTPD's SFTP, whose logins keep a processor busy for minutes."""

NAMES = (*S3_SERVERS, *FILE_SERVERS)


def ways_of(name: str) -> tuple[str, ...]:
    """The engines through which a server is seen, or the protocol that it speaks."""
    return ENGINES if name in S3_SERVERS else (FILE_SERVERS[name].type,)


def started(name: str) -> Server:
    """A server, not running."""
    if name in S3_SERVERS:
        return S3_SERVERS[name]()
    server: Server = FILE_SERVERS[name].start()
    return server


def survey_of(name: str, server: Server, way: str, directory: Path) -> Survey:
    """A survey of a server that runs."""
    if isinstance(server, S3Server):
        buckets = server.new_bucket
        return Survey(
            new_place=lambda: BucketPlace(buckets(), way),
            directory=directory,
            whole=name in WITHOUT_PARTS,
            cut_bodies=name in CUT_BODIES,
            refresh=server.forget_names if isinstance(server, RcloneServer) else lambda: None,
        )
    return Survey(new_place=lambda: FILE_SERVERS[name].new_place(server), directory=directory)


def version_of(name: str) -> str:
    """The version of a server that is installed."""
    if name == "moto":
        return importlib.metadata.version("moto")
    if name in _ASKED:
        program, option = _ASKED[name]
        with tempfile.TemporaryFile("w+") as said:
            # vsftpd says it on its standard input.
            subprocess.run([program(), option], stdin=said, stdout=said, stderr=said)
            said.seek(0)
            found = re.search(r"\d+\.\d[\w.]*", said.read())
        return found[0] if found else "unknown"
    known = {"rclone": environments.RCLONE, "swift": environments.SWIFT, **environments.WHEN_ASKED_FOR}
    return known[name].name.rpartition("-")[2]


_ASKED: dict[str, tuple[Callable[[], Any], str]] = {
    "ceph": (lambda: "radosgw", "--version"),
    "openssh": (lambda: "ssh", "-V"),
    "proftpd": (lambda: debian.find_program("proftpd"), "-v"),
    "pure-ftpd": (lambda: unpacked.program("pure-ftpd", "usr/sbin/pure-ftpd"), "--help"),
    "vsftpd": (lambda: unpacked.program("vsftpd", "usr/sbin/vsftpd"), "-v"),
}
"""Programs that say it themselves, and how they are asked."""
