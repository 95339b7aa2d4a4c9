"""The keys of each kind of destination, as typed structs with their defaults and limits, and what contradicts what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from s3_uploader.core.text import file_server_name, parsed_server_url, shown_value

_IN_BUCKETS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~!$&'()*+,;=:@-")
"""Characters that need no escape in the path of a URL (RFC 3986). Real names have letters, digits, hyphens and dots."""
_MOST_OF_A_BUCKET = 256
"""Swift's limit for a container, the largest of all; S3's is 63."""
_ARN = (
    "arn:aws[^:]*:"
    "((s3|s3-object-lambda):[a-z0-9-]*:[0-9]{12}:accesspoint[/:][A-Za-z0-9.-]{1,63}"
    "|s3-outposts:[a-z0-9-]+:[0-9]{12}:outpost[/:][A-Za-z0-9-]{1,63}[/:]accesspoint[/:][A-Za-z0-9-]{1,63})"
)
"""What botocore accepts as the ARN of an access point. With any other ARN it refuses every request."""
_SERVICES = ("s3", "s3-object-lambda", "s3-outposts")
_AN_ARN = "arn:aws:s3:eu-west-1:111122223333:accesspoint/my-point"

Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Longer: TypeAlias = Annotated[float, Meta(gt=0)]

# Keys that mean the same for several kinds of destination.
Host: TypeAlias = Annotated[str, Meta(min_length=1, description="Name or address of the server.")]
Port: TypeAlias = Annotated[int, Meta(ge=1, le=65535, description="Port.")]
PasswordFile: TypeAlias = Annotated[str | None, Meta(description="File that holds the password.")]
LockFile: TypeAlias = Annotated[
    str | None, Meta(description="Name of a remote lock file, created before and removed after the uploads.")
]
LockStaleSeconds: TypeAlias = Annotated[
    Longer | None, Meta(description="Age at which a lock file of another client is removed.")
]
SilenceSeconds: TypeAlias = Annotated[float, Meta(gt=0, description="Maximum time without a response from the server.")]
LoginSeconds: TypeAlias = Annotated[float, Meta(gt=0, description="Maximum time to connect and log in.")]
OnTakenName: TypeAlias = Annotated[
    Literal["fail", "overwrite", "keep-both"], Meta(description="What to do if the name is taken.")
]
Connections: TypeAlias = Annotated[Positive, Meta(description="Maximum number of connections.")]


class S3Destination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="s3", tag_field="type"):
    """An S3 bucket. Credentials, region and whatever is not set here come from the standard AWS chain."""

    bucket: Annotated[
        str, Meta(min_length=1, description="Name (or access point ARN) of the bucket. `s3_bucket` is accepted too.")
    ]
    endpoint_url: Annotated[
        str | None, Meta(description="URL of an S3-compatible service. Default: AWS_ENDPOINT_URL, else AWS.")
    ] = None
    region: Annotated[str | None, Meta(description="Region. Default: the environment or the AWS profile.")] = None
    profile: Annotated[str | None, Meta(description="Profile of the AWS configuration files to use.")] = None
    addressing_style: Annotated[
        Literal["auto", "virtual", "path"],
        Meta(
            description="Whether the host name or the path has the bucket. `auto`: AWS configuration, else by "
            "endpoint. Over https the path always has a bucket with a dot in its name."
        ),
    ] = "auto"
    client_certificate_file: Annotated[
        str | None,
        Meta(description="PEM file with the client certificate that the endpoint requires, and its private key."),
    ] = None
    storage_class: Annotated[str | None, Meta(description="Storage class of new objects, e.g. STANDARD_IA.")] = None
    acl: Annotated[str | None, Meta(description="Canned ACL of new objects, e.g. public-read.")] = None
    sse: Annotated[
        Literal["AES256", "aws:kms", "aws:kms:dsse"] | None, Meta(description="Server-side encryption to ask for.")
    ] = None
    sse_kms_key_id: Annotated[str | None, Meta(description="KMS key for `sse: aws:kms`.")] = None
    metadata: Annotated[dict[str, str], Meta(description="User metadata of new objects.")] = {}
    tags: Annotated[dict[str, str], Meta(description="Tags of new objects (needs s3:PutObjectTagging).")] = {}
    content_type: Annotated[
        str | None, Meta(description="Content type of new objects. Default: guessed from the name.")
    ] = None
    requester_pays: Annotated[
        bool,
        Meta(description="Accept the charge for each request, as a requester-pays bucket of another account requires."),
    ] = False
    on_conflict: Annotated[
        Literal["fail", "overwrite", "keep-both"],
        Meta(description="What to do if the key is taken by other content."),
    ] = "fail"
    acknowledged: Annotated[
        list[Literal["conditional-writes", "names"]],
        Meta(
            description="Known limits of the endpoint, about which the log, `check` and `status` do not warn: it does "
            "not support conditional writes, or treats some names as one."
        ),
    ] = []
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size"],
        Meta(
            description="The weakest proof with which a local file may be removed. `md5` requires the strongest that "
            "the endpoint gives, `md5` or `checksum`; `size` accepts an endpoint that confirms only the length."
        ),
    ] = "md5"
    max_concurrency: Annotated[Positive, Meta(description="Maximum number of uploads in flight.")] = 256
    max_bandwidth: Annotated[
        Annotated[int, Meta(ge=1024)] | None, Meta(description="Upper limit in bytes per second. Default: none.")
    ] = None
    engine: Annotated[
        Literal["auto", "native", "boto3"],
        Meta(
            description="What sends the requests; the results are the same. `native`: fast, part of this program; "
            "`boto3`: slower, supports every AWS setting. `auto`: native if it supports the configuration, else boto3."
        ),
    ] = "auto"
    multipart_threshold: Annotated[
        int, Meta(ge=5 * 2**20, le=5 * 2**30, description="Files larger than this many bytes are uploaded in parts.")
    ] = 16 * 2**20
    part_size: Annotated[
        int,
        Meta(
            ge=5 * 2**20, le=5 * 2**30, description="Size of a part in bytes; larger if a file needs more than 10,000."
        ),
    ] = 8 * 2**20
    connect_timeout_seconds: Annotated[
        float, Meta(gt=0, description="Maximum time to connect, including name lookup, proxy and TLS.")
    ] = 10
    read_timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="Maximum time without an answer, counted from the last byte that left this machine. One second "
            "is added for every 64 KiB that the server has to process before it can answer.",
        ),
    ] = 60
    max_attempts: Annotated[Positive, Meta(description="Maximum number of attempts for one request.")] = 5
    retry_seconds: Annotated[
        float, Meta(ge=0, description="How long after its first failure a request is retried.")
    ] = 30

    @property
    def name(self) -> str:
        """Its name in messages and in the ledger; its store has the same name."""
        return self.bucket


class FtpDestination(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ftp", tag_field="type"
):
    """An FTP or FTPS server."""

    host: Host
    port: Port = 21
    user: Annotated[str, Meta(description="User name.")] = "anonymous"
    password_env: Annotated[str, Meta(description="Name of the environment variable that holds the password.")] = (
        "S3_UPLOADER_FTP_PASSWORD"
    )
    password_file: PasswordFile = None
    password: Annotated[str | None, Meta(description="The password itself. Prefer one of the two keys above.")] = None
    path: Annotated[str, Meta(description="Directory on the server under which files are stored.")] = "/"
    tls: Annotated[bool, Meta(description="Use explicit TLS (FTPS) for commands and data.")] = False
    ca_file: Annotated[str | None, Meta(description="Certificates to trust. Default: the system's.")] = None
    lock_file: LockFile = None
    lock_stale_seconds: LockStaleSeconds = None
    timeout_seconds: SilenceSeconds = 30
    connect_timeout_seconds: LoginSeconds = 30
    temporary_names: Annotated[
        Literal["auto", "hidden", "visible", "none"],
        Meta(
            description="Names of files until they are complete and renamed: `hidden` with a leading dot, `visible` "
            "without, `auto` hidden if the server accepts such names; `none` sends directly to the final name."
        ),
    ] = "auto"
    on_conflict: OnTakenName = "fail"
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size", "none"],
        Meta(
            description="The weakest proof with which a local file may be removed; most FTP servers give `size`. "
            "`none`, for a drop box that shows nothing, trusts the server's answer."
        ),
    ] = "size"
    max_concurrency: Connections = 2

    @property
    def name(self) -> str:
        """Its name in messages and in the ledger; its store has the same name."""
        return file_server_name(self.host, self.port, self.path, default_port=21)


class SftpDestination(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="sftp", tag_field="type"
):
    """An SFTP server. Needs the extra `sftp`."""

    host: Host
    port: Port = 22
    user: Annotated[str, Meta(min_length=1, description="User name.")]
    private_key_file: Annotated[
        str | None,
        Meta(
            description="The private key with which the user logs in. Default: those of the agent (`SSH_AUTH_SOCK`) "
            "and those of `~/.ssh` that have no passphrase."
        ),
    ] = None
    passphrase_env: Annotated[
        str, Meta(description="Name of the environment variable that holds the passphrase of the private key.")
    ] = "S3_UPLOADER_SFTP_PASSPHRASE"
    password_env: Annotated[
        str,
        Meta(description="Name of the environment variable that holds the password, if the server asks for one."),
    ] = "S3_UPLOADER_SFTP_PASSWORD"
    password_file: PasswordFile = None
    known_hosts_file: Annotated[
        str | None,
        Meta(
            description="File with the host keys that are trusted. Default: `~/.ssh/known_hosts` and "
            "`/etc/ssh/ssh_known_hosts`."
        ),
    ] = None
    host_key_fingerprints: Annotated[
        list[str],
        Meta(
            description="Fingerprints (`SHA256:…`, as `ssh-keygen -l` shows them) of the host keys that are trusted, "
            "instead of a file."
        ),
    ] = []
    path: Annotated[
        str,
        Meta(
            description="Directory on the server under which files are stored; below the login directory unless it "
            "begins with a slash."
        ),
    ] = ""
    lock_file: LockFile = None
    lock_stale_seconds: LockStaleSeconds = None
    timeout_seconds: SilenceSeconds = 30
    connect_timeout_seconds: LoginSeconds = 30
    temporary_names: Annotated[
        Literal["auto", "hidden", "visible", "none"],
        Meta(
            description="Names of files until they are complete and get their own: `hidden` with a leading dot, "
            "`visible` without, `auto` hidden if the server accepts that; `none` sends directly to the final name."
        ),
    ] = "auto"
    on_conflict: OnTakenName = "fail"
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size"],
        Meta(
            description="The weakest proof with which a local file may be removed. With more than `size` each file is "
            "read back, unless the server computes hashes."
        ),
    ] = "size"
    max_concurrency: Connections = 4

    @property
    def name(self) -> str:
        """Its name in messages and in the ledger; its store has the same name."""
        return file_server_name(self.host, self.port, self.path, default_port=22)


class LocalDestination(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="local", tag_field="type"
):
    """A directory of this machine, e.g. a mounted archive."""

    path: Annotated[str, Meta(min_length=1, description="Directory under which files are stored; it must exist.")]
    on_conflict: OnTakenName = "fail"
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size"],
        Meta(description="The weakest proof with which a local file may be removed."),
    ] = "md5"
    max_concurrency: Annotated[Positive, Meta(description="Maximum number of copies in flight.")] = 8
    must_be_mount: Annotated[
        bool | None,
        Meta(description="Whether the directory must be on a disk of its own. Default: the general setting."),
    ] = None

    @property
    def name(self) -> str:
        """Its name in messages and in the ledger; its store has the same name."""
        return self.path


def contradictions_of(kind: type, values: Mapping[str, Any]) -> Iterator[str]:
    """Find the problems of a destination's keys that types do not show; each is one sentence that begins with the key.

    Keys that were not given, or were refused already, are missing in ``values``.
    """
    if kind in _RULES:
        yield from _RULES[kind](values)


def _s3_contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"bucket: {problem}" for problem in _bucket_problems(values.get("bucket", "")))
    sse = values.get("sse")
    if values.get("sse_kms_key_id") is not None and sse not in ("aws:kms", "aws:kms:dsse"):
        yield 'sse_kms_key_id: needs sse to be "aws:kms" or "aws:kms:dsse"'
    endpoint = values.get("endpoint_url")
    if endpoint is not None and parsed_server_url(endpoint) is None:
        yield "endpoint_url: must be the URL of a server, like https://s3.example.com or http://127.0.0.1:9000"
    yield from header_contradictions(values)


def _bucket_problems(bucket: str) -> Iterator[str]:
    if bucket.startswith("arn:"):
        if not re.fullmatch(_ARN, bucket):
            yield _wrong_arn(bucket)
    elif "://" in bucket:
        yield "must be a name, not a URL. Put a path into key_prefix, a service into endpoint_url"
    elif "/" in bucket:
        yield "must be a name without slashes. Put a path into key_prefix"
    elif bucket and (not _IN_BUCKETS.issuperset(bucket) or bucket in (".", "..")):
        yield f"{shown_value(bucket)} cannot be a name, which has letters, digits, hyphens and dots"
    elif len(bucket) > _MOST_OF_A_BUCKET:
        yield f"must have at most {_MOST_OF_A_BUCKET} characters (63 at Amazon S3), not {len(bucket)}"


def _wrong_arn(arn: str) -> str:
    of_bucket = re.fullmatch("arn:[^:]*:(?:s3:::|s3express:[^/]*:bucket/)([^/]+).*", arn)
    if of_bucket is not None:
        return f"is the ARN of a bucket; give the name alone: {shown_value(of_bucket[1])}"
    _, partition, service, region, account, what = (arn.split(":", 5) + [""] * 5)[:6]
    if not partition.startswith("aws"):
        why = f"its second part must be aws, aws-cn or the like, not {shown_value(partition)}"
    elif service not in _SERVICES:
        why = f"its third part must be s3, not {shown_value(service)}"
    elif not re.fullmatch("[a-z0-9-]*", region) or (service == "s3-outposts" and not region):
        why = f"its fourth part must be a region, not {shown_value(region)}"
    elif not re.fullmatch("[0-9]{12}", account):
        why = f"its fifth part must be an account of 12 digits, not {shown_value(account)}"
    elif service == "s3-outposts":
        why = f"it must end with outpost/ID/accesspoint/NAME, not {shown_value(what)}"
    else:
        why = f"it must end with accesspoint/NAME, not {shown_value(what)}"
    return f"is not the ARN of an access point: {why}. Write it like {_AN_ARN}"


def header_contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """Find values that cannot be sent as headers of an upload."""
    tags = values.get("tags", {})
    if len(tags) > 10:
        yield f"tags: an object can have 10 tags, not {len(tags)}"
    for name, value in values.get("metadata", {}).items():
        if not re.fullmatch("[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            yield f"metadata: {shown_value(name)} cannot be the name of an HTTP header"
        if not _is_header_value(value):
            yield f"metadata: the value of {name} must be printable ASCII, as in every HTTP header"
    for key in ("content_type", "storage_class", "acl", "sse_kms_key_id"):
        if not _is_header_value(values.get(key) or ""):
            yield f"{key}: must be printable ASCII, as in every HTTP header"


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _ftp_contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    if "/" in values.get("host", ""):
        yield "host: must be a name or an address, without ftp:// and without a path"
    if values.get("password") is not None and values.get("password_file") is not None:
        yield "password: give it directly or in password_file, not both"
    if values.get("ca_file") is not None and not values.get("tls", False):
        yield "ca_file: needs tls to be true"
    if values.get("lock_stale_seconds") is not None and values.get("lock_file") is None:
        yield "lock_stale_seconds: needs a lock_file"
    if values.get("minimum_proof") == "none" and values.get("on_conflict") != "overwrite":
        yield "minimum_proof: none needs on_conflict to be overwrite, because the program cannot see what it replaces"


def _sftp_contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    if "/" in values.get("host", ""):
        yield "host: must be a name or an address, without sftp:// and without a path"
    if values.get("lock_stale_seconds") is not None and values.get("lock_file") is None:
        yield "lock_stale_seconds: needs a lock_file"
    fingerprints = values.get("host_key_fingerprints", [])
    for each in fingerprints:
        if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?", each):
            yield f"host_key_fingerprints: {shown_value(each)} is not one; `ssh-keygen -l` shows them as SHA256:…"
    if fingerprints and values.get("known_hosts_file") is not None:
        yield "host_key_fingerprints: give them or a known_hosts_file, not both"


_RULES: dict[type, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    S3Destination: _s3_contradictions,
    FtpDestination: _ftp_contradictions,
    SftpDestination: _sftp_contradictions,
}
