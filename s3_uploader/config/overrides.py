"""Values that override the file: environment variables, and over these ``--set`` on the command line.

``S3_UPLOADER_SETTLE_SECONDS=30`` and ``--set settle_seconds=30`` mean the same, and so do
``S3_UPLOADER_DESTINATION__HOST=h`` and ``--set destination.host=h``. The case of a variable does not matter, except in
the name of a location: ``S3_UPLOADER_LOCATIONS__Kitchen__KEY_PREFIX``. A value is read by the type of its key: text as
it is, numbers, booleans, lists and objects as JSON. An empty value means ``null`` where the key allows it.
"""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import DESTINATIONS, SYNONYMS, Config, hint_of, is_secret
from s3_uploader.core.model import NOT_JSON
from s3_uploader.core.text import without_passwords

PREFIX = "S3_UPLOADER_"
_NAME = re.compile(r'"([^"]*)"\s*:')
_OPTION = "--set"
_PASSWORD = "S3_UPLOADER_FTP_PASSWORD"
_PASSPHRASE = "S3_UPLOADER_SFTP_PASSPHRASE"
_SECRETS = (_PASSWORD, "S3_UPLOADER_SFTP_PASSWORD", _PASSPHRASE)
# Kubernetes sets these in every container if there is a Service called s3-uploader.
_OF_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")


class Override(msgspec.Struct, frozen=True):
    """One value from outside the file.

    :param place: how a problem names its source.
    """

    path: tuple[str, ...]
    text: str
    place: str

    def spelled(self, name: str) -> str:
        """The spelling of another key in the same source."""
        return PREFIX + name.upper().replace(".", "__") if self.place.startswith(PREFIX) else name


def of_environment(environ: Mapping[str, str]) -> list[Override]:
    """The keys that the environment sets, without the variables of passwords and of Kubernetes."""
    return [
        Override(_path_of(name), environ[name], name)
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in _SECRETS and not _OF_KUBERNETES.fullmatch(name[len(PREFIX) :])
    ]


def _path_of(variable: str) -> tuple[str, ...]:
    """The path of the key that a variable names. Keys are lower case; the name of a location keeps its case."""
    names = variable[len(PREFIX) :].split("__")
    path = [name.lower() for name in names]
    if path[0] == "locations":
        path[1:2] = names[1:2]
    return tuple(path)


def of_command_line(settings: Sequence[str], problems: list[str]) -> list[Override]:
    """The keys that ``--set key=value`` sets."""
    problems += [
        f"{_OPTION} {without_passwords(setting)}: must be written as key=value"
        for setting in settings
        if "=" not in setting
    ]
    found = []
    for name, _, text in (setting.partition("=") for setting in settings if "=" in setting):
        override = Override(tuple(name.strip().split(".")), text, f"{_OPTION} {name.strip()}")
        found.append(override)
        if _holds_secret(override):
            problems.append(_no_secrets(override))
    return found


def _holds_secret(override: Override) -> bool:
    """Whether a value is a secret, a destination that holds one, or a URL with a password."""
    path = override.path[1:] if override.path[0] == "destination" else override.path
    if without_passwords(override.text) != override.text:
        return True
    # Below tags and metadata the names are the user's.
    return is_secret(path[0]) if path else any(map(is_secret, _NAME.findall(override.text)))


def _no_secrets(override: Override) -> str:
    """The problem of a secret given with ``--set``. It names the places where secrets belong."""
    name = override.path[-1]
    variable = PREFIX + "__".join(part if override.path[0] == "locations" else part.upper() for part in override.path)
    instead = {"password": f"{_PASSWORD} (SFTP: {_SECRETS[1]})", "passphrase": _PASSPHRASE}.get(name, variable)
    file = ", in password_file" if name == "password" else ""
    from s3_uploader.config.problems import is_credential

    problem = f"{override.place}: is a secret, and everybody on this machine can read the command line"
    if is_credential(name):  # no variable of this program holds it
        return problem
    return f"{problem}; put it into the environment variable {instead}{file} or into the file"


def lay_over(
    raw: dict[str, Any], layers: Sequence[Sequence[Override]], problems: list[str], foreign: Collection[str] = ()
) -> dict[str, str]:
    """Change ``raw`` in place, layer by layer; returns the source of each changed key, dotted.

    :param foreign: variables that need not name a key.
    """
    places: dict[str, str] = {}
    for layer in layers:
        for override in sorted(layer, key=_outer_first):
            path = _settled(override.path, raw)
            hint = _hint(path, raw)
            if hint is not None:
                _write(raw, path, _read(override.text, hint))
                places[".".join(path)] = override.place
            elif override.place not in _secret_variables(raw) and override.place not in foreign:
                problems.append(f"{override.place}: names no known key{_nearest(override, raw)}")
    return places


def _outer_first(override: Override) -> tuple[bool, int, bool]:
    """Sort the destination's type first, because it decides what other names mean, and objects before their members."""
    path = override.path
    return path[0] != "destination", len(path), path[1:] != ("type",)


def _settled(path: tuple[str, ...], raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The path in the form that the file uses: a bucket can be given in two."""
    destination = raw.get("destination")
    is_inside = path[0] == "destination" and len(path) > 1
    names = path[1:] if is_inside else path
    names = (SYNONYMS.get(names[0], names[0]), *names[1:])
    if names[0] in S3Destination.__struct_fields__:
        if is_inside and destination is None:
            return names
        if not is_inside and isinstance(destination, dict) and destination.get("type") == "s3":
            return ("destination", *names)
        return ("destination", *names) if is_inside else names
    return path


def _hint(path: tuple[str, ...], raw: Mapping[str, Any]) -> Any:
    """The type of the key at ``path``, ``None`` if there is none."""
    if path[0] == "destination":
        if len(path) == 1:
            return dict
        if path[1:] == ("type",):
            return str
        destination = raw.get("destination")
        kind = DESTINATIONS.get(str(destination.get("type"))) if isinstance(destination, dict) else None
        return None if kind is None else _inner(kind, path[1:])
    if path[0] in Config.__struct_fields__:
        return _inner(Config, path)
    return None if isinstance(raw.get("destination"), dict) else _inner(S3Destination, path)


def _inner(kind: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        found = None
        for member in _members(kind):
            if get_origin(member) is dict:
                found = get_args(member)[1]
            elif isinstance(member, type) and issubclass(member, msgspec.Struct):
                found = hint_of(member, name)
        if found is None:
            return None
        kind = found
    return kind


def _members(kind: Any) -> list[Any]:
    """The types of a union, or the one type, without what is annotated."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [inner for member in get_args(kind) for inner in _members(member)]
    return [kind]


def _read(text: str, hint: Any) -> Any:
    """Parse a text as a value of the type. If it is not one, it stays text, which the type check refuses later."""
    members = _members(hint)
    if not text and type(None) in members:
        return None
    if bool in members and text.lower() in ("true", "false", "1", "0", "yes", "no"):
        return text.lower() in ("true", "1", "yes")
    is_structured = any(_is_structured(member) for member in members)
    if (is_structured and text.lstrip()[:1] in ("{", "[")) or int in members or float in members:
        try:
            return msgspec.json.decode(text)
        except NOT_JSON:
            return text
    return text


def _is_structured(kind: Any) -> bool:
    kind = get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, (list, dict, msgspec.Struct))


def _write(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        inner = raw.get(name)
        # The file's own objects are left as they are: they may be the caller's.
        raw[name] = dict(inner) if isinstance(inner, dict) else {}
        raw = raw[name]
    for synonym, name in SYNONYMS.items():
        if name == path[-1]:
            raw.pop(synonym, None)
    raw[path[-1]] = value


def _secret_variables(raw: Mapping[str, Any]) -> tuple[str, ...]:
    destination = raw.get("destination")
    if not isinstance(destination, dict):
        return ()
    return str(destination.get("password_env", "")), str(destination.get("passphrase_env", ""))


def _nearest(override: Override, raw: Mapping[str, Any]) -> str:
    import difflib

    from s3_uploader.config.problems import is_credential

    if is_credential(override.path[-1]):
        return "; put AWS credentials into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into ~/.aws/credentials"
    known = list(_known(raw))
    name = ".".join(override.path)
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {override.spelled(found[0])}?" if found else ""


def _known(raw: Mapping[str, Any]) -> Iterator[str]:
    yield from Config.__struct_fields__
    destination = raw.get("destination")
    kind = DESTINATIONS.get(str(destination.get("type"))) if isinstance(destination, dict) else None
    if kind is None or kind is S3Destination:
        yield from (*S3Destination.__struct_fields__, *SYNONYMS)
    if kind is not None:
        yield from (f"destination.{name}" for name in ("type", *kind.__struct_fields__))
    yield from ("on_success.move_to", "on_failure.move_to", "on_failure.attempts")
