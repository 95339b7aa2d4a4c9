"""The dialects of S3 servers that the fault server speaks: what they verify, what they answer, what they ignore."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote


def _without_dotted_steps(key: str) -> str:
    kept: list[str] = []
    for step in key.split("/"):
        if step == "..":
            del kept[-1:]
        elif step != ".":
            kept.append(step)
    return "/".join(kept)


FOLDS: dict[str, Callable[[str], str]] = {
    "": str,
    "case": str.lower,
    "upper case": str.upper,
    "composed": lambda key: unicodedata.normalize("NFC", key),
    "decomposed": lambda key: unicodedata.normalize("NFD", key),
    "slashes": lambda key: re.sub("/+", "/", key).strip("/"),
    "dots": _without_dotted_steps,
    "ends": lambda key: "/".join(step.rstrip(" .") for step in key.split("/")),
    "escapes": unquote,
    "parameters": lambda key: re.sub(";[^/]*", "", key),
    "query": lambda key: key.partition("?")[0],
    "fragment": lambda key: key.partition("#")[0],
    "signs": lambda key: key.encode("ascii", "replace").decode(),
}
"""What servers make of the name of an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one kind of S3 server treats an upload. `dataclasses.replace` makes a variant.

    * `verifies_checksums`: `x-amz-checksum-*` in headers and trailers is held against the body (BadDigest).
    * `requires_algorithm_header`: only when `x-amz-sdk-checksum-algorithm` comes along; without it the checksum is
      ignored (Ceph 20).
    * `answers_checksums`: the answer carries them, with `x-amz-checksum-type`, and a CRC64NVME when none was sent.
    * `verifies_content_md5`, `verifies_payload_hash`: the same for `Content-MD5` and `x-amz-content-sha256`.
    * `accepts_trailers`: an aws-chunked body with trailers; otherwise 411 without Content-Length (boto3) and
      XAmzContentSHA256Mismatch with it (awscrt).
    * `conditional_put`: `If-None-Match: *` is honoured, ignored (the object is overwritten) or answered with 501.
    * `etags_are_md5`: otherwise ETags are random, as with SSE-KMS.
    * `completion_has_etag`: CompleteMultipartUpload answers the ETag; otherwise it is empty and only HEAD has it.
    * `head_has_whole_md5`: HEAD shows the MD5 of all bytes as the ETag of a multipart object, whatever the completion
      answered.
    * `repeats_completion`: a second CompleteMultipartUpload for a finished upload succeeds; otherwise NoSuchUpload.
    * `stores_truncated_bodies`: an object whose body was cut short is stored as far as it came.
    * `knows_whole_checksums`: a checksum of the whole is held against the whole; otherwise against that of the parts'
      checksums, so that it is refused (BadDigest).
    * `minimum_part_bytes`: the smallest part but the last.
    * `folds`: one of `FOLDS`, by which names are changed where objects are stored.
    * `looks`: names are changed so too where an object is looked for, or they are not; or it is remembered under which
      names something was stored, so that each looks as if it were kept, while the bytes are those that came last.
    """

    name: str
    verifies_checksums: bool = True
    requires_algorithm_header: bool = False
    answers_checksums: bool = True
    verifies_content_md5: bool = True
    verifies_payload_hash: bool = True
    accepts_trailers: bool = True
    conditional_put: Literal["honoured", "ignored", "not-implemented"] = "honoured"
    etags_are_md5: bool = True
    completion_has_etag: bool = True
    head_has_whole_md5: bool = False
    repeats_completion: bool = False
    stores_truncated_bodies: bool = False
    knows_whole_checksums: bool = True
    minimum_part_bytes: int = 5 * 1024 * 1024
    folds: str = ""
    looks: Literal["folded", "exact", "remembered"] = "folded"

    def folded(self, key: str) -> str:
        """The name under which an object is stored."""
        return FOLDS[self.folds](key)


AWS = Dialect(name="aws", repeats_completion=True)
"""Amazon's own: verifies every checksum and answers it."""

AWS_KMS = Dialect(name="aws-kms", repeats_completion=True, etags_are_md5=False)
"""Amazon's with SSE-KMS: as AWS, and the ETag is no MD5."""

NEW = Dialect(name="new", answers_checksums=False, repeats_completion=True)
"""Verifies checksums and answers none (Swift 2.38)."""

OLD = Dialect(
    name="old",
    verifies_checksums=False,
    answers_checksums=False,
    accepts_trailers=False,
    completion_has_etag=False,
    repeats_completion=True,
)
"""Knows no checksums but Content-MD5 and the payload's hash, refuses trailers (Ceph 16)."""

CEPH_20 = Dialect(name="ceph-20", requires_algorithm_header=True)
"""Verifies a checksum only when `x-amz-sdk-checksum-algorithm` comes with it."""

WEAK = Dialect(
    name="weak",
    verifies_checksums=False,
    answers_checksums=False,
    verifies_payload_hash=False,
    conditional_put="ignored",
    head_has_whole_md5=True,
)
"""Verifies nothing but Content-MD5 and overwrites in spite of `If-None-Match` (rclone)."""

UNCONDITIONAL = Dialect(name="unconditional", conditional_put="not-implemented")
"""As AWS, but answers 501 NotImplemented to `If-None-Match`."""

BLIND = Dialect(
    name="blind", verifies_checksums=False, answers_checksums=False, verifies_content_md5=False, etags_are_md5=False
)
"""Gives no proof but the size: no checksums and an ETag that is no MD5."""

ECHO = Dialect(
    name="echo",
    verifies_checksums=False,
    verifies_content_md5=False,
    verifies_payload_hash=False,
    repeats_completion=True,
)
"""Verifies nothing at all, and answers the checksums that it was sent as if it had (moto)."""

DIALECTS = {dialect.name: dialect for dialect in (AWS, AWS_KMS, NEW, OLD, CEPH_20, WEAK, UNCONDITIONAL, BLIND, ECHO)}
"""Every dialect by its name."""
