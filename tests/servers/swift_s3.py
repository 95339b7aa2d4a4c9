"""OpenStack Swift with its s3api middleware: a new dialect, pip only."""

from __future__ import annotations

import http.client
import os
import pwd
import secrets
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.servers import environments
from tests.servers.base import S3Endpoint, S3Server, random_name
from tests.servers.dialects import NEW
from tests.servers.faketime import clock_offset_environment
from tests.servers.process import accepts_connections, free_ports, wait_until

_SWIFT = """\
[swift-hash]
swift_hash_path_suffix = {suffix}
swift_hash_path_prefix = {prefix}
[storage-policy:0]
name = default
default = yes
"""

_STORAGE = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
devices = {directory}/node
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{application}
auto_create_account_prefix = .
"""

_PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
log_level = WARNING
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = true
auth_pipeline_check = true
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{name} = {secret} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
"""

_PIPELINE = (
    "catch_errors gatekeeper healthcheck listing_formats s3api tempauth copy slo dlo versioned_writes symlink "
    "proxy-server"
)

# Run by the Python of Swift's own environment: one device, one replica, four partitions for each kind of server.
_MAKE_RINGS = """\
import sys
from swift.common.ring import RingBuilder
directory, *ports = sys.argv[1:]
for kind, port in zip(("account", "container", "object"), map(int, ports)):
    builder = RingBuilder(2, 1, 1)
    builder.add_dev(dict(id=0, region=1, zone=1, ip="127.0.0.1", port=port, device="d1", weight=1, meta="",
                         replication_ip="127.0.0.1", replication_port=port))
    builder.rebalance()
    builder.get_ring().save(f"{directory}/{kind}.ring.gz")
"""


class SwiftServer(S3Server):
    """A Swift of one replica: a proxy with s3api and tempauth, and one server each for accounts, containers, objects.

    It verifies CRC32, CRC32C, SHA1, SHA256, CRC64NVME, Content-MD5 and trailers and answers none of them.
    `If-None-Match` is answered with 412, but not atomically. Objects are in memory with `memory=True`, which is
    quicker. `clock_offset_seconds` needs Debian's faketime.
    """

    name = "swift"

    def __init__(self, *, memory: bool = True, clock_offset_seconds: float = 0.0) -> None:
        super().__init__()
        self._memory = memory
        self._clock_offset_seconds = clock_offset_seconds

    def _launch(self) -> None:
        programs = environments.programs(environments.SWIFT)
        environment = clock_offset_environment(self._clock_offset_seconds) if self._clock_offset_seconds else {}
        proxy_port, *storage_ports = free_ports(4)
        user = pwd.getpwuid(os.geteuid()).pw_name
        account, name, secret_key = secrets.token_hex(4), "tester", secrets.token_hex(20)
        self._write("swift.conf", _SWIFT.format(suffix=secrets.token_hex(8), prefix=secrets.token_hex(8)))
        (self.directory / "node" / "d1").mkdir(parents=True)
        for kind, port in zip(("account", "container", "object"), storage_ports, strict=True):
            application = "mem_object" if kind == "object" and self._memory else kind
            text = _STORAGE.format(port=port, user=user, directory=self.directory, kind=kind, application=application)
            self._write(f"{kind}.conf", text)
        self._make_rings(programs, storage_ports)
        self._write(
            "proxy.conf",
            _PROXY.format(
                port=proxy_port,
                user=user,
                directory=self.directory,
                pipeline=_PIPELINE,
                account=account,
                name=name,
                secret=secret_key,
            ),
        )
        ports = {"account": storage_ports[0], "container": storage_ports[1], "object": storage_ports[2]}
        for kind in (*ports, "proxy"):
            command: list[str | Path] = [programs / f"swift-{kind}-server", self.directory / f"{kind}.conf", "-v"]
            self._run(kind, command, environment=environment)
        for kind, port in ports.items():
            self._wait_for(kind, port)
        wait_until(lambda: _is_healthy(proxy_port), what="swift's proxy was healthy", processes=self.processes)
        self.endpoint = S3Endpoint(
            endpoint_url=f"http://127.0.0.1:{proxy_port}",
            access_key=f"{account}:{name}",
            secret_key=secret_key,
            bucket=random_name("bucket"),
            server=self.name,
            dialect=NEW,
        )
        if not self._clock_offset_seconds:
            # With another clock every request of this process would be refused.
            self.client().create_bucket(Bucket=self.bucket)

    def _wait_for(self, kind: str, port: int) -> None:
        wait_until(lambda: accepts_connections(port), what=f"swift's {kind} server listened", processes=self.processes)

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def _make_rings(self, programs: Path, ports: Iterable[int]) -> None:
        command: list[str | Path] = [programs / "python", "-c", _MAKE_RINGS, self.directory, *map(str, ports)]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"swift's rings were not built:\n{result.stdout}")

    def _grace_seconds(self) -> float:
        # Nothing is kept, and its servers take a while to end politely.
        return 0.0


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
