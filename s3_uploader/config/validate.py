"""Finds keys that contradict each other, and values that the types alone do not refuse.

Pure functions of the values that could be converted; each problem is one sentence that begins with the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from s3_uploader.config.destinations import FtpDestination, S3Destination, SftpDestination
from s3_uploader.config.schema import Compress, Location
from s3_uploader.core.text import shown_value

_PING = r"https?://([^\s/?#@]*@)?(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?([/?][^\s#]*)?"

_BUCKET = r"[A-Za-z0-9._~!$&'()*+,;=:@-]+"
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
_MOST_SECONDS = 10**9
_MOST = 2**63 - 1
_TIME_ZONE = "Europe/Madrid"
"""A time zone that every database has."""


def contradictions(values: dict[str, Any]) -> Iterator[str]:
    """Find the problems that types do not show. Keys that were not given, or were refused already, are missing here."""
    name = values.get("timezone", "UTC")
    if name not in ("UTC", "local") and not _is_time_zone(name):
        # Listing all time zones would also show whether there are any, but it opens every file of the database.
        if _is_time_zone(_TIME_ZONE):
            yield f"timezone: {shown_value(name)} is not a known time zone; write it like {_TIME_ZONE}"
        else:
            missing = "this machine has no time zones; install tzdata"
            yield f"timezone: {shown_value(name)} cannot be looked up, {missing}"
    yield from _nul_problems(values)
    yield from _number_problems(values)
    yield from (f"{key}: is empty" for key in ("claim_dir", "state_dir", "metrics_file") if values.get(key) == "")
    if values.get("ping_url") is not None and not re.fullmatch(_PING, values["ping_url"]):
        yield "ping_url: must name a host, as in https://hc-ping.com/your-uuid, and contain no blanks"
    if values.get("share") is not None:
        yield from _share_problems(values["share"])
    on_success = values.get("on_success")
    if getattr(on_success, "attempts", 1) != 1:
        yield "on_success.attempts: is a key of on_failure only"
    if on_success == "keep" and values.get("claim_dir") is not None:
        yield "claim_dir: cannot be used with on_success: keep, because a moved file is not recognised"
    yield from _compress_contradictions("compress", values.get("compress"))
    yield from (f"key_prefix: {problem}" for problem in _prefix_problems(values.get("key_prefix", "")))


def _nul_problems(values: dict[str, Any]) -> Iterator[str]:
    """No path, name or header can contain a NUL, and each library reports it in its own way."""
    return (f"{key}: holds a NUL character" for key, value in values.items() if _holds_nul(value))


def _holds_nul(value: object) -> bool:
    if isinstance(value, msgspec.Struct):
        return _holds_nul(msgspec.structs.astuple(value))
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple, frozenset, set)):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def _number_problems(values: dict[str, Any]) -> Iterator[str]:
    """Timers, sockets and the ledger refuse larger numbers. All fractional numbers are seconds."""
    for key, value in values.items():
        if isinstance(value, float) and value > _MOST_SECONDS:
            yield f"{key}: must be at most {_MOST_SECONDS:,} seconds (31 years)"
        elif isinstance(value, int) and value > _MOST:
            yield f"{key}: must be at most {_MOST:,}"


def _is_time_zone(name: str) -> bool:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _share_problems(share: str) -> Iterator[str]:
    from s3_uploader.core.shares import MOST_SHARES

    index, _, count = share.partition("/")
    if not int(index or 0) < int(count) <= MOST_SHARES:
        yield f"share: must be K/N with K from 0 to N - 1, and N at most {MOST_SHARES:,}, not {share}"


def _compress_contradictions(key: str, compress: Any) -> Iterator[str]:
    if isinstance(compress, Compress):
        if compress.format == "gzip" and (compress.level or 1) > 9:
            yield f"{key}.level: must be at most 9 with gzip, not {compress.level}"
        if not _is_unicode(compress.key_suffix or ""):
            yield f"{key}.key_suffix: is not valid UTF-8"


def replacement_contradictions(values: Mapping[str, Any], *, on_conflict: str) -> Iterator[str]:
    """A compressed ``x`` and a file named ``x.gz`` would have the same key, and one would replace the other."""
    if values.get("layout") not in ("tree", "queue"):
        return
    compress = values.get("compress", "none")
    keys = [("compress", compress, on_conflict)]
    for name, location in values.get("locations", {}).items():
        if location.compress is not None or location.on_conflict is not None:
            key = f"locations.{name}." + ("on_conflict" if location.compress is None else "compress")
            keys.append((key, location.compress or compress, location.on_conflict or on_conflict))
    for key, chosen, conflict in keys:
        if conflict == "overwrite" and _names_some_anew(chosen):
            yield (
                f"{key}: with on_conflict overwrite a compressed x.csv and a file x.csv.gz would replace each other; "
                'give compress "key_suffix": "", or "exclude": [] and no include'
            )


def _names_some_anew(compress: str | Compress) -> bool:
    """Whether only some of the files get a suffix on their keys."""
    if isinstance(compress, Compress):
        return compress.key_suffix != "" and (compress.exclude != [] or compress.include != [])
    return compress != "none"


def _prefix_problems(prefix: str) -> Iterator[str]:
    if not _is_unicode(prefix):
        yield "is not valid UTF-8"
    elif "{" in prefix or "}" in prefix:
        from s3_uploader.config.key_prefix import problem_of

        problem = problem_of(prefix)
        if problem:
            yield problem


def location_contradictions(
    locations: Mapping[str, Location], destination: Any, fields: Mapping[str, Any]
) -> Iterator[str]:
    """The problems of the settings for some locations."""
    for name, location in locations.items():
        key = f"locations.{name}"
        yield from (f"{key}.key_prefix: {problem}" for problem in _prefix_problems(location.key_prefix or ""))
        yield from _compress_contradictions(f"{key}.compress", location.compress)
        headers = {"storage_class": location.storage_class, "metadata": location.metadata, "tags": location.tags}
        if destination is not S3Destination:
            for setting, value in headers.items():
                if value:
                    yield f"{key}.{setting}: needs a destination of type s3"
            continue
        headers["tags"] = {**fields.get("tags", {}), **location.tags}
        yield from (f"{key}.{problem}" for problem in _header_contradictions(headers))


def _bucket_problems(bucket: str) -> Iterator[str]:
    if bucket.startswith("arn:"):
        if not re.fullmatch(_ARN, bucket):
            yield _wrong_arn(bucket)
    elif "://" in bucket:
        yield "must be a name, not a URL. Put a path into key_prefix, a service into endpoint_url"
    elif "/" in bucket:
        yield "must be a name without slashes. Put a path into key_prefix"
    elif bucket and (not re.fullmatch(_BUCKET, bucket) or bucket in (".", "..")):
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


def _s3_contradictions(values: dict[str, Any]) -> Iterator[str]:
    yield from (f"bucket: {problem}" for problem in _bucket_problems(values.get("bucket", "")))
    sse = values.get("sse")
    if values.get("sse_kms_key_id") is not None and sse not in ("aws:kms", "aws:kms:dsse"):
        yield 'sse_kms_key_id: needs sse to be "aws:kms" or "aws:kms:dsse"'
    endpoint = values.get("endpoint_url")
    if endpoint is not None and not re.match("https?://[^/]", endpoint):
        yield "endpoint_url: must begin with http:// or https:// and name a host"
    yield from _header_contradictions(values)


def _header_contradictions(values: Mapping[str, Any]) -> Iterator[str]:
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


def _ftp_contradictions(values: dict[str, Any]) -> Iterator[str]:
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


def _sftp_contradictions(values: dict[str, Any]) -> Iterator[str]:
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


_OF_DESTINATIONS: dict[Any, Any] = {
    S3Destination: _s3_contradictions,
    FtpDestination: _ftp_contradictions,
    SftpDestination: _sftp_contradictions,
}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable()


def destination_contradictions(kind: Any, values: dict[str, Any]) -> Iterator[str]:
    """Find the problems of a destination's keys."""
    yield from _nul_problems(values)
    yield from _number_problems(values)
    if kind in _OF_DESTINATIONS:
        yield from _OF_DESTINATIONS[kind](values)
