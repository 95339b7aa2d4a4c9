"""The configuration: its keys as typed structs, and how a file becomes one of them.

The file is JSON. ``{"base_dir": "...", "bucket": "..."}`` is complete; every other key has a default. The destination
may be given in the short form, its keys beside ``base_dir``, or as ``"destination": {"type": ...}``.

Every problem is found in one go: unknown keys (with the nearest known one), wrong types, values out of range and keys
that contradict each other, each as one sentence that begins with the key.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

import msgspec
from msgspec import Meta

from s3_uploader.errors import ConfigError

Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Longer: TypeAlias = Annotated[float, Meta(gt=0)]


class MoveTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Move the local file below ``move_to``, under its path relative to the spool.

    ``attempts`` (``on_failure`` only) is how many failed attempts it takes before the file is moved.
    """

    move_to: Annotated[str, Meta(min_length=1)]
    attempts: Positive = 1


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
        Literal["auto", "crt", "boto3"], Meta(description="`auto`: crt where it can do what is asked, else boto3.")
    ] = "auto"
    multipart_threshold: Annotated[
        int, Meta(ge=5 * 2**20, le=5 * 2**30, description="Files larger than this many bytes go up in parts.")
    ] = 16 * 2**20
    part_size: Annotated[
        int,
        Meta(ge=5 * 2**20, le=5 * 2**30, description="Size of a part in bytes; grows where 10,000 parts are too few."),
    ] = 8 * 2**20
    connect_timeout_seconds: Annotated[float, Meta(gt=0, description="Longest wait for a connection.")] = 10


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
    on_conflict: Annotated[
        Literal["fail", "overwrite", "keep-both"], Meta(description="What to do where the name is taken.")
    ] = "fail"
    minimum_proof: Annotated[
        Literal["checksum", "md5", "size"],
        Meta(description="The weakest proof with which a local file may be removed; most FTP servers give `size`."),
    ] = "size"
    max_concurrency: Annotated[Positive, Meta(description="Most connections at once.")] = 2


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


Destination: TypeAlias = S3Destination | FtpDestination | LocalDestination


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
    key_prefix: Annotated[str, Meta(description="Put before every key, as it is.")] = ""
    on_success: Annotated[
        Literal["delete", "keep"] | MoveTo, Meta(description="What becomes of a file that has been shipped.")
    ] = "delete"
    on_failure: Annotated[
        Literal["keep", "delete"] | MoveTo, Meta(description="What becomes of a file that cannot be shipped.")
    ] = "keep"
    claim_dir: Annotated[
        str | None,
        Meta(
            description="Directory into which files are claimed by rename, so that several uploaders can share a spool."
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
        str | None, Meta(description="File for node_exporter's textfile collector, rewritten after each run.")
    ] = None
    ping_url: Annotated[
        Annotated[str, Meta(pattern="^https?://")] | None,
        Meta(description="Health check to ping (healthchecks.io's protocol): start, success, fail."),
    ] = None


_DESTINATIONS: dict[str, Any] = {"s3": S3Destination, "ftp": FtpDestination, "local": LocalDestination}
_SYNONYMS = {"s3_bucket": "bucket"}


def load(path: str) -> Config:
    """Read the configuration file at ``path``.

    :raises ConfigError: with every problem that was found.
    """
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(path, [f"cannot be read: {error.strerror}"]) from None
    return decode(text, source=path)


def decode(text: bytes, *, source: str) -> Config:
    """The configuration in ``text``; ``source`` is how problems name where it came from.

    :raises ConfigError: with every problem that was found.
    """
    try:
        raw = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(source, [f"is no valid JSON: {_plain(error)}"]) from None
    return from_mapping(raw, source=source)


def from_mapping(raw: object, *, source: str) -> Config:
    """The configuration in an already decoded JSON object, or anything shaped like one.

    :raises ConfigError: with every problem that was found.
    """
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigError(source, ["must be a JSON object with at least the keys base_dir and bucket"])
    problems: list[str] = []
    given = _resolve_synonyms(raw, problems)
    destination_type, inner = _gather_destination(given, problems)
    values = _convert_fields(Config, given, "", problems, skip={"destination"})
    if destination_type is not None:
        known = _DESTINATIONS[destination_type]
        fields = _convert_fields(known, inner, "destination." if "destination" in raw else "", problems)
        if not problems:
            values["destination"] = known(**fields)
    if problems:
        raise ConfigError(source, problems)
    config = Config(**values)
    problems = _contradictions(config)
    if problems:
        raise ConfigError(source, problems)
    return config


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, short form of the destination included."""
    (schema,), components = msgspec.json.schema_components([Config], ref_template="#/$defs/{name}")
    properties = components["Config"]["properties"]
    bucket_form = components["S3Destination"]
    for name, value in bucket_form["properties"].items():
        if name != "type":
            properties.setdefault(name, value)
    properties["s3_bucket"] = bucket_form["properties"]["bucket"]
    components["Config"]["required"] = ["base_dir"]
    components["Config"]["oneOf"] = [{"required": [name]} for name in ("bucket", "s3_bucket", "destination")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": components}


def _resolve_synonyms(raw: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    given = dict(raw)
    for synonym, name in _SYNONYMS.items():
        if synonym in given:
            value = given.pop(synonym)
            if name in given:
                problems.append(f"{synonym}: means the same as {name}; give only one of them")
            else:
                given[name] = value
    return given


def _gather_destination(given: dict[str, Any], problems: list[str]) -> tuple[str | None, dict[str, Any]]:
    """Take the destination's keys out of ``given``; returns its type, ``None`` if there is no telling, and its keys."""
    short = {name: given.pop(name) for name in S3Destination.__struct_fields__ if name in given}
    if "destination" not in given:
        return "s3", short
    destination = given.pop("destination")
    for name in short:
        problems.append(f"{name}: belongs into the destination, since there is one")
    if not isinstance(destination, dict):
        problems.append("destination: must be an object with a type")
        return None, {}
    inner = _resolve_synonyms(destination, problems)
    kind = inner.pop("type", None)
    if kind not in _DESTINATIONS:
        wanted = ", ".join(_DESTINATIONS)
        problems.append(f"destination.type: must be one of {wanted}" + ("" if kind is None else f", not {kind!r}"))
        return None, {}
    return kind, inner


def _convert_fields(
    kind: Any, given: dict[str, Any], prefix: str, problems: list[str], skip: set[str] | None = None
) -> dict[str, Any]:
    """Convert every key by itself, so that one wrong value does not hide the next."""
    values: dict[str, Any] = {}
    hints = get_type_hints(kind, include_extras=True)
    known = [name for name in kind.__struct_fields__ if not skip or name not in skip]
    for name, value in given.items():
        if name not in known:
            problems.append(f"{prefix}{name}: is not a known key{_nearest(name, known, whole=not prefix)}")
            continue
        try:
            values[name] = msgspec.convert(value, type=hints[name])
        except msgspec.ValidationError as error:
            problems.append(f"{prefix}{name}: {_plain(error)}")
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    for name in known:
        if name in required and name not in given:
            problems.append(f"{prefix}{name}: is missing")
    return values


def _nearest(name: str, known: list[str], *, whole: bool) -> str:
    import difflib

    names = [*known, *_SYNONYMS, "destination", *S3Destination.__struct_fields__] if whole else known
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _plain(error: Exception) -> str:
    """A decoder's message in the form of our own: what was wrong, in lower case, and where."""
    text = re.sub(r" - at `\$(.*)`$", lambda found: f" (at {found[1].lstrip('.')})" if found[1] else "", str(error))
    return text[:1].lower() + text[1:].replace("`", "'")


def _contradictions(config: Config) -> list[str]:
    """What each value alone does not show."""
    problems: list[str] = []
    if config.timezone not in ("UTC", "local"):
        import zoneinfo

        try:
            zoneinfo.ZoneInfo(config.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            problems.append(f"timezone: {config.timezone!r} is not a known time zone; write it like Europe/Madrid")
    if "\0" in config.base_dir:
        problems.append("base_dir: holds a NUL character")
    if isinstance(config.destination, S3Destination):
        problems += _s3_contradictions(config.destination)
    if isinstance(config.destination, FtpDestination):
        given = [name for name in ("password", "password_file") if getattr(config.destination, name) is not None]
        if len(given) > 1:
            problems.append("destination.password: give it directly or in password_file, not both")
    try:
        os.fsencode(config.key_prefix).decode()
    except UnicodeDecodeError:
        problems.append("key_prefix: is no valid UTF-8")
    return problems


def _s3_contradictions(destination: S3Destination) -> list[str]:
    problems = []
    bucket = destination.bucket
    if "/" in bucket and not bucket.startswith("arn:"):
        problems.append("bucket: is a name without slashes; a path inside the bucket goes into key_prefix")
    if destination.sse_kms_key_id is not None and destination.sse not in ("aws:kms", "aws:kms:dsse"):
        problems.append("sse_kms_key_id: needs sse to be aws:kms or aws:kms:dsse")
    if destination.endpoint_url is not None and not re.match("https?://[^/]", destination.endpoint_url):
        problems.append("endpoint_url: must begin with http:// or https://")
    if len(destination.tags) > 10:
        problems.append(f"tags: an object can have 10 tags, not {len(destination.tags)}")
    for name in destination.metadata:
        if not re.fullmatch("[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            problems.append(f"metadata: {name!r} cannot be the name of an HTTP header")
    return problems
