"""Every inventory under the suite that all of them pass: what a store puts there is found there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.stores.ftp.store import FtpStore
from s3_uploader.stores.local.listing import LocalInventory
from s3_uploader.stores.local.store import LocalStore
from s3_uploader.stores.s3.listing import S3Inventory
from s3_uploader.stores.s3.store import S3Store
from tests.contracts.listing_contract import InventoryContract, Place
from tests.servers.base import S3Endpoint
from tests.servers.dialects import AWS, AWS_KMS, OLD, WEAK, Dialect
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import *  # noqa: F403
from tests.servers.openssh import OpensshServer
from tests.servers.proftpd import ProftpdServer
from tests.servers.pyftpd import py_ftp_server

LARGE = 12_000_000


def bucket_place(bucket: str, environment: Mapping[str, str], engine: str, **settings: Any) -> Place:
    """A bucket."""

    def new_store() -> S3Store:
        return S3Store.of(
            bucket=bucket,
            engine=engine,
            environment=environment,
            multipart_threshold=5 * 2**20,
            part_size=5 * 2**20,
            **settings,
        )

    return Place(new_store=new_store, new_inventory=lambda: S3Inventory(new_store()), large_size=LARGE)


class TestLocalDirectory(InventoryContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """An empty directory."""
        root = str(tmp_path / "archive")
        (tmp_path / "archive").mkdir()
        return Place(new_store=lambda: LocalStore(path=root), new_inventory=lambda: LocalInventory(path=root))


class TestFtpWithoutHashes(InventoryContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        """pyftpdlib, where content is told by reading it."""
        root = tmp_path / "ftp"
        root.mkdir()
        with py_ftp_server(root) as server:

            def new_store() -> FtpStore:
                return FtpStore(host="127.0.0.1", port=server.port, user="test", password="testpw")

            yield Place(new_store=new_store, new_inventory=lambda: new_store().inventory())


@pytest.mark.rotated("place")
class TestFtpOnProftpd(InventoryContract):
    @pytest.fixture(params=[False, True], ids=["plain", "tls"])
    def place(self, request: pytest.FixtureRequest, proftpd_server: ProftpdServer) -> Iterator[Place]:
        """A directory of its own on a real server, which computes hashes."""
        root = proftpd_server.root / "here"
        root.mkdir()
        shutil.chown(root, proftpd_server.root.stat().st_uid, proftpd_server.root.stat().st_gid)

        def new_store() -> FtpStore:
            return FtpStore(
                host="127.0.0.1",
                port=proftpd_server.port,
                user=proftpd_server.username,
                password=proftpd_server.password,
                path="here",
                tls=request.param,
                ca_file=str(proftpd_server.ca_bundle) if request.param else None,
            )

        yield Place(new_store=new_store, new_inventory=lambda: new_store().inventory())
        shutil.rmtree(root)


@pytest.mark.parametrize("engine", ["native", "boto3"])
class TestS3WithEachEngine(InventoryContract):
    @pytest.fixture
    def place(self, engine: str) -> Iterator[Place]:
        """Amazon's dialect."""
        with FaultServer(dialect=AWS, small_buffers=False) as server:
            yield bucket_place(server.bucket, server.endpoint.environment(), engine)


@pytest.mark.rotated("dialect")
@pytest.mark.parametrize("dialect", [AWS_KMS, OLD, WEAK], ids=lambda dialect: dialect.name)
class TestS3Dialects(InventoryContract):
    @pytest.fixture
    def place(self, dialect: Dialect) -> Iterator[Place]:
        """Other kinds of servers: random ETags, ETags that change afterwards, no checksums."""
        with FaultServer(dialect=dialect, small_buffers=False) as server:
            sse = "aws:kms" if dialect is AWS_KMS else None
            yield bucket_place(server.bucket, server.endpoint.environment(), "native", sse=sse)


@pytest.mark.rotated("real_s3")
class TestS3OnRealServers(InventoryContract):
    @pytest.fixture
    def place(self, real_s3: S3Endpoint) -> Place:
        """A bucket of its own on rclone, Swift and Ceph."""
        return bucket_place(real_s3.bucket, real_s3.environment(), "native")


class TestS3OnMoto(InventoryContract):
    @pytest.fixture
    def place(self, moto_s3: S3Endpoint) -> Place:
        """A bucket of its own in moto."""
        return bucket_place(moto_s3.bucket, moto_s3.environment(), "native")


class TestSftpOnOpenssh(InventoryContract):
    @pytest.fixture
    def place(self, openssh_servers: Callable[[str], OpensshServer]) -> Iterator[Place]:
        """A directory of its own, where content is told by reading it."""
        from s3_uploader.stores.sftp.store import SftpStore

        server = openssh_servers("internal")
        root = server.root / "listed"
        root.mkdir()

        def new_store() -> SftpStore:
            return SftpStore(**{**server.settings(), "path": f"{server.path}/listed"})  # type: ignore[arg-type]

        yield Place(new_store=new_store, new_inventory=lambda: new_store().inventory())
        shutil.rmtree(root)
