"""Each value by itself: its type, its unit, and what was meant where it is none of those that the key takes."""

from __future__ import annotations

import functools
import os
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from s3_uploader.config.describe import choices, expected, shown
from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import SYNONYMS, MoveTo, is_secret

_RETIRED = {("engine", "crt"): "crt is no longer an engine; leave the key out for the default, native, which is faster"}
"""Values that a key took once, and what to write instead."""
_PATHS = {"base_dir", "claim_dir", "metrics_file", "password_file", "ca_file"}
_CREDENTIALS = (
    "is not a key, since no secret of AWS belongs into this file; put it into the environment (AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY), or into ~/.aws/credentials and name its section with profile"
)
_MEANT = {
    **dict.fromkeys(
        (
            *("access_key_id", "secret_access_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
            *("access_key", "secret_key", "secret", "session_token", "credentials", "aws_access_key", "aws_secret_key"),
            *("accesskey", "secretkey"),
        ),
        _CREDENTIALS,
    ),
    **dict.fromkeys(
        ("interval", "poll_interval", "poll-interval", "every", "schedule", "cron"),
        "is not a key; how often runs come is for the timer (`units --every`), or for `watch --interval`",
    ),
    **dict.fromkeys(
        ("log_level", "log-level", "loglevel", "verbose", "debug"),
        "is not a key; what the log says is for the command line: -v for more, -q for warnings only",
    ),
    **{
        name: f"is not a known key; did you mean {meant}?"
        for meant, names in {
            "base_dir": ("directory", "dir", "source", "source_dir", "path", "spool", "spool_dir", "folder"),
            "bucket": ("bucket_name", "target", "default_bucket"),
            "key_prefix": ("prefix", "s3_prefix"),
            "max_concurrency": ("threads", "workers", "concurrency", "parallel", "max_workers"),
            "region": ("aws_region", "region_name", "default_region"),
            "endpoint_url": ("endpoint", "url", "host", "s3_endpoint"),
            "profile": ("aws_profile", "profile_name"),
            "on_success": ("delete", "delete_after_upload", "remove"),
            "exclude": ("ignore", "skip"),
            "max_bandwidth": ("bandwidth", "rate_limit", "bwlimit"),
            "state_dir": ("ledger", "database", "db", "state"),
        }.items()
        for name in names
    },
}
"""What people write who know other programs, and what to say to them."""


def convert_fields(
    kind: Any, given: dict[str, Any], prefix: str, problems: list[str], skip: str | None = None
) -> dict[str, Any]:
    """Convert every key by itself, so that one wrong value does not hide the next."""
    values: dict[str, Any] = {}
    hints = hints_of(kind)
    fields = {field.name: field for field in _fields_of(kind) if field.name != skip}
    for name, value in given.items():
        if name not in fields:
            problems.append(f"{prefix}{name}: {_unknown(name, list(fields), whole=not prefix)}")
            continue
        inner = _struct_of_values(hints[name])
        if inner is not None and isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
            parts = {
                key: convert_fields(inner, each, f"{prefix}{name}.{key}.", problems) for key, each in value.items()
            }
            values[name] = {key: inner(**fields) for key, fields in parts.items()}
            continue
        try:
            values[name] = _expanded(name, msgspec.convert(_measured(name, value), type=hints[name]), kind)
        except (msgspec.ValidationError, UnicodeError):
            problems.append(f"{prefix}{name}: {_wrong(name, value, hints[name])}")
    problems += [
        f"{prefix}{name}: is missing" for name, field in fields.items() if field.required and name not in given
    ]
    return values


@functools.cache
def hints_of(kind: Any) -> dict[str, Any]:
    """The type of each key of a struct, with its limits."""
    return get_type_hints(kind, include_extras=True)


@functools.cache
def _fields_of(kind: Any) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _struct_of_values(hint: Any) -> Any:
    """The struct of an object that has one under each name; ``None`` for every other type."""
    for kind in get_args(hint):
        if get_origin(kind) is dict and issubclass(get_args(kind)[1], msgspec.Struct):
            return get_args(kind)[1]
    return None


def _measured(name: str, value: Any) -> Any:
    """A value that is written with a unit as the number that it means."""
    if not isinstance(value, str) or not value[:1].isdigit():
        return value
    from s3_uploader.config.units import number

    found = number(name, value)
    return value if found is None else found


def _expanded(name: str, value: Any, kind: Any) -> Any:
    """A local path with the home directory that ``~`` stands for."""
    if isinstance(value, MoveTo):
        return msgspec.structs.replace(value, move_to=os.path.expanduser(value.move_to))
    is_path = name in _PATHS or (name == "path" and kind.__struct_config__.tag == "local")
    return os.path.expanduser(value) if is_path and isinstance(value, str) else value


def _wrong(name: str, value: Any, hint: Any) -> str:
    """What is wrong with a value that its key does not take."""
    if isinstance(value, str) and (name, value) in _RETIRED:
        return _RETIRED[name, value]
    got = "" if is_secret(name) else f", not {shown(value)}"
    sentence = f"must be {expected(hint)}"
    if isinstance(value, str):
        sentence += _with_unit(name, value) + got
        if name == "include" and value.endswith((".json", ".jsonc")):
            sentence += '; a file with shared defaults is named with "$include"'
        import difflib

        found = difflib.get_close_matches(value.lower(), choices(hint), n=1, cutoff=0.6)
        return sentence + (f"; did you mean {shown(found[0])}?" if found else "")
    return sentence + got


def _with_unit(name: str, text: str) -> str:
    """How a key may be written with a unit, for somebody who wrote text."""
    from s3_uploader.config.units import is_duration, is_size

    if text.isdigit():
        return ""
    if is_duration(name):
        return ', or a duration such as "30d"' if name == "history_days" else ', or a duration such as "90s" or "6h"'
    return ', or a size such as "8MB"' if is_size(name) else ""


def _unknown(name: str, known: list[str], *, whole: bool) -> str:
    meant = _MEANT.get(name.lower())
    if meant is not None and name.lower() not in known:
        word = meant.partition("did you mean ")[2].rstrip("?")
        if not word or whole or word in known:
            return meant
    return f"is not a known key{_nearest(name, known, whole=whole)}"


def _nearest(name: str, known: list[str], *, whole: bool) -> str:
    import difflib

    names = [*known, *SYNONYMS, "destination", *S3Destination.__struct_fields__] if whole else known
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
