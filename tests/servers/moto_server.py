"""moto's server: quick, with wide coverage of the S3 API, but it checks neither signatures nor checksums."""

from __future__ import annotations

import secrets
import sys

from tests.servers.base import S3Endpoint, S3Server, random_access_key, random_name
from tests.servers.dialects import ECHO
from tests.servers.process import accepts_connections, free_ports, wait_until


class MotoServer(S3Server):
    """moto in a process of its own, so that its work and its memory are not those of the test."""

    name = "moto"

    def _launch(self) -> None:
        (port,) = free_ports()
        process = self._run("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])
        wait_until(lambda: accepts_connections(port), what="moto listened", processes=[process])
        self.endpoint = S3Endpoint(
            endpoint_url=f"http://127.0.0.1:{port}",
            access_key=random_access_key(),
            secret_key=secrets.token_hex(20),
            bucket=random_name("bucket"),
            server=self.name,
            dialect=ECHO,
        )
        self.client().create_bucket(Bucket=self.bucket)
