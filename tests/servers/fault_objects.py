"""The S3 side of the fault server: buckets, objects and multipart uploads in memory, in one of the dialects."""

from __future__ import annotations

import base64
import bisect
import dataclasses
import email.utils
import hashlib
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.servers.dialects import Dialect
from tests.servers.fault_checksums import ALGORITHMS, checksum, composite_checksum, multipart_etag
from tests.servers.fault_errors import error_answer, error_document
from tests.servers.fault_wire import Answer, Request, is_aws_chunked

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_MAX_KEY_BYTES = 1024
_KEPT_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-storage-class",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-tagging",
    "x-amz-acl",
)
_HIDDEN_HEADERS = ("x-amz-tagging", "x-amz-acl")


class _Refused(Exception):
    """An operation ends with an error answer."""

    def __init__(self, code: str, message: str | None = None) -> None:
        super().__init__(code)
        self.answer = error_answer(code, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object as it was stored. `headers` are those that belong to it, tags and ACL included."""

    body: bytes
    etag: str
    headers: Mapping[str, str]
    checksums: Mapping[str, str]
    checksum_type: str
    version_id: str | None
    modified: float
    parts: int = 0

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.body)

    @property
    def metadata(self) -> dict[str, str]:
        """The user's metadata, without `x-amz-meta-`."""
        return {
            name.removeprefix("x-amz-meta-"): value
            for name, value in self.headers.items()
            if name.startswith("x-amz-meta-")
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """An object that took the place of one with other bytes."""

    bucket: str
    key: str
    old: StoredObject
    new: StoredObject


@dataclass(frozen=True, slots=True)
class _Part:
    body: bytes
    etag: str
    checksums: Mapping[str, str]


@dataclass(slots=True)
class _Upload:
    bucket: str
    key: str
    headers: Mapping[str, str]
    algorithm: str | None
    checksum_type: str
    parts: dict[int, _Part] = field(default_factory=dict)


class ObjectStore:
    """Everything that is stored, and the operations on it. Safe to use from several threads."""

    def __init__(self, *, dialect: Dialect, region: str, versioned: bool = False) -> None:
        self.dialect = dialect
        self.region = region
        self.versioned = versioned
        self.lock = threading.RLock()
        self.buckets: dict[str, dict[str, StoredObject]] = {}
        self.replacements: list[Replacement] = []
        self.uploads: dict[str, _Upload] = {}
        self._remembered: dict[tuple[str, str], StoredObject] = {}
        self._completed: dict[str, tuple[str, Answer]] = {}
        self._operations: dict[str, Callable[[Request, bytes], Answer]] = {
            "ListBuckets": self._list_buckets,
            "CreateBucket": self._create_bucket,
            "HeadBucket": self._head_bucket,
            "DeleteBucket": self._delete_bucket,
            "GetBucketLocation": self._get_bucket_location,
            "ListObjects": self._list_objects,
            "ListObjectsV2": self._list_objects,
            "ListMultipartUploads": self._list_multipart_uploads,
            "DeleteObjects": self._delete_objects,
            "PutObject": self._put_object,
            "CopyObject": self._copy_object,
            "GetObject": self._get_object,
            "HeadObject": self._get_object,
            "DeleteObject": self._delete_object,
            "GetObjectTagging": self._get_object_tagging,
            "PutObjectTagging": self._put_object_tagging,
            "PutObjectAcl": self._put_object_acl,
            "CreateMultipartUpload": self._create_multipart_upload,
            "UploadPart": self._upload_part,
            "CompleteMultipartUpload": self._complete_multipart_upload,
            "AbortMultipartUpload": self._abort_multipart_upload,
            "ListParts": self._list_parts,
        }

    def handle(self, request: Request, body: bytes) -> Answer:
        """Do what a request asks for and return the answer."""
        operation = self._operations.get(request.operation)
        if operation is None:
            return error_answer("NotImplemented", message=f"{request.operation} is not implemented")
        try:
            return operation(request, body)
        except _Refused as refused:
            return refused.answer

    def keep_truncated(self, request: Request, body: bytes) -> None:
        """Store what came of a body that was cut short, as some servers do."""
        with self.lock:
            if request.bucket in self.buckets:
                self._store(request, self._new_object(body, request.headers, {}, "FULL_OBJECT"))

    # Uploads

    def _put_object(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        _check_key(request.key)
        self._check_framing(request)
        sent = self._verified_checksums(request, body)
        stored = self._new_object(body, request.headers, self._kept_checksums(sent, body), "FULL_OBJECT")
        with self.lock:
            self._check_conditions(request)
            self._store(request, stored)
        return Answer(headers={"ETag": f'"{stored.etag}"', **self._proof(stored), **_version(stored), **_sse(stored)})

    def _upload_part(self, request: Request, body: bytes) -> Answer:
        with self.lock:
            self._upload(request)
        number = request.part_number
        if number is None or not 1 <= number <= 10_000:
            raise _Refused("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
        self._check_framing(request)
        sent = self._verified_checksums(request, body)
        part = _Part(body, request.body_md5 if self.dialect.etags_are_md5 else secrets.token_hex(16), sent)
        with self.lock:
            self._upload(request).parts[number] = part
        headers = {"ETag": f'"{part.etag}"'}
        if self.dialect.answers_checksums:
            headers.update({f"x-amz-checksum-{name}": value for name, value in sent.items()})
        return Answer(headers=headers)

    def _create_multipart_upload(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        _check_key(request.key)
        algorithm = request.headers.get("x-amz-checksum-algorithm", "").lower() or None
        if algorithm is not None and algorithm not in ALGORITHMS and self.dialect.verifies_checksums:
            raise _Refused("InvalidRequest", "Checksum algorithm provided is unsupported.")
        default_type = "FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE"
        upload = _Upload(
            request.bucket,
            request.key,
            dict(request.headers),
            algorithm,
            request.headers.get("x-amz-checksum-type", default_type).upper(),
        )
        upload_id = secrets.token_urlsafe(24)
        with self.lock:
            self.uploads[upload_id] = upload
        headers = {}
        if algorithm is not None and self.dialect.answers_checksums:
            headers = {
                "x-amz-checksum-algorithm": algorithm.upper(),
                "x-amz-checksum-type": upload.checksum_type,
            }
        return _document(
            "InitiateMultipartUploadResult",
            [_element("Bucket", request.bucket), _element("Key", request.key), _element("UploadId", upload_id)],
            headers=headers,
        )

    def _complete_multipart_upload(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        with self.lock:
            upload_id = request.upload_id or ""
            if upload_id in self._completed and self.dialect.repeats_completion:
                key, answer = self._completed[upload_id]
                if key == request.key:
                    return answer
            upload = self._upload(request)
            parts = self._listed_parts(upload, body)
            whole = b"".join(part.body for part in parts)
            checksums = self._whole_checksums(request, upload, parts, whole)
            size = request.headers.get("x-amz-mp-object-size")
            if size is not None and self.dialect.verifies_checksums and int(size) != len(whole):
                raise _Refused("InvalidRequest", "The provided 'x-amz-mp-object-size' header value does not match.")
            etag = multipart_etag(part.etag for part in parts) if self.dialect.etags_are_md5 else ""
            stored = self._new_object(whole, upload.headers, checksums, upload.checksum_type, etag=etag)
            stored = dataclasses.replace(stored, parts=len(parts))
            self._check_conditions(request)
            self._store(request, stored)
            del self.uploads[upload_id]
            answer = self._completion(request, stored)
            self._completed[upload_id] = (request.key, answer)
            return answer

    def _completion(self, request: Request, stored: StoredObject) -> Answer:
        etag = f'"{stored.etag}"' if self.dialect.completion_has_etag else ""
        elements = [
            _element("Location", f"http://{request.host}/{quote(request.bucket)}/{quote(request.key)}"),
            _element("Bucket", request.bucket),
            _element("Key", request.key),
            _element("ETag", etag),
        ]
        if self.dialect.answers_checksums and stored.checksums:
            elements += [_element(f"Checksum{name.upper()}", value) for name, value in stored.checksums.items()]
            elements.append(_element("ChecksumType", stored.checksum_type))
        return _document("CompleteMultipartUploadResult", elements, headers={**_version(stored), **_sse(stored)})

    def _listed_parts(self, upload: _Upload, body: bytes) -> list[_Part]:
        try:
            root = ElementTree.fromstring(body)
            listed = [
                (int(_text(part, "PartNumber")), _text(part, "ETag").removeprefix('"').removesuffix('"'))
                for part in root
                if part.tag.rpartition("}")[2] == "Part"
            ]
        except (ElementTree.ParseError, ValueError):
            raise _Refused("MalformedXML") from None
        if not listed:
            raise _Refused("MalformedXML")
        numbers = [number for number, _ in listed]
        if numbers != sorted(set(numbers)):
            raise _Refused("InvalidPartOrder")
        parts = []
        for number, etag in listed:
            part = upload.parts.get(number)
            if part is None or part.etag != etag:
                raise _Refused("InvalidPart")
            parts.append(part)
        if any(len(part.body) < self.dialect.minimum_part_bytes for part in parts[:-1]):
            raise _Refused("EntityTooSmall")
        return parts

    def _whole_checksums(self, request: Request, upload: _Upload, parts: list[_Part], whole: bytes) -> dict[str, str]:
        claimed = _claimed_checksums(request)
        if not self.dialect.verifies_checksums:
            return claimed
        computed = {}
        for name in {*claimed, *([upload.algorithm] if upload.algorithm else [])}:
            if upload.checksum_type == "FULL_OBJECT" and self.dialect.knows_whole_checksums:
                computed[name] = checksum(name, whole)
            else:
                computed[name] = composite_checksum(name, (part.body for part in parts))
        for name, value in claimed.items():
            if value != computed[name] and value != computed[name].partition("-")[0]:
                raise _Refused("BadDigest", f"The {name.upper()} you specified did not match the calculated checksum.")
        return computed

    def _abort_multipart_upload(self, request: Request, body: bytes) -> Answer:
        with self.lock:
            self._upload(request)
            del self.uploads[request.upload_id or ""]
        return Answer(status=204)

    def _list_parts(self, request: Request, body: bytes) -> Answer:
        with self.lock:
            parts = sorted(self._upload(request).parts.items())
        elements = [
            _element("Bucket", request.bucket),
            _element("Key", request.key),
            _element("UploadId", request.upload_id or ""),
            _element("IsTruncated", "false"),
        ]
        for number, part in parts:
            inner = (
                _element("PartNumber", str(number))
                + _element("ETag", f'"{part.etag}"')
                + _element("Size", str(len(part.body)))
            )
            elements.append(f"<Part>{inner}</Part>")
        return _document("ListPartsResult", elements)

    def _list_multipart_uploads(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        prefix = request.query.get("prefix", "")
        encode = _encoder(request)
        with self.lock:
            uploads = sorted(
                (upload.key, upload_id)
                for upload_id, upload in self.uploads.items()
                if upload.bucket == request.bucket and upload.key.startswith(prefix)
            )
        elements = [_element("Bucket", request.bucket), _element("IsTruncated", "false")]
        if "encoding-type" in request.query:
            elements.append(_element("EncodingType", "url"))
        for key, upload_id in uploads:
            inner = (
                _element("Key", encode(key))
                + _element("UploadId", upload_id)
                + _element("Initiated", _iso(time.time()))
            )
            elements.append(f"<Upload>{inner}</Upload>")
        return _document("ListMultipartUploadsResult", elements)

    # Objects

    def _get_object(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        with self.lock:
            stored = self._found(request)
        if stored is None:
            raise _Refused("NoSuchKey")
        headers = {
            "ETag": f'"{self._etag_to_show(stored)}"',
            "Last-Modified": email.utils.formatdate(stored.modified, usegmt=True),
            "Accept-Ranges": "bytes",
            **{name: value for name, value in stored.headers.items() if name not in _HIDDEN_HEADERS},
            **_version(stored),
        }
        if headers.get("x-amz-storage-class") == "STANDARD":
            del headers["x-amz-storage-class"]
        if tagging := stored.headers.get("x-amz-tagging"):
            headers["x-amz-tagging-count"] = str(tagging.count("=") or 1)
        if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and "range" not in request.headers:
            headers.update(self._proof(stored))
        span = _range(request.headers.get("range", ""), stored.size)
        if span is None:
            return Answer(headers=headers, body=stored.body)
        first, end = span
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{stored.size}"
        return Answer(status=206, headers=headers, body=stored.body[first:end])

    def _delete_object(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        with self.lock:
            self.buckets[request.bucket].pop(self.dialect.folded(request.key), None)
        return Answer(status=204)

    def _delete_objects(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        try:
            root = ElementTree.fromstring(body)
        except ElementTree.ParseError:
            raise _Refused("MalformedXML") from None
        elements = []
        for entry in root:
            if entry.tag.rpartition("}")[2] == "Object":
                key = _text(entry, "Key")
                with self.lock:
                    self.buckets[request.bucket].pop(key, None)
                elements.append(f"<Deleted>{_element('Key', key)}</Deleted>")
        return _document("DeleteResult", elements)

    def _copy_object(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        source_bucket, _, source_key = unquote(request.headers["x-amz-copy-source"]).lstrip("/").partition("/")
        source_key = source_key.partition("?versionId=")[0]
        with self.lock:
            source = self.buckets.get(source_bucket, {}).get(source_key)
            if source is None:
                raise _Refused("NoSuchKey")
            wanted = request.headers.get("x-amz-copy-source-if-match")
            if wanted is not None and wanted.strip('"') != source.etag:
                raise _Refused("PreconditionFailed")
            replaced = request.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
            stored = dataclasses.replace(
                source,
                headers=_kept_headers(request.headers) if replaced else source.headers,
                # A copy is one piece, whatever its source was made of.
                etag=hashlib.md5(source.body).hexdigest() if self.dialect.etags_are_md5 else secrets.token_hex(16),
                parts=0,
                modified=time.time(),
                version_id=self._version_id(),
            )
            self._check_conditions(request)
            self._store(request, stored)
        return _document(
            "CopyObjectResult",
            [_element("LastModified", _iso(stored.modified)), _element("ETag", f'"{stored.etag}"')],
            headers=_version(stored),
        )

    def _get_object_tagging(self, request: Request, body: bytes) -> Answer:
        tags = []
        for pair in self._object(request).headers.get("x-amz-tagging", "").split("&"):
            name, _, value = pair.partition("=")
            if name:
                tags.append(f"<Tag>{_element('Key', unquote(name))}{_element('Value', unquote(value))}</Tag>")
        return _document("Tagging", [f"<TagSet>{''.join(tags)}</TagSet>"])

    def _put_object_tagging(self, request: Request, body: bytes) -> Answer:
        root = ElementTree.fromstring(body)
        tags = [
            f"{quote(_text(tag, 'Key'))}={quote(_text(tag, 'Value'))}"
            for tag in root.iter()
            if tag.tag.rpartition("}")[2] == "Tag"
        ]
        self._change_headers(request, {"x-amz-tagging": "&".join(tags)})
        return Answer()

    def _put_object_acl(self, request: Request, body: bytes) -> Answer:
        self._change_headers(request, {"x-amz-acl": request.headers.get("x-amz-acl", "")})
        return Answer()

    def _change_headers(self, request: Request, headers: Mapping[str, str]) -> None:
        with self.lock:
            stored = self._object(request)
            changed = dataclasses.replace(stored, headers={**stored.headers, **headers})
            self.buckets[request.bucket][request.key] = changed

    # Buckets

    def _list_buckets(self, request: Request, body: bytes) -> Answer:
        with self.lock:
            names = sorted(self.buckets)
        buckets = "".join(f"<Bucket>{_element('Name', name)}</Bucket>" for name in names)
        return _document("ListAllMyBucketsResult", [f"<Buckets>{buckets}</Buckets>"])

    def _create_bucket(self, request: Request, body: bytes) -> Answer:
        with self.lock:
            self.buckets.setdefault(request.bucket, {})
        return Answer(headers={"Location": f"/{request.bucket}"})

    def _head_bucket(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        return Answer(headers={"x-amz-bucket-region": self.region})

    def _delete_bucket(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        with self.lock:
            if self.buckets[request.bucket]:
                return Answer(status=409, body=error_document("InvalidBucketState", message="The bucket is not empty"))
            del self.buckets[request.bucket]
        return Answer(status=204)

    def _get_bucket_location(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        # S3 says the name of its oldest region with an empty element.
        return _document("LocationConstraint", [escape("" if self.region == "us-east-1" else self.region)])

    def _list_objects(self, request: Request, body: bytes) -> Answer:
        self._bucket(request)
        query = request.query
        second = request.operation == "ListObjectsV2"
        after = query.get("continuation-token") or query.get("start-after", "") if second else query.get("marker", "")
        limit = min(int(query.get("max-keys", "1000")), 1000)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        encode = _encoder(request)
        with self.lock:
            objects = dict(self.buckets[request.bucket])
        contents: list[str] = []
        prefixes: list[str] = []
        last, truncated = "", False
        # The order of code points is that of their UTF-8.
        keys = sorted(objects)
        begin = max(bisect.bisect_right(keys, after) if after else 0, bisect.bisect_left(keys, prefix))
        for key in itertools.islice(keys, begin, None):
            if not key.startswith(prefix):
                break
            group = ""
            if delimiter and (cut := key.find(delimiter, len(prefix))) >= 0:
                group = key[: cut + len(delimiter)]
                if group == after or group in prefixes[-1:]:
                    continue
            if len(contents) + len(prefixes) == limit:
                truncated = True
                break
            last = group or key
            if group:
                prefixes.append(group)
                continue
            stored = objects[key]
            inner = (
                _element("Key", encode(key))
                + _element("LastModified", _iso(stored.modified))
                + _element("ETag", f'"{self._etag_to_show(stored)}"')
                + _element("Size", str(stored.size))
                + _element("StorageClass", stored.headers.get("x-amz-storage-class", "STANDARD"))
            )
            contents.append(f"<Contents>{inner}</Contents>")
        elements = [
            _element("Name", request.bucket),
            _element("Prefix", encode(prefix)),
            _element("MaxKeys", str(limit)),
            _element("IsTruncated", str(truncated).lower()),
        ]
        if "encoding-type" in query:
            elements.append(_element("EncodingType", "url"))
        if delimiter:
            elements.append(_element("Delimiter", encode(delimiter)))
        if second:
            elements.append(_element("KeyCount", str(len(contents) + len(prefixes))))
        if truncated:
            # A continuation token is opaque, and botocore does not decode it: it is the key itself.
            elements.append(_element("NextContinuationToken", last) if second else _element("NextMarker", encode(last)))
        elements += contents
        elements += [f"<CommonPrefixes>{_element('Prefix', encode(group))}</CommonPrefixes>" for group in prefixes]
        return _document("ListBucketResult", elements)

    # What several operations need

    def _bucket(self, request: Request) -> None:
        with self.lock:
            if request.bucket not in self.buckets:
                raise _Refused("NoSuchBucket")

    def _object(self, request: Request) -> StoredObject:
        self._bucket(request)
        with self.lock:
            stored = self.buckets[request.bucket].get(request.key)
        if stored is None:
            raise _Refused("NoSuchKey")
        return stored

    def _upload(self, request: Request) -> _Upload:
        upload = self.uploads.get(request.upload_id or "")
        if upload is None or (upload.bucket, upload.key) != (request.bucket, request.key):
            raise _Refused("NoSuchUpload")
        return upload

    def _check_framing(self, request: Request) -> None:
        if self.dialect.accepts_trailers:
            return
        if "chunked" in request.headers.get("transfer-encoding", ""):
            raise _Refused("MissingContentLength")
        if is_aws_chunked(request):
            raise _Refused("XAmzContentSHA256Mismatch")

    def _check_conditions(self, request: Request) -> None:
        # Where looks know no changed names a write still meets what is stored under its own.
        existing = self._found(request, writing=True)
        if "if-none-match" in request.headers and self.dialect.conditional_put != "ignored":
            if self.dialect.conditional_put == "not-implemented":
                raise _Refused("NotImplemented")
            if request.headers["if-none-match"] != "*":
                raise _Refused("NotImplemented", "If-None-Match: only * is supported")
            if existing is not None:
                raise _Refused("PreconditionFailed")
        if "if-match" in request.headers and self.dialect.conditional_put == "honoured":
            if existing is None:
                raise _Refused("NoSuchKey")
            if request.headers["if-match"].strip('"') != existing.etag:
                raise _Refused("PreconditionFailed")

    def _verified_checksums(self, request: Request, body: bytes) -> dict[str, str]:
        """Return the checksums that came with a body, after holding them against it."""
        md5 = request.headers.get("content-md5")
        if md5 is not None and self.dialect.verifies_content_md5:
            if len(md5) != 24:
                raise _Refused("InvalidDigest")
            if base64.b64encode(bytes.fromhex(request.body_md5)).decode() != md5:
                raise _Refused("BadDigest")
        payload_hash = request.headers.get("x-amz-content-sha256", "")
        if (
            len(payload_hash) == 64
            and self.dialect.verifies_payload_hash
            and hashlib.sha256(body).hexdigest() != payload_hash
        ):
            raise _Refused("XAmzContentSHA256Mismatch")
        claimed = _claimed_checksums(request)
        if not self.dialect.verifies_checksums:
            # Nobody looked at them; they are only there to be answered, by those who do that all the same.
            return claimed
        if self.dialect.requires_algorithm_header:
            named = request.headers.get("x-amz-sdk-checksum-algorithm", "").lower()
            claimed = {name: value for name, value in claimed.items() if name == named}
        if len(claimed) > 1:
            raise _Refused("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple found.")
        for name, value in claimed.items():
            if checksum(name, body) != value:
                raise _Refused("BadDigest", f"The {name.upper()} you specified did not match the calculated checksum.")
        return claimed

    def _kept_checksums(self, sent: dict[str, str], body: bytes) -> dict[str, str]:
        if sent or not self.dialect.answers_checksums or self.dialect.requires_algorithm_header:
            return sent
        return {"crc64nvme": checksum("crc64nvme", body)}

    def _proof(self, stored: StoredObject) -> dict[str, str]:
        if not self.dialect.answers_checksums or not stored.checksums:
            return {}
        headers = {f"x-amz-checksum-{name}": value for name, value in stored.checksums.items()}
        return {**headers, "x-amz-checksum-type": stored.checksum_type}

    def _new_object(
        self,
        body: bytes,
        headers: Mapping[str, str],
        checksums: Mapping[str, str],
        checksum_type: str,
        *,
        etag: str = "",
    ) -> StoredObject:
        if not etag:
            etag = hashlib.md5(body).hexdigest() if self.dialect.etags_are_md5 else secrets.token_hex(16)
        return StoredObject(
            body=body,
            etag=etag,
            headers=_kept_headers(headers),
            checksums=checksums,
            checksum_type=checksum_type,
            version_id=self._version_id(),
            modified=time.time(),
        )

    def _etag_to_show(self, stored: StoredObject) -> str:
        if stored.parts and self.dialect.head_has_whole_md5:
            return hashlib.md5(stored.body).hexdigest()
        return stored.etag

    def _version_id(self) -> str | None:
        return secrets.token_urlsafe(24) if self.versioned else None

    def _store(self, request: Request, stored: StoredObject) -> None:
        bucket = self.buckets[request.bucket]
        key = self.dialect.folded(request.key)
        old = bucket.get(key)
        if old is not None and old.body != stored.body:
            self.replacements.append(Replacement(bucket=request.bucket, key=key, old=old, new=stored))
        bucket[key] = self._remembered[request.bucket, request.key] = stored

    def _found(self, request: Request, *, writing: bool = False) -> StoredObject | None:
        looks = self.dialect.looks
        exactly = looks == "exact" and not writing
        stored = self.buckets[request.bucket].get(request.key if exactly else self.dialect.folded(request.key))
        if stored is None or looks != "remembered":
            return stored
        remembered = self._remembered.get((request.bucket, request.key))
        return None if remembered is None else dataclasses.replace(remembered, body=stored.body)


def _claimed_checksums(request: Request) -> dict[str, str]:
    claimed = {}
    for name in ALGORITHMS:
        header = f"x-amz-checksum-{name}"
        value = request.headers.get(header) or request.trailers.get(header)
        if value is not None:
            claimed[name] = value
    return claimed


def _check_key(key: str) -> None:
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise _Refused("KeyTooLongError")


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in headers.items() if name in _KEPT_HEADERS or name.startswith("x-amz-meta-")}
    encodings = [word for word in kept.pop("content-encoding", "").replace(" ", "").split(",") if word]
    if encodings := [word for word in encodings if word != "aws-chunked"]:
        kept["content-encoding"] = ",".join(encodings)
    kept.setdefault("content-type", "binary/octet-stream")
    return kept


def _version(stored: StoredObject) -> dict[str, str]:
    return {} if stored.version_id is None else {"x-amz-version-id": stored.version_id}


def _sse(stored: StoredObject) -> dict[str, str]:
    return {name: value for name, value in stored.headers.items() if name.startswith("x-amz-server-side-encryption")}


def _range(value: str, size: int) -> tuple[int, int] | None:
    unit, _, span = value.partition("=")
    first, dash, last = span.partition("-")
    if unit != "bytes" or not dash or "," in span:
        return None
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        raise _Refused("InvalidRange")
    return start, end


def _encoder(request: Request) -> Callable[[str], str]:
    if request.query.get("encoding-type") == "url":
        return lambda text: quote(text, safe="/")
    return lambda text: text


def _text(element: ElementTree.Element, name: str) -> str:
    for child in element:
        if child.tag.rpartition("}")[2] == name:
            return child.text or ""
    raise ValueError(name)


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _document(root: str, elements: Iterable[str], *, headers: Mapping[str, str] | None = None) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{_NAMESPACE}">{"".join(elements)}</{root}>'
    return Answer(headers={"Content-Type": "application/xml", **(headers or {})}, body=body.encode())
