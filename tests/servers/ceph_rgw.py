"""Ceph's object gateway from Debian: a real S3 of an old dialect, with monitor, one OSD in memory, and radosgw."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import signal
import subprocess
import uuid
from pathlib import Path

from tests.servers import debian
from tests.servers.base import S3Endpoint, S3Server, random_access_key, random_name
from tests.servers.certificates import make_certificates
from tests.servers.dialects import OLD
from tests.servers.process import ServerProcess, StartError, free_ports, wait_until

_STORAGE_CLASSES = (
    "STANDARD_IA",
    "GLACIER",
    "REDUCED_REDUNDANCY",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
)

_CONFIGURATION = """\
[global]
fsid = {cluster}
mon initial members = a
mon host = [v2:127.0.0.1:{monitor_port},v1:127.0.0.1:{old_monitor_port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
run dir = {directory}
admin socket = {directory}/$name.asok
log file = {directory}/$name.log
crash dir = {directory}
err to stderr = true
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon allow pool delete = true
mon pg warn on pool no redundancy = false
mon max pg per osd = 1000
mon data avail warn = 2
mon data avail crit = 1
debug ms = 0/0
[mon]
paxos propose interval = 0.05
paxos min wait = 0.01
mon data = {directory}/mon
mon osd min down reporters = 1
mon cluster log file = {directory}/cluster.log
[osd]
osd data = {directory}/osd
osd objectstore = memstore
osd class update on start = true
memstore device bytes = 8589934592
osd memory target = 939524096
osd crush initial weight = 1
osd client watch timeout = 2
osd fast shutdown = false
[client.rgw]
ms mon client mode = crc
rgw data = {directory}/rgw
rgw frontends = {frontend}
rgw thread pool size = 64
rgw run sync thread = false
rgw dynamic resharding = false
rgw override bucket index max shards = 4
rgw enable usage log = false
rgw crypt require ssl = false
rgw rados pool pg num min = 4
rgw max put param size = 1048576
"""


class CephServer(S3Server):
    """The gateway and what it needs, cephx off, everything in memory.

    It verifies signatures, Content-MD5 and `x-amz-content-sha256`, ignores `x-amz-checksum-*`, refuses aws-chunked
    trailers with 411, and its `If-None-Match: *` is atomic. It knows ACL, tags, storage classes and versioning. With
    `tls` it listens on https as well, at `tls_endpoint`.
    """

    name = "ceph"

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self._tls = tls
        self.tls_endpoint: S3Endpoint | None = None
        self._port = 0

    def _launch(self) -> None:
        debian.require("ceph")
        self._port, tls_port, monitor_port, old_monitor_port = free_ports(4)
        frontend = f"beast endpoint=127.0.0.1:{self._port}"
        ca_bundle = None
        if self._tls:
            certificates = make_certificates(self.directory)
            ca_bundle = certificates.authority
            frontend += (
                f" ssl_endpoint=127.0.0.1:{tls_port} ssl_certificate={certificates.certificate}"
                f" ssl_private_key={certificates.key}"
            )
        cluster = str(uuid.uuid4())
        for name in ("mon", "osd", "rgw"):
            (self.directory / name).mkdir()
        self._configuration.write_text(
            _CONFIGURATION.format(
                cluster=cluster,
                directory=self.directory,
                monitor_port=monitor_port,
                old_monitor_port=old_monitor_port,
                frontend=frontend,
            )
        )
        self._start_monitor(cluster, f"[v2:127.0.0.1:{monitor_port},v1:127.0.0.1:{old_monitor_port}]")
        self._start_osd()
        access_key, secret_key = random_access_key(), secrets.token_hex(20)
        self.admin(
            "user",
            "create",
            "--uid=tester",
            "--display-name=tester",
            f"--access-key={access_key}",
            f"--secret-key={secret_key}",
        )
        self._add_storage_classes()
        self._start_gateway()
        self.endpoint = S3Endpoint(
            endpoint_url=f"http://127.0.0.1:{self._port}",
            access_key=access_key,
            secret_key=secret_key,
            bucket=random_name("bucket"),
            server=self.name,
            dialect=OLD,
        )
        if self._tls:
            self.tls_endpoint = S3Endpoint(
                endpoint_url=f"https://127.0.0.1:{tls_port}",
                access_key=access_key,
                secret_key=secret_key,
                bucket=self.bucket,
                ca_bundle=ca_bundle,
                server=self.name,
                dialect=OLD,
            )
        self.client().create_bucket(Bucket=self.bucket)

    @property
    def _configuration(self) -> Path:
        return self.directory / "ceph.conf"

    @property
    def _gateway(self) -> ServerProcess:
        return self.processes[-1]

    def _start_monitor(self, cluster: str, addresses: str) -> None:
        monitor_map = self.directory / "monmap"
        self._command("monmaptool", "--create", "--clobber", "--fsid", cluster, "--addv", "a", addresses, monitor_map)
        self._command("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitor_map, "-c", self._configuration)
        self._start("ceph-mon", "-f", "-i", "a")
        self._wait_for("fsid", "", what="the monitor answered")

    def _start_osd(self) -> None:
        identifier = str(uuid.uuid4())
        (self.directory / "osd" / "uuid").write_text(identifier)
        self._ceph("osd", "new", identifier)
        self._command("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identifier, "-c", self._configuration)
        self._start("ceph-osd", "-f", "-i", "0")
        self._wait_for("osd stat", "1 up", what="the OSD was up")

    def _add_storage_classes(self) -> None:
        """Make the storage classes known, all of them kept in the ordinary data pool."""
        for storage_class in _STORAGE_CLASSES:
            placement = ("placement", "add", "--placement-id", "default-placement", "--storage-class", storage_class)
            self.admin("zonegroup", *placement, "--rgw-zonegroup", "default")
            self.admin("zone", *placement, "--rgw-zone", "default", "--data-pool", "default.rgw.buckets.data")

    def _start_gateway(self) -> None:
        process = self._start("radosgw", "-f", "-n", "client.rgw")
        wait_until(lambda: _answers(self._port), what="the gateway answered", processes=[process])

    def crash(self) -> None:
        """Kill the gateway in the middle of whatever it does; `recover` brings it back with every object."""
        self.processes.pop().stop(grace_seconds=0)

    def recover(self) -> None:
        """Start the gateway again after a crash."""
        self._start_gateway()

    def pause(self) -> None:
        """Make the gateway hang: connections are accepted and nothing is answered."""
        self._gateway.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused gateway go on."""
        self._gateway.send(signal.SIGCONT)

    def admin(self, *words: str) -> str:
        """Run radosgw-admin and return its output.

        A quota, for example: ``admin("quota", "set", "--quota-scope=user", "--uid=tester", "--max-objects=3")`` and
        ``admin("quota", "enable", "--quota-scope=user", "--uid=tester")``; a locked user: ``admin("user", "suspend",
        "--uid=tester")``.
        """
        return self._command("radosgw-admin", "-n", "client.rgw", "-c", self._configuration, *words)

    def _ceph(self, *words: str) -> str:
        return self._command("ceph", "-c", self._configuration, "--connect-timeout", "5", *words)

    def _wait_for(self, command: str, expected: str, *, what: str) -> None:
        def answered() -> bool:
            with contextlib.suppress(StartError):
                return expected in self._ceph(*command.split())
            return False

        wait_until(answered, what=what, processes=self.processes)

    def _start(self, name: str, *words: str) -> ServerProcess:
        program = debian.find_program(name)
        assert program is not None
        return self._run(name, [program, *words, "-c", self._configuration], environment=self._environment())

    def _command(self, name: str, *words: str | Path) -> str:
        program = debian.find_program(name)
        assert program is not None
        try:
            result = subprocess.run(
                [program, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=60,
                env={**os.environ, **self._environment()},
            )
        except subprocess.TimeoutExpired:
            raise StartError(f"{name} did not end within a minute") from None
        if result.returncode != 0:
            raise StartError(f"{name} {' '.join(map(str, words))} failed:\n{result.stderr[-2000:]}")
        return result.stdout

    def _environment(self) -> dict[str, str]:
        return {"CEPH_CONF": str(self._configuration), "CEPH_ARGS": ""}

    def _grace_seconds(self) -> float:
        # At SIGTERM the OSD would write its memory to disk.
        return 0.0


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
