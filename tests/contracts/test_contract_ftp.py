"""The FTP store under the suite that every store passes: without hashes, with them, and over TLS."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.core.model import Proof
from s3_uploader.stores.ftp.store import FtpStore
from tests.contracts.store_contract import Stage, StoreContract
from tests.contracts.test_contract_local import directory_stage
from tests.servers.fixtures import *  # noqa: F403
from tests.servers.proftpd import ProftpdServer
from tests.servers.pyftpd import py_ftp_server


class TestFtpStoreWithoutHashes(StoreContract):
    """A server that confirms nothing but lengths: what has to be proven is read back."""

    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[Stage]:
        """A store on pyftpdlib."""
        root = tmp_path / "ftp"
        root.mkdir()
        with py_ftp_server(root) as server:
            yield directory_stage(
                root,
                lambda: FtpStore(host="127.0.0.1", port=server.port, user="test", password="testpw"),
                expected_proof=Proof.CHECKSUM,
                large_size=3_000_000,
                races=False,
            )


@pytest.mark.rotated("stage")
class TestFtpStoreOnProftpd(StoreContract):
    """A real server with hashes, plain and over TLS."""

    @pytest.fixture(params=[False, True], ids=["plain", "tls"])
    def stage(self, request: pytest.FixtureRequest, proftpd_server: ProftpdServer) -> Iterator[Stage]:
        """A store on ProFTPD, in a directory of its own."""
        root = proftpd_server.root / "here"
        root.mkdir()
        shutil.chown(root, proftpd_server.root.stat().st_uid, proftpd_server.root.stat().st_gid)
        yield directory_stage(
            root,
            lambda: FtpStore(
                host="127.0.0.1",
                port=proftpd_server.port,
                user=proftpd_server.username,
                password=proftpd_server.password,
                path="here",
                tls=request.param,
                ca_file=str(proftpd_server.ca_bundle) if request.param else None,
            ),
            expected_proof=Proof.CHECKSUM,
            large_size=3_000_000,
            races=False,
        )
        shutil.rmtree(root)
