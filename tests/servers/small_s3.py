"""Small S3 servers and emulators that people test with; each is installed only when asked for.

``python -m tests.servers install NAME``, or ``all``, puts them into the cache.

Some of them make a path of whatever they are told: an object called ``/etc/passwd`` is a file of that name. So for root
each runs in a mount namespace in which nothing can be written but its own directory.
"""

from __future__ import annotations

import http.client
import os
import secrets
import subprocess
from abc import abstractmethod
from pathlib import Path

from tests.servers import environments, namespaces
from tests.servers.base import S3Endpoint, S3Server, random_access_key, random_name
from tests.servers.debian import Unavailable
from tests.servers.environments import WHEN_ASKED_FOR
from tests.servers.process import ServerProcess, StartError, accepts_connections, free_ports, wait_until

_CONFINED = 'mount --bind "$1" "$1" && mount -o remount,ro,bind / && shift && exec "$@"'


class SmallServer(S3Server):
    """A server that is one process, told its port, its keys and its directory, and writes nowhere else."""

    @property
    def version(self) -> str:
        """The version that is installed."""
        return WHEN_ASKED_FOR[self.name].name.rpartition("-")[2]

    @property
    def root(self) -> Path:
        """Where it keeps its data."""
        return self.directory / "root"

    @abstractmethod
    def _begin(self, programs: Path, port: int, access_key: str, secret_key: str) -> ServerProcess:
        """Start the process."""

    def _is_ready(self, port: int) -> bool:
        return accepts_connections(port)

    def _serve(self, command: list[str | Path], *, environment: dict[str, str] | None = None) -> ServerProcess:
        own = {"HOME": str(self.directory), "TMPDIR": str(self.directory), "XDG_CONFIG_HOME": str(self.directory)}
        if os.geteuid() == 0:
            problem = namespaces.problem()
            if problem:
                raise Unavailable(f"{self.name} could write anywhere on this machine: {problem}")
            unshare = ["unshare", "--mount", "--propagation", "private"]
            command = [*unshare, "sh", "-c", _CONFINED, self.name, self.directory, *command]
        return self._run(self.name, command, environment=own | (environment or {}))

    def _keys(self) -> tuple[str, str]:
        return random_access_key(), secrets.token_hex(20)

    def _launch(self) -> None:
        programs = environments.installed(self.name)
        (port,) = free_ports()
        self.root.mkdir()
        access_key, secret_key = self._keys()
        process = self._begin(programs, port, access_key, secret_key)
        # An emulator of everything imports for a while before it listens.
        wait_until(
            lambda: self._is_ready(port), what=f"{self.name} listened", processes=[process], timeout_seconds=120.0
        )
        self.endpoint = S3Endpoint(
            endpoint_url=f"http://127.0.0.1:{port}",
            access_key=access_key,
            secret_key=secret_key,
            bucket=random_name("bucket"),
            server=self.name,
        )
        self.client().create_bucket(Bucket=self.bucket)


class JuicefsServer(SmallServer):
    """JuiceFS' gateway, which is MinIO's code over a file system of its own.

    :param keep_etags: it answers a HEAD with the MD5 that it computed at the upload; by default it keeps none.
    """

    name = "juicefs"

    def __init__(self, *, keep_etags: bool = False) -> None:
        super().__init__()
        self._keep_etags = keep_etags

    def _begin(self, programs: Path, port: int, access_key: str, secret_key: str) -> ServerProcess:
        program = programs / "juicefs"
        metadata = f"sqlite3://{self.directory / 'metadata.db'}"
        storage = ["--storage", "file", "--bucket", f"{self.root}/"]
        made = subprocess.run([program, "format", *storage, metadata, "volume"], capture_output=True, text=True)
        if made.returncode != 0:
            raise StartError(f"juicefs made no volume:\n{made.stderr[-2000:]}")
        options = ["--multi-buckets", "--no-bgjob", "--no-usage-report", "--no-banner", "--metrics", "127.0.0.1:0"]
        options += ["--cache-dir", str(self.directory / "cache"), "--log", str(self.directory / "gateway.log")]
        options += ["--keep-etag"] if self._keep_etags else []
        return self._serve(
            [program, "--no-agent", "gateway", metadata, f"127.0.0.1:{port}", *options],
            environment={"MINIO_ROOT_USER": access_key, "MINIO_ROOT_PASSWORD": secret_key},
        )


class Pys3localServer(SmallServer):
    """pys3local: files in a directory, no uploads in parts."""

    name = "pys3local"

    def _begin(self, programs: Path, port: int, access_key: str, secret_key: str) -> ServerProcess:
        command: list[str | Path] = [programs / "pys3local", "serve", "--path", self.root]
        command += ["--listen", f"127.0.0.1:{port}", "--allow-bucket-creation"]
        command += ["--access-key-id", access_key, "--secret-access-key", secret_key]
        return self._serve(command)


class S3rverServer(SmallServer):
    """s3rver: files in a directory, by Node."""

    name = "s3rver"

    def _keys(self) -> tuple[str, str]:
        return "S3RVER", "S3RVER"  # It knows no others.

    def _begin(self, programs: Path, port: int, access_key: str, secret_key: str) -> ServerProcess:
        return self._serve([programs / "s3rver", "-d", self.root, "-a", "127.0.0.1", "-p", str(port)])


class LocalbucketServer(SmallServer):
    """localbucket: buckets are plain directories."""

    name = "localbucket"

    def _begin(self, programs: Path, port: int, access_key: str, secret_key: str) -> ServerProcess:
        return self._serve([programs / "localbucket", self.root, "--port", str(port)])


class NanioServer(SmallServer):
    """nanio: buckets are directories, objects are files."""

    name = "nanio"

    def _begin(self, programs: Path, port: int, access_key: str, secret_key: str) -> ServerProcess:
        command: list[str | Path] = [programs / "nanio", "serve", "--data-dir", self.root]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        return self._serve(command, environment={"NANIO_ACCESS_KEY": access_key, "NANIO_SECRET_KEY": secret_key})


class MinistackServer(SmallServer):
    """MiniStack: an emulator of Amazon's services."""

    name = "ministack"

    def _begin(self, programs: Path, port: int, access_key: str, secret_key: str) -> ServerProcess:
        # It listens on every address if it is not told otherwise.
        settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
        return self._serve([programs / "ministack"], environment=settings)


# Where its objects go cannot be set: it is one directory below /tmp for all of them.
_LOCALSTACK = """
import sys
from localstack.services.s3 import provider
provider.DEFAULT_S3_TMP_DIR = sys.argv[1]
from localstack.runtime.main import main
main()
"""


class LocalstackServer(SmallServer):
    """LocalStack with S3 alone, on this host, without an account."""

    name = "localstack"

    def _begin(self, programs: Path, port: int, access_key: str, secret_key: str) -> ServerProcess:
        volume = str(self.root)
        return self._serve(
            [programs / "python", "-c", _LOCALSTACK, self.root / "objects"],
            environment={
                "OVERRIDE_IN_DOCKER": "0",
                "SERVICES": "s3",
                "STRICT_SERVICE_LOADING": "1",
                "EAGER_SERVICE_LOADING": "1",
                "GATEWAY_SERVER": "hypercorn",
                "GATEWAY_LISTEN": f"127.0.0.1:{port}",
                "DISABLE_EVENTS": "1",
                "SKIP_SSL_CERT_DOWNLOAD": "1",
                "DNS_ADDRESS": "0",
                "LOCALSTACK_VOLUME_DIR": volume,
                "FILESYSTEM_ROOT": volume,
                "LS_LOG": "warning",
                "PYTHONUNBUFFERED": "1",
            },
        )

    def _is_ready(self, port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/_localstack/health")
            return b'"s3"' in connection.getresponse().read(65536)
        except OSError:
            return False
        finally:
            connection.close()


SMALL_SERVERS: dict[str, type[SmallServer]] = {
    server.name: server
    for server in (
        JuicefsServer,
        LocalbucketServer,
        LocalstackServer,
        MinistackServer,
        NanioServer,
        Pys3localServer,
        S3rverServer,
    )
}
