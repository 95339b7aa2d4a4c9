"""What every test server has in common.

`Server` is the life cycle (start, stop, context manager), `S3Endpoint` is what a client needs to know of a running S3
server, and `S3Server` joins the two: a server with a bucket in it.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tests.servers.dialects import Dialect
from tests.servers.process import ServerProcess, StartError, make_directory, remove_directory

if TYPE_CHECKING:
    from types import TracebackType

    from mypy_boto3_s3 import S3Client
    from typing_extensions import Self

_START_ATTEMPTS = 3


def random_name(prefix: str) -> str:
    """Return a name that nobody else uses, good as a bucket's, a user's or a directory's."""
    return f"{prefix}-{secrets.token_hex(5)}"


def random_access_key() -> str:
    """Return an access key in the form of AWS's: 20 capital letters and digits."""
    return "AK" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(18))


@functools.lru_cache(maxsize=64)
def _boto3_client(endpoint_url: str, access_key: str, secret_key: str, region: str, ca_bundle: Path | None) -> S3Client:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        verify=str(ca_bundle) if ca_bundle else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            proxies={},
            # Not every server understands the trailers that boto3 adds otherwise.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class S3Endpoint:
    """What a client needs to know of an S3 server, with one bucket of it.

    `server` is the server's name and `dialect` says what it verifies, answers and ignores, for tests that run against
    several; None where it does not matter.
    """

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    bucket: str = ""
    ca_bundle: Path | None = None
    server: str = ""
    dialect: Dialect | None = None

    def replace(
        self,
        *,
        endpoint_url: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        region: str | None = None,
        bucket: str | None = None,
    ) -> S3Endpoint:
        """Return a copy with other values, wrong credentials for example."""
        given = {
            "endpoint_url": endpoint_url,
            "access_key": access_key,
            "secret_key": secret_key,
            "region": region,
            "bucket": bucket,
        }
        # typeshed cannot check the types of a dictionary that is spread into `replace`; the signature above does.
        return dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def environment(self) -> dict[str, str]:
        """Return the variables that make an AWS client in a subprocess use this server, and nothing else."""
        variables = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        if self.ca_bundle is not None:
            variables["AWS_CA_BUNDLE"] = str(self.ca_bundle)
        return variables

    def client(self) -> S3Client:
        """Return a boto3 client for looking at what arrived: signature v4, path style, no retries."""
        return _boto3_client(self.endpoint_url, self.access_key, self.secret_key, self.region, self.ca_bundle)

    def new_bucket(self) -> S3Endpoint:
        """Create a bucket with a random name and return the endpoint with it."""
        bucket = random_name("bucket")
        self.client().create_bucket(Bucket=bucket)
        return self.replace(bucket=bucket)

    def keys(self, prefix: str = "") -> list[str]:
        """Return every key of the bucket that starts with the prefix, sorted."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))

    def read(self, key: str) -> bytes:
        """Return an object's bytes."""
        return self.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Return every object of the bucket whose key starts with the prefix."""
        return {key: self.read(key) for key in self.keys(prefix)}


class Server(ABC):
    """A server on 127.0.0.1: random ports and names, its data in a temporary directory, gone after `stop`.

    A server may be started again after `stop`; it is then a new one, with nothing of the old one's data. Should the
    process that started it die before `stop`, the guard cleans up.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.directory = Path()
        self.processes: list[ServerProcess] = []
        self._running = False

    @abstractmethod
    def _launch(self) -> None:
        """Start the processes and return when the server answers; raise `StartError` when it does not."""

    def start(self) -> Self:
        """Start the server and return when it answers.

        Raises `Unavailable` when this machine cannot run it, and `StartError` when it did not come up in several
        attempts (another process may take a port in the moment between the choice and the bind).
        """
        if self._running:
            raise RuntimeError(f"{self.name} is already running")
        for attempt in range(1, _START_ATTEMPTS + 1):
            self.directory = make_directory()
            try:
                self._launch()
            except StartError:
                self._clean_up()
                if attempt == _START_ATTEMPTS:
                    raise
            except BaseException:
                self._clean_up()
                raise
            else:
                self._running = True
                break
        return self

    def stop(self) -> None:
        """Stop the server and remove its data; does nothing when it does not run."""
        if self._running:
            self._running = False
            self._clean_up()

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: it knows where everything is, but stops nothing."""
        return {**self.__dict__, "processes": [], "_running": False}

    def _clean_up(self) -> None:
        try:
            while self.processes:
                self.processes.pop().stop(grace_seconds=self._grace_seconds())
        finally:
            remove_directory(self.directory)

    def _grace_seconds(self) -> float:
        return 3.0

    def _run(
        self, name: str, command: Sequence[str | Path], *, environment: dict[str, str] | None = None
    ) -> ServerProcess:
        """Start one process of the server, with its output in `<name>.log` in the directory."""
        process = ServerProcess(command, log=self.directory / f"{name}.log", environment=environment)
        self.processes.append(process)
        return process

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class S3Server(Server):
    """An S3 server with one bucket in it; `endpoint` and the properties are valid while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoint = S3Endpoint(endpoint_url="", access_key="", secret_key="")

    @property
    def endpoint_url(self) -> str:
        """The server's URL, without a bucket."""
        return self.endpoint.endpoint_url

    @property
    def access_key(self) -> str:
        """The access key that the server knows."""
        return self.endpoint.access_key

    @property
    def secret_key(self) -> str:
        """The secret that belongs to the access key."""
        return self.endpoint.secret_key

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return self.endpoint.region

    @property
    def bucket(self) -> str:
        """The bucket that `start` created."""
        return self.endpoint.bucket

    def environment(self) -> dict[str, str]:
        """Return the AWS variables for a subprocess; see `S3Endpoint.environment`."""
        return self.endpoint.environment()

    def client(self) -> S3Client:
        """Return a boto3 client; see `S3Endpoint.client`."""
        return self.endpoint.client()

    def new_bucket(self) -> S3Endpoint:
        """Create one more bucket and return the endpoint with it."""
        return self.endpoint.new_bucket()
