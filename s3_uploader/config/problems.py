"""The sentences about unknown keys and invalid values, with a guess at what was meant."""

from __future__ import annotations

import difflib
from typing import Any

from s3_uploader.config.describe import choices, expected
from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import SYNONYMS, is_secret
from s3_uploader.config.units import is_duration, is_size
from s3_uploader.core.text import shown_value

_RETIRED = {("engine", "crt"): "crt is no longer an engine; leave the key out for the default, native, which is faster"}
"""Values that a key accepted in earlier versions, and what to write instead."""
_FORMS = {"share": "K/N with K from 0 to N - 1, and N at most 10,000"}
"""Descriptions of values, for keys whose pattern would not be clear to a person."""
_CREDENTIALS = (
    "is not a key, since AWS credentials do not belong in this file; put them into the environment (AWS_ACCESS_KEY_ID, "
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
        "is not a key; set how often runs start in the timer (`units --every`) or with `watch --interval`",
    ),
    **dict.fromkeys(
        ("log_level", "log-level", "loglevel", "verbose", "debug"),
        "is not a key; set the level of the log on the command line: -v for more, -q for warnings only",
    ),
    **dict.fromkeys(
        ("includes", "defaults", "extends", "inherit", "$includes", "$defaults", "@include", "$ref"),
        'is not a known key; a file with shared defaults is named with "$include"',
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
"""Keys of other programs that people write, and the answers to them."""


def is_credential(name: str) -> bool:
    """Whether somebody who writes this key means AWS credentials, which belong elsewhere."""
    return _MEANT.get(name.lower()) == _CREDENTIALS


def wrong(name: str, value: Any, hint: Any) -> str:
    """Say what is wrong with the value of a key."""
    if isinstance(value, str) and (name, value) in _RETIRED:
        return _RETIRED[name, value]
    got = "" if is_secret(name) else f", not {shown_value(value)}"
    sentence = f"must be {_FORMS.get(name) or expected(hint)}"
    if isinstance(value, str):
        sentence += _with_unit(name, value) + got
        if name == "include" and value.endswith((".json", ".jsonc")):
            sentence += '; a file with shared defaults is named with "$include"'
        found = difflib.get_close_matches(value.lower(), choices(hint), n=1, cutoff=0.6)
        return sentence + (f"; did you mean {shown_value(found[0])}?" if found else "")
    return sentence + got


def _with_unit(name: str, text: str) -> str:
    """How a value may be written with a unit, for somebody who wrote a string."""
    if text.isdigit():
        return ""
    if is_duration(name):
        return ', or a duration such as "30d"' if name == "history_days" else ', or a duration such as "90s" or "6h"'
    return ', or a size such as "8MB"' if is_size(name) else ""


def unknown(name: str, known: list[str], *, whole: bool) -> str:
    """Say that a key is unknown, and which key was probably meant.

    :param whole: it is at the top level of the file.
    """
    meant = _MEANT.get(name.lower())
    if meant is not None and name.lower() not in known:
        word = meant.partition("did you mean ")[2].rstrip("?")
        if not word or whole or word in known:
            return meant
    return f"is not a known key{_nearest(name, known, whole=whole)}"


def _nearest(name: str, known: list[str], *, whole: bool) -> str:
    names = [*known, *SYNONYMS, "destination", *S3Destination.__struct_fields__] if whole else known
    found = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
