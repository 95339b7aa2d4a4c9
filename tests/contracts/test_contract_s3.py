"""The S3 store, with each engine and against each kind of server, keeps the contract of stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from s3_uploader.core.model import Proof
from s3_uploader.stores.s3.store import S3Store
from tests.contracts.store_contract import Stage, StoreContract
from tests.lent_loop import LENT, make_store
from tests.servers.base import S3Server
from tests.servers.dialects import AWS, AWS_KMS, CEPH_20, NEW, OLD, UNCONDITIONAL, WEAK, Dialect
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import *  # noqa: F403

pytestmark = pytest.mark.rotated("dialect")

LARGE = 6_000_000
"""With parts of 5 MiB these are two, the last one short."""


def store_for(server: S3Server, bucket: str, engine: str, **settings: Any) -> S3Store:
    """A store on one bucket of a test server, which goes up in parts beyond 5 MiB."""
    return make_store(
        bucket=bucket,
        engine=engine,
        environment=server.endpoint.environment(),
        multipart_threshold=5 * 2**20,
        part_size=5 * 2**20,
        **settings,
    )


@pytest.mark.parametrize("engine", ["native", LENT, "boto3"])
class TestS3StoreOnMoto(StoreContract):
    """moto, with every engine."""

    @pytest.fixture
    def stage(self, moto_server: S3Server, engine: str) -> Stage:
        """A bucket of its own in moto."""
        endpoint = moto_server.new_bucket()

        def read(key: str) -> bytes | None:
            return endpoint.read(key) if key in endpoint.keys() else None  # noqa: SIM118

        def write(key: str, content: bytes) -> None:
            endpoint.client().put_object(Bucket=endpoint.bucket, Key=key, Body=content)

        return Stage(
            new_store=lambda: store_for(moto_server, endpoint.bucket, engine),
            read=read,
            write=write,
            keys=endpoint.keys,
            large_size=LARGE,
            maximum_key_bytes=1024,
            expected_proof=Proof.CHECKSUM,
            # moto's threads look and then write.
            races=False,
        )


def dialect_stage(server: FaultServer, engine: str, **arguments: Any) -> Stage:
    """The stage of a store on the fault server."""
    # Its answers name the encryption only if it was asked for.
    sse = "aws:kms" if server.dialect is AWS_KMS else None

    def forbid_reading() -> None:
        server.allowed_operations = {"HeadObject", "PutObject"}

    return Stage(
        new_store=lambda: store_for(server, server.bucket, engine, sse=sse),
        read=lambda key: server.objects().get(key),
        write=server.put,
        keys=lambda: sorted([*server.objects(), *server.pending_uploads]),
        large_size=LARGE,
        maximum_key_bytes=1024,
        reads_back=True,
        forbid_reading=forbid_reading,
        **arguments,
    )


@pytest.mark.parametrize(
    ("engine", "dialect"),
    [
        *((engine, dialect) for dialect in (AWS, OLD) for engine in ("native", LENT, "boto3")),
        *(("native", dialect) for dialect in (AWS_KMS, NEW, CEPH_20, WEAK, UNCONDITIONAL)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
class TestS3StoreOnDialects(StoreContract):
    """The dialects that stand for most servers with every engine, the others with one: they mean the same to all."""

    @pytest.fixture
    def stage(self, engine: str, dialect: Dialect) -> Iterator[Stage]:
        """A server of its own."""
        proof = Proof.CHECKSUM if dialect.answers_checksums else Proof.MD5
        with FaultServer(dialect=dialect, small_buffers=False) as server:
            yield dialect_stage(server, engine, expected_proof=proof, races=dialect.conditional_put == "honoured")
