"""How a file becomes a configuration, and how everything that is wrong with it is found in one go.

Unknown keys (with the nearest known one), wrong types, values out of range and keys that contradict each other: each
is one sentence that begins with the key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from s3_uploader.config.describe import expected, shown
from s3_uploader.config.schema import (
    DESTINATIONS,
    SYNONYMS,
    Compress,
    Config,
    FtpDestination,
    LocalDestination,
    Location,
    S3Destination,
)
from s3_uploader.core.errors import ConfigError

_SECRETS = {"password"}
_RETIRED = {("engine", "crt"): "crt is no longer an engine; leave the key out for the default, native, which is faster"}
"""Values that a key took once, and what to write instead."""


def load(
    path: str,
    *,
    environ: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
    foreign: Collection[str] = (),
) -> Config:
    """Read the configuration file at ``path``, with what else is set laid over it.

    :param environ: its variables ``S3_UPLOADER_…`` come over the file; ``None`` for this process's own.
    :param settings: each ``key=value``; they come over the environment.
    :param foreign: variables that need not name a key; see :func:`password_variables`.
    :raises ConfigError: with every problem that was found.
    """
    raw = _read(path)
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    places: dict[str, str] = {}
    if isinstance(raw, dict) and (settings or any(name.startswith("S3_UPLOADER_") for name in environ)):
        from s3_uploader.config.overrides import lay_over, of_command_line, of_environment

        places = lay_over(raw, [of_environment(environ), of_command_line(settings, problems)], problems, foreign)
    return _configured(raw, source=path, problems=problems, places=places)


def password_variables(paths: Sequence[str]) -> set[str]:
    """The environment variables in which configuration files expect passwords; of those files that can be read."""
    found = set()
    for path in paths:
        try:
            raw = _read(path)
        except ConfigError:
            continue
        destination = raw.get("destination") if isinstance(raw, dict) else None
        if isinstance(destination, dict) and isinstance(destination.get("password_env"), str):
            found.add(destination["password_env"])
    return found


def _read(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(path, [f"cannot be read: {error.strerror}"]) from None
    return _decoded(text, source=path)


def decode(text: bytes, *, source: str) -> Config:
    """The configuration in ``text``; ``source`` is how problems name where it came from.

    :raises ConfigError: with every problem that was found.
    """
    return from_mapping(_decoded(text, source=source), source=source)


def _decoded(text: bytes, *, source: str) -> Any:
    try:
        # Some editors begin a UTF-8 file with a byte order mark, which JSON does not know (RFC 8259, 8.1).
        return msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(source, [f"is not valid JSON: {_where(text, str(error))}"]) from None


def from_mapping(raw: object, *, source: str) -> Config:
    """The configuration in an already decoded JSON object, or anything shaped like one.

    :raises ConfigError: with every problem that was found.
    """
    return _configured(raw, source=source, problems=[], places={})


def _configured(raw: object, *, source: str, problems: list[str], places: Mapping[str, str]) -> Config:
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigError(source, ["must be a JSON object with at least the keys base_dir and bucket"])
    given = _resolve_synonyms(raw, "", problems)
    prefix = "destination." if "destination" in given else ""
    destination, inner = _gather_destination(given, problems)
    values = _convert_fields(Config, given, "", problems, skip="destination")
    problems += _contradictions(values)
    if destination is not None:
        fields = _convert_fields(destination, inner, prefix, problems)
        problems += [prefix + problem for problem in _CONTRADICTIONS[destination](fields)]
        problems += _location_contradictions(values.get("locations", {}), destination, fields)
        problems += _replacement_contradictions(values, on_conflict=fields.get("on_conflict", "fail"))
        if not problems:
            return Config(destination=destination(**fields), **values)
    raise ConfigError(source, [problem + _origin(problem, places) for problem in problems])


def _origin(problem: str, places: Mapping[str, str]) -> str:
    """Where the value came from that a problem is about, unless it stands in the file."""
    name = problem.partition(":")[0]
    place = next((place for key, place in places.items() if f"{key}.".startswith(f"{name}.")), None)
    return "" if place is None else f" (from {place})"


def _resolve_synonyms(raw: dict[str, Any], prefix: str, problems: list[str]) -> dict[str, Any]:
    given = dict(raw)
    for synonym, name in SYNONYMS.items():
        if synonym in given:
            value = given.pop(synonym)
            if name in given:
                problems.append(f"{prefix}{synonym}: means the same as {name}; give only one of them")
            else:
                given[name] = value
    return given


def _gather_destination(given: dict[str, Any], problems: list[str]) -> tuple[Any, dict[str, Any]]:
    """Take the destination's keys out of ``given``; returns its type, ``None`` if there is no telling, and its keys."""
    short = {name: given.pop(name) for name in S3Destination.__struct_fields__ if name in given}
    if "destination" not in given:
        return S3Destination, short
    destination = given.pop("destination")
    for name in short:
        problems.append(f"{name}: belongs into the destination, since there is one")
    if not isinstance(destination, dict) or not all(isinstance(key, str) for key in destination):
        problems.append("destination: must be an object with a type")
        return None, {}
    inner = dict(destination)
    kind = inner.pop("type", None)
    if not isinstance(kind, str) or kind not in DESTINATIONS:
        wanted = ", ".join(DESTINATIONS)
        problems.append(f"destination.type: must be one of {wanted}" + ("" if kind is None else f", not {shown(kind)}"))
        return None, {}
    if kind == "s3":
        inner = _resolve_synonyms(inner, "destination.", problems)
    return DESTINATIONS[kind], inner


def _convert_fields(
    kind: Any, given: dict[str, Any], prefix: str, problems: list[str], skip: str | None = None
) -> dict[str, Any]:
    """Convert every key by itself, so that one wrong value does not hide the next."""
    values: dict[str, Any] = {}
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(kind) if field.name != skip}
    for name, value in given.items():
        if name not in fields:
            problems.append(f"{prefix}{name}: is not a known key{_nearest(name, list(fields), whole=not prefix)}")
            continue
        inner = _struct_of_values(hints[name])
        if inner is not None and isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
            parts = {
                key: _convert_fields(inner, each, f"{prefix}{name}.{key}.", problems) for key, each in value.items()
            }
            values[name] = {key: inner(**fields) for key, fields in parts.items()}
            continue
        try:
            values[name] = msgspec.convert(value, type=hints[name])
        except (msgspec.ValidationError, UnicodeError):
            got = "" if name in _SECRETS else f", not {shown(value)}"
            retired = _RETIRED.get((name, value)) if isinstance(value, str) else None
            problems.append(f"{prefix}{name}: {retired or f'must be {expected(hints[name])}{got}'}")
    problems += [
        f"{prefix}{name}: is missing" for name, field in fields.items() if field.required and name not in given
    ]
    return values


def _struct_of_values(hint: Any) -> Any:
    """The struct of an object that has one under each name; ``None`` for every other type."""
    for kind in get_args(hint):
        if get_origin(kind) is dict and issubclass(get_args(kind)[1], msgspec.Struct):
            return get_args(kind)[1]
    return None


def _nearest(name: str, known: list[str], *, whole: bool) -> str:
    import difflib

    names = [*known, *SYNONYMS, "destination", *S3Destination.__struct_fields__] if whole else known
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _where(text: bytes, message: str) -> str:
    """A decoder's message with the line instead of the byte that it names, and without its own kind of path."""
    message = message.partition(" - at `$")[0]
    found = re.search(r"\(byte (\d+)\)$", message)
    if found is None:
        return message
    line = text[: int(found[1])].count(b"\n") + 1
    return f"{message[: found.start()].rstrip()} (line {line})"


def _contradictions(values: dict[str, Any]) -> Iterator[str]:
    """What the type of a key alone does not show. Keys that were not given, or were wrong already, are not there."""
    name = values.get("timezone", "UTC")
    if name not in ("UTC", "local"):
        import zoneinfo

        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            if zoneinfo.available_timezones():
                yield f"timezone: {shown(name)} is not a known time zone; write it like Europe/Madrid"
            else:
                yield f"timezone: {shown(name)} cannot be looked up, this machine has no time zones; install tzdata"
    for key in ("base_dir", "state_dir", "claim_dir", "metrics_file"):
        if "\0" in (values.get(key) or ""):
            yield f"{key}: holds a NUL character"
    on_success = values.get("on_success")
    if getattr(on_success, "attempts", 1) != 1:
        yield "on_success.attempts: is a key of on_failure only"
    if on_success == "keep" and values.get("claim_dir") is not None:
        yield "claim_dir: cannot be used with on_success: keep, since a file that was moved is not known again"
    yield from _compress_contradictions("compress", values.get("compress"))
    yield from (f"key_prefix: {problem}" for problem in _prefix_problems(values.get("key_prefix", "")))


def _compress_contradictions(key: str, compress: Any) -> Iterator[str]:
    if isinstance(compress, Compress):
        if compress.format == "gzip" and (compress.level or 1) > 9:
            yield f"{key}.level: is at most 9 with gzip, not {compress.level}"
        if not _is_unicode(compress.key_suffix or ""):
            yield f"{key}.key_suffix: is not valid UTF-8"


def _replacement_contradictions(values: Mapping[str, Any], *, on_conflict: str) -> Iterator[str]:
    """A compressed ``x`` and a file that is named ``x.gz`` have one key, under which one would replace the other."""
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
    """Whether the keys of some files get a suffix, and those of others do not."""
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


def _location_contradictions(
    locations: Mapping[str, Location], destination: Any, fields: Mapping[str, Any]
) -> Iterator[str]:
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


def _s3_contradictions(values: dict[str, Any]) -> Iterator[str]:
    bucket = values.get("bucket", "")
    if "/" in bucket and not bucket.startswith("arn:"):
        yield "bucket: is a name without slashes; a path inside the bucket goes into key_prefix"
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
            yield f"metadata: {shown(name)} cannot be the name of an HTTP header"
        if not _is_header_value(value):
            yield f"metadata: the value of {name} must be printable ASCII, as in every HTTP header"
    for key in ("content_type", "storage_class", "acl", "sse_kms_key_id"):
        if not _is_header_value(values.get(key) or ""):
            yield f"{key}: must be printable ASCII, as in every HTTP header"


def _ftp_contradictions(values: dict[str, Any]) -> Iterator[str]:
    if "/" in values.get("host", ""):
        yield "host: is a name or an address, without ftp:// before it and a path behind it"
    if values.get("password") is not None and values.get("password_file") is not None:
        yield "password: give it directly or in password_file, not both"
    if values.get("ca_file") is not None and not values.get("tls", False):
        yield "ca_file: needs tls to be true"
    if values.get("lock_stale_seconds") is not None and values.get("lock_file") is None:
        yield "lock_stale_seconds: needs a lock_file"
    if values.get("minimum_proof") == "none" and values.get("on_conflict") != "overwrite":
        yield "minimum_proof: none needs on_conflict to be overwrite, because nobody can see what is replaced"


def _local_contradictions(values: dict[str, Any]) -> Iterator[str]:
    if "\0" in values.get("path", ""):
        yield "path: holds a NUL character"


_CONTRADICTIONS: dict[Any, Any] = {
    S3Destination: _s3_contradictions,
    FtpDestination: _ftp_contradictions,
    LocalDestination: _local_contradictions,
}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable()
