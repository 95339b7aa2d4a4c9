"""The servers of the survey, and what their versions are."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.servers import environments
from tests.servers.base import S3Server
from tests.servers.ceph_rgw import CephServer
from tests.servers.moto_server import MotoServer
from tests.servers.rclone_s3 import RcloneServer
from tests.servers.small_s3 import SMALL_SERVERS
from tests.servers.swift_s3 import SwiftServer
from tests.survey.observe import Survey

SERVERS: dict[str, Callable[[], S3Server]] = {
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

KNOWN_LOSSES = {"pys3local": ("in//side",)}
"""It has one file for names that differ in empty steps, and says of each that it is there: no look tells."""


def survey_of(server: S3Server, engine: str, place: Path) -> Survey:
    """A survey of a server that runs."""
    return Survey(
        new_bucket=server.new_bucket,
        engine=engine,
        place=place,
        whole=server.name in WITHOUT_PARTS,
        known_losses=KNOWN_LOSSES.get(server.name, ()),
        refresh=server.forget_names if isinstance(server, RcloneServer) else lambda: None,
    )


def version_of(name: str) -> str:
    """The version of a server that is installed."""
    if name == "moto":
        return importlib.metadata.version("moto")
    if name == "ceph":
        said = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout
        return said.split()[2]
    known = {"rclone": environments.RCLONE, "swift": environments.SWIFT, **environments.WHEN_ASKED_FOR}
    return known[name].name.rpartition("-")[2]
