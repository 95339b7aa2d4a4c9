"""What a copy in parts leaves behind, and how long it may take over that."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import s3_uploader as s3
from s3_uploader.remote_store import bucket as bucket_module
from s3_uploader.remote_store import copying
from s3_uploader.remote_store.bucket import Bucket, BucketSettings, Shared
from s3_uploader.stores.s3.engines.base import Answer, Done, Failure, Request, TransportFailure


class DeafEngine:
    """Refuses to copy a part, and does not answer when it is asked to abort."""

    name = "deaf"
    loop = None

    def __init__(self) -> None:
        self.given_up = threading.Event()

    def open(self) -> None:
        """Nothing to do."""

    def send(self, request: Request, done: Done) -> Any:
        """Answer, or not."""
        if request.operation == "HeadObject":
            done(Answer(status=200, headers={"content-length": "10", "etag": '"e"'}))
        elif request.operation == "CreateMultipartUpload":
            done(Answer(status=200, headers={}, body=b"<R><UploadId>id</UploadId></R>"))
        elif request.operation != "AbortMultipartUpload":
            done(Answer(status=403, headers={}, body=b"<Error><Code>AccessDenied</Code></Error>"))
        return Unanswered(self, done)

    def close(self, *, timeout: float) -> None:
        """Nothing to do."""


class Unanswered:
    """A request under way."""

    def __init__(self, engine: DeafEngine, done: Done) -> None:
        self._engine = engine
        self._done = done

    def cancel(self) -> None:
        """Give it up."""
        self._engine.given_up.set()
        self._done(Failure(TransportFailure.CANCELLED))


class SecretiveEngine(DeafEngine):
    """Copies in parts. Without permission to list, it does not say of a key that it is free, as Amazon does."""

    def __init__(self) -> None:
        super().__init__()
        self.there = {"a"}

    def send(self, request: Request, done: Done) -> Any:
        """Answer."""
        if request.operation == "HeadObject" and request.key not in self.there:
            done(Answer(status=403, headers={}))
        elif request.operation == "HeadObject":
            done(Answer(status=200, headers={"content-length": "10", "etag": '"e"'}))
        elif request.operation == "UploadPartCopy":
            done(Answer(status=200, headers={}, body=b"<R><ETag>e</ETag></R>"))
        elif request.operation == "CompleteMultipartUpload":
            self.there.add(request.key)
            done(Answer(status=200, headers={}, body=b"<R><ETag>e-2</ETag></R>"))
        else:
            return super().send(request, done)
        return Unanswered(self, done)


class SilentEngine(DeafEngine):
    """Has a large object, and never answers when it is asked to copy it."""

    def send(self, request: Request, done: Done) -> Any:
        """Answer, or not."""
        if request.operation == "HeadObject":
            done(Answer(status=200, headers={"content-length": str(2**40), "etag": '"e"'}))
        elif request.operation == "AbortMultipartUpload":
            done(Answer(status=204, headers={}))
        elif request.operation not in ("UploadPartCopy", "CopyObject"):
            return super().send(request, done)
        return Unanswered(self, done)


def copy_in_parts(
    engine: DeafEngine,
    monkeypatch: pytest.MonkeyPatch,
    *,
    timeout_seconds: float = 30,
    threshold: int = 1,
    part_size: int = 5,
) -> None:
    """Copy one object to another key."""
    monkeypatch.setattr(bucket_module, "make_engine", lambda *_: engine)
    settings = BucketSettings(
        engine="native",
        max_attempts=1,
        max_connections=1,
        connect_timeout_seconds=1,
        read_timeout_seconds=1,
        timeout_seconds=timeout_seconds,
    )
    shared = Shared()
    access = s3.S3Connection("key", "secret", endpoint="localhost:9").access("bucket")
    bucket = Bucket(access=access, settings=settings, shared=shared)
    try:
        copying.copy_object((bucket, "a"), (bucket, "b"), {}, threshold=threshold, part_size=part_size)
    finally:
        shared.close()


def test_an_abort_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy in parts that has failed says so soon, also if the server does not answer that its parts are removed."""
    engine = DeafEngine()
    monkeypatch.setattr(copying, "_ABORT_SECONDS", 0.05)
    began = time.monotonic()
    with pytest.raises(s3.RemoteStoreError, match="AccessDenied"):
        copy_in_parts(engine, monkeypatch)
    assert time.monotonic() - began < 20
    assert engine.given_up.is_set()


def test_a_copy_whose_parts_somebody_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no missing object, for which programs have an answer of their own."""

    class Forgetful(SecretiveEngine):
        def send(self, request: Request, done: Done) -> Any:
            if request.operation != "UploadPartCopy":
                return super().send(request, done)
            done(Answer(status=404, headers={}, body=b"<Error><Code>NoSuchUpload</Code></Error>"))
            return Unanswered(self, done)

    with pytest.raises(s3.RemoteStoreError, match="NoSuchUpload") as caught:
        copy_in_parts(Forgetful(), monkeypatch)
    assert not isinstance(caught.value, s3.ObjectNotFound)


@pytest.mark.parametrize("threshold", [1, 2**50])
def test_a_copy_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch, threshold: int) -> None:
    """However large it is, it takes eleven times the timeout at most."""
    engine = SilentEngine()
    began = time.monotonic()
    with pytest.raises(s3.RemoteStoreError, match="before the deadline"):
        copy_in_parts(engine, monkeypatch, timeout_seconds=0.05, threshold=threshold, part_size=2**30)
    assert time.monotonic() - began < 20
    assert engine.given_up.is_set()


def test_a_copy_has_time_for_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be silent for as long as its deadline grows."""
    asked: list[Request] = []

    class Watched(SecretiveEngine):
        def send(self, request: Request, done: Done) -> Any:
            asked.append(request)
            return super().send(request, done)

    monkeypatch.setattr(Bucket, "counted_of_copy", lambda self, size: 64 * 2**14)
    copy_in_parts(Watched(), monkeypatch)
    assert {request.allowance_seconds for request in asked if request.operation == "UploadPartCopy"} == {64.0}


def test_a_copy_in_parts_needs_no_permission_to_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that permission Amazon answers 403 to the question whether there is an object, if there is none."""
    engine = SecretiveEngine()
    copy_in_parts(engine, monkeypatch)
    assert engine.there == {"a", "b"}
