"""The keys of the configuration, as typed structs with their defaults and limits.

The JSON Schema, the reference page and the problems that a person reads are made from the types and descriptions here.
"""

from __future__ import annotations

import functools
import sys
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from s3_uploader.config.destinations import (
    FtpDestination,
    LocalDestination,
    Longer,
    Positive,
    S3Destination,
    Seconds,
    SftpDestination,
)

_SECRETS = ("password", "passphrase", "secret", "token", "ping_url")


def is_secret(key: str) -> bool:
    """Whether the value of a key is a secret. ``password_file`` and ``password_env`` only name its place."""
    return any(word in key for word in _SECRETS) and not key.endswith(("_file", "_env"))


class MoveTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Move the local file to another directory, under its path relative to the spool."""

    move_to: Annotated[
        str,
        Meta(min_length=1, description="Directory under which the file is put."),
    ]
    attempts: Annotated[
        int, Meta(ge=1, description="Number of failed attempts before the file is moved (`on_failure` only).")
    ] = 1


ALREADY_COMPRESSED = (
    *("*.gz", "*.tgz", "*.zst", "*.bz2", "*.xz", "*.lz4", "*.br", "*.zip", "*.7z", "*.rar"),
    *("*.jpg", "*.jpeg", "*.png", "*.gif", "*.webp", "*.heic", "*.avif", "*.JPG", "*.JPEG", "*.PNG"),
    *("*.mp3", "*.m4a", "*.aac", "*.ogg", "*.opus", "*.flac", "*.mp4", "*.m4v", "*.mov", "*.mkv", "*.webm", "*.avi"),
    *("*.parquet", "*.orc", "*.avro", "*.jar", "*.docx", "*.xlsx", "*.pptx", "*.odt", "*.ods", "*.epub", "*.pdf"),
)
"""Names of files that are compressed already."""


class Compress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compress files during the upload."""

    format: Annotated[Literal["gzip", "zstd"], Meta(description="Compression format. `zstd` needs the extra `zstd`.")]
    level: Annotated[
        Annotated[int, Meta(ge=1, le=22)] | None,
        Meta(description="Level: 1 to 9 for gzip (default 6), 1 to 22 for zstd (default 3)."),
    ] = None
    key_suffix: Annotated[
        str | None, Meta(description="Appended to the key; may be empty. Default: `.gz` or `.zst`.")
    ] = None
    include: Annotated[
        list[str],
        Meta(description="Globs on the key without prefix; only matching files are compressed. Default: all."),
    ] = []
    exclude: Annotated[
        list[str] | None,
        Meta(description="Globs of keys that are not compressed. Default: names of compressed files, see below."),
    ] = None


class Location(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings for the files of some locations. Keys that are not given keep their general value."""

    key_prefix: Annotated[str | None, Meta(description="Replaces the general setting.")] = None
    storage_class: Annotated[str | None, Meta(description="Replaces the destination's setting (S3).")] = None
    metadata: Annotated[dict[str, str], Meta(description="User metadata in addition to the destination's (S3).")] = {}
    tags: Annotated[dict[str, str], Meta(description="Tags in addition to the destination's (S3).")] = {}
    on_conflict: Annotated[
        Literal["fail", "overwrite", "keep-both"] | None, Meta(description="Replaces the destination's setting.")
    ] = None
    compress: Annotated[
        Literal["none", "gzip", "zstd"] | Compress | None, Meta(description="Replaces the general setting.")
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
    """One spool, one destination, and how files get from one to the other."""

    base_dir: Annotated[str, Meta(min_length=1, description="The spool: the directory that producers fill.")]
    destination: Annotated[
        Destination,
        Meta(description="Where files are shipped. The keys of an S3 bucket may also stand beside `base_dir`."),
    ]
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
    exclude: Annotated[list[str], Meta(description="Globs on the relative path; files that match one are left.")] = []
    key_prefix: Annotated[
        str,
        Meta(
            description="Prefix of every key. Placeholders: `{location}`, `{host}`, and the parts of the time in the "
            "path, or else of the file's last change, in `timezone`: `{year}`, `{month}`, `{day}`, `{hour}`, "
            "`{minute}`, `{date}`."
        ),
    ] = ""
    compress: Annotated[
        Literal["none", "gzip", "zstd"] | Compress, Meta(description="Compress files during the upload.")
    ] = "none"
    locations: Annotated[
        dict[str, Location],
        Meta(
            description="Names or globs of locations, each with the settings that differ for its files. The first "
            "match counts."
        ),
    ] = {}
    on_success: Annotated[
        Literal["delete", "keep"] | MoveTo, Meta(description="What happens to a file that has been shipped.")
    ] = "delete"
    on_failure: Annotated[
        Literal["keep", "delete"] | MoveTo,
        Meta(
            description="What happens to a file that cannot be shipped. `delete` deletes only what the destination "
            "refuses."
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
            description="Which part of the files a run ships: `K/N`, or `/N` if a Slurm array or an indexed Kubernetes "
            "job provides K. N runs, side by side and on any machines, ship all of them. Default: all files."
        ),
    ] = None
    share_by: Annotated[
        Literal["path", "location"],
        Meta(
            description="How files are divided among runs with a `share`. `path`: each by its path; `location`: all "
            "files of a location (the first directory of the path) together, so that no run reads the directories of "
            "the others."
        ),
    ] = "path"
    processes: Annotated[
        Positive | Literal["auto"],
        Meta(
            description="How many processes a run may use if many small files are waiting (S3 servers with conditional "
            "writes only, without `max_bandwidth` and `claim_dir`). `auto`: one for each processor, at most 4, if a "
            "single processor is the bottleneck."
        ),
    ] = "auto"
    must_be_mount: Annotated[
        bool | None,
        Meta(
            description="Whether the spool, a local destination and the directories of `move_to` must be on a file "
            "system other than the root file system. Default: those that have been on another one must stay on it."
        ),
    ] = None
    prune_empty_dirs: Annotated[
        bool | None,
        Meta(description="Remove directories that have become empty. Default: only with the layout `dated`."),
    ] = None
    max_runtime_seconds: Annotated[Longer | None, Meta(description="Time budget of a run. Default: none.")] = None
    upload_timeout_seconds: Annotated[
        float, Meta(gt=0, description="Deadline of one upload. One second is added for every 64 KiB.")
    ] = 300
    drain_seconds: Annotated[
        Seconds, Meta(description="How long a stopped run waits for uploads in flight before it cancels them.")
    ] = 20
    state_dir: Annotated[
        str | None,
        Meta(description="Where the ledger is. Default: STATE_DIRECTORY (systemd), else the XDG state directory."),
    ] = None
    history_days: Annotated[Positive, Meta(description="How long the ledger remembers shipped files and runs.")] = 400
    history_max_files: Annotated[Positive, Meta(description="Maximum number of shipped files in the ledger.")] = (
        5_000_000
    )
    metrics_file: Annotated[
        str | None,
        Meta(
            description="File for node_exporter's textfile collector, rewritten after each run. Its name ends in .prom."
        ),
    ] = None
    ping_url: Annotated[
        Annotated[str, Meta(pattern="^https?://")] | None,
        Meta(description="Health check to ping (healthchecks.io's protocol): start, success, fail."),
    ] = None


@functools.cache
def hint_of(kind: Any, name: str) -> Any:
    """The type of a key of a struct, with its limits; ``None`` if there is no such key.

    A start needs those of the keys that are given. All of them would cost more than all else that is done with the
    file.
    """
    for each in kind.__mro__:
        hint = vars(each).get("__annotations__", {}).get(name)
        if hint is not None:
            return eval(hint, vars(sys.modules[each.__module__]))
    return None


@functools.cache
def required_of(kind: Any) -> dict[str, bool]:
    """The keys of a struct, and whether each must be given."""
    names, defaults = kind.__struct_fields__, kind.__struct_defaults__
    known = (msgspec.NODEFAULT,) * (len(names) - len(defaults)) + defaults
    return {name: default is msgspec.NODEFAULT for name, default in zip(names, known, strict=True)}
