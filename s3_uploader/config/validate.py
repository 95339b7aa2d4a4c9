"""Finds what types do not show in settings that not every configuration has: time zone, share, prefix, compression.

And in those for some locations.

Pure functions of the values that could be converted; each problem is one sentence that begins with the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from s3_uploader.config.destinations import S3Destination, header_contradictions
from s3_uploader.config.schema import Compress, Location
from s3_uploader.core.text import shown_value

_TIME_ZONE = "Europe/Madrid"
"""A time zone that every database has."""


def time_zone_problems(name: str) -> Iterator[str]:
    """What is wrong with the name of a time zone."""
    if _is_time_zone(name):
        return
    # Listing all time zones would also show whether there are any, but it opens every file of the database.
    if _is_time_zone(_TIME_ZONE):
        yield f"timezone: {shown_value(name)} is not a known time zone; write it like {_TIME_ZONE}"
    else:
        yield f"timezone: {shown_value(name)} cannot be looked up, this machine has no time zones; install tzdata"


def _is_time_zone(name: str) -> bool:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def share_problems(share: str) -> Iterator[str]:
    """What is wrong with a share whose form is right."""
    from s3_uploader.core.shares import MOST_SHARES

    index, _, count = share.partition("/")
    if not int(index or 0) < int(count) <= MOST_SHARES:
        yield f"share: must be K/N with K from 0 to N - 1, and N at most {MOST_SHARES:,}, not {share}"


def compress_problems(key: str, compress: Any) -> Iterator[str]:
    """What is wrong with the settings of a compression."""
    if isinstance(compress, Compress):
        if compress.format == "gzip" and (compress.level or 1) > 9:
            yield f"{key}.level: must be at most 9 with gzip, not {compress.level}"
        if not _is_unicode(compress.key_suffix or ""):
            yield f"{key}.key_suffix: is not valid UTF-8"


def replacement_problems(values: Mapping[str, Any], *, on_conflict: str) -> Iterator[str]:
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


def location_problems(locations: Mapping[str, Location], destination: Any, fields: Mapping[str, Any]) -> Iterator[str]:
    """The problems of the settings for some locations."""
    for name, location in locations.items():
        key = f"locations.{name}"
        yield from (f"{key}.key_prefix: {problem}" for problem in prefix_problems(location.key_prefix or ""))
        yield from compress_problems(f"{key}.compress", location.compress)
        headers = {"storage_class": location.storage_class, "metadata": location.metadata, "tags": location.tags}
        if destination is not S3Destination:
            for setting, value in headers.items():
                if value:
                    yield f"{key}.{setting}: needs a destination of type s3"
            continue
        headers["tags"] = {**fields.get("tags", {}), **location.tags}
        yield from (f"{key}.{problem}" for problem in header_contradictions(headers))


def prefix_problems(prefix: str) -> Iterator[str]:
    """What is wrong with a prefix of keys, without the name of its key."""
    if not _is_unicode(prefix):
        yield "is not valid UTF-8"
    elif "{" in prefix or "}" in prefix:
        from s3_uploader.config.key_prefix import problem_of

        problem = problem_of(prefix)
        if problem:
            yield problem


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
