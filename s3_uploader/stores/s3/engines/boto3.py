"""The portable engine: boto3 calls on threads, with boto3's retries and checksums switched off.

It supports what only botocore supports (access points, directory buckets, dual-stack and FIPS endpoints, other
partitions).
"""

from __future__ import annotations

import contextlib
import functools
import io
import threading
import time
from typing import Any

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted
from s3_uploader.stores.base import Loop
from s3_uploader.stores.s3.endpoint import Access
from s3_uploader.stores.s3.engines.base import Answer, Done, EngineSettings, Failure, Outcome, Request, TransportFailure
from s3_uploader.stores.s3.engines.boto3_failures import failure_of
from s3_uploader.stores.s3.engines.bounded import BOUNDS, bound, read_body
from s3_uploader.stores.s3.engines.throttle import Pace
from s3_uploader.stores.threads import ThreadPool

MAXIMUM_THREADS = 32
"""More threads would only wait for each other: a call takes over a millisecond of the interpreter's time."""

_COPY_SOURCE = "x-amz-copy-source"
_PARAMETERS = {
    "content-encoding": "ContentEncoding",
    "content-type": "ContentType",
    "content-md5": "ContentMD5",
    "if-none-match": "IfNoneMatch",
    "if-match": "IfMatch",
    "range": "Range",
    "x-amz-acl": "ACL",
    "x-amz-checksum-algorithm": "ChecksumAlgorithm",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-mode": "ChecksumMode",
    "x-amz-checksum-type": "ChecksumType",
    "x-amz-mp-object-size": "MpuObjectSize",
    "x-amz-sdk-checksum-algorithm": "ChecksumAlgorithm",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-storage-class": "StorageClass",
    "x-amz-tagging": "Tagging",
    "partNumber": "PartNumber",
    "uploadId": "UploadId",
    "continuation-token": "ContinuationToken",
    "encoding-type": "EncodingType",
    "prefix": "Prefix",
    "start-after": "StartAfter",
    _COPY_SOURCE: "CopySource",
    "part-number-marker": "PartNumberMarker",
}
_NUMBERS = ("MpuObjectSize", "PartNumber", "PartNumberMarker")
_METHODS = {
    "PutObject": "put_object",
    "HeadObject": "head_object",
    "GetObject": "get_object",
    "GetObjectAcl": "get_object_acl",
    "GetObjectTagging": "get_object_tagging",
    "DeleteObject": "delete_object",
    "CreateMultipartUpload": "create_multipart_upload",
    "UploadPart": "upload_part",
    "CompleteMultipartUpload": "complete_multipart_upload",
    "AbortMultipartUpload": "abort_multipart_upload",
    "ListObjectsV2": "list_objects_v2",
    "CopyObject": "copy_object",
    "UploadPartCopy": "upload_part_copy",
    "ListParts": "list_parts",
}
_BODIES = ("PutObject", "UploadPart")
_THREADS_SECONDS = 0.4
"""Timeout of threads that are to end. A cancelled run has two seconds left, most of them for what uploads clean up."""


class _Job:
    """A request in the queue or on a thread; a :class:`~s3_uploader.stores.s3.engines.base.Sending`."""

    __slots__ = ("_done", "_lock", "cancelled", "promised", "request")

    def __init__(self, request: Request, done: Done) -> None:
        self.request = request
        self.promised: int | None = None
        self._done: Done | None = done
        self._lock = threading.Lock()

    @property
    def finished(self) -> bool:
        """Whether ``done`` was called."""
        return self._done is None

    def finish(self, outcome: Outcome) -> None:
        """Call ``done``, once."""
        with self._lock:
            done, self._done = self._done, None
        if done is not None:
            done(outcome)

    def cancel(self) -> None:
        """Cancel it. A call that has begun cannot be stopped; its outcome is ignored."""
        self.finish(Failure(TransportFailure.CANCELLED))


class _PacedBody(io.BytesIO):
    """A body that is read no faster than the bandwidth limit allows. Reading it for the signature is not limited."""

    on_wire = False

    def __init__(self, body: bytes, pace: Pace) -> None:
        super().__init__(body)
        self._pace = pace

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes, with a pause if needed."""
        if not self.on_wire:
            return super().read(size)
        wanted = min(size if size is not None and size > 0 else 16384, 16384, len(self.getbuffer()) - self.tell())
        if wanted <= 0:
            return b""
        while not (allowed := self._pace.take(wanted)):
            time.sleep(max(0.001, self._pace.delay(wanted)))
        return super().read(allowed)


class Boto3Engine:
    """An :class:`~s3_uploader.stores.s3.engines.base.Engine` on boto3."""

    name = "boto3"
    loop: Loop | None = None

    def __init__(self, *, access: Access, settings: EngineSettings) -> None:
        self._access = access
        self._settings = settings
        self._count = min(settings.max_connections, MAXIMUM_THREADS)
        self._pace = None if settings.max_bandwidth is None else Pace(settings.max_bandwidth)
        self._pool = ThreadPool(name="s3-boto3", count=self._count)
        self._lock = threading.Lock()
        self._under_way: set[_Job] = set()
        self._closed = False
        self._client: Any = None
        self._region = access.endpoint.region
        self._received = _Received()

    def open(self) -> None:
        """Make the client."""
        self._client = self._make_client(self._region)

    def _make_client(self, region: str) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        endpoint = self._access.endpoint
        has_moved = region != endpoint.region and endpoint.is_found_by_region
        style = "auto" if endpoint.only_boto3 else "virtual" if endpoint.virtual else "path"
        # The body is hashed for the signature over plain http only, as in the other engine.
        dialect = {"addressing_style": style, "payload_signing_enabled": not endpoint.payload_is_unsigned}
        try:
            if self._access.session is not None:
                session = boto3.session.Session(botocore_session=self._access.session, region_name=region)
            else:
                credentials = self._access.credentials()
                session = boto3.session.Session(
                    aws_access_key_id=credentials.access_key,
                    aws_secret_access_key=credentials.secret_key,
                    aws_session_token=credentials.token or None,
                    region_name=region,
                )
            client = session.client(
                "s3",
                endpoint_url=endpoint.url if endpoint.given and not has_moved else None,
                verify=endpoint.ca_file,
                config=Config(
                    signature_version=None if endpoint.only_boto3 else "s3v4",
                    client_cert=endpoint.client_certificate_file,
                    connect_timeout=self._settings.connect_timeout_seconds,
                    read_timeout=self._settings.silence_seconds,
                    max_pool_connections=self._count,
                    retries={"total_max_attempts": 1},
                    s3=dialect,  # type: ignore[arg-type]
                    # botocore supports fewer forms of NO_PROXY.
                    proxies={} if endpoint.direct else None,
                    # This program sends its own checksums in headers. Many servers do not understand trailers.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise StoreError(
                f"boto3 cannot use this configuration: {quoted(str(error))}",
                code="AwsConfiguration",
                origin=Origin.SETTING,
                scope=Scope.DESTINATION,
            ) from None
        self._prepare(client)
        return client

    def _prepare(self, client: Any) -> None:
        """Prepare the client to send headers and bodies as given, and to record the answers."""
        from botocore.handlers import add_expect_header

        bound(client._endpoint.http_session)
        events = client.meta.events
        events.register("before-call.s3", _stay_here)
        events.register("before-call.s3", _add_headers)
        events.register("before-send.s3", _on_wire)
        # Of the patterns that match, botocore calls this one's handlers first.
        events.register("before-parse.*.*", self._received.keep)
        # After a 412 to "Expect: 100-continue" no body is sent, but botocore reuses the connection: behind a proxy
        # (HAProxy before Swift) the next request is then taken for that body.
        events.unregister("before-call.s3", add_expect_header)

    def send(self, request: Request, done: Done) -> _Job:
        """Queue the request for a thread."""
        job = _Job(request, done)
        refusal: Failure | None = None
        with self._lock:
            if self._closed:
                refusal = Failure(TransportFailure.CANCELLED)
            else:
                self._under_way.add(job)
        if refusal is None:
            try:
                self._pool.do(functools.partial(self._run, job))
            except StoreError as error:
                with self._lock:
                    self._under_way.discard(job)
                refusal = Failure(TransportFailure.RESOURCES, error.message.removesuffix("."))
        if refusal is not None:
            job.finish(refusal)
        return job

    def follow(self, region: str) -> bool:
        """Send further requests to the same bucket in another region."""
        if region == self._region:
            return False
        try:
            client = self._make_client(region)
        except StoreError:
            return False
        self._region, self._client = region, client
        return True

    def close(self, *, timeout: float) -> None:
        """Fail what is in flight. A thread in a call ends with the call, possibly long after this returns.

        Neither the lookup of a name nor the wait for a silent server can be interrupted.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            jobs = list(self._under_way)
        for job in jobs:
            job.cancel()
        if self._pool.close(timeout=min(timeout, _THREADS_SECONDS)) and self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close()

    def _run(self, job: _Job) -> None:
        if not job.finished:
            try:
                outcome = self._call(job)
            except Exception as error:
                outcome = Failure(TransportFailure.OTHER, f"{type(error).__name__}: {error}")
            job.finish(outcome)
        with self._lock:
            self._under_way.discard(job)

    def _call(self, job: _Job) -> Outcome:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.parsers import ResponseParserError

        request = job.request
        received = self._received
        received.forget()
        _WIRE.accept_encoding = request.headers.get("accept-encoding", "")
        _WIRE.headers = {name: value for name, value in request.headers.items() if _is_sent_as_given(name)}
        BOUNDS.body = request.answer_limit
        BOUNDS.is_unsent = False
        BOUNDS.status = 0
        BOUNDS.silence = self._settings.silence_seconds + request.allowance_seconds
        BOUNDS.is_over = functools.partial(_is_finished, job)
        BOUNDS.promise = functools.partial(setattr, job, "promised")
        job.promised = 0
        try:
            response = getattr(self._client, _METHODS[request.operation])(**self._parameters(request))
            body = read_body(response["Body"]) if "Body" in response else received.body
        except (ClientError, ResponseParserError):
            # The store interprets the answer, so it is passed on as received.
            body = received.body
        except (BotoCoreError, HTTPClientError, OSError) as error:
            return failure_of(error)
        return received.answer(body, limit=request.answer_limit)

    def _parameters(self, request: Request) -> dict[str, Any]:
        parameters: dict[str, Any] = {"Bucket": self._access.endpoint.bucket}
        if request.key:
            parameters["Key"] = request.key
        metadata = {}
        for name, value in (*request.headers.items(), *request.query):
            if name.startswith("x-amz-meta-"):
                metadata[name.removeprefix("x-amz-meta-")] = value
            elif (parameter := _PARAMETERS.get(name)) is not None:
                parameters[parameter] = int(value) if parameter in _NUMBERS else value
        if metadata:
            parameters["Metadata"] = metadata
        if request.operation in _BODIES:
            parameters["Body"] = _PacedBody(request.body, self._pace) if self._pace is not None else request.body
        if request.parts:
            # botocore makes the document, so the headers are those of botocore's document.
            parameters.pop("ContentType", None)
            parameters["MultipartUpload"] = {
                "Parts": [
                    {"PartNumber": number, "ETag": etag, **({"ChecksumCRC32": checksum} if checksum else {})}
                    for number, etag, checksum in request.parts
                ]
            }
        return parameters


class _Received(threading.local):
    """The last answer that a thread received, before botocore interprets it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget the answer."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    def keep(self, response_dict: dict[str, Any], **_: object) -> None:
        """Keep the answer; called by botocore. The body of an object was not read yet.

        Any other body is taken from botocore. It would parse it twice, into a hundred times the memory.
        """
        self.status = BOUNDS.status or response_dict["status_code"]
        self.headers = {str(name).lower(): str(value) for name, value in response_dict["headers"].items()}
        body = response_dict["body"]
        if isinstance(body, bytes):
            self.body, response_dict["body"] = body, b""
        else:
            self.body = b""

    def answer(self, body: bytes, *, limit: int) -> Outcome:
        """The answer with that body, if it is within its bounds."""
        if (BOUNDS.is_cut or len(body) > limit) and self.status < 300:
            return Failure(TransportFailure.INVALID, "a body that does not end")
        if BOUNDS.is_unsent and self.status < 300:
            return Failure(TransportFailure.INVALID, "a success before the whole body was sent")
        return Answer(status=self.status, headers=self.headers, body=body[:limit])


def _is_sent_as_given(name: str) -> bool:
    if name == _COPY_SOURCE:
        return True  # it is encoded, and botocore would encode it once more
    return name not in _PARAMETERS and name != "accept-encoding" and not name.startswith("x-amz-meta-")


def _add_headers(params: dict[str, Any], **_: object) -> None:
    """Put the headers that botocore has no parameter for, or would change, into the request before it is signed."""
    params["headers"].update(_WIRE.headers)


def _is_finished(job: _Job) -> bool:
    return job.finished


class _Wire(threading.local):
    """Parts of the request that a thread is about to send, for which botocore has no parameter."""

    def __init__(self) -> None:
        self.accept_encoding = ""
        self.headers: dict[str, str] = {}


_WIRE = _Wire()


def _on_wire(request: Any, **_: object) -> None:
    if _WIRE.accept_encoding:
        # Set after signing, because proxies may change this header.
        request.headers["Accept-Encoding"] = _WIRE.accept_encoding
    if isinstance(request.body, _PacedBody):
        request.body.on_wire = True


def _stay_here(context: dict[str, Any], **_: object) -> None:
    """Keep botocore from following redirects itself, because it asks for a bucket's region forever."""
    context.setdefault("s3_redirect", {})["redirected"] = True
