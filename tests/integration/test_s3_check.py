"""check() tells the dialects apart, and least privilege is enough for the normal way."""

from __future__ import annotations

import dataclasses
import time

import pytest

from s3_uploader.core.errors import ConflictError, Scope
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.model import OnConflict, Proof
from s3_uploader.stores.base import CheckLimits, PutOptions
from tests.contracts.store_contract import pattern
from tests.integration.s3_support import PART, Known, Station
from tests.servers.base import S3Endpoint
from tests.servers.dialects import AWS, BLIND, ECHO, NEW, UNCONDITIONAL, Dialect
from tests.servers.fault_script import Exchange, Fault, error, hang
from tests.servers.fixtures import MakeFaultServer

pytestmark = pytest.mark.rotated("real_s3")

LEAST = {"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"}


def forget_condition(exchange: Exchange) -> None:
    """Treat a request as if it had none."""
    exchange.request.headers.pop("if-none-match", None)


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    """The findings by what they are about."""
    found = {finding.subject: finding for finding in findings}
    assert len(found) == len(findings)
    return found


class TestCheck:
    def test_real_servers_are_told_apart(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """The old, the new and the weak dialect are each recognised, with what that means, and nothing is left."""
        findings = by_subject(station.store(real_s3, engine).check(now=time.time()))
        assert not [finding for finding in findings.values() if finding.severity is Severity.ERROR]
        dialect = real_s3.dialect
        assert dialect is not None
        words = {"ceph": "old dialect", "swift": "refused", "rclone": "weak dialect"}[real_s3.server]
        if real_s3.server != "rclone":
            assert words in findings["checksums"].fact + findings["checksums"].meaning
            assert "MD5" in findings["proof"].fact
        honoured = dialect.conditional_put == "honoured"
        assert findings["conflicts"].severity is (Severity.OK if honoured else Severity.WARNING)
        assert findings["clock"].severity is not Severity.WARNING
        assert real_s3.keys() == []

    @pytest.mark.parametrize("dialect", [AWS, BLIND, ECHO, UNCONDITIONAL], ids=lambda dialect: dialect.name)
    def test_dialects(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, dialect: Dialect
    ) -> None:
        """A server that verifies and answers is found good, and one that only echoes is found out.

        Where answers prove nothing it is said that each upload is read back.
        """
        server = make_fault_server(dialect=dialect)
        findings = by_subject(station.store(server.endpoint, engine).check(now=time.time()))
        expected = {"aws": Severity.OK, "echo": Severity.WARNING}
        assert findings["proof"].severity is expected.get(dialect.name, Severity.OK)
        assert findings["proof"].meaning
        if dialect is BLIND:
            assert "read back" in findings["proof"].meaning
        if dialect is UNCONDITIONAL:
            assert findings["conflicts"].severity is Severity.WARNING
            assert "NotImplemented" in findings["conflicts"].fact
        if dialect is ECHO:
            assert "repeat" in findings["proof"].meaning
        assert server.objects() == {}
        assert server.pending_uploads == []

    def test_the_probe_stays_below_the_prefix(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """With permissions for one prefix only, nothing is asked of any other key."""
        server = make_fault_server(dialect=AWS)
        station.store(server.endpoint, engine, key_prefix="site-7/").check(now=time.time())
        keys = {request.key for request in server.requests if request.key}
        assert keys
        assert all(key.startswith("site-7/") for key in keys)

    def test_settings_are_read_back(self, engine: str, station: Station, moto_s3: S3Endpoint) -> None:
        """What objects get beside their bytes is asked for and read back, for each location that differs."""
        store = station.store(
            moto_s3,
            engine,
            metadata={"team": "sea"},
            tags={"project": "a b"},
            acl="public-read",
            storage_class="STANDARD_IA",
            sse="AES256",
            variants=[PutOptions(), PutOptions(storage_class="ONEZONE_IA"), PutOptions(metadata={"team": "air"})],
        )
        found = [finding for finding in store.check(now=time.time()) if "the server keeps it" in finding.fact]
        kept = sorted((finding.subject, finding.fact.partition(":")[0]) for finding in found)
        assert [fact for subject, fact in kept if subject == "storage_class"] == ["ONEZONE_IA", "STANDARD_IA"]
        assert {subject for subject, _ in kept} >= {"storage_class", "sse", "metadata", "tags", "acl"}
        assert moto_s3.keys() == []

    def test_parts_that_cannot_be_removed(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """Where an upload cannot be aborted that is a warning, and it is told all the same whether large files go."""
        server = make_fault_server()
        server.faults.add(error("MethodNotAllowed").only(operations="AbortMultipartUpload", times=None))
        findings = by_subject(station.store(server.endpoint, engine).check(now=time.time()))
        stays = findings["parts of failed uploads"]
        assert stays.severity is Severity.WARNING
        assert "grant" not in stays.meaning
        assert findings["large files"].severity is Severity.OK

    def test_large_files_that_do_not_go(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """Where there are no uploads in parts, `check` names the setting that lets large files go all the same."""
        server = make_fault_server()
        server.faults.add(error("MethodNotAllowed").only(operations="CreateMultipartUpload", times=None))
        large = by_subject(station.store(server.endpoint, engine).check(now=time.time()))["large files"]
        assert large.severity is Severity.ERROR
        assert "multipart_threshold" in large.meaning

    def test_a_clock_that_is_minutes_off(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """A clock that is off, but not yet too much, is a warning that says by how much."""
        server = make_fault_server()
        server.clock_offset_seconds = -300
        clock = by_subject(station.store(server.endpoint, engine).check(now=time.time()))["clock"]
        assert clock.severity is Severity.WARNING
        assert "ahead of" in clock.fact
        assert any(abs(int(word) - 300) < 5 for word in clock.fact.split() if word.isdigit())

    def test_wrong_credentials(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """Wrong credentials are one finding with the server's words, and no exception."""
        findings = station.store(real_s3.replace(secret_key="wrong"), engine).check(now=time.time())
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        assert len(errors) == 1
        assert errors[0].meaning


class TestLeastPrivilege:
    @pytest.mark.parametrize("size", [100, PART + 100])
    def test_writing_is_enough(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, size: int
    ) -> None:
        """With s3:PutObject alone files of every size arrive and are proven."""
        server = make_fault_server()
        server.allowed_operations = LEAST
        store = station.store(server.endpoint, engine)
        for number in range(2):
            assert station.put(store, f"key-{number}", pattern(size)).proof is Proof.CHECKSUM
        # What was tried with may not be deleted, but is never more than one object.
        assert set(server.objects()) == {"key-0", "key-1", ".s3-uploader-check/protected"}

    @pytest.mark.parametrize("size", [100, PART + 100])
    def test_an_object_that_cannot_be_seen(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, size: int
    ) -> None:
        """Where conditions are ignored, not even the first upload replaces an object that may not be looked up."""
        in_parts = size > PART
        server = make_fault_server(dialect=NEW)
        server.put("key", b"theirs")
        server.allowed_operations = LEAST | {"DeleteObject"}
        server.faults.add(
            Fault(
                name="ignore the condition",
                operations=("CompleteMultipartUpload" if in_parts else "PutObject",),
                times=None,
                after_body=forget_condition,
            )
        )
        store = station.store(server.endpoint, engine)
        error = station.error(store, "key", pattern(size))
        assert "s3:GetObject" in error.hint
        assert error.scope is (Scope.FILE if in_parts else Scope.DESTINATION)
        assert server.objects() == {"key": b"theirs"}
        assert server.pending_uploads == []
        if in_parts:
            # Small files are protected by their own condition.
            station.put(store, "small", b"content")
            assert isinstance(station.error(store, "small", b"other content"), ConflictError)
        station.put(store, "key", pattern(size), on_conflict=OnConflict.OVERWRITE)
        assert server.objects()["key"] == pattern(size)

    @pytest.mark.parametrize("size", [100, PART + 100])
    @pytest.mark.parametrize("same", [False, True])
    def test_a_key_that_is_taken(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, size: int, *, same: bool
    ) -> None:
        """Who may not look is told that it cannot be seen what is there, and which permission would help."""
        server = make_fault_server()
        theirs = pattern(size) if same else b"theirs"
        server.put("key", theirs)
        server.allowed_operations = LEAST
        store = station.store(server.endpoint, engine, memory=Known())
        error = station.error(store, "key", pattern(size))
        assert isinstance(error, ConflictError)
        assert error.scope is Scope.FILE
        assert "s3:GetObject" in error.hint
        assert server.objects() == {"key": theirs}
        assert server.pending_uploads == []
        station.put(store, "key", pattern(size), on_conflict=OnConflict.OVERWRITE)
        assert server.objects() == {"key": pattern(size)}

    def test_check_says_what_is_missing(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """With s3:PutObject alone check() finds no error, says what is not permitted, and names what it leaves."""
        server = make_fault_server()
        server.allowed_operations = LEAST
        findings = by_subject(station.store(server.endpoint, engine).check(now=time.time()))
        assert not [finding for finding in findings.values() if finding.severity is Severity.ERROR]
        assert "s3:GetObject" in findings["reading"].meaning
        told = findings["deleting"].fact + "".join(text for _, text in station.notices)
        for key in server.objects():
            assert key in told

    @pytest.mark.parametrize("path", ["/{}/pre", "/{}/pre/", "/base/{}/pre"])
    def test_the_bucket_in_the_path_of_the_endpoint(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, path: str
    ) -> None:
        """Where it does not stand at the end, or in other letters, it is not left out but named."""
        endpoint = make_fault_server().endpoint
        for name in (endpoint.bucket, endpoint.bucket.upper()):
            url = endpoint.endpoint_url + path.format(name)
            findings = by_subject(
                station.store(dataclasses.replace(endpoint, endpoint_url=url), engine).check(now=time.time())
            )
            assert findings["path"].severity is Severity.WARNING
            assert f"({name})" in findings["path"].fact
            right = endpoint.endpoint_url + path.format("\n").partition("/\n")[0]
            assert f" to {right}. " in findings["path"].meaning

    def test_deletes_that_are_not_answered(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """One request without an answer is enough: the check waits for no other, and names what it leaves."""
        server = make_fault_server()
        server.faults.add(hang().only(operations="DeleteObject", times=None))
        store = station.store(server.endpoint, engine)
        findings = by_subject(store.check(now=time.time(), limits=CheckLimits(seconds=5.0)))
        assert "got no answer" in findings["deleting"].fact
        assert len(server.objects()) > 1
        for key in server.objects():
            assert key in findings["deleting"].fact
        assert len({request.key for request in server.requests_of("DeleteObject")}) == 1

    def test_no_right_to_write(self, engine: str, station: Station, make_fault_server: MakeFaultServer) -> None:
        """Without permission to write the run ends at once and names the permission."""
        server = make_fault_server()
        server.allowed_operations = {"HeadObject", "GetObject"}
        error = station.error(station.store(server.endpoint, engine), "key", b"content")
        assert (error.code, error.scope) == ("AccessDenied", Scope.DESTINATION)
        assert "s3:PutObject" in error.hint
