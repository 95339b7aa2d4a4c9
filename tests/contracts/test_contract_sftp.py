"""The SFTP store under the suite that every store passes: on real servers in each of their ways, and a scripted one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from s3_uploader.core.model import Proof
from s3_uploader.stores.sftp.store import SftpStore
from tests.contracts.store_contract import Stage, StoreContract
from tests.contracts.test_contract_local import directory_stage
from tests.servers.fixtures import *  # noqa: F403
from tests.servers.openssh import OpensshServer
from tests.servers.proftpd_sftp import ProftpdSftpServer
from tests.servers.scripted_sftp import ScriptedSftpServer

PROFTPD, SCRIPTED = "proftpd", "scripted"


@pytest.mark.rotated("stage")
class TestSftpStore(StoreContract):
    """OpenSSH has hard links, so nobody replaces anybody's file; ProFTPD has hashes, and a password logs in there.

    The scripted server is another one's code; what it does with names and renames is Python's.
    """

    @pytest.fixture(params=["program", "internal", "chroot", "forced", PROFTPD, SCRIPTED])
    def stage(self, request: pytest.FixtureRequest, openssh_servers: Callable[[str], OpensshServer]) -> Iterator[Stage]:
        """A store on a server, in a directory of its own."""
        if request.param == SCRIPTED:
            yield from on_scripted()
            return
        if request.param == PROFTPD:
            yield from on_proftpd(request.getfixturevalue("proftpd_sftp_server"))
            return
        server = openssh_servers(request.param)
        root = server.root / "here"
        root.mkdir()
        settings = {**server.settings(), "path": f"{server.path}/here"}
        yield directory_stage(
            root,
            lambda: SftpStore(**settings),  # type: ignore[arg-type]
            expected_proof=Proof.CHECKSUM,
            large_size=3_000_000,
        )
        shutil.rmtree(root)


def on_proftpd(server: ProftpdSftpServer) -> Iterator[Stage]:
    """A store on ProFTPD's server."""
    root = server.root / "here"
    root.mkdir()
    shutil.chown(root, server.root.stat().st_uid, server.root.stat().st_gid)
    settings = {**server.settings(), "path": f"{server.settings()['path'].rstrip('/')}/here"}
    yield directory_stage(root, lambda: SftpStore(**settings), expected_proof=Proof.CHECKSUM, large_size=3_000_000)
    shutil.rmtree(root)


def on_scripted() -> Iterator[Stage]:
    """A store on a server in this process."""
    with ScriptedSftpServer() as server:
        yield directory_stage(
            server.root, lambda: SftpStore(**server.settings()), expected_proof=Proof.CHECKSUM, large_size=3_000_000
        )
