"""Turns a file into a configuration, and reports everything that is wrong with it at once.

Unknown keys (with the nearest known one), wrong types, values out of range and keys that contradict each other: each
is one sentence that begins with the key.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args, get_origin

import msgspec

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import DESTINATIONS, SYNONYMS, Config, MoveTo, fields_of, hints_of
from s3_uploader.config.validate import (
    contradictions,
    destination_contradictions,
    location_contradictions,
    replacement_contradictions,
)
from s3_uploader.core.errors import ConfigError
from s3_uploader.core.files import read_pipe
from s3_uploader.core.text import shown_value

_MOST_BYTES = 4 * 2**20
_PATIENCE_SECONDS = 30.0
"""Longest silence of a command that writes a configuration to a pipe."""
_DEEPEST_INCLUDE = 8
_PATHS = {"base_dir", "claim_dir", "metrics_file", "password_file", "ca_file", "client_certificate_file"}
_INCLUDE, _SCHEMA = "$include", "$schema"
_OF_SLURM = "SLURM_ARRAY_TASK_COUNT"


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
            hint = "`s3-uploader-cli init` writes a configuration."
        elif isinstance(error, PermissionError):
            hint = "Let the user that runs this command read it."
        raise ConfigError(path, [f"cannot be read: {error.strerror}"], hint=hint) from None
    if len(text) > _MOST_BYTES:
        raise ConfigError(path, [f"is larger than {_MOST_BYTES:,} bytes, so it is not a configuration file"])
    raw = _decoded(text, source=path)
    if not isinstance(raw, dict) or _INCLUDE not in raw:
        return raw, {}
    names = raw.pop(_INCLUDE)
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise ConfigError(path, [f"{_INCLUDE}: must be the path of a file with defaults, or a list of such"])
    here = (*including, os.path.realpath(path))
    defaults: dict[str, Any] = {}
    places: dict[str, str] = {}
    for name in names:
        other = os.path.join(os.path.dirname(path), os.path.expanduser(name))
        if os.path.realpath(other) in here:
            raise ConfigError(path, [f"{_INCLUDE}: {name} includes itself"])
        if len(here) > _DEEPEST_INCLUDE:
            raise ConfigError(path, [f"{_INCLUDE}: files can include files at most {_DEEPEST_INCLUDE} levels deep"])
        if found is not None:
            found.append(other)
        values, their_places = _read(other, here, name, found)
        if not isinstance(values, dict):
            raise ConfigError(other, ["must be a JSON object"])
        defaults = _laid_over(defaults, values)
        places |= dict.fromkeys(values, other) | their_places
    return _laid_over(defaults, raw), {key: place for key, place in places.items() if key not in raw}


def _text_of(path: str) -> bytes:
    """The beginning of a file, or of what a command writes to a pipe, as in ``<(command)``."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            return read_pipe(file.fileno(), _MOST_BYTES + 1, patience_seconds=_PATIENCE_SECONDS)
        return file.read(_MOST_BYTES + 1)


def _laid_over(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Merge ``values`` over ``defaults``. Objects are merged key by key."""
    result = {name: value for name, value in defaults.items() if not _is_replaced(name, values)}
    for name, value in values.items():
        before: Any = result.get(name)
        both = isinstance(before, dict) and isinstance(value, dict)
        if both and value.get("type", before.get("type")) == before.get("type"):
            value = _laid_over(before, value)
        result[name] = value
    return result


def _is_replaced(name: str, values: Mapping[str, Any]) -> bool:
    """Whether the file itself has the same key in another form: a bucket has two forms, each with two spellings."""
    if any({name, *values} >= {synonym, other} and name in (synonym, other) for synonym, other in SYNONYMS.items()):
        return True
    if name == "destination":
        return any(key in values for key in ("bucket", *SYNONYMS))
    return "destination" in values and (name in SYNONYMS or name in S3Destination.__struct_fields__)


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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        from s3_uploader.config.jsonc import plain

        text = plain(text)
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            where, at = _where(text, str(error))
            raise ConfigError(source, [f"is not valid JSON: {where}"], hint=_meant_by(text, at, where)) from None
    # If a key occurs twice, the decoder keeps one value, so its JSON form has fewer colons than the text.
    if text.count(b":") != _colons(value) or b"\\u003" in text:
        from s3_uploader.config.jsonc import doubled_keys

        doubled = doubled_keys(text)
        if doubled:
            raise ConfigError(source, [f"{name}: occurs twice in the file" for name in doubled])
    return value


def _meant_by(text: bytes, at: int, said: str) -> str:
    """What to do with a file that is not JSON.

    :param at: the byte of the mistake.
    :param said: what the decoder says about it.
    """
    if not text.strip():
        return "The file is empty. `s3-uploader-cli init` writes a configuration."
    begin = text.lstrip()[:1]
    if begin == b"{":
        from s3_uploader.config.jsonc import meant_at

        return meant_at(text, at, said)
    from s3_uploader.config.older import understood

    older = understood(text.decode("utf-8", "replace"))
    if older is None:
        return "" if begin == b"[" else "A configuration is one JSON object, in which comments are allowed."
    return f"It looks like a configuration of {older.program}; `s3-uploader-cli init --from` that file converts it."


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
    problems += contradictions(values)
    if destination is not None:
        fields = _convert_fields(destination, inner, prefix, problems)
        problems += [prefix + problem for problem in destination_contradictions(destination, fields)]
        problems += location_contradictions(values.get("locations", {}), destination, fields)
        problems += replacement_contradictions(values, on_conflict=fields.get("on_conflict", "fail"))
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


def _where(text: bytes, message: str) -> tuple[str, int]:
    """A decoder's message with line and column instead of a byte, and without the decoder's own path; and that byte."""
    message = message.partition(" - at `$")[0].removeprefix("JSON is malformed: ")
    found = re.search(r"\(byte (\d+)\)$", message)
    if found is None:
        return message, len(text)
    at = int(found[1])
    before = text[:at]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    return f"{message[: found.start()].rstrip()} (line {line}, column {column})", at


def _convert_fields(
    kind: Any, given: dict[str, Any], prefix: str, problems: list[str], skip: str | None = None
) -> dict[str, Any]:
    """Convert every key by itself, so that one wrong value does not hide the next."""
    values: dict[str, Any] = {}
    hints = hints_of(kind)
    fields = {field.name: field for field in fields_of(kind) if field.name != skip}
    for name, value in given.items():
        if name not in fields:
            from s3_uploader.config.problems import unknown

            problems.append(f"{prefix}{name}: {unknown(name, list(fields), whole=not prefix)}")
            continue
        inner = _struct_of_values(hints[name])
        if inner is not None and isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
            parts = {
                key: _convert_fields(inner, each, f"{prefix}{name}.{key}.", problems) for key, each in value.items()
            }
            values[name] = {key: inner(**fields) for key, fields in parts.items()}
            continue
        try:
            values[name] = _expanded(name, msgspec.convert(_measured(name, value), type=hints[name]), kind)
        except (msgspec.ValidationError, UnicodeError):
            from s3_uploader.config.problems import wrong

            problems.append(f"{prefix}{name}: {wrong(name, value, hints[name])}")
    problems += [
        f"{prefix}{name}: is missing" for name, field in fields.items() if field.required and name not in given
    ]
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
    is_path = name in _PATHS or (name == "path" and kind.__struct_config__.tag == "local")
    return os.path.expanduser(value) if is_path and isinstance(value, str) else value
