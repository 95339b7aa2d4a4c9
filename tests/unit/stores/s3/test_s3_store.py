"""The S3 store over an engine that a test plays itself: retries, redirects, deadlines, and which engine it is to be."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from s3_uploader.core.errors import ConflictError, EngineUnavailable, Scope, StoreError, UploadCancelled
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.s3.capabilities import NoMemory
from s3_uploader.stores.s3.checksums import digest_of
from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Access, locate
from s3_uploader.stores.s3.engines.base import Answer, Done, EngineSettings, Failure, Outcome, Request, TransportFailure
from s3_uploader.stores.s3.engines.native import make_engine
from s3_uploader.stores.s3.multipart import MultipartUpload
from s3_uploader.stores.s3.single import READ_AT_ONCE
from s3_uploader.stores.s3.store import S3Store

CONTENT = b"content"
DIGEST = digest_of(CONTENT)
STORED = Answer(status=200, headers={"etag": f'"{DIGEST.md5}"', "x-amz-checksum-crc32": DIGEST.crc32})
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "A",
    "AWS_SECRET_ACCESS_KEY": "B",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


def error(code: str, status: int, **headers: str) -> Answer:
    """An error as S3 sends it."""
    body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    return Answer(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


class PlayedEngine:
    """An engine whose answers are queued by the test; a request without an answer stays under way."""

    name = "played"
    loop = None

    def __init__(self) -> None:
        self.answers: list[Outcome] = []
        self.requests: list[Request] = []
        self.under_way: list[PlayedEngine.Under] = []
        self.region = ""

    class Under:
        """A request under way."""

        def __init__(self, done: Done) -> None:
            self.done: Done | None = done

        def cancel(self) -> None:
            """Give it up."""
            self.finish(Failure(TransportFailure.CANCELLED))

        def finish(self, outcome: Outcome) -> None:
            """Answer it."""
            done, self.done = self.done, None
            if done is not None:
                done(outcome)

    def open(self) -> None:
        """Nothing to do."""

    def send(self, request: Request, done: Done) -> Under:
        """Take the next answer."""
        self.requests.append(request)
        under = self.Under(done)
        if self.answers:
            under.finish(self.answers.pop(0))
        else:
            self.under_way.append(under)
        return under

    def follow(self, region: str) -> bool:
        """Go there."""
        self.region = region
        return True

    def close(self, *, timeout: float) -> None:
        """End what is under way."""
        for under in self.under_way:
            under.cancel()


class PlayedTimer:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def clock(self) -> float:
        """The time."""
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Remember it."""
        self.due.append((when, call))

    def pass_until(self, when: float) -> None:
        """Let time pass, and what is due happen."""
        while ready := sorted((entry for entry in self.due if entry[0] <= when), key=lambda entry: entry[0]):
            self.due.remove(ready[0])
            self.now = max(self.now, ready[0][0])
            ready[0][1]()
        self.now = when


class Play:
    """A store on a played engine; ``settings`` are the store's."""

    def __init__(self, *, content: bytes = CONTENT, **settings: Any) -> None:
        self.content = content
        self.engine = PlayedEngine()
        self.timer = PlayedTimer()
        self.notices: list[str] = []
        self.store = S3Store.of(
            bucket="bucket",
            environment=ENVIRONMENT,
            make_engine=lambda *_: self.engine,
            timer=self.timer,
            clock=self.timer.clock,
            wall_clock=lambda: 0.0,
            random=lambda: 1.0,
            notice=lambda level, message: self.notices.append(message),
            **settings,
        )
        self.store.open()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.file.write(content)
        self.file.flush()

    @property
    def conditional(self) -> str:
        """What the store has found out about conditional writes."""
        assert self.store._context is not None
        return self.store._context.capabilities.conditional

    def put(self, key: str = "key", *, seconds: float = 100.0) -> PendingReceipt:
        """Upload the content."""
        return self.store.put(
            key,
            Source(self.file.fileno(), len(self.content)),
            options=PutOptions(),
            deadline=self.timer.now + seconds,
        )

    def upload_in_parts(self) -> MultipartUpload:
        """The one upload that is under way, once two of its parts are."""
        until = time.monotonic() + 30
        while [request.operation for request in self.engine.requests].count("UploadPart") < 2:
            assert time.monotonic() < until
            time.sleep(0.001)
        (upload,) = self.store._uploads
        assert isinstance(upload, MultipartUpload)
        return upload


@pytest.fixture
def play() -> Iterator[Play]:
    """A store on Amazon's endpoint."""
    made = Play()
    with made.file:
        yield made
        made.store.close(timeout=0)


def test_given_up_while_the_server_forgets_the_upload() -> None:
    """An upload in parts that is given up ends, also if another thread finds just then that the server has lost it."""
    play = Play(multipart_threshold=1, part_size=4)
    with play.file:
        play.engine.answers = [Answer(status=200, headers={}, body=b"<R><UploadId>id</UploadId></R>")]
        future = play.put()
        upload = play.upload_in_parts()
        parts = [under for under in play.engine.under_way if under.done is not None]
        cancel = parts[0].cancel

        def cancel_late() -> None:
            # On the thread that has just brought the answer NoSuchUpload.
            upload.start_again(upload._generation)
            cancel()

        parts[0].cancel = cancel_late  # type: ignore[method-assign]
        play.store.cancel()
        operations = [request.operation for request in play.engine.requests]
        assert operations.count("AbortMultipartUpload") == operations.count("CreateMultipartUpload") == 1
        assert not future.done()
        play.engine.under_way[-1].finish(error("NoSuchUpload", 404))
        assert isinstance(future.exception(0), UploadCancelled)
        play.store.close(timeout=0)


def test_cancelled_while_it_is_asked_to_begin() -> None:
    """An upload in parts that is cancelled while its first request is sent waits only a moment for the answer."""
    play = Play(multipart_threshold=1, part_size=4)
    with play.file:
        send = play.engine.send

        def send_cancelled(request: Request, done: Done) -> PlayedEngine.Under:
            under = send(request, done)
            play.store.cancel()
            return under

        play.engine.send = send_cancelled  # type: ignore[method-assign]
        future = play.put()
        now, until = play.timer.now, time.monotonic() + 20
        while not any(now < when < now + 10 for when, _ in list(play.timer.due)):
            assert time.monotonic() < until, "nobody watches the request"
            time.sleep(0.001)
        assert not future.done()
        play.timer.pass_until(now + 10)
        assert isinstance(future.exception(0), UploadCancelled)
        assert [request.operation for request in play.engine.requests] == ["CreateMultipartUpload"]
        play.store.close(timeout=0)


def test_cancelled_after_an_answer_that_came_at_once() -> None:
    """What an upload has under way is given up, also if the answer before it was faster than the thread that asked."""
    play = Play(multipart_threshold=1, part_size=4, endpoint_url="http://localhost:1")
    with play.file:
        play.engine.answers = [Answer(status=404, headers={})]
        future = play.put()
        until = time.monotonic() + 20
        while not play.engine.under_way:
            assert time.monotonic() < until, "nothing is under way"
            time.sleep(0.001)
        assert [request.operation for request in play.engine.requests] == ["HeadObject", "CreateMultipartUpload"]
        # The thread that asked first goes on now.
        assert play.store._crew().close(timeout=20)
        play.store.cancel()
        play.timer.pass_until(play.timer.now + 10)
        assert isinstance(future.exception(0), UploadCancelled)
        play.store.close(timeout=0)


def test_threads_that_read_come_with_the_first_file_that_needs_them(play: Play) -> None:
    """None is made for small files, and if the first step that may block comes after the end, its thread ends too."""
    with play.file:
        play.engine.answers = [Answer(status=200, headers={"etag": '"x"', "x-amz-checksum-crc32": "x"})]
        play.put()
    assert play.store._pool is None
    play.store.close(timeout=0)
    done = threading.Event()
    late = play.store._crew()
    late.do(done.set)
    assert done.wait(20)
    assert late.close(timeout=20)
    assert late is play.store._crew()


def test_a_call_that_begins_while_an_upload_is_cancelled(play: Play) -> None:
    """A step that another thread takes in the middle of the cancellation does not go on after it."""
    future = play.put()
    (upload,) = play.store._uploads
    fail = upload.fail

    def fail_late(error: StoreError) -> None:
        upload.write()
        fail(error)

    upload.fail = fail_late  # type: ignore[method-assign]
    play.store.cancel()
    assert play.engine.under_way[-1].done is None
    assert isinstance(future.exception(0), UploadCancelled)


def test_two_parts_learn_at_once_that_the_upload_is_lost() -> None:
    """An upload that the server has forgotten is begun once more, however many of its parts are told so."""
    play = Play(multipart_threshold=1, part_size=4)
    with play.file:
        play.engine.answers = [Answer(status=200, headers={}, body=b"<R><UploadId>id</UploadId></R>")]
        play.put()
        upload = play.upload_in_parts()
        generation = upload._generation
        next(under for under in play.engine.under_way if under.done is not None).finish(error("NoSuchUpload", 404))
        # On the thread that has brought the same answer to another part at the same moment.
        upload.start_again(generation)
        assert [request.operation for request in play.engine.requests].count("CreateMultipartUpload") == 2
        play.store.close(timeout=0)


@pytest.mark.parametrize("looks", [1, 3])
def test_a_completion_that_is_still_at_work(looks: int) -> None:
    """A server that joins parts in silence knows the upload no more: the object is waited for, and sent once."""
    play = Play(multipart_threshold=1, part_size=100)
    part = Answer(status=200, headers=STORED.headers)
    whole = hashlib.md5(bytes.fromhex(DIGEST.md5)).hexdigest() + "-1"
    there = Answer(status=200, headers={**STORED.headers, "etag": f'"{whole}"', "content-length": "7"})
    nothing = Answer(status=404, headers={})
    with play.file:
        play.engine.answers = [
            Answer(status=200, headers={}, body=b"<R><UploadId>id</UploadId></R>"),
            part,
            SILENT,
            nothing,
            error("NoSuchUpload", 404),
            *[nothing] * (looks - 1),
            there,
        ]
        future = play.put(seconds=1000)
        until = time.monotonic() + 30
        while not future.done():
            assert time.monotonic() < until
            time.sleep(0.001)
            play.timer.pass_until(play.timer.now + 1)
        assert future.result(0).etag == whole
        assert [request.operation for request in play.engine.requests].count("UploadPart") == 1
        play.store.close(timeout=0)


def test_the_normal_way_is_one_request(play: Play) -> None:
    """On Amazon a file is one conditional PUT with its checksum, and the answer is the receipt."""
    play.engine.answers = [STORED]
    receipt = play.put().result(0)
    assert receipt == Receipt(
        key="key", size=7, proof=Proof.CHECKSUM, checksum=f"crc32:{DIGEST.crc32}", etag=DIGEST.md5
    )
    (request,) = play.engine.requests
    assert request.operation == "PutObject"
    assert request.headers["if-none-match"] == "*"


@pytest.fixture
def larger() -> Iterator[Play]:
    """A store on Amazon's endpoint, and a file whose MD5 takes longer than everything else together."""
    made = Play(content=bytes(READ_AT_ONCE + 1))
    with made.file:
        yield made
        made.store.close(timeout=0)


def answered(content: bytes, *, crc32: bool = True, etag: str = "") -> Answer:
    """The answer to an upload of this content."""
    digest = digest_of(content)
    headers = {"etag": f'"{etag or digest.md5}"'}
    return Answer(status=200, headers={**headers, **({"x-amz-checksum-crc32": digest.crc32} if crc32 else {})})


ANOTHER = "0" * 32


def test_a_larger_file_needs_one_proof_where_the_server_has_given_both(larger: Play) -> None:
    """The MD5 of a larger file is not computed once an answer of this run had the right checksum and the right MD5."""
    both, checksum = answered(larger.content), answered(larger.content, etag=ANOTHER)
    larger.engine.answers = [both, checksum]
    assert larger.put("first").result(30).etag == digest_of(larger.content).md5
    assert larger.put("second").result(30).proof is Proof.CHECKSUM
    assert [request.operation for request in larger.engine.requests] == ["PutObject", "PutObject"]


def test_an_etag_that_is_another_md5_is_doubted_until_then(larger: Play) -> None:
    """While no answer of the run had both, an ETag that is the MD5 of other bytes has the object read back."""
    larger.engine.answers = [answered(larger.content, etag=ANOTHER), error("AccessDenied", 403)]
    larger.put().result(30)
    assert [request.operation for request in larger.engine.requests] == ["PutObject", "GetObject"]


def test_a_small_file_is_proven_twice(play: Play) -> None:
    """The MD5 of a small file costs next to nothing, so an ETag that is another one has the object read back."""
    play.engine.answers = [STORED, answered(CONTENT, etag=ANOTHER), error("AccessDenied", 403)]
    play.put("first").result(0)
    play.put("second").result(30)
    assert play.engine.requests[-1].operation == "GetObject"


def test_an_answer_without_the_checksum_is_proven_by_the_md5(larger: Play) -> None:
    """Where a later answer has no checksum, the MD5 is computed after all."""
    larger.engine.answers = [answered(larger.content), answered(larger.content, crc32=False)]
    larger.put("first").result(30)
    assert larger.put("second").result(30).proof is Proof.MD5
    assert len(larger.engine.requests) == 2


def test_content_md5_of_a_file_without_md5(larger: Play) -> None:
    """A server that begins to demand Content-MD5 gets that of a file for which it was not computed."""
    demand = said("InvalidRequest", 400, "Missing required header for this request: Content-MD5")
    larger.engine.answers = [answered(larger.content), demand, answered(larger.content)]
    larger.put("first").result(30)
    larger.put("second").result(30)
    digest = hashlib.md5(larger.content, usedforsecurity=False).digest()
    assert larger.engine.requests[-1].headers["content-md5"] == base64.b64encode(digest).decode()


def test_what_is_there_already_is_compared_by_its_md5(larger: Play) -> None:
    """An object that was found has our content only if its MD5 is ours, also where answers need none."""
    size = str(len(larger.content))
    same = Answer(status=200, headers={**answered(larger.content).headers, "content-length": size})
    larger.engine.answers = [answered(larger.content), error("PreconditionFailed", 412), same]
    larger.put("first").result(30)
    assert larger.put("second").result(30).already_there


def test_a_pause_that_the_server_asks_for_is_kept(play: Play) -> None:
    """Retry-After is waited for, and then the request is sent again."""
    play.engine.answers = [error("SlowDown", 503, retry_after="7"), STORED]
    future = play.put()
    play.timer.pass_until(play.timer.now + 6.9)
    assert len(play.engine.requests) == 1
    play.timer.pass_until(play.timer.now + 0.5)
    assert future.result(0).proof is Proof.CHECKSUM


def test_retries_end_with_the_last_error(play: Play) -> None:
    """After five attempts the error comes out as it is, marked as one that may pass."""
    play.engine.answers = [error("InternalError", 500)] * 5
    future = play.put()
    play.timer.pass_until(play.timer.now + 60)
    raised = future.exception(0)
    assert isinstance(raised, StoreError)
    assert (raised.code, raised.retryable, raised.scope) == ("InternalError", True, Scope.FILE)
    assert len(play.engine.requests) == 5


def test_a_refused_connection_ends_soon(play: Play) -> None:
    """Where no connection can be made it takes a few seconds, not the time that other errors are given."""
    play.engine.answers = [Failure(TransportFailure.REFUSED, "Connection refused")] * 9
    began = play.timer.now
    future = play.put()
    while not future.done():
        play.timer.pass_until(play.timer.now + 0.1)
    assert play.timer.now - began < 5
    raised = future.exception(0)
    assert isinstance(raised, StoreError)
    assert raised.scope is Scope.DESTINATION


def test_the_own_object_of_a_lost_answer_is_no_conflict(play: Play) -> None:
    """A 500 after the object was stored leads to a 412, and what is there is ours."""
    there = Answer(status=200, headers={**STORED.headers, "content-length": "7"})
    play.engine.answers = [error("InternalError", 500), error("PreconditionFailed", 412), there]
    future = play.put()
    play.timer.pass_until(play.timer.now + 10)
    assert not future.result(0).already_there
    assert [request.operation for request in play.engine.requests] == ["PutObject", "PutObject", "HeadObject"]


LOST = Failure(TransportFailure.CLOSED, "by the server")
SILENT = Failure(TransportFailure.TIMEOUT, "for 60 s")


def test_what_was_not_answered_is_looked_for(play: Play) -> None:
    """After a silence the object is looked for; it is there, so nothing is sent again."""
    there = Answer(status=200, headers={**STORED.headers, "content-length": "7"})
    play.engine.answers = [SILENT, there]
    future = play.put()
    play.timer.pass_until(play.timer.now + 10)
    assert not future.result(0).already_there
    assert [request.operation for request in play.engine.requests] == ["PutObject", "HeadObject"]


def test_what_was_not_answered_and_is_not_there_is_sent_again(play: Play) -> None:
    """A look that finds nothing costs no attempt; a look that gets no answer is one."""
    play.engine.answers = [SILENT, LOST, Answer(status=404, headers={}), STORED]
    future = play.put()
    play.timer.pass_until(play.timer.now + 10)
    assert future.result(0).proof is Proof.CHECKSUM
    operations = [request.operation for request in play.engine.requests]
    assert operations == ["PutObject", "HeadObject", "HeadObject", "PutObject"]


def test_looks_without_an_answer_are_bounded(play: Play) -> None:
    """A server that never answers is asked as often as one that refuses."""
    play.engine.answers = [SILENT] * 20
    future = play.put()
    play.timer.pass_until(play.timer.now + 60)
    assert isinstance(future.exception(0), StoreError)
    assert len(play.engine.requests) == 5


def test_a_small_file_is_sent_again_at_once(play: Play) -> None:
    """Over a lost connection a condition tells as much as a look, and a small body costs no more."""
    play.engine.answers = [LOST, STORED]
    future = play.put()
    play.timer.pass_until(play.timer.now + 10)
    assert future.result(0).proof is Proof.CHECKSUM
    assert [request.operation for request in play.engine.requests] == ["PutObject", "PutObject"]


def test_other_content_is_found_after_a_silence(play: Play) -> None:
    """What is found may be another writer's: then it is a conflict as ever."""
    other = Answer(status=200, headers={"etag": '"0123456789abcdef0123456789abcdef"', "content-length": "7"})
    play.engine.answers = [SILENT, other, Answer(status=206, headers={}, body=b"another"[: len(CONTENT)])]
    future = play.put()
    play.timer.pass_until(play.timer.now + 10)
    # An ETag that looks like an MD5 may be none: the bytes decide.
    assert isinstance(future.exception(10), ConflictError)


def test_the_server_has_time_for_what_it_was_given(play: Play) -> None:
    """A server, or a proxy before it, may be silent a second longer for every 64 KiB that it was sent."""
    play.engine.answers = [SILENT, Answer(status=404, headers={}), STORED]
    play.put()
    play.timer.pass_until(play.timer.now + 10)
    put, head, _ = play.engine.requests
    assert (put.handled_bytes, head.handled_bytes) == (len(CONTENT), 0)
    assert Request(operation="", method="", key="", path="", handled_bytes=2**20).allowance_seconds == 16


def test_a_bucket_in_another_region_is_followed(play: Play) -> None:
    """Requests follow to the region that the server names, once for all uploads, with a notice."""
    play.engine.answers = [error("PermanentRedirect", 301, x_amz_bucket_region="eu-west-1"), STORED]
    assert play.put().result(0).proof is Proof.CHECKSUM
    assert play.engine.region == "eu-west-1"
    assert len(play.notices) == 1


def test_a_bucket_that_is_never_where_we_are_sent(play: Play) -> None:
    """Being sent on twice ends the upload, with a hint."""
    astray = error("PermanentRedirect", 301, x_amz_bucket_region="eu-west-1")
    play.engine.answers = [astray, astray]
    raised = play.put().exception(0)
    assert isinstance(raised, StoreError)
    assert (raised.code, raised.scope) == ("PermanentRedirect", Scope.DESTINATION)
    assert "eu-west-1" in raised.hint


def test_a_deadline_ends_an_upload_that_gets_no_answer(play: Play) -> None:
    """At the deadline the request is given up; later uploads have their own."""
    first, second = play.put("first", seconds=5), play.put("second", seconds=50)
    play.timer.pass_until(play.timer.now + 5)
    raised = first.exception(0)
    assert isinstance(raised, UploadCancelled)
    assert raised.code == "DeadlineExceeded"
    assert not second.done()
    play.timer.pass_until(play.timer.now + 50)
    assert isinstance(second.exception(0), UploadCancelled)


def test_cancel_does_not_wait_for_a_pause(play: Play) -> None:
    """An upload that pauses before a retry ends at once when it is cancelled, and nothing more is sent."""
    play.engine.answers = [error("SlowDown", 503, retry_after="20")]
    future = play.put()
    play.store.cancel()
    assert isinstance(future.exception(0), UploadCancelled)
    play.timer.pass_until(play.timer.now + 60)
    assert len(play.engine.requests) == 1


def test_a_bug_costs_one_upload(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw ends one upload with an error and leaves the others alone."""
    monkeypatch.setattr("s3_uploader.stores.s3.single.evidence", lambda *_, **__: 1 / 0)
    play.engine.answers = [STORED]
    raised = play.put().exception(0)
    assert isinstance(raised, StoreError)
    assert "ZeroDivisionError" in raised.message
    monkeypatch.undo()
    play.engine.answers = [STORED]
    assert play.put("other").result(0).proof is Proof.CHECKSUM


def access(**settings: Any) -> Access:
    """Access to a bucket of Amazon's."""
    given: dict[str, Any] = {
        "bucket": "bucket",
        "endpoint_url": None,
        "region": None,
        "addressing_style": "auto",
        "ca_bundle": None,
        "special": "",
        "environment": {},
    }
    return Access(locate(**{**given, **settings}), lambda: Credentials("A", "B"))


SETTINGS = EngineSettings(max_connections=4)


def test_the_own_engine_is_the_usual_one() -> None:
    """Auto takes the native engine without a word."""
    notices: list[str] = []
    engine = make_engine(access(), "auto", SETTINGS, lambda level, message: notices.append(message))
    assert engine.name == "native"
    assert notices == []


def test_what_only_boto3_can_do_is_left_to_it_and_said() -> None:
    """Auto takes boto3 where nothing else will do, and says why; another engine by name is refused."""
    notices: list[str] = []
    special = access(special="the bucket is an ARN")
    engine = make_engine(special, "auto", SETTINGS, lambda level, message: notices.append(message))
    assert engine.name == "boto3"
    assert "the bucket is an ARN" in notices[0]
    with pytest.raises(EngineUnavailable):
        make_engine(special, "native", SETTINGS, lambda level, message: None)


def test_boto3_is_not_imported() -> None:
    """With credentials in the environment the usual engine needs no boto3, most of what a short run costs."""
    code = """
import sys
from s3_uploader.stores.s3.store import create
store = create(bucket="b", environment={environment!r})
store.open()
store.close(timeout=1)
heavy = [name for name in ("boto3", "botocore", "urllib.request", "http.client") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code.replace("{environment!r}", repr(ENVIRONMENT))], check=True)


NOT_THERE = Answer(status=404, headers={})
REFUSED = Answer(status=412, headers={})
PAGE = Answer(status=200, headers={"content-type": "text/html"}, body=b"<html>Please log in</html>")


def said(code: str, status: int, message: str) -> Answer:
    """An error document with words of its own."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status=status, headers={}, body=body)


@pytest.fixture
def stranger() -> Iterator[Play]:
    """A server that is not Amazon's, of which nothing is known."""
    play = Play(endpoint_url="http://localhost:1", tags={"team": "sea"})
    yield play
    play.store.close(timeout=1)


def test_a_refused_tag_is_not_held_against_conditions(stranger: Play) -> None:
    """A 501 that names the tags costs the file, and no object is ever written without a condition for it."""
    no_tags = said("NotImplemented", 501, "Header 'x-amz-tagging' with value 'team=sea' not implemented")
    stranger.engine.answers = [NOT_THERE, no_tags]
    error_of_file = stranger.put().exception(0)
    assert isinstance(error_of_file, StoreError)
    assert "tags" in error_of_file.hint
    writes = [request for request in stranger.engine.requests if request.method == "PUT"]
    assert [request.headers.get("if-none-match") for request in writes] == ["*"]
    assert stranger.conditional == ""


def test_conditions_are_given_up_after_two_refusals(stranger: Play) -> None:
    """Only a second refusal that names the condition, and the write being taken without it, is a verdict."""
    no_conditions = said("NotImplemented", 501, "If-None-Match is not implemented")
    stranger.engine.answers = [NOT_THERE, no_conditions, no_conditions, NOT_THERE, STORED]
    assert stranger.put().result(0).proof is Proof.CHECKSUM
    assert stranger.conditional == "refused"
    assert "NotImplemented" in stranger.notices[-1]
    one_page = Play(endpoint_url="http://localhost:1")
    one_page.engine.answers = [NOT_THERE, no_conditions, STORED, REFUSED]
    assert one_page.put().result(0).proof is Proof.CHECKSUM
    assert one_page.conditional == "yes"
    one_page.store.close(timeout=1)


def test_who_may_not_look_writes_nothing_without_a_condition(stranger: Play) -> None:
    """Where only a look keeps the program from replacing an object, and looking is denied, the run ends unsent."""
    no_conditions = said("NotImplemented", 501, "If-None-Match is not implemented")
    stranger.engine.answers = [NOT_THERE, no_conditions, no_conditions, NOT_THERE, STORED]
    stranger.put().result(0)
    stranger.engine.requests.clear()
    stranger.engine.answers = [Answer(status=403, headers={}), said("AccessDenied", 403, "Access Denied")]
    refusal = stranger.put("other").exception(0)
    assert isinstance(refusal, StoreError)
    assert (refusal.code, refusal.scope) == ("AccessDenied", Scope.DESTINATION)
    assert "s3:GetObject" in refusal.hint
    assert [request.method for request in stranger.engine.requests] == ["HEAD", "GET"]


def test_content_md5_is_sent_where_it_is_demanded(stranger: Play) -> None:
    """A service that wants Content-MD5 gets it from the first file on, beside the checksum."""
    demand = said("InvalidRequest", 400, "Missing required header for this request: Content-MD5")
    stranger.engine.answers = [NOT_THERE, demand, STORED, REFUSED, STORED]
    stranger.put().result(0)
    stranger.put("other").result(0)
    last = stranger.engine.requests[-1].headers
    assert {"content-md5", "x-amz-checksum-crc32", "if-none-match"} <= set(last)


NOT_IMPLEMENTED = said("NotImplemented", 501, "A header you provided implies functionality that is not implemented")


def checksum_headers(play: Play) -> list[str]:
    """The header with the checksum of each write so far."""
    writes = [request.headers for request in play.engine.requests if request.method == "PUT"]
    return [next(name for name in ("x-amz-checksum-crc32", "content-md5") if name in headers) for headers in writes]


def test_one_refusal_that_names_nothing_says_nothing(stranger: Play) -> None:
    """After one 501 that does not say what it is about, checksums are sent as before; after a second, they are not."""
    stranger.engine.answers = [NOT_THERE, NOT_IMPLEMENTED, STORED, REFUSED]
    stranger.put().result(0)
    stranger.engine.answers = [NOT_IMPLEMENTED, STORED, STORED]
    stranger.put("second").result(0)
    stranger.put("third").result(0)
    crc32, md5 = "x-amz-checksum-crc32", "content-md5"
    # The third write is the probe of conditional writes.
    assert checksum_headers(stranger) == [crc32, md5, crc32, crc32, md5, md5]
    assert "NotImplemented" in stranger.notices[-1]


def test_a_refusal_that_is_not_repeated_is_forgotten() -> None:
    """Two refusals that name nothing count only if no write with a checksum was taken in between."""
    memory = NoMemory()
    for first in (True, False):
        play = Play(endpoint_url="http://localhost:1", memory=memory)
        play.engine.answers = [NOT_THERE, NOT_IMPLEMENTED, STORED, REFUSED] if first else [NOT_IMPLEMENTED, STORED]
        play.put().result(0)
        play.engine.answers = [STORED]
        play.put("second").result(0)
        assert checksum_headers(play)[-1] == "x-amz-checksum-crc32"
        play.store.close(timeout=1)


@pytest.mark.parametrize("by_now", [True, False])
def test_checksums_that_are_not_taken_are_tried_again(*, by_now: bool) -> None:
    """Once a run a small file is sent with a checksum where none was taken before: servers are upgraded."""
    memory = NoMemory()
    first = Play(endpoint_url="http://localhost:1", memory=memory)
    no_checksums = said("InvalidArgument", 400, "Unsupported header 'x-amz-checksum-crc32' received for this call.")
    first.engine.answers = [NOT_THERE, no_checksums, STORED, REFUSED]
    first.put().result(0)
    later = Play(endpoint_url="http://localhost:1", memory=memory)
    later.engine.answers = [STORED, STORED] if by_now else [no_checksums, STORED, STORED]
    later.put("second").result(0)
    later.put("third").result(0)
    crc32, md5 = "x-amz-checksum-crc32", "content-md5"
    assert checksum_headers(later) == ([crc32, crc32] if by_now else [crc32, md5, md5])
    first.store.close(timeout=1)
    later.store.close(timeout=1)


UNPROVEN = Answer(status=200, headers={"etag": '"0xA"'})
SEEN = Answer(status=200, headers={"etag": '"0xA"', "content-length": str(len(CONTENT))})


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([Answer(status=416, headers={}), Answer(status=200, headers={}, body=CONTENT)], id="no ranges"),
        pytest.param([error("NotImplemented", 501), Answer(status=200, headers={}, body=CONTENT)], id="501"),
        pytest.param(
            [
                Answer(status=206, headers={"etag": '"0xB"'}, body=CONTENT),
                Answer(status=200, headers={"etag": '"0xC"'}, body=CONTENT),
            ],
            id="another ETag each time",
        ),
        pytest.param([REFUSED, Answer(status=200, headers={}, body=CONTENT)], id="another ETag is held against ours"),
    ],
)
def test_read_as_a_whole_where_pieces_do_not_do(play: Play, answers: list[Answer]) -> None:
    """An object that cannot be read by ranges, or not under one ETag, is read back as a whole and proven so."""
    play.engine.answers = [UNPROVEN, SEEN, *answers]
    assert play.put().result(30).proof is Proof.CHECKSUM
    whole = play.engine.requests[-1].headers
    assert not {"range", "if-match"} & set(whole)


def test_an_object_that_changes_while_it_is_read(play: Play) -> None:
    """Bytes that are not ours, under an ETag that is another each time, prove nothing; no permission is missing."""
    other = [Answer(status=200, headers={"etag": f'"{name}"'}, body=b"another") for name in ("0xB", "0xC")]
    play.engine.answers = [UNPROVEN, SEEN, *other]
    refusal = play.put().exception(30)
    assert isinstance(refusal, StoreError)
    assert refusal.code == "NotProven"
    assert "s3:GetObject" not in refusal.hint


def test_checksums_only_where_they_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the AWS configuration wants no checksum headers, Content-MD5 is sent instead and proves as much."""
    monkeypatch.setitem(ENVIRONMENT, "AWS_REQUEST_CHECKSUM_CALCULATION", "WHEN_required")
    play = Play()
    play.engine.answers = [STORED]
    assert play.put().result(0).proof is Proof.CHECKSUM
    headers = play.engine.requests[0].headers
    assert "content-md5" in headers
    assert "x-amz-checksum-crc32" not in headers
    play.store.close(timeout=1)


@pytest.mark.parametrize("status", [400, 501])
def test_a_look_that_may_not_ask_for_a_checksum(stranger: Play, status: int) -> None:
    """A server that refuses a look for the question after a checksum is asked without, and from then on at once."""
    stranger.engine.answers = [Answer(status=status, headers={}), NOT_THERE, STORED, REFUSED]
    stranger.put().result(0)
    stranger.engine.answers = [NOT_THERE, STORED, Answer(status=200, headers={}), NOT_THERE]
    stranger.put("A.dat").result(0)
    looks = [request.headers for request in stranger.engine.requests if request.operation == "HeadObject"]
    assert [headers.get("x-amz-checksum-mode") for headers in looks] == ["ENABLED", *[None] * 4]


def test_a_look_that_is_refused_for_something_else(stranger: Play) -> None:
    """Where the look is refused all the same, later ones ask for a checksum as before."""
    refused = Answer(status=400, headers={})
    stranger.engine.answers = [refused, refused, STORED, REFUSED]
    stranger.put().result(0)
    stranger.engine.answers = [STORED, Answer(status=200, headers={})]
    stranger.put("日本").result(0)
    assert stranger.engine.requests[-1].headers["x-amz-checksum-mode"] == "ENABLED"


def test_a_web_page_is_no_s3_server(stranger: Play) -> None:
    """What answers to a key that nobody has as if it were there ends the run, and is no conflict."""
    stranger.engine.answers = [PAGE, PAGE]
    refusal = stranger.put().exception(0)
    assert isinstance(refusal, StoreError)
    assert (refusal.code, refusal.scope) == ("NotS3", Scope.DESTINATION)


def test_a_page_in_the_middle_of_a_run(stranger: Play) -> None:
    """Where something stands in for a server that has taken files before, and accepts everything, the run ends."""
    stranger.engine.answers = [NOT_THERE, STORED, REFUSED]
    stranger.put().result(0)
    nothing = Answer(status=200, headers={})
    stranger.engine.answers = [nothing, nothing]
    refusal = stranger.put("other").exception(30)
    assert isinstance(refusal, StoreError)
    assert (refusal.code, refusal.scope) == ("NotS3", Scope.DESTINATION)


def test_a_refused_name_is_not_the_credentials(stranger: Play) -> None:
    """Where a plain name is answered, a signature that does not match is the name's; where it is not, everybody's."""
    no_match = said("SignatureDoesNotMatch", 403, "The signature does not match.")
    stranger.engine.answers = [NOT_THERE, NOT_THERE, no_match, NOT_THERE]
    refusal = stranger.put("café").exception(0)
    assert isinstance(refusal, StoreError)
    assert (refusal.code, refusal.scope) == ("KeyRefused", Scope.FILE)
    stranger.timer.pass_until(stranger.timer.now + 60)
    stranger.engine.answers = [NOT_THERE, NOT_THERE, no_match, no_match]
    refusal = stranger.put("café", seconds=1000).exception(0)
    assert isinstance(refusal, StoreError)
    assert (refusal.code, refusal.scope) == ("SignatureDoesNotMatch", Scope.DESTINATION)


def test_a_name_that_may_be_anothers_is_not_written(stranger: Play) -> None:
    """Where a name of other case is taken, and it is not known to be another to the server, nothing is sent."""
    there = Answer(status=200, headers={"etag": '"x"', "content-length": "3"})
    stranger.engine.answers = [there, NOT_THERE]
    refusal = stranger.put("A.dat").exception(0)
    assert isinstance(refusal, StoreError)
    assert refusal.code == "KeyRefused"
    assert {request.method for request in stranger.engine.requests} == {"HEAD"}


def test_an_object_under_another_name_is_no_success(stranger: Play) -> None:
    """What was accepted and is not there under its own name may have been stored under another: the file is kept."""
    stranger.engine.answers = [NOT_THERE, NOT_THERE, STORED, REFUSED, NOT_THERE]
    refusal = stranger.put("A.dat").exception(0)
    assert isinstance(refusal, StoreError)
    assert refusal.code == "NotProven"
    assert "another name" in refusal.hint


def test_an_unusual_name_that_cannot_be_checked_now_is_not_written(
    stranger: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If what checks such names cannot be loaded, for lack of descriptors, that file fails and may be tried again."""
    monkeypatch.setitem(sys.modules, "s3_uploader.stores.s3.names", None)
    refusal = stranger.put("A.dat").exception(0)
    assert isinstance(refusal, StoreError)
    assert refusal.retryable
    assert not stranger.engine.requests
    assert not stranger.store._uploads
