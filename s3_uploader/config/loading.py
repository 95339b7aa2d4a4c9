"""Turns a file into a configuration, and reports everything that is wrong with it at once.

Unknown keys (with the nearest known one), wrong types, values out of range and keys that contradict each other: each
is one sentence that begins with the key.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

import msgspec

from s3_uploader.config.destinations import S3Destination, contradictions_of
from s3_uploader.config.schema import DESTINATIONS, SYNONYMS, Config, MoveTo, hint_of, required_of
from s3_uploader.core.errors import ConfigError
from s3_uploader.core.files import read_pipe
from s3_uploader.core.model import NOT_JSON
from s3_uploader.core.text import shown_value

_MOST_BYTES = 4 * 2**20
_PATIENCE_SECONDS = 30.0
"""Longest silence of a command that writes a configuration to a pipe."""
LOCAL_PATHS = {"base_dir", "claim_dir", "metrics_file", "password_file", "ca_file", "client_certificate_file"}
_INCLUDE, _SCHEMA = "$include", "$schema"
_OF_SLURM = "SLURM_ARRAY_TASK_COUNT"
_PING = r"https?://([^\s/?#@]*@)?(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?([/?][^\s#]*)?"
_MOST_SECONDS = 10**9
_MOST = 2**63 - 1


def load(
    path: str,
    *,
    environ: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
    foreign: Collection[str] = (),
    included: list[str] | None = None,
) -> Config:
    """Read the configuration file at ``path``; the environment and ``--set`` override it.

    :param environ: its variables ``S3_UPLOADER_…`` override the file; ``None`` means this process's environment.
    :param settings: each ``key=value``; they override the environment.
    :param foreign: variables that need not name a key; see :func:`password_variables`.
    :param included: gets the paths of the files that it includes.
    :raises ConfigError: with every problem that was found.
    """
    raw, places = _read(path, found=included)
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    if isinstance(raw, dict) and (settings or any(name.startswith("S3_UPLOADER_") for name in environ)):
        from s3_uploader.config.overrides import lay_over, of_command_line, of_environment

        places |= lay_over(raw, [of_environment(environ), of_command_line(settings, problems)], problems, foreign)
    return _configured(raw, source=path, problems=problems, places=places)


def without_file(settings: Sequence[str], *, environ: Mapping[str, str] | None = None) -> Config:
    """A configuration that only names a destination, from ``settings`` and the environment.

    :raises ConfigError: with every problem that was found.
    """
    from s3_uploader.config.overrides import lay_over, of_command_line, of_environment

    # There is no spool, and commands that need only a destination do not look at it.
    raw: dict[str, Any] = {"base_dir": "/nonexistent"}
    problems: list[str] = []
    environ = os.environ if environ is None else environ
    places = lay_over(raw, [of_environment(environ), of_command_line(settings, problems)], problems, ())
    return _configured(raw, source="the command line", problems=problems, places=places)


def resolved(config: Config, environ: Mapping[str, str] = os.environ) -> Config:
    """Resolve the share with the environment's help; the configuration is returned unchanged if it has none.

    Shares write metrics files of their own: ``spool.prom`` becomes ``spool-share-0-of-4.prom``.

    :raises UsageProblem: if the two give no valid share.
    """
    if config.share is None and _OF_SLURM not in environ:
        return config
    from s3_uploader.config.share import with_share

    return with_share(config, environ)


def password_variables(paths: Sequence[str]) -> set[str]:
    """The environment variables in which the configuration files that can be read expect passwords."""
    found: set[str] = set()
    for path in paths:
        try:
            raw, _ = _read(path)
        except ConfigError:
            continue
        destination = raw.get("destination") if isinstance(raw, dict) else None
        if isinstance(destination, dict):
            names = (destination.get("password_env"), destination.get("passphrase_env"))
            found.update(name for name in names if isinstance(name, str))
    return found


def included_files(path: str) -> list[str]:
    """The files that a configuration file includes, and those that these include.

    :raises ConfigError: if one of them cannot be read.
    """
    found: list[str] = []
    _read(path, found=found)
    return list(dict.fromkeys(os.path.abspath(each) for each in found))


def _read(
    path: str, including: tuple[str, ...] = (), name: str = "", found: list[str] | None = None
) -> tuple[Any, dict[str, str]]:
    """A file's content merged over its included defaults, and for each included key the file it comes from.

    :param including: the real paths of the files that include it, the outermost first.
    :param name: its path as the last of those files gives it.
    :param found: collects the paths of the included files.
    """
    try:
        text = _text_of(path)
    except OSError as error:
        if including:
            problem = f"{_INCLUDE}: {name} cannot be read: {error.strerror}"
            hint = (
                f"Its path is {os.path.abspath(path)}. A relative path begins in the directory of the including file."
            )
            raise ConfigError(including[-1], [problem], hint=hint) from None
        hint = ""
        if isinstance(error, FileNotFoundError):
            is_pattern = "*" in path
            hint = (
                "No file matches this pattern. Name the files, or their directory."
                if is_pattern
                else "`s3-uploader-cli init` writes a configuration."
            )
        elif isinstance(error, PermissionError):
            hint = "Let the user that runs this command read it."
        raise ConfigError(path, [f"cannot be read: {error.strerror}"], hint=hint) from None
    if len(text) > _MOST_BYTES:
        raise ConfigError(path, [f"is larger than {_MOST_BYTES:,} bytes, so it is not a configuration file"])
    raw = _decoded(text, source=path)
    if not isinstance(raw, dict) or _INCLUDE not in raw:
        return raw, {}
    from s3_uploader.config.including import with_included

    return with_included(raw, path, including, found, read=_read)


def _text_of(path: str) -> bytes:
    """The beginning of a file, or of what a command writes to a pipe, as in ``<(command)``."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            return read_pipe(file.fileno(), _MOST_BYTES + 1, patience_seconds=_PATIENCE_SECONDS)
        return file.read(_MOST_BYTES + 1)


def decode(text: bytes, *, source: str) -> Config:
    """The configuration in ``text``; ``source`` names its origin in problems.

    :raises ConfigError: with every problem that was found.
    """
    return from_mapping(_decoded(text, source=source), source=source)


def _decoded(text: bytes, *, source: str) -> Any:
    # Some editors begin a UTF-8 file with a byte order mark, which JSON does not allow (RFC 8259, 8.1).
    text = text.removeprefix(b"\xef\xbb\xbf")
    try:
        value = msgspec.json.decode(text)
    except NOT_JSON:
        from s3_uploader.config.jsonc import decoded, plain

        text = plain(text)
        value = decoded(text, source=source)
    # If a key occurs twice, the decoder keeps one value, so its JSON form has fewer colons than the text.
    if text.count(b":") != _colons(value) or b"\\u003" in text:
        from s3_uploader.config.jsonc import doubled_keys

        doubled = doubled_keys(text)
        if doubled:
            raise ConfigError(source, [f"{name}: occurs twice in the file" for name in doubled])
    return value


def _colons(value: Any) -> int:
    """Count the colons in the JSON form of a value."""
    if isinstance(value, dict):
        return sum(1 + key.count(":") + _colons(inner) for key, inner in value.items())
    if isinstance(value, list):
        return sum(map(_colons, value))
    return value.count(":") if isinstance(value, str) else 0


def from_mapping(raw: object, *, source: str) -> Config:
    """Make a configuration of an already decoded JSON object, or of anything shaped like one.

    :raises ConfigError: with every problem that was found.
    """
    return _configured(raw, source=source, problems=[], places={})


def _configured(raw: object, *, source: str, problems: list[str], places: Mapping[str, str]) -> Config:
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigError(source, ["must be a JSON object with at least the keys base_dir and bucket"])
    given = _resolve_synonyms(raw, "", problems)
    given.pop(_SCHEMA, None)  # for editors
    prefix = "destination." if "destination" in given else ""
    destination, inner = _gather_destination(given, problems)
    values = _convert_fields(Config, given, "", problems, skip="destination")
    problems += _contradictions(values)
    if destination is not None:
        fields = _convert_fields(destination, inner, prefix, problems)
        found = (*_value_problems(fields), *contradictions_of(destination, fields))
        problems += [prefix + problem for problem in found]
        on_conflict = fields.get("on_conflict", "fail")
        if values.get("locations") or on_conflict == "overwrite":
            from s3_uploader.config.validate import location_problems, replacement_problems

            problems += location_problems(values.get("locations", {}), destination, fields)
            problems += replacement_problems(values, on_conflict=on_conflict)
        if not problems:
            return Config(destination=destination(**fields), **values)
    raise ConfigError(source, [problem + _origin(problem, places) for problem in problems])


def _origin(problem: str, places: Mapping[str, str]) -> str:
    """Say where the value of a problem comes from, unless it is in the file itself."""
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
    """Take the destination's keys out of ``given``; returns its type, or ``None`` if it is unknown, and its keys."""
    short = {name: given.pop(name) for name in S3Destination.__struct_fields__ if name in given}
    if "destination" not in given:
        return S3Destination, short
    destination = given.pop("destination")
    for name in short:
        problems.append(f"{name}: belongs in the object destination")
    if not isinstance(destination, dict) or not all(isinstance(key, str) for key in destination):
        problems.append("destination: must be an object with a type")
        return None, {}
    inner = dict(destination)
    kind = inner.pop("type", None)
    if not isinstance(kind, str) or kind not in DESTINATIONS:
        wanted = ", ".join(DESTINATIONS)
        got = "" if kind is None else f", not {shown_value(kind)}"
        other = "; a server that is compatible with S3 has the type s3 and an endpoint_url"
        problems.append(f"destination.type: must be one of {wanted}{got}{other if isinstance(kind, str) else ''}")
        return None, {}
    if kind == "s3":
        inner = _resolve_synonyms(inner, "destination.", problems)
    return DESTINATIONS[kind], inner


def _convert_fields(
    kind: Any, given: dict[str, Any], prefix: str, problems: list[str], skip: str | None = None
) -> dict[str, Any]:
    """Convert every key by itself, so that one wrong value does not hide the next."""
    values: dict[str, Any] = {}
    fields = {name: required for name, required in required_of(kind).items() if name != skip}
    for name, value in given.items():
        if name not in fields:
            from s3_uploader.config.problems import unknown

            problems.append(f"{prefix}{name}: {unknown(name, list(fields), whole=not prefix)}")
            continue
        hint = hint_of(kind, name)
        inner = _struct_of_values(hint)
        if inner is not None and isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
            parts = {
                key: _convert_fields(inner, each, f"{prefix}{name}.{key}.", problems) for key, each in value.items()
            }
            values[name] = {key: inner(**fields) for key, fields in parts.items()}
            continue
        try:
            values[name] = _expanded(name, msgspec.convert(_measured(name, value), type=hint), kind)
        except (msgspec.ValidationError, UnicodeError):
            from s3_uploader.config.problems import wrong

            problems.append(f"{prefix}{name}: {wrong(name, value, hint)}")
    problems += [f"{prefix}{name}: is missing" for name, required in fields.items() if required and name not in given]
    return values


def _struct_of_values(hint: Any) -> Any:
    """The struct of the values of an object with free names; ``None`` for every other type."""
    for kind in get_args(hint):
        if get_origin(kind) is dict and issubclass(get_args(kind)[1], msgspec.Struct):
            return get_args(kind)[1]
    return None


def _measured(name: str, value: Any) -> Any:
    """Convert a value with a unit to a number."""
    if not isinstance(value, str) or not value[:1].isdigit():
        return value
    from s3_uploader.config.units import number

    found = number(name, value)
    return value if found is None else found


def _expanded(name: str, value: Any, kind: Any) -> Any:
    """Expand ``~`` in a local path."""
    if isinstance(value, MoveTo):
        return msgspec.structs.replace(value, move_to=os.path.expanduser(value.move_to))
    is_path = name in LOCAL_PATHS or (name == "path" and kind.__struct_config__.tag == "local")
    return os.path.expanduser(value) if is_path and isinstance(value, str) else value


def _contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """Find the problems that types do not show. Keys that were not given, or were refused already, are missing here."""
    if values.get("timezone", "UTC") not in ("UTC", "local"):
        from s3_uploader.config.validate import time_zone_problems

        yield from time_zone_problems(values["timezone"])
    yield from _value_problems(values)
    yield from (f"{key}: is empty" for key in ("claim_dir", "state_dir", "metrics_file") if values.get(key) == "")
    if values.get("ping_url") is not None and not re.fullmatch(_PING, values["ping_url"]):
        yield "ping_url: must name a host, as in https://hc-ping.com/your-uuid, and contain no blanks"
    if values.get("share") is not None:
        from s3_uploader.config.validate import share_problems

        yield from share_problems(values["share"])
    on_success = values.get("on_success")
    if getattr(on_success, "attempts", 1) != 1:
        yield "on_success.attempts: is a key of on_failure only"
    if on_success == "keep" and values.get("claim_dir") is not None:
        yield "claim_dir: cannot be used with on_success: keep, because a moved file is not recognised"
    if values.get("compress", "none") != "none" or values.get("key_prefix"):
        from s3_uploader.config.validate import compress_problems, prefix_problems

        yield from compress_problems("compress", values.get("compress"))
        yield from (f"key_prefix: {problem}" for problem in prefix_problems(values.get("key_prefix", "")))


def _value_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """Find what no value may have, whatever its key: a NUL in a text, and a number that is too large."""
    # No path, name or header can contain a NUL, and each library reports it in its own way.
    yield from (f"{key}: holds a NUL character" for key, value in values.items() if _holds_nul(value))
    # Timers, sockets and the ledger refuse larger numbers. All fractional numbers are seconds.
    for key, value in values.items():
        if isinstance(value, float) and value > _MOST_SECONDS:
            yield f"{key}: must be at most {_MOST_SECONDS:,} seconds (31 years)"
        elif isinstance(value, int) and value > _MOST:
            yield f"{key}: must be at most {_MOST:,}"


def _holds_nul(value: object) -> bool:
    if isinstance(value, msgspec.Struct):
        return _holds_nul(msgspec.structs.astuple(value))
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple, frozenset, set)):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value
