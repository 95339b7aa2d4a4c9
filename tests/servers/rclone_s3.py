"""rclone's S3 server: a weak dialect that ignores checksums and `If-None-Match`, pip only."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from pathlib import Path

from tests.servers import environments
from tests.servers.base import S3Endpoint, S3Server, random_access_key, random_name
from tests.servers.certificates import make_certificates
from tests.servers.dialects import WEAK
from tests.servers.process import accepts_connections, free_ports, wait_until


class RcloneServer(S3Server):
    """`rclone serve s3` over a directory, or with `memory=True` over nothing but memory.

    It verifies signatures and `x-amz-content-sha256`, ignores every other checksum and overwrites in spite of
    `If-None-Match`. It stores each object as a file below `root`, which also limits the keys that it takes.
    """

    name = "rclone"

    def __init__(self, *, tls: bool = False, memory: bool = False) -> None:
        super().__init__()
        self._tls = tls
        self._memory = memory

    @property
    def root(self) -> Path:
        """The directory that holds the buckets as directories and the objects as files."""
        return self.directory / "root"

    def _launch(self) -> None:
        program = find_rclone()
        (port,) = free_ports()
        self.root.mkdir()
        configuration = self.directory / "rclone.conf"
        configuration.touch()
        access_key, secret_key = random_access_key(), secrets.token_hex(20)
        command: list[str | Path] = [
            program,
            "serve",
            "s3",
            ":memory:" if self._memory else self.root,
            "--config",
            configuration,
            "--cache-dir",
            self.directory / "cache",
            "--addr",
            f"127.0.0.1:{port}",
            "--auth-key",
            f"{access_key},{secret_key}",
            "--vfs-cache-mode",
            "off",
        ]
        ca_bundle = None
        if self._tls:
            certificates = make_certificates(self.directory)
            command += ["--cert", certificates.certificate, "--key", certificates.key]
            ca_bundle = certificates.authority
        process = self._run("rclone", command)
        wait_until(lambda: accepts_connections(port), what="rclone listened", processes=[process])
        self.endpoint = S3Endpoint(
            endpoint_url=f"{'https' if self._tls else 'http'}://127.0.0.1:{port}",
            access_key=access_key,
            secret_key=secret_key,
            bucket=random_name("bucket"),
            ca_bundle=ca_bundle,
            server=self.name,
            dialect=WEAK,
        )
        self.client().create_bucket(Bucket=self.bucket)

    def forget_names(self) -> None:
        """Have it read its directories anew, as it does every five minutes."""
        self.processes[0].send(signal.SIGHUP)
        time.sleep(0.3)


def find_rclone() -> Path:
    """Return the rclone program of the running environment, else that of the cached one."""
    beside_python = Path(sys.executable).parent / "rclone"
    return beside_python if beside_python.exists() else environments.programs(environments.RCLONE) / "rclone"
