"""``audit`` from outside: what is missing or different at the destination, and what the program says about it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pty
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import Finished, Site, take_away
from tests.servers.dialects import AWS_KMS
from tests.servers.fault_script import error, hang
from tests.servers.fault_server import FaultServer
from tests.servers.proftpd import ProftpdServer

FINE = "Nothing is missing or different. "


def records(finished: Finished) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The findings of ``audit --json`` and the summary at its end."""
    *findings, summary = [json.loads(line) for line in finished.stdout.splitlines()]
    assert summary["kind"] == "summary"
    assert summary["problems"] == sum(not finding["is_note"] for finding in findings)
    assert finished.code == (1 if summary["problems"] else 0)
    return findings, summary


def kinds(finished: Finished) -> dict[str, str]:
    """Kind of each finding by its key."""
    return {finding["key"]: finding["kind"] for finding in records(finished)[0]}


def objects(server: FaultServer) -> dict[str, Any]:
    """What the server holds, to be changed behind everybody's back."""
    return server.store.buckets[server.bucket]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, FaultServer]]:
    """Twenty files are shipped, once for all tests that audit them; nobody asks this server any more."""
    site = Site(tmp_path_factory.mktemp("shipped"))
    with FaultServer() as server:
        site.ship_to(server)
        site.files(20)
        assert site.run().code == 0
        shutil.copytree(site.home, site.place / "home-then")
        yield site, server
    site.end()


class TestBucket:
    @pytest.fixture
    def site(self, shipped: tuple[Site, FaultServer], fault_server: FaultServer) -> Site:
        """The twenty files are in the bucket of this server, whatever the test before has done."""
        site, server = shipped
        take_away(site.home)
        shutil.copytree(site.place / "home-then", site.home)
        take_away(site.spool)
        site.spool.mkdir()
        fault_server.endpoint = fault_server.endpoint.replace(bucket=server.bucket)
        fault_server.store.buckets = {server.bucket: server.stored()}
        site.settings = {"base_dir": str(site.spool)}
        site.ship_to(fault_server)
        return site

    @pytest.fixture
    def keys(self, site: Site, fault_server: FaultServer) -> list[str]:
        """The keys of the twenty files."""
        return sorted(fault_server.objects())

    def test_all_is_well(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """When everything is as it was shipped one line says so, after one question, and nothing was changed."""
        before = fault_server.stored()
        finished = site.run("audit")
        assert finished.code == 0
        assert finished.stdout.startswith(f"{FINE}20 files audited at {fault_server.bucket} in ")
        assert finished.stdout.endswith(": 20 with the same content.\n")
        assert finished.stderr == ""
        assert fault_server.counts() == {"ListObjectsV2": 1}
        assert fault_server.stored() == before

    def test_what_is_missing_or_different_is_named(
        self, site: Site, fault_server: FaultServer, keys: list[str]
    ) -> None:
        """A file that is gone, cut short, or another one has a line with what was expected and what is there."""
        del objects(fault_server)[keys[0]]
        content = fault_server.objects()[keys[1]]
        fault_server.put(keys[1], content[:-1])
        fault_server.put(keys[2], content[::-1])
        fault_server.put(keys[3], fault_server.objects()[keys[3]])
        finished = site.run("audit")
        gone, short, other, summary = finished.stdout.splitlines()
        assert finished.code == 1
        for line, key, kind in ((gone, keys[0], "missing:"), (short, keys[1], "size:"), (other, keys[2], "replaced:")):
            assert line.startswith(kind)
            assert f"{key} ({fault_server.bucket}/{key}): expected {len(content)} bytes, ETag " in line
        assert gone.endswith("; there is nothing")
        assert f"; there is {len(content) - 1} bytes, ETag " in short
        assert summary.startswith("Something is missing or different. 20 files")
        assert "17 with the same content, 1 missing, 1 of another size, 1 replaced since." in summary

    def test_for_machines(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """As JSON each finding is a line of its own, and the summary is the last one."""
        del objects(fault_server)[keys[7]]
        (finding,), summary = records(site.run("audit", "--json"))
        assert (finding["kind"], finding["key"], finding["path"]) == ("missing", keys[7], keys[7])
        assert (finding["found"], finding["location"]) == (None, "bedroom")
        assert set(finding["expected"]) == {"size", "encoding", "etag", "checksum", "version_id", "shipped_at"}
        assert (summary["keys"], summary["same_content"], summary["findings"]["missing"]) == (20, 19, 1)

    def test_replaced_later_by_the_same_content(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """What was put there again with the same content is told of, and is no difference."""
        stored = objects(fault_server)
        stored[keys[0]] = dataclasses.replace(stored[keys[0]], modified=time.time() + 3600)
        assert kinds(site.run("audit", "--json")) == {keys[0]: "rewritten"}

    def test_a_later_row_of_the_same_key_counts(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """What the program itself has overwritten since is no finding."""
        site.settings["on_conflict"] = "overwrite"
        site.file(keys[0], b"new content under an old key")
        assert site.run().code == 0
        assert site.run("audit").stdout.startswith(f"{FINE}20 files")

    def test_a_selection(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """It can be narrowed as history can, and looks at nothing else."""
        objects(fault_server).clear()
        narrow = ("--match", "*/00/0[13]-topic.dat", "--location", "bedroom", "--since", "1h")
        assert kinds(site.run("audit", "--json", *narrow)) == {keys[1]: "missing", keys[3]: "missing"}
        for arguments in (("--since", "2000-01-01", "--until", "1h"), ("--location", "attic")):
            finished = site.run("audit", *arguments)
            assert (finished.code, finished.stdout.startswith("Nothing was audited. 0 files")) == (0, True)
        assert site.run("audit", "--since", "yesteryear").code == 2

    def test_deep_asks_for_every_object(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """--deep holds checksums against the server's own, key by key."""
        stored = objects(fault_server)
        stored[keys[5]] = dataclasses.replace(stored[keys[5]], checksums={"crc32": "AAAAAA=="})
        assert site.run("audit").code == 0
        fault_server.forget_requests()
        assert kinds(site.run("audit", "--deep", "--json")) == {keys[5]: "content"}
        assert fault_server.counts()["HeadObject"] == 20

    def test_the_time_budget(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """max_runtime_seconds ends a whole audit: it tells what it found and what it did not get to, and fails."""
        del objects(fault_server)[keys[0]]
        fault_server.latency_seconds = 0.4
        site.settings |= {"max_concurrency": 1, "max_runtime_seconds": 4}
        finished = site.run("audit", "--deep", "--json")
        *findings, summary = [json.loads(line) for line in finished.stdout.splitlines()]
        assert finished.code == 1
        assert finished.seconds < 12
        assert [finding["key"] for finding in findings] == [keys[0]]
        assert 0 < summary["keys"] == 20 - summary["not_audited"]
        assert (summary["first_not_audited"], summary["spool_unfinished"]) == (keys[summary["keys"]], False)
        rest = f"Not audited: {summary['not_audited']} files, from the key {keys[summary['keys']]} on"
        assert rest in finished.stderr

    def test_a_time_budget_without_an_answer(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """A bucket that has answered nothing when the time is over could not be read: exit code 3."""
        fault_server.faults.add(hang().only(operations="ListObjectsV2", times=None))
        site.settings["max_runtime_seconds"] = 2
        finished = site.run("audit")
        assert finished.code == 3
        assert finished.seconds < 10
        assert "ListObjectsV2 operation got no answer before the time of the whole audit was over" in finished.stderr

    def test_without_the_right_to_list(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """Without s3:ListBucket each key is asked for, the remedy is named, and the result is the same."""
        fault_server.allowed_operations = {"HeadObject"}
        del objects(fault_server)[keys[7]]
        finished = site.run("audit", "--json")
        assert kinds(finished) == {keys[7]: "missing"}
        assert "Grant s3:ListBucket" in finished.stderr
        assert "Each key is asked for on its own" in finished.stderr

    def test_without_any_right(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """Who may neither list nor read gets exit code 3, and nothing is called missing."""
        fault_server.allowed_operations = {"PutObject"}
        finished = site.run("audit")
        assert (finished.code, finished.stdout) == (3, "")
        assert "Grant s3:GetObject" in finished.stderr

    @pytest.mark.parametrize("engine", ["native", "boto3"])
    def test_a_destination_out_of_reach(self, site: Site, keys: list[str], engine: str) -> None:
        """When the destination cannot be reached, or the bucket is gone, the exit code is 3 with every engine."""
        site.settings["engine"] = engine
        bucket = site.settings["bucket"]
        site.settings["bucket"] = "gone"
        assert site.run("audit").code == 1, "nothing was shipped to that bucket"
        site.settings["bucket"] = bucket
        site.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        finished = site.run("audit")
        assert (finished.code, finished.stdout) == (3, "")
        assert "127.0.0.1:9" in finished.stderr

    def test_a_bucket_that_was_removed(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """A bucket that is gone is no bucket in which everything is missing."""
        del fault_server.store.buckets[fault_server.bucket]
        finished = site.run("audit")
        assert (finished.code, finished.stdout) == (3, "")
        assert "NoSuchBucket" in finished.stderr

    def test_errors_that_pass(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """A page that fails is asked for again."""
        fault_server.faults.add(error("InternalError").only(operations="ListObjectsV2", times=2))
        assert site.run("audit").stdout.startswith(f"{FINE}20 files")

    def test_errors_that_stay(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """A listing that cannot be had is no empty one."""
        fault_server.faults.add(error("AccessDenied").only(operations="ListObjectsV2", times=None))
        fault_server.faults.add(error("SlowDown").only(operations="HeadObject", times=None))
        finished = site.run("audit", "--json", "--match", keys[0])
        assert finished.code == 1
        assert kinds(finished) == {keys[0]: "unreadable"}

    def test_other_destinations(self, site: Site, keys: list[str]) -> None:
        """What was shipped elsewhere is not audited; that is said, and that nothing was audited is no success."""
        bucket = site.settings["bucket"]
        site.settings["bucket"] = "another"
        for arguments in (("--since", "30d"), ("--json",), ()):
            finished = site.run("audit", *arguments)
            assert finished.code == 1
            assert "Nothing was audited: the ledger knows of no file at another." in finished.stderr
        assert finished.stdout.startswith("Nothing was audited. 0 files")
        assert f"Not audited, because they were shipped elsewhere: 20 at {bucket}." in finished.stderr

    def test_a_ledger_that_is_not_there(self, site: Site, keys: list[str]) -> None:
        """Without the ledger of the uploads nothing can be audited, which is an error that names the place."""
        finished = site.run("audit", "--set", f"state_dir={site.place / 'nowhere'}")
        assert (finished.code, finished.stdout) == (2, "")
        assert f"There is no ledger {site.place / 'nowhere'}" in finished.stderr
        assert "/var/lib/s3-uploader" in finished.stderr

    def test_it_outlives_its_spool(self, site: Site, keys: list[str]) -> None:
        """The ledger can be audited when the spool is gone."""
        site.spool.rename(site.place / "elsewhere")
        assert site.run("audit").stdout.startswith(f"{FINE}20 files")

    def test_in_the_middle_of_a_run(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """While a run is at work what it has shipped so far can be audited."""
        site.files(30, location="kitchen")
        fault_server.latency_seconds = 0.2
        running = site.start()
        running.wait_until(lambda: len(fault_server.objects()) > 20, "the first upload")
        finished = site.run("audit")
        assert finished.stdout.startswith(FINE)
        assert running.wait().code == 0

    def test_a_bar_on_a_terminal(self, site: Site, fault_server: FaultServer, keys: list[str]) -> None:
        """With a terminal there is a bar, and the findings stand above it, whole."""
        del objects(fault_server)[keys[7]]
        master, slave = pty.openpty()
        running = site.start("audit", stdout=slave, stderr=slave, environment={"TERM": "xterm", "COLUMNS": "300"})
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):
            while piece := os.read(master, 65536):
                shown += piece
        os.close(master)
        assert running.wait().code == 1
        text = shown.decode()
        assert "files" in text
        assert f"missing:    {keys[7]} ({fault_server.bucket}/{keys[7]}): expected" in text
        assert "Something is missing or different. 20 files" in text


def test_compressed_files(site: Site, fault_server: FaultServer) -> None:
    """What was compressed on its way is expected with the size and the checksum of what was stored."""
    site.ship_to(fault_server, compress="gzip")
    for path in site.files(3, size=5000):
        assert path.stat().st_size == 5000
    assert site.run().code == 0
    key = sorted(fault_server.objects())[0]
    assert len(fault_server.objects()[key]) < 1000
    assert site.run("audit", "--deep").stdout.startswith(f"{FINE}3 files")
    fault_server.put(key, b"x" * 5000)
    (finding,), _ = records(site.run("audit", "--json"))
    assert (finding["kind"], finding["expected"]["encoding"]) == ("size", "gzip")
    assert finding["expected"]["size"] < 1000


def test_keys_with_a_prefix(site: Site, fault_server: FaultServer) -> None:
    """Objects are looked for where they really are, whatever key_prefix says today."""
    site.ship_to(fault_server, key_prefix="sensors/{location}/")
    site.files(3)
    assert site.run().code == 0
    assert all(key.startswith("sensors/bedroom/") for key in fault_server.objects())
    site.settings["key_prefix"] = "elsewhere/"
    assert site.run("audit").stdout.startswith(f"{FINE}3 files")


def test_random_etags(site: Site, make_fault_server: Any) -> None:
    """With SSE-KMS, where an ETag is no MD5, what was uploaded anew is recognised by its checksum."""
    server = make_fault_server(dialect=AWS_KMS)
    site.ship_to(server, sse="aws:kms")
    paths = site.files(3)
    assert site.run().code == 0
    assert site.run("audit").stdout.startswith(f"{FINE}3 files")
    key = sorted(server.objects())[0]
    stored = objects(server)[key]
    server.put(key, stored.body)
    again = objects(server)[key]
    assert again.etag != stored.etag
    objects(server)[key] = dataclasses.replace(again, checksums=stored.checksums)
    finished = site.run("audit", "--json")
    assert (kinds(finished), len(paths)) == ({}, 3)
    assert records(finished)[1]["looks"] == 1
    server.put(key, stored.body[::-1])
    assert kinds(site.run("audit", "--json")) == {key: "replaced"}


class TestSpool:
    @pytest.fixture
    def kept(self, site: Site) -> Path:
        """Three files are shipped to a directory and stay in the spool."""
        archive = site.ship_to_directory()
        site.settings["on_success"] = "keep"
        site.files(3)
        assert site.run().code == 0
        return archive

    def test_kept_files_are_no_finding(self, site: Site, kept: Path) -> None:
        """What is kept on purpose is all right, also when it is read."""
        assert site.run("audit", "--spool").stdout.startswith(f"{FINE}3 files")
        _, summary = records(site.run("audit", "--spool", "--deep", "--json"))
        assert (summary["local_files"], summary["same_content"]) == (3, 3)

    def test_a_kept_file_that_decayed(self, site: Site, kept: Path) -> None:
        """--deep finds a local file whose bytes are other ones though its size and time are the same."""
        path = min(path for path in site.spool.rglob("*") if path.is_file())
        status = path.stat()
        content = path.read_bytes()
        path.write_bytes(content[::-1])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        findings, _ = records(site.run("audit", "--spool", "--deep", "--json"))
        assert [finding["kind"] for finding in findings] == ["local_file"]

    def test_a_file_that_should_be_gone(self, site: Site, kept: Path) -> None:
        """A file that was shipped and is still there is named with the reason, and is no difference."""
        site.settings["on_success"] = "delete"
        finished = site.run("audit", "--spool")
        assert finished.code == 0
        lines = finished.stdout.splitlines()
        assert len(lines) == 4
        assert all(line.startswith("still in the spool: ") and "The next run" in line for line in lines[:3])
        assert "3 still in the spool" in lines[3]

    def test_content_of_a_directory(self, site: Site, kept: Path) -> None:
        """Sizes are compared always, bytes with --deep or where a file was changed since."""
        first, second, third = sorted(path for path in kept.rglob("*") if path.is_file())
        times = second.stat()
        first.unlink()
        second.write_bytes(second.read_bytes()[::-1])
        os.utime(second, ns=(times.st_atime_ns, times.st_mtime_ns))
        third.write_bytes(third.read_bytes()[::-1])
        later = time.time() + 3600
        os.utime(third, (later, later))
        found = kinds(site.run("audit", "--json"))
        assert sorted(found.values()) == ["content", "missing"]
        assert sorted(kinds(site.run("audit", "--json", "--deep")).values()) == ["content", "content", "missing"]

    def test_what_more_could_be_compared(self, site: Site, kept: Path) -> None:
        """Without --deep only sizes are compared, and the summary does not say that this is all that can be."""
        assert "3 with the same size (--deep compares more where it can)" in site.run("audit").stdout
        assert "3 with the same content." in site.run("audit", "--deep").stdout

    def test_a_directory_that_is_gone(self, site: Site, kept: Path) -> None:
        """An archive that is not mounted is no archive in which everything is missing."""
        kept.rename(kept.with_name("unmounted"))
        finished = site.run("audit")
        assert (finished.code, finished.stdout) == (3, "")
        assert "Mount the file system that belongs there." in finished.stderr


def test_an_ftp_server(site: Site, proftpd_server: ProftpdServer) -> None:
    """On an FTP server the same is found; a lock file of another uploader does not keep anybody from looking."""
    site.settings["destination"] = {
        "type": "ftp",
        "host": "127.0.0.1",
        "port": proftpd_server.port,
        "user": proftpd_server.username,
        "password": proftpd_server.password,
        "path": "/",
        "lock_file": "lock",
    }
    site.files(4, location="audited")
    assert site.run().code == 0
    (proftpd_server.root / "lock").write_bytes(b"")
    first, second, *_ = sorted(path for path in (proftpd_server.root / "audited").rglob("*") if path.is_file())
    assert site.run("audit").stdout.startswith(f"{FINE}4 files")
    first.unlink()
    content = second.read_bytes()
    second.write_bytes(content[::-1])
    os.utime(second, (time.time() - 60, time.time() - 60))
    assert sorted(kinds(site.run("audit", "--json")).values()) == ["missing"]
    assert sorted(kinds(site.run("audit", "--json", "--deep")).values()) == ["content", "missing"]
