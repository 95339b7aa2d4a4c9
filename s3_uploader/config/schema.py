"""The keys of the configuration, as typed structs with their defaults and limits.

Everything that is said about a key anywhere (the JSON Schema, the reference page, the problems that a person reads) is
made from the types and descriptions here.
"""

# Without `from __future__ import annotations`: the annotations are read at each start, and as text they would have to
# be compiled first, which takes longer than everything else that is done with the file.

import re
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Longer: TypeAlias = Annotated[float, Meta(gt=0)]


_SECRET = re.compile("password|passphrase|secret|token|ping_url")


def is_secret(key: str) -> bool:
    """Whether the value of a key is a secret: not so that of ``password_file`` or ``password_env``, which say where."""
    return _SECRET.search(key) is not None and not key.endswith(("_file", "_env"))


class MoveTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Move the local file to another directory, under its path relative to the spool."""

    move_to: Annotated[
        str,
        Meta(min_length=1, description="Directory below which the file is put."),
    ]
    attempts: Annotated[int, Meta(ge=1, description="How many failed attempts it takes (`on_failure` only).")] = 1


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
        Meta(description="Bucket in the host name or in the path. `auto`: the AWS configuration, else what fits."),
    ] = "auto"
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
    on_conflict: Annotated[
        Literal["fail", "overwrite", "keep-both"],
        Meta(description="What to do where the key is taken by other content."),
    ] = "fail"
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size"],
        Meta(
            description="The weakest proof with which a local file may be removed. `md5` takes the strongest that the "
            "endpoint gives, `md5` or `checksum`; `size` accepts an endpoint that confirms only the length."
        ),
    ] = "md5"
    max_concurrency: Annotated[Positive, Meta(description="Most uploads in flight at once.")] = 256
    max_bandwidth: Annotated[
        Annotated[int, Meta(ge=1024)] | None, Meta(description="Upper limit in bytes per second. Default: none.")
    ] = None
    engine: Annotated[
        Literal["auto", "native", "boto3"],
        Meta(
            description="What sends the requests; the results are the same. `native`: the fast one, part of this "
            "program; `boto3`: slower, knows every AWS setting. `auto`: native where it can do what is asked, else "
            "boto3."
        ),
    ] = "auto"
    multipart_threshold: Annotated[
        int, Meta(ge=5 * 2**20, le=5 * 2**30, description="Files larger than this many bytes go up in parts.")
    ] = 16 * 2**20
    part_size: Annotated[
        int,
        Meta(ge=5 * 2**20, le=5 * 2**30, description="Size of a part in bytes; grows where 10,000 parts are too few."),
    ] = 8 * 2**20
    connect_timeout_seconds: Annotated[
        float, Meta(gt=0, description="Longest wait for a connection: name, proxy and TLS included.")
    ] = 10
    read_timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="Longest silence of the server, counted from the last byte that left this machine. To it comes "
            "a second for every 64 KiB that the server has to deal with before it can answer.",
        ),
    ] = 60
    max_attempts: Annotated[Positive, Meta(description="How often a request is sent at the most.")] = 5
    retry_seconds: Annotated[
        float, Meta(ge=0, description="So long after its first failure a request is not sent again.")
    ] = 30


class FtpDestination(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ftp", tag_field="type"
):
    """An FTP or FTPS server."""

    host: Annotated[str, Meta(min_length=1, description="Name or address of the server.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Port.")] = 21
    user: Annotated[str, Meta(description="User name.")] = "anonymous"
    password_env: Annotated[str, Meta(description="Name of the environment variable that holds the password.")] = (
        "S3_UPLOADER_FTP_PASSWORD"
    )
    password_file: Annotated[str | None, Meta(description="File that holds the password, instead.")] = None
    password: Annotated[str | None, Meta(description="The password itself; the two keys above are better.")] = None
    path: Annotated[str, Meta(description="Directory on the server under which files are stored.")] = "/"
    tls: Annotated[bool, Meta(description="Use explicit TLS (FTPS) for commands and data.")] = False
    ca_file: Annotated[str | None, Meta(description="Certificates to trust. Default: the system's.")] = None
    lock_file: Annotated[
        str | None, Meta(description="Name of a remote lock file, created before and removed after the uploads.")
    ] = None
    lock_stale_seconds: Annotated[
        Longer | None, Meta(description="Age from which a remote lock file left by others is removed.")
    ] = None
    timeout_seconds: Annotated[float, Meta(gt=0, description="Longest silence of the server.")] = 30
    connect_timeout_seconds: Annotated[
        float, Meta(gt=0, description="Longest time until a connection has logged in.")
    ] = 30
    temporary_names: Annotated[
        Literal["auto", "hidden", "visible", "none"],
        Meta(
            description="Under what names files are sent before they are renamed: `hidden` with a dot, `visible` "
            "without, `auto` hidden where the server takes such names; `none` sends straight to the final name."
        ),
    ] = "auto"
    on_conflict: Annotated[
        Literal["fail", "overwrite", "keep-both"], Meta(description="What to do where the name is taken.")
    ] = "fail"
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size", "none"],
        Meta(
            description="The weakest proof with which a local file may be removed; most FTP servers give `size`. "
            "`none`, for a drop box that shows nothing: the server's word is enough."
        ),
    ] = "size"
    max_concurrency: Annotated[Positive, Meta(description="Most connections at once.")] = 2


class SftpDestination(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="sftp", tag_field="type"
):
    """A server that is reached over SSH; needs `s3_uploader[sftp]`."""

    host: Annotated[str, Meta(min_length=1, description="Name or address of the server.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Port.")] = 22
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
        Meta(description="Name of the environment variable that holds the password, where the server asks for one."),
    ] = "S3_UPLOADER_SFTP_PASSWORD"
    password_file: Annotated[str | None, Meta(description="File that holds the password, instead.")] = None
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
    lock_file: Annotated[
        str | None, Meta(description="Name of a remote lock file, created before and removed after the uploads.")
    ] = None
    lock_stale_seconds: Annotated[
        Longer | None, Meta(description="Age from which a remote lock file left by others is removed.")
    ] = None
    timeout_seconds: Annotated[float, Meta(gt=0, description="Longest silence of the server.")] = 30
    connect_timeout_seconds: Annotated[
        float, Meta(gt=0, description="Longest time until a connection has logged in.")
    ] = 30
    temporary_names: Annotated[
        Literal["auto", "hidden", "visible", "none"],
        Meta(
            description="Under what names files are sent before they get their own: `hidden` with a dot, `visible` "
            "without, `auto` hidden where the server takes such names; `none` sends straight to the final name."
        ),
    ] = "auto"
    on_conflict: Annotated[
        Literal["fail", "overwrite", "keep-both"], Meta(description="What to do where the name is taken.")
    ] = "fail"
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size"],
        Meta(
            description="The weakest proof with which a local file may be removed. With more than `size` each file is "
            "read back, unless the server computes hashes."
        ),
    ] = "size"
    max_concurrency: Annotated[Positive, Meta(description="Most connections at once.")] = 4


class LocalDestination(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="local", tag_field="type"
):
    """A directory of this machine, e.g. a mounted archive."""

    path: Annotated[str, Meta(min_length=1, description="Directory under which files are stored; it must exist.")]
    on_conflict: Annotated[
        Literal["fail", "overwrite", "keep-both"], Meta(description="What to do where the name is taken.")
    ] = "fail"
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size"],
        Meta(description="The weakest proof with which a local file may be removed."),
    ] = "md5"
    max_concurrency: Annotated[Positive, Meta(description="Most copies in flight at once.")] = 8
    must_be_mount: Annotated[
        bool | None,
        Meta(description="Whether it has to lie on a disk of its own. Default: the general setting."),
    ] = None


ALREADY_COMPRESSED = (
    *("*.gz", "*.tgz", "*.zst", "*.bz2", "*.xz", "*.lz4", "*.br", "*.zip", "*.7z", "*.rar"),
    *("*.jpg", "*.jpeg", "*.png", "*.gif", "*.webp", "*.heic", "*.avif", "*.JPG", "*.JPEG", "*.PNG"),
    *("*.mp3", "*.m4a", "*.aac", "*.ogg", "*.opus", "*.flac", "*.mp4", "*.m4v", "*.mov", "*.mkv", "*.webm", "*.avi"),
    *("*.parquet", "*.orc", "*.avro", "*.jar", "*.docx", "*.xlsx", "*.pptx", "*.odt", "*.ods", "*.epub", "*.pdf"),
)
"""Names of files that compressing makes no smaller."""


class Compress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compress files on their way."""

    format: Annotated[Literal["gzip", "zstd"], Meta(description="How; zstd needs `s3_uploader[zstd]`.")]
    level: Annotated[
        Annotated[int, Meta(ge=1, le=22)] | None,
        Meta(description="How hard: 1 to 9 with gzip (default 6), 1 to 22 with zstd (default 3)."),
    ] = None
    key_suffix: Annotated[
        str | None, Meta(description="Put behind the key, may be empty. Default: `.gz` or `.zst`.")
    ] = None
    include: Annotated[list[str], Meta(description="Globs on the key without prefix; only these. Default: all.")] = []
    exclude: Annotated[
        list[str] | None, Meta(description="Globs; these not. Default: names that are of compressed files, see below.")
    ] = None


class Location(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is different for the files of some locations; what is not given here is as for all."""

    key_prefix: Annotated[str | None, Meta(description="Instead of the general one.")] = None
    storage_class: Annotated[str | None, Meta(description="Instead of the destination's (S3).")] = None
    metadata: Annotated[dict[str, str], Meta(description="User metadata beside the destination's (S3).")] = {}
    tags: Annotated[dict[str, str], Meta(description="Tags beside the destination's (S3).")] = {}
    on_conflict: Annotated[
        Literal["fail", "overwrite", "keep-both"] | None, Meta(description="Instead of the destination's.")
    ] = None
    compress: Annotated[
        Literal["none", "gzip", "zstd"] | Compress | None, Meta(description="Instead of the general one.")
    ] = None


Destination: TypeAlias = S3Destination | FtpDestination | SftpDestination | LocalDestination
DESTINATIONS: dict[str, type[Destination]] = {
    "s3": S3Destination,
    "ftp": FtpDestination,
    "sftp": SftpDestination,
    "local": LocalDestination,
}
SYNONYMS = {"s3_bucket": "bucket"}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One spool, one destination, and how the one is emptied into the other."""

    base_dir: Annotated[str, Meta(min_length=1, description="The spool: the directory that producers fill.")]
    destination: Annotated[Destination, Meta(description="Where files go; or give the keys of an S3 bucket directly.")]
    layout: Annotated[
        Literal["dated", "tree", "queue"],
        Meta(
            description="How the spool is read. `dated`: location/YYYY/MM/DD/HH/mm-topic.dat; `tree`: every file; "
            "`queue`: one flat directory, the file name is the URL-encoded key."
        ),
    ] = "dated"
    settle_seconds: Annotated[
        Seconds, Meta(description="How long a file must have been left alone before it is shipped.")
    ] = 10
    timezone: Annotated[
        str, Meta(description="Time zone of the times in paths, e.g. Europe/Madrid; `local` is the machine's.")
    ] = "UTC"
    include: Annotated[
        list[str], Meta(description="Globs on the relative path; only what matches one is a candidate. Default: all.")
    ] = []
    exclude: Annotated[list[str], Meta(description="Globs on the relative path; what matches one is left.")] = []
    key_prefix: Annotated[
        str,
        Meta(
            description="Put before every key. Placeholders: `{location}`, `{host}`, and of the time that the path "
            "names, else of the file's last change, in `timezone`: `{year}`, `{month}`, `{day}`, `{hour}`, `{minute}`, "
            "`{date}`."
        ),
    ] = ""
    compress: Annotated[
        Literal["none", "gzip", "zstd"] | Compress, Meta(description="Compress files on their way.")
    ] = "none"
    locations: Annotated[
        dict[str, Location],
        Meta(
            description="Names or globs of locations, and what is different for their files. The first one that "
            "matches counts."
        ),
    ] = {}
    on_success: Annotated[
        Literal["delete", "keep"] | MoveTo, Meta(description="What becomes of a file that has been shipped.")
    ] = "delete"
    on_failure: Annotated[
        Literal["keep", "delete"] | MoveTo,
        Meta(
            description="What becomes of a file that cannot be shipped. One whose key is taken by other content is "
            "never deleted."
        ),
    ] = "keep"
    claim_dir: Annotated[
        str | None,
        Meta(
            description="Directory, on the file system of the spool, into which files are claimed by rename, so that "
            "several uploaders can share a spool."
        ),
    ] = None
    share: Annotated[
        Annotated[str, Meta(pattern="^[0-9]{0,5}/[0-9]{1,5}$")] | None,
        Meta(
            description="Which part of the files a run ships: `K/N`, or `/N` where a Slurm array or an indexed "
            "Kubernetes job says which K. N runs side by side, on any machines, ship all of them. Default: all files."
        ),
    ] = None
    must_be_mount: Annotated[
        bool | None,
        Meta(
            description="Whether the spool, a local destination and the directories of `move_to` have to lie on a file "
            "system other than the root's. Default: those that once did, and then on the same one."
        ),
    ] = None
    prune_empty_dirs: Annotated[
        bool | None, Meta(description="Remove directories that became empty. Default: only with the layout `dated`.")
    ] = None
    max_runtime_seconds: Annotated[Longer | None, Meta(description="Time budget of a run. Default: none.")] = None
    upload_timeout_seconds: Annotated[
        float, Meta(gt=0, description="Deadline of one upload, to which a second for every 64 KiB is added.")
    ] = 300
    drain_seconds: Annotated[
        Seconds, Meta(description="How long a stopped run waits for uploads in flight before it cancels them.")
    ] = 20
    state_dir: Annotated[
        str | None,
        Meta(description="Where the ledger lives. Default: STATE_DIRECTORY (systemd), else the XDG state directory."),
    ] = None
    history_days: Annotated[Positive, Meta(description="How long the ledger remembers shipped files and runs.")] = 400
    history_max_files: Annotated[
        Positive, Meta(description="How many shipped files the ledger remembers at the most.")
    ] = 5_000_000
    metrics_file: Annotated[
        str | None,
        Meta(
            description="File for node_exporter's textfile collector, rewritten after each run; its name ends in .prom."
        ),
    ] = None
    ping_url: Annotated[
        Annotated[str, Meta(pattern="^https?://")] | None,
        Meta(description="Health check to ping (healthchecks.io's protocol): start, success, fail."),
    ] = None
