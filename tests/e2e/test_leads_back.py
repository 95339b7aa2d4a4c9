"""A destination that leads back to the spool by another way is found out before anything is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.mounts import Mounts, mounting
from tests.e2e.site import Finished, Site, contents, settle
from tests.servers.base import S3Endpoint
from tests.servers.pyftpd import PyFtpServer
from tests.servers.rclone_s3 import RcloneServer

FILES = {"f1": b"the only copy 1", "deep/er/f2": b"the only copy 2", "f3": b"3" * 300_000}
SAYS = "The destination leads back to the spool"


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Mounts that are gone after the test."""
    with mounting() as found:
        yield found


@pytest.fixture
def full(site: Site) -> Site:
    """A spool of the layout tree with some files, none of which is anywhere else."""
    site.settings["layout"] = "tree"
    for path, content in FILES.items():
        site.file(path, content)
    return site


def refused(site: Site, finished: Finished) -> None:
    """The run was ended with a sentence, and all bytes are in the spool under the producers' names."""
    assert finished.code == 3, finished.stderr
    assert SAYS in finished.stderr
    left = site.left()
    for path in FILES:
        settle(site.spool / path)  # some were written through the destination
    assert {path: left.get(path) for path in FILES} == FILES


def not_ready(site: Site) -> None:
    """The check has found it out too, and has left nothing behind."""
    before = site.left()
    checked = site.run("check")
    assert checked.code in (2, 3), checked.stdout
    assert "Not ready" in checked.stdout
    assert site.left() == before


class TestDirectory:
    @pytest.mark.rotated("setting", "way", "prefix")
    @pytest.mark.parametrize("way", ["bind", "fuse"])
    @pytest.mark.parametrize("setting", ["delete", "keep", "move", "claim", "gzip", "overwrite"])
    def test_the_spool_itself(self, full: Site, mounts: Mounts, way: str, setting: str) -> None:
        """Whatever is to become of the files: a directory that is the spool by a mount takes none of them."""
        archive = full.ship_to_directory(**({"on_conflict": "overwrite"} if setting == "overwrite" else {}))
        getattr(mounts, way)(full.spool, archive)
        settings: dict[str, dict[str, object]] = {
            "keep": {"on_success": "keep"},
            "move": {"on_success": {"move_to": str(full.place / "done")}},
            "claim": {"claim_dir": str(full.place / "claims")},
            "gzip": {"compress": "gzip"},
        }
        full.settings.update(settings.get(setting, {}))
        not_ready(full)
        refused(full, full.run())
        refused(full, full.run())

    @pytest.mark.rotated("setting")
    @pytest.mark.parametrize("setting", ["delete", "keep", "move"])
    def test_an_overlay_of_the_spool(self, full: Site, mounts: Mounts, setting: str) -> None:
        """A destination that still finds a file under the name that it has lost takes none of them, either."""
        mounts.overlay(full.spool, full.ship_to_directory())
        settings: dict[str, dict[str, object]] = {
            "keep": {"on_success": "keep"},
            "move": {"on_success": {"move_to": str(full.place / "done")}},
        }
        full.settings.update(settings.get(setting, {}))
        for _ in range(2):
            refused(full, full.run())

    @pytest.mark.rotated("way")
    @pytest.mark.parametrize("way", ["bind", "fuse"])
    def test_a_directory_in_the_spool(self, full: Site, mounts: Mounts, way: str) -> None:
        """A directory within the spool would be delivered to itself, one directory deeper each time."""
        archive = full.ship_to_directory()
        (full.spool / "some/where").mkdir(parents=True)
        getattr(mounts, way)(full.spool / "some/where", archive)
        not_ready(full)
        finished = full.run()
        for _ in range(3):
            if SAYS in finished.stderr:
                break
            finished = full.run()
        assert finished.code == 3, finished.stderr
        assert SAYS in finished.stderr
        assert set(FILES.values()) <= set(full.left().values())
        assert len(full.left()) <= 2 * len(FILES)

    @pytest.mark.rotated("setting", "way", "below")
    @pytest.mark.parametrize("way", ["bind", "fuse"])
    @pytest.mark.parametrize("setting", ["delete", "keep", "claim"])
    @pytest.mark.parametrize("below", ["deep", "deep/er", "deep/er/and/deeper"])
    def test_replaces_nothing_in_the_spool(
        self, full: Site, mounts: Mounts, way: str, setting: str, below: str
    ) -> None:
        """Where objects may be replaced, no file is sent onto another one of the spool, in a directory of it."""
        archive = full.ship_to_directory(on_conflict="overwrite")
        full.file(f"{below}/f1", b"the only copy of another f1")
        getattr(mounts, way)(full.spool / below, archive)
        full.settings.update(
            {"keep": {"on_success": "keep"}, "claim": {"claim_dir": str(full.place / "claims")}}.get(setting, {})
        )
        for _ in range(2):
            finished = full.run()
            assert finished.code == 3, finished.stderr
            assert SAYS in finished.stderr
            assert full.left() == {**FILES, f"{below}/f1": b"the only copy of another f1"}

    @pytest.mark.rotated("way", "prefix")
    @pytest.mark.parametrize("way", ["bind", "fuse"])
    @pytest.mark.parametrize("prefix", ["spool/", "spool/new/", "spool/new/er-"])
    @pytest.mark.parametrize("whose", ["all", "location"])
    def test_a_prefix_that_leads_back(self, full: Site, mounts: Mounts, way: str, prefix: str, whose: str) -> None:
        """The check follows each prefix of keys, also to a directory of the spool that is not there yet."""
        getattr(mounts, way)(full.place, full.place.parent / f"{full.place.name}-above")
        full.settings["destination"] = {"type": "local", "path": f"{full.place.parent / full.place.name}-above"}
        if whose == "all":
            full.settings["key_prefix"] = prefix
        else:
            full.settings["locations"] = {"deep": {"key_prefix": prefix}}
        not_ready(full)

    def test_another_directory_of_the_same_disk(self, full: Site, mounts: Mounts) -> None:
        """A mount is no reason to refuse: what lies elsewhere on the same disk is a second copy."""
        archive = full.ship_to_directory()
        (full.place / "elsewhere").mkdir()
        mounts.fuse(full.place / "elsewhere", archive)
        (archive / "f1").write_bytes(FILES["f1"])
        assert full.run("check").code == 0
        finished = full.run()
        assert finished.code == 0, finished.stderr
        assert full.left() == {}


class TestAside:
    @pytest.mark.rotated("way", "below")
    @pytest.mark.parametrize("way", ["bind", "fuse"])
    @pytest.mark.parametrize("below", [".", "some/where"])
    @pytest.mark.parametrize("key", ["on_success", "on_failure", "claim_dir"])
    def test_a_directory_that_leads_back(self, full: Site, mounts: Mounts, way: str, below: str, key: str) -> None:
        """What is moved aside, or claimed, into the spool itself would be shipped again without end."""
        full.ship_to_directory()
        (full.spool / below).mkdir(parents=True, exist_ok=True)
        aside = getattr(mounts, way)(full.spool / below, full.place / "aside")
        full.settings[key] = str(aside) if key == "claim_dir" else {"move_to": str(aside)}
        finished = full.run()
        assert finished.code == 2
        assert "lies in the spool" in finished.stderr
        assert "lies in the spool" in full.run("check").stdout
        assert full.left() == FILES

    @pytest.mark.rotated("way")
    @pytest.mark.parametrize("way", ["bind", "fuse"])
    def test_a_directory_beside_the_spool(self, full: Site, mounts: Mounts, way: str) -> None:
        """A mount of another directory of the same disk is as good as any."""
        archive = full.ship_to_directory()
        (full.place / "elsewhere").mkdir()
        aside = getattr(mounts, way)(full.place / "elsewhere", full.place / "aside")
        full.settings["on_success"] = {"move_to": str(aside)}
        finished = full.run()
        assert finished.code == 0, finished.stderr
        assert contents(full.place / "elsewhere") == contents(archive) == FILES


class TestFtp:
    @pytest.fixture
    def server(self, full: Site) -> Iterator[PyFtpServer]:
        """An FTP server over the directory that holds the spool."""
        running = PyFtpServer(full.place)
        yield running
        running.stop()

    @pytest.mark.rotated("setting", "way", "prefix")
    @pytest.mark.parametrize("prefix", [False, True])
    @pytest.mark.parametrize("setting", ["delete", "keep", "gzip", "overwrite"])
    def test_the_spool_itself(self, full: Site, server: PyFtpServer, prefix: bool, setting: str) -> None:
        """An FTP server over the spool, or one that comes to it with the prefix of the keys."""
        destination = {
            "type": "ftp",
            "host": "127.0.0.1",
            "port": server.port,
            "user": "test",
            "password": "testpw",
            "path": "/" if prefix else "/spool",
        }
        if setting == "overwrite":
            destination["on_conflict"] = "overwrite"
        full.settings.update(destination=destination, key_prefix="spool/" if prefix else "")
        full.settings.update({"keep": {"on_success": "keep"}, "gzip": {"compress": "gzip"}}.get(setting, {}))
        not_ready(full)
        refused(full, full.run())
        refused(full, full.run())

    @pytest.mark.rotated("below")
    @pytest.mark.parametrize("below", ["deep", "deep/er"])
    def test_replaces_nothing_in_the_spool(self, full: Site, server: PyFtpServer, below: str) -> None:
        """An FTP server over a directory of the spool is sent no file onto another one."""
        full.file(f"{below}/f1", b"the only copy of another f1")
        full.settings["destination"] = {
            "type": "ftp",
            "host": "127.0.0.1",
            "port": server.port,
            "user": "test",
            "password": "testpw",
            "path": f"/spool/{below}",
            "on_conflict": "overwrite",
        }
        finished = full.run()
        assert finished.code == 3, finished.stderr
        assert SAYS in finished.stderr
        assert full.left() == {**FILES, f"{below}/f1": b"the only copy of another f1"}


class TestS3:
    @pytest.fixture
    def gateway(self, full: Site, rclone_server: RcloneServer, rclone_s3: S3Endpoint) -> Site:
        """A bucket of a gateway whose directory is the spool. The gateway remembers names for minutes."""
        bucket = rclone_server.root / rclone_s3.bucket
        full.settings["base_dir"] = str(bucket)
        full.spool = bucket
        for path, content in FILES.items():
            full.file(path, content)
        full.ship_to(rclone_s3)
        return full

    @pytest.mark.rotated("setting", "way", "prefix")
    @pytest.mark.parametrize("setting", ["delete", "keep", "gzip", "overwrite"])
    def test_the_spool_itself(self, gateway: Site, engine: str, setting: str) -> None:
        """A gateway that answers from its memory is asked for a byte of the file, which it cannot remember."""
        gateway.settings["engine"] = engine
        gateway.settings.update(
            {
                "keep": {"on_success": "keep"},
                "gzip": {"compress": "gzip"},
                "overwrite": {"on_conflict": "overwrite"},
            }.get(setting, {})
        )
        refused(gateway, gateway.run())
        refused(gateway, gateway.run())
        not_ready(gateway)

    @pytest.mark.rotated("below")
    @pytest.mark.parametrize("below", ["deep", "deep/er"])
    def test_replaces_nothing_in_the_spool(
        self, full: Site, mounts: Mounts, rclone_server: RcloneServer, rclone_s3: S3Endpoint, engine: str, below: str
    ) -> None:
        """A gateway over a directory of the spool is sent no file onto another one."""
        full.file(f"{below}/f1", b"the only copy of another f1")
        mounts.bind(full.spool / below, rclone_server.root / rclone_s3.bucket)
        full.ship_to(rclone_s3, on_conflict="overwrite", engine=engine)
        finished = full.run()
        assert finished.code == 3, finished.stderr
        assert SAYS in finished.stderr
        assert full.left() == {**FILES, f"{below}/f1": b"the only copy of another f1"}


def test_a_second_copy_that_somebody_takes_away(full: Site, tmp_path: Path) -> None:
    """Objects that were there before the run are second copies: their files go, and nobody is accused."""
    archive = full.ship_to_directory()
    for path, content in FILES.items():
        (archive / path).parent.mkdir(parents=True, exist_ok=True)
        (archive / path).write_bytes(content)
    finished = full.run()
    assert finished.code == 0, finished.stderr
    assert full.left() == {}
