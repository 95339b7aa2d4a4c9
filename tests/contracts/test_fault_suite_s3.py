"""What the S3 store makes of servers that fail, stall and lie: the same with every engine."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import ConflictError, ProofError, Scope, SourceChanged, StoreError
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3.store import S3Store
from tests.contracts.store_contract import PATIENCE, begin, pattern
from tests.contracts.test_contract_s3 import LARGE
from tests.integration.s3_support import conditional
from tests.lent_loop import LENT, make_store
from tests.servers import fault_script as faults
from tests.servers.dialects import AWS, AWS_KMS, BLIND, OLD, UNCONDITIONAL, WEAK
from tests.servers.fault_server import FaultServer
from tests.servers.fault_wire import Answer

ENGINES = ("native", LENT, "boto3")
QUICK = RetryPolicy(base_pause=0.01, max_pause=0.05)


class Setting:
    """A server, a store on it, and files to upload."""

    def __init__(self, server: FaultServer, directory: Path, engine: str) -> None:
        self.server = server
        self.engine = engine
        self.notices: list[tuple[str, str]] = []
        self.directory = directory
        self.cleanup = contextlib.ExitStack()
        self._store: S3Store | None = None

    def new_store(self, *, environment: dict[str, str] | None = None, **settings: Any) -> S3Store:
        """A store, open."""
        arguments: dict[str, Any] = {
            "bucket": self.server.bucket,
            "engine": self.engine,
            "environment": self.server.endpoint.environment() if environment is None else environment,
            "multipart_threshold": 5 * 2**20,
            "part_size": 5 * 2**20,
            "retry": QUICK,
            "notice": lambda level, message: self.notices.append((level, message)),
            **settings,
        }
        store = make_store(**arguments)
        store.open()
        self.cleanup.callback(store.close, timeout=2)
        return store

    @property
    def store(self) -> S3Store:
        """The store; made and warmed up when it is first asked for, so that it knows its server."""
        if self._store is None:
            self._store = self.new_store()
            self.begin("warm-up", b"warm-up").result(PATIENCE)
            self.server.forget_requests()
        return self._store

    def begin(self, key: str, content: bytes, **arguments: Any) -> PendingReceipt:
        """Start an upload."""
        store = arguments.pop("store", None) or self.store
        return begin(self.cleanup, store, self.directory, key, content, **arguments)

    def put(self, key: str, content: bytes, **arguments: Any) -> Receipt:
        """Upload and wait."""
        return self.begin(key, content, **arguments).result(PATIENCE)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    return str(request.param)


@pytest.fixture
def setting(engine: str, tmp_path: Path) -> Iterator[Setting]:
    """Amazon's dialect."""
    with FaultServer(dialect=AWS) as server:
        made = Setting(server, tmp_path, engine)
        made.store  # noqa: B018
        with made.cleanup:
            yield made


def fresh(fault: faults.Fault) -> faults.Fault:
    """A fault of a list of parameters, as if no test had used it."""
    return dataclasses.replace(fault, taken=0, happened=0)


ALL_BUT_READING = (
    "HeadObject", "PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload",
)  # fmt: skip
SIZES = [pytest.param(2_000, id="2kB"), pytest.param(2_000_000, id="2MB"), pytest.param(LARGE, id="6MB")]


@pytest.mark.parametrize(
    "fault",
    [
        faults.slow_down(0),
        faults.error("InternalError"),
        faults.error("ServiceUnavailable"),
        faults.error("RequestTimeout"),
        faults.error("BadDigest"),
        faults.error("XAmzContentSHA256Mismatch"),
        faults.error("ConditionalRequestConflict"),
        faults.error("NoSuchKey"),
        faults.error_after_storing(),
        faults.hang_up("before_body"),
        faults.hang_up("before_answer"),
        faults.hang_up("before_answer", reset=True),
        faults.hang_up("in_body", after_bytes=1000),
        faults.hang_up("in_body", after_bytes=1000, reset=True),
        faults.cut_answer(20),
        faults.cut_answer(60),
    ],
    ids=lambda fault: fault.name,
)
@pytest.mark.parametrize("size", SIZES)
def test_what_passes_is_retried(setting: Setting, size: int, fault: faults.Fault) -> None:
    """An error that may pass is met with another attempt, and the object is there once, whole."""
    content = pattern(size)
    setting.server.faults.add(dataclasses.replace(fresh(fault), operations=("PutObject", "UploadPart")))
    receipt = setting.put("key", content)
    setting.server.assert_all_used()
    assert receipt.proof is Proof.CHECKSUM
    assert setting.server.objects()["key"] == content
    assert setting.server.pending_uploads == []
    assert setting.server.replacements == []


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_error_that_stays_ends_the_upload(setting: Setting, operation: str) -> None:
    """An error that does not pass comes out after a few attempts, and nothing stays behind."""
    setting.server.faults.add(faults.slow_down(0).only(operations=operation, times=None))
    with pytest.raises(StoreError) as caught:
        setting.put("key", pattern(LARGE))
    assert caught.value.code == "SlowDown"
    assert caught.value.retryable
    assert (
        caught.value.message
        == f"An error occurred (SlowDown) when calling the {operation} operation: Please reduce your request rate."
    )
    assert "key" not in setting.server.objects()
    assert setting.server.pending_uploads == []


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_that_contradicts_is_no_success(setting: Setting, size: int) -> None:
    """A success whose checksum is not that of our bytes fails the upload."""
    setting.server.faults.add(fresh(faults.wrong_checksum()))
    with pytest.raises(ProofError):
        setting.put("key", pattern(size))
    setting.server.assert_all_used()
    assert setting.server.pending_uploads == []


def test_a_completion_that_contradicts_is_no_success(setting: Setting) -> None:
    """The same for the answer to the completion of an upload in parts."""
    setting.server.faults.add(fresh(faults.wrong_checksum()).only(operations="CompleteMultipartUpload"))
    with pytest.raises(ProofError):
        setting.put("key", pattern(LARGE))
    setting.server.assert_all_used()


def test_an_etag_never_outweighs_the_bytes(setting: Setting) -> None:
    """Where ETags were MD5s, another one beside the right checksum has the object read back; the bytes decide."""
    setting.put("before", b"content")
    setting.server.forget_requests()
    setting.server.faults.add(fresh(faults.wrong_etag()))
    assert setting.put("key", b"content").proof is Proof.CHECKSUM
    setting.server.assert_all_used()
    assert setting.server.counts() == {"PutObject": 1, "GetObject": 1}


@pytest.mark.parametrize("size", [20, LARGE])
def test_other_bytes_are_found_by_reading(engine: str, tmp_path: Path, size: int) -> None:
    """Where answers prove nothing the object is read back in the first try: damaged bytes are no success."""
    with FaultServer(dialect=BLIND) as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        assert setting.put("good", pattern(size)).proof is Proof.CHECKSUM
        damaged = pattern(size)[:-1] + b"!"
        server.faults.add(
            faults.run_before_answer(lambda: server.put("bad", damaged)).only(
                operations="CompleteMultipartUpload" if size == LARGE else "PutObject", key="bad"
            )
        )
        with pytest.raises(ProofError):
            setting.put("bad", pattern(size))
        server.assert_all_used()


def test_no_proof_at_all_is_no_success(setting: Setting) -> None:
    """An answer without any proof sends us looking; where looking is denied the upload fails and says what to do."""
    setting.server.faults.add(
        faults.no_proof(), faults.error("AccessDenied").only(operations=("HeadObject", "GetObject"), times=None)
    )
    with pytest.raises(ProofError) as caught:
        setting.put("key", b"content")
    assert "s3:GetObject" in caught.value.hint
    assert "minimum_proof" in caught.value.hint


def test_a_proof_that_the_answer_lacks_is_looked_for(setting: Setting) -> None:
    """An answer without any proof sends us looking, and what a HEAD says proves as well."""
    setting.server.faults.add(faults.no_proof())
    assert setting.put("key", b"content").proof is Proof.CHECKSUM
    assert setting.server.counts() == {"PutObject": 1, "HeadObject": 1}


def test_parts_whose_etag_is_another_md5(setting: Setting) -> None:
    """Parts with ETags that look like other MD5s are sent once more, and the whole is read back in the same try."""
    setting.server.dialect = dataclasses.replace(AWS, etags_are_md5=False, answers_checksums=False)
    assert setting.put("key", pattern(LARGE)).proof is Proof.CHECKSUM
    assert setting.server.counts()["GetObject"]
    assert setting.server.objects()["key"] == pattern(LARGE)
    assert setting.server.pending_uploads == []


def test_a_connection_that_closes_at_the_completion(setting: Setting) -> None:
    """A completion without an answer is looked for before it is sent again, also on a connection used before."""
    setting.put("before", pattern(LARGE))
    setting.server.forget_requests()
    setting.server.faults.add(faults.hang_up("before_answer").only(operations="CompleteMultipartUpload"))
    assert setting.put("key", pattern(LARGE)).proof is Proof.CHECKSUM
    setting.server.assert_all_used()
    assert setting.server.counts()["CompleteMultipartUpload"] == 1


def test_parts_without_an_etag(setting: Setting) -> None:
    """Where something on the way withholds the ETags of parts, these are joined by their MD5s."""
    store = setting.new_store()

    def without(_: faults.Exchange, answer: Answer) -> Answer:
        headers = {name: value for name, value in answer.headers.items() if name.lower() != "etag"}
        return dataclasses.replace(answer, headers=headers)

    withheld = faults.Fault(name="no ETag", operations=("UploadPart",), times=None, before_answer=without)
    setting.server.faults.add(withheld)
    assert setting.put("key", pattern(LARGE), store=store).proof is Proof.CHECKSUM
    assert setting.server.objects()["key"] == pattern(LARGE)


@pytest.mark.parametrize("stored", [False, True])
def test_an_error_inside_a_success(setting: Setting, *, stored: bool) -> None:
    """An error document in a 200 is an error: the completion is sent again."""
    setting.server.faults.add(faults.error_in_success(stored=stored))
    receipt = setting.put("key", pattern(LARGE))
    setting.server.assert_all_used()
    assert receipt.proof is Proof.CHECKSUM
    assert setting.server.objects()["key"] == pattern(LARGE)
    assert setting.server.pending_uploads == []


def test_an_error_inside_a_success_that_stays(setting: Setting) -> None:
    """An error document in every 200 is never taken for a success."""
    setting.server.faults.add(faults.error_in_success().repeated())
    with pytest.raises(StoreError) as caught:
        setting.put("key", pattern(LARGE))
    assert caught.value.code == "InternalError"
    assert setting.server.pending_uploads == []


def test_a_lost_answer_to_the_completion(setting: Setting) -> None:
    """The object was completed but the answer was lost: it is found, and it is ours, not a conflict."""
    setting.server.faults.add(faults.hang_up("before_answer").only(operations="CompleteMultipartUpload"))
    receipt = setting.put("key", pattern(LARGE))
    setting.server.assert_all_used()
    assert not receipt.already_there
    assert setting.server.pending_uploads == []


def test_a_part_of_the_answer_to_the_completion(setting: Setting) -> None:
    """An answer that says success and breaks off in the middle of its document: the object is looked for."""

    def half(_: faults.Exchange, answer: Answer) -> Answer:
        return dataclasses.replace(answer, body=answer.body[: len(answer.body) // 2])

    setting.server.faults.add(
        faults.Fault(name="half an answer", operations=("CompleteMultipartUpload",), before_answer=half)
    )
    receipt = setting.put("key", pattern(LARGE))
    setting.server.assert_all_used()
    assert not receipt.already_there
    assert setting.server.counts()["CompleteMultipartUpload"] == 1


def test_a_web_page_in_place_of_an_answer(setting: Setting) -> None:
    """A login page that accepts everything is named as what it is, and asked once."""

    def page(_: faults.Exchange, answer: Answer) -> Answer:
        return Answer(headers={"Content-Type": "text/html"}, body=b"<!DOCTYPE html><html>Log in<br></html>")

    setting.server.faults.add(faults.Fault(name="page", operations=("PutObject",), times=None, before_answer=page))
    with pytest.raises(StoreError) as caught:
        setting.put("key", b"data")
    assert caught.value.code == "NotS3"
    assert setting.server.counts()["PutObject"] == 1


def test_an_upload_that_the_server_forgot(setting: Setting) -> None:
    """NoSuchUpload on a part begins the upload anew."""
    setting.server.faults.add(faults.error("NoSuchUpload").only(operations="UploadPart", part_number=2))
    assert setting.put("key", pattern(LARGE)).proof is Proof.CHECKSUM
    setting.server.assert_all_used()
    assert setting.server.objects()["key"] == pattern(LARGE)


def test_a_part_that_fails_for_good(setting: Setting) -> None:
    """One part that is refused ends the upload, and the other parts are removed."""
    setting.server.faults.add(faults.error("AccessDenied").only(operations="UploadPart", part_number=2))
    with pytest.raises(StoreError) as caught:
        setting.put("key", pattern(LARGE))
    assert caught.value.code == "AccessDenied"
    assert setting.server.pending_uploads == []


def test_a_file_that_shrinks_in_mid_upload(setting: Setting, tmp_path: Path) -> None:
    """A file cut short while its parts are on their way is never completed."""
    path = tmp_path / "shrinking"
    size = 40_000_000
    path.write_bytes(pattern(size))
    setting.server.faults.add(
        faults.run_before_answer(lambda: path.open("r+b").truncate(1000)).only(operations="CreateMultipartUpload")
    )
    with path.open("rb", buffering=0) as file:
        future = setting.store.put(
            "key", Source(file.fileno(), size), options=PutOptions(), deadline=time.monotonic() + PATIENCE
        )
        with pytest.raises(SourceChanged):
            future.result(PATIENCE)
    assert "key" not in setting.server.objects()
    assert setting.server.pending_uploads == []


EVERY_FILE = [
    ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    ("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."),
    ("NoSuchBucket", "The specified bucket does not exist"),
    ("ExpiredToken", "The provided token has expired."),
    ("InvalidToken", "The provided token is malformed or otherwise invalid."),
    ("PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint."),
]


@pytest.mark.parametrize(("code", "text"), EVERY_FILE)
@pytest.mark.parametrize("early", [False, True])
def test_what_every_file_would_meet(setting: Setting, code: str, text: str, *, early: bool) -> None:
    """Such an error is not retried, says that it concerns the destination, and reads as botocore writes it."""
    setting.server.faults.add(faults.error(code, early=early).repeated())
    with pytest.raises(StoreError) as caught:
        setting.put("key", pattern(200_000))
    error = caught.value
    assert (error.code, error.scope, error.retryable) == (code, Scope.DESTINATION, False)
    assert error.message == f"An error occurred ({code}) when calling the PutObject operation: {text}"
    assert error.hint
    # A server that closes without reading everything may reset the connection, and its answer with it.
    # The region that a redirect names is tried once.
    again = early or code == "PermanentRedirect"
    assert setting.server.counts()["PutObject"] <= (2 if again else 1)


def test_a_region_that_the_server_names_is_passed_on(setting: Setting) -> None:
    """The hint says in which region the bucket is."""
    setting.server.faults.add(faults.error("PermanentRedirect").repeated())
    with pytest.raises(StoreError) as caught:
        setting.put("key", b"content")
    assert "eu-central-1" in caught.value.hint


def test_a_wrong_clock(setting: Setting) -> None:
    """An error about time says by how much our clock is wrong, and in which direction."""
    setting.server.clock_offset_seconds = 3600
    with pytest.raises(StoreError) as caught:
        setting.put("key", b"content")
    assert caught.value.code == "RequestTimeTooSkewed"
    assert caught.value.scope is Scope.DESTINATION
    assert any(f"{seconds} s behind" in caught.value.hint for seconds in (3599, 3600, 3601)), caught.value.hint


def test_denied_before_and_after_the_first_success(engine: str, tmp_path: Path) -> None:
    """AccessDenied concerns every file until one was accepted; from then on it is taken for the key's own."""
    with FaultServer() as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        store = setting.new_store()
        server.faults.add(faults.error("AccessDenied").only(operations="PutObject"))
        with pytest.raises(StoreError) as caught:
            setting.put("key", b"content", store=store)
        assert caught.value.scope is Scope.DESTINATION
        assert "s3:PutObject" in caught.value.hint
        setting.put("key", b"content", store=store)
        server.faults.add(faults.error("AccessDenied").only(operations="PutObject"))
        with pytest.raises(StoreError) as caught:
            setting.put("other", b"content", store=store)
        assert caught.value.scope is Scope.FILE


@pytest.mark.parametrize("at", ["before_body", "in_body", "before_answer"])
@pytest.mark.parametrize("size", SIZES)
def test_a_server_that_hangs_meets_the_deadline(setting: Setting, size: int, at: faults.Moment) -> None:
    """An upload into silence ends at its deadline and not much later."""
    setting.server.faults.add(faults.hang(at, after_bytes=1000).repeated())
    began = time.monotonic()
    future = setting.begin("key", pattern(size), deadline=began + 0.7)
    error = future.exception(PATIENCE)
    assert isinstance(error, StoreError)
    assert error.code == "DeadlineExceeded"
    assert 0.5 < time.monotonic() - began < 6


def test_nothing_listens(engine: str, tmp_path: Path) -> None:
    """A refused connection is retried for a few seconds at the most and concerns every file."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with FaultServer() as server, (setting := Setting(server, tmp_path, engine)).cleanup:
            store = setting.new_store(endpoint_url=url, retry=RetryPolicy())
            began = time.monotonic()
            errors = [setting.begin(f"key-{i}", b"content", store=store).exception(PATIENCE) for i in range(3)]
            assert time.monotonic() - began < 15
    for error in errors:
        assert isinstance(error, StoreError)
        assert (error.code, error.scope, error.retryable) == ("ConnectionFailed", Scope.DESTINATION, True)
        assert url in error.message
        assert error.hint


def test_an_unknown_host(engine: str, tmp_path: Path) -> None:
    """A name that does not resolve is reported as that."""
    with FaultServer() as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        store = setting.new_store(endpoint_url="http://no-such-host.invalid")
        error = setting.begin("key", b"content", store=store).exception(PATIENCE)
    assert isinstance(error, StoreError)
    assert (error.code, error.scope) == ("NameResolutionFailed", Scope.DESTINATION), error


def test_a_server_that_is_none(engine: str, tmp_path: Path) -> None:
    """Something that answers in another language is an error, not a crash."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"220 ftp.example.com ready\r\n")
                connection.settimeout(2)
                while connection.recv(65536):
                    pass

    threading.Thread(target=greet, daemon=True).start()
    with FaultServer() as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        store = setting.new_store(endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        error = setting.begin("key", b"content", store=store, deadline=time.monotonic() + 5).exception(PATIENCE)
        listener.close()
    assert isinstance(error, StoreError), error
    assert error.scope is Scope.DESTINATION or error.code == "DeadlineExceeded"


def test_tls(engine: str, tmp_path: Path) -> None:
    """With the right certificates https works for small and large; without them it fails once, with one sentence."""
    with FaultServer(tls=True) as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        store = setting.new_store()
        assert setting.put("small", b"content", store=store).proof is Proof.CHECKSUM
        content = pattern(LARGE)
        assert setting.put("large", content, store=store).proof is Proof.CHECKSUM
        assert server.objects()["large"] == content
        assert server.requests_of("PutObject", "small")[0].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        environment = server.endpoint.environment()
        del environment["AWS_CA_BUNDLE"]
        store = setting.new_store(environment=environment)
        error = setting.begin("key", b"content", store=store).exception(PATIENCE)
    assert isinstance(error, StoreError)
    assert (error.code, error.scope) == ("TlsFailed", Scope.DESTINATION), error


def test_tls_where_there_is_none(engine: str, tmp_path: Path) -> None:
    """An https URL of a server that speaks http is an error of TLS or of the connection, of every file."""
    with FaultServer() as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        url = server.endpoint.endpoint_url.replace("http:", "https:")
        store = setting.new_store(endpoint_url=url, connect_timeout_seconds=1)
        error = setting.begin("key", b"content", store=store, deadline=time.monotonic() + 20).exception(PATIENCE)
    assert isinstance(error, StoreError)
    assert error.scope is Scope.DESTINATION, error


def test_put_object_alone_is_enough_on_amazon(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The normal way needs s3:PutObject and nothing else: no HEAD, no list, no second request."""
    with FaultServer() as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        # Amazon's own name, reached through a proxy that is our server.
        environment = {
            **server.virtual_host_environment(),
            "AWS_ENDPOINT_URL": "http://s3.us-east-1.amazonaws.com",
            "NO_PROXY": "",
            "no_proxy": "",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server.allowed_operations = {"PutObject"}
        store = setting.new_store(environment=environment)
        for i in range(3):
            receipt = setting.put(f"key-{i}", b"content", store=store)
            assert receipt.proof is Proof.CHECKSUM
        assert server.counts() == {"PutObject": 3}
        request = server.requests_of("PutObject")[0]
        assert request.headers["if-none-match"] == "*"
        assert conditional(store) == "yes"


def test_a_virtual_host_through_a_proxy(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With addressing_style: virtual the bucket is in the host name, odd keys included."""
    with FaultServer() as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        environment = {**server.virtual_host_environment(), "NO_PROXY": "", "no_proxy": ""}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store = setting.new_store(environment=environment, addressing_style="virtual")
        for key in ("plain", "with space+plus%20/ü//x"):
            setting.put(key, b"content", store=store)
            assert server.objects()[key] == b"content"


def test_a_conflict_that_may_not_be_looked_at(setting: Setting) -> None:
    """Where HEAD is denied a taken key is a conflict, and the hint says which permission is missing."""
    setting.server.put("key", b"theirs")
    setting.server.faults.add(faults.error("AccessDenied").only(operations=("HeadObject", "GetObject"), times=None))
    with pytest.raises(ConflictError) as caught:
        setting.put("key", b"ours")
    assert "s3:GetObject" in caught.value.hint
    assert "overwrite" not in caught.value.hint


def test_an_object_of_parts_is_recognised(setting: Setting) -> None:
    """The same content that somebody uploaded in other parts is found out by reading it, and is no conflict."""
    content = pattern(LARGE)
    client = setting.server.endpoint.client()
    upload = client.create_multipart_upload(Bucket=setting.server.bucket, Key="key")["UploadId"]
    parts: list[Any] = []
    for number, first in enumerate(range(0, LARGE, 5_500_000), start=1):
        answer = client.upload_part(
            Bucket=setting.server.bucket,
            Key="key",
            UploadId=upload,
            PartNumber=number,
            Body=content[first : first + 5_500_000],
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(
        Bucket=setting.server.bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    assert setting.put("key", content).already_there
    other = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(ConflictError):
        setting.put("key", other)
    assert setting.server.objects()["key"] == content


def test_a_superseded_object_of_our_own_is_replaced(setting: Setting) -> None:
    """Exactly the object that an earlier run of ours put there may be replaced; any other is a conflict."""
    first = setting.put("key", b"half of it")
    second = setting.store.put(
        "key",
        _source(setting, b"all of it"),
        options=_options(),
        deadline=time.monotonic() + PATIENCE,
        replaces=first.etag,
    ).result(PATIENCE)
    assert setting.server.objects()["key"] == b"all of it"
    assert setting.server.requests_of("PutObject", "key")[-1].headers["if-match"].strip('"') == first.etag
    third = setting.store.put(
        "key",
        _source(setting, b"something else"),
        options=_options(),
        deadline=time.monotonic() + PATIENCE,
        replaces=first.etag,
    )
    error = third.exception(PATIENCE)
    assert isinstance(error, ConflictError)
    assert error.existing == second.etag
    assert setting.server.objects()["key"] == b"all of it"


def _source(setting: Setting, content: bytes) -> Any:
    path = setting.directory / f"replacing-{time.monotonic_ns()}"
    path.write_bytes(content)
    file = setting.cleanup.enter_context(path.open("rb"))
    return Source(file.fileno(), len(content))


def _options() -> Any:
    return PutOptions()


@pytest.mark.parametrize("dialect", [WEAK, UNCONDITIONAL], ids=lambda dialect: dialect.name)
def test_an_endpoint_without_conditional_writes(engine: str, tmp_path: Path, dialect: Any) -> None:
    """It is found out with the first file, said once and remembered; from then on we look before we write."""

    class Memory(dict[str, str]):
        def set(self, key: str, value: str) -> None:
            self[key] = value

    memory = Memory()
    with FaultServer(dialect=dialect) as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        store = setting.new_store(memory=memory)
        futures = [setting.begin(f"key-{i}", b"content", store=store) for i in range(5)]
        for future in futures:
            future.result(PATIENCE)
        assert conditional(store) in ("ignored", "refused")
        assert len(setting.notices) == 1
        assert setting.notices[0][0] == "warning"
        server.put("taken", b"theirs")
        with pytest.raises(ConflictError):
            setting.put("taken", b"ours", store=store)
        setting.notices.clear()
        again = setting.new_store(memory=memory)
        server.forget_requests()
        setting.put("key-9", b"content", store=again)
        # Each run looks once whether it is still so, and then goes on with one look and one write.
        setting.put("key-10", b"content", store=again)
        looks = 2 if dialect is WEAK else 3
        assert server.counts() == {"HeadObject": looks, "PutObject": 3}
        assert server.replacements == []
        assert setting.notices == []
        server.dialect = AWS
        setting.put("key-11", b"content", store=(newer := setting.new_store(memory=memory)))
        assert conditional(newer) == "yes"
        assert any("conditional-put" in name and value == "yes" for name, value in memory.items())


def test_an_endpoint_that_knows_them_is_asked_once(engine: str, tmp_path: Path) -> None:
    """With the first file it is found out that conditional writes work; every further one is a single request."""
    with FaultServer(dialect=OLD) as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        store = setting.new_store()
        futures = [setting.begin(f"key-{i}", b"content", store=store) for i in range(5)]
        for future in futures:
            assert future.result(PATIENCE).proof is Proof.MD5
        assert conditional(store) == "yes"
        assert server.counts() == {"HeadObject": 1, "PutObject": 6}
        assert setting.notices == []


def test_size_is_enough_if_the_configuration_says_so(engine: str, tmp_path: Path) -> None:
    """Where only the length is known and reading is not permitted, minimum_proof: size is enough, and nothing else."""
    with FaultServer(dialect=BLIND) as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        store = setting.new_store()
        server.allowed_operations = set(ALL_BUT_READING)
        with pytest.raises(ProofError):
            setting.put("default", b"content", store=store)
        for content in (b"content", pattern(LARGE)):
            key = f"content-{len(content)}"
            receipt = setting.put(key, content, store=store, minimum_proof=Proof.SIZE)
            assert receipt.proof is Proof.SIZE
            server.allowed_operations = None
            assert setting.put(key, content, store=store, minimum_proof=Proof.SIZE).already_there
            server.allowed_operations = set(ALL_BUT_READING)


@pytest.mark.parametrize("in_parts", [False, True])
def test_another_file_of_the_same_crc_is_another_file(engine: str, tmp_path: Path, *, in_parts: bool) -> None:
    """What ends with its own CRC-32 has the same one as a whole as any other such file; they are told apart."""
    noise = random.Random(1)
    contents = [noise.randbytes(LARGE if in_parts else 3000) for _ in range(2)]
    mine, theirs = (content + zlib.crc32(content).to_bytes(4, "little") for content in contents)
    assert zlib.crc32(mine) == zlib.crc32(theirs)
    with FaultServer(dialect=AWS_KMS) as server, (setting := Setting(server, tmp_path, engine)).cleanup:
        store = setting.new_store(sse="aws:kms")
        setting.put("it.gz", theirs, store=store)
        with pytest.raises(ConflictError):
            setting.put("it.gz", mine, store=store)
        assert server.objects() == {"it.gz": theirs}
        assert setting.put("it.gz", theirs, store=store).already_there


def test_what_the_configuration_asks_for_is_sent(setting: Setting) -> None:
    """Storage class, ACL, encryption, metadata, tags and content type arrive, the same with every engine."""
    store = setting.new_store(
        storage_class="STANDARD_IA",
        acl="bucket-owner-full-control",
        sse="aws:kms",
        sse_kms_key_id="arn:aws:kms:us-east-1:123456789012:key/1",
        metadata={"Origin": "a house", "n": "1"},
        tags={"team": "home & garden", "ü": "ö"},
    )
    for key, content, operation in (
        ("small.json", b"{}", "PutObject"),
        ("large.bin", pattern(LARGE), "CreateMultipartUpload"),
    ):
        setting.put(key, content, store=store, minimum_proof=Proof.CHECKSUM)
        headers = setting.server.requests_of(operation, key)[0].headers
        assert headers["x-amz-storage-class"] == "STANDARD_IA"
        assert headers["x-amz-acl"] == "bucket-owner-full-control"
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"].endswith(":key/1")
        assert headers["x-amz-meta-origin"] == "a house"
        assert headers["x-amz-tagging"] == "team=home%20%26%20garden&%C3%BC=%C3%B6"
        assert headers["content-type"] == ("application/json" if key == "small.json" else "application/octet-stream")


def test_checksums_travel_in_headers_and_never_in_trailers(setting: Setting) -> None:
    """A body is sent as it is, its checksum and the algorithm's name in headers, its hash in the signature."""
    setting.put("small", b"content")
    setting.put("large", pattern(LARGE))
    for request in [*setting.server.requests_of("PutObject"), *setting.server.requests_of("UploadPart")]:
        assert request.headers["x-amz-sdk-checksum-algorithm"] == "CRC32"
        assert request.headers["x-amz-checksum-crc32"]
        assert "x-amz-trailer" not in request.headers
        assert "aws-chunked" not in request.headers.get("content-encoding", "")
        assert len(request.headers["x-amz-content-sha256"]) == 64
    completion = setting.server.requests_of("CompleteMultipartUpload")[0]
    assert completion.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert completion.headers["if-none-match"] == "*"
    assert completion.headers["x-amz-mp-object-size"] == str(LARGE)


def test_overwriting_writes_without_a_condition_only_after_a_conflict(setting: Setting) -> None:
    """With on_conflict: overwrite nothing is looked at that is not in the way."""
    setting.put("free", b"ours", on_conflict=OnConflict.OVERWRITE)
    assert setting.server.counts() == {"PutObject": 1}


@pytest.mark.timing
@pytest.mark.exhaustive  # test_s3_bandwidth.py promises the same of small files and a large one
@pytest.mark.parametrize("engine", ["native", "boto3"])
@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_bandwidth_is_kept_to(setting: Setting, size: int) -> None:
    """All uploads together stay within ten percent of the limit."""
    limit = 2_000_000
    store = setting.new_store(max_bandwidth=limit)
    setting.put("warm", b"warm", store=store)
    count = 6_000_000 // size
    began = time.monotonic()
    futures = [setting.begin(f"key-{i}", pattern(size, str(i)), store=store) for i in range(count)]
    for future in futures:
        future.result(PATIENCE)
    rate = count * size / (time.monotonic() - began)
    assert 0.85 * limit < rate < 1.1 * limit


def test_names_of_nothing_but_steps_hold_nobody_up(setting: Setting) -> None:
    """Names of which nothing is left without their empty and dotted steps come one after the other, and all come."""
    contents = {key: key.encode() for key in ("//", "/", " ", " /", "...")}
    for key, content in contents.items():
        setting.put(key, content)
    assert contents.items() <= setting.server.objects().items()
