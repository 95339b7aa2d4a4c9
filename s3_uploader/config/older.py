"""Translates the configurations of older programs into the keys of this one.

The INI file of zc.s3uploadqueue, the YAML file of s3, and the command line of jollyae, in a script or alone.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from typing import Any

import msgspec

_AWS_HOST = re.compile(r"s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com")
_SECRETS = "The credentials were not taken over. Put them into the environment or into ~/.aws/credentials."
_OF_JOLLYAE = {"b": "bucket", "s": "base_dir", "i": "claim_dir", "d": "completed", "f": "failed", "a": "acl"}
_ENDS_COMMAND = re.compile(r"[;&|<>()]+|[}`]")
"""Words of a shell that do not belong to the command before them."""

_SECRET_NAMES = {"access_key_id", "secret_access_key", "aws_access_key_id", "aws_secret_access_key"}
_OF_QUEUE = {"directory", "bucket", "threads", "poll-interval", "log-level"}
_OF_S3 = {"s3", "default_bucket", "bucket", "endpoint", "region", "tls"}
_FLAGS_OF_JOLLYAE = {"-r", "-R", "-n", "-v", "--random-no-upload-fail"}

_REPLACED = (
    "It replaced an object whose key was taken. This program keeps such a file and reports it; to replace the object, "
    'set "on_conflict": "overwrite".'
)


class Older(msgspec.Struct, frozen=True):
    """The program whose configuration was found, the keys for this one, and notes for the user.

    :param is_service: it ran for ever, as ``watch`` does.
    """

    program: str
    settings: dict[str, Any]
    notes: list[str]
    is_service: bool = False


def understood(text: str) -> Older | None:
    """Understand a file or command line of an older program; ``None`` if it is of no known program."""
    if re.search(r"\bjollyae(\.py)?\b", text):
        return _jollyae(text)
    if re.search(r"^\s*\[Queue\]", text, re.MULTILINE | re.IGNORECASE):
        return _zc(text)
    if re.search(r"^\s*['\"]?(default_bucket|secret_access_key)['\"]?\s*:", text, re.MULTILINE):
        return _s3(text)
    return None


def _zc(text: str) -> Older | None:
    import configparser

    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    # What stands before the first section belongs to none.
    try:
        parser.read_string(text[text.index("[") :])
    except configparser.Error:
        return None
    values: dict[str, str] = {}
    notes = []
    for section in parser.sections():
        if section.lower() == "queue":
            values |= {name: value or "" for name, value in parser[section].items()}
        elif section.lower() == "credentials":
            notes.append(_SECRETS)
    settings: dict[str, Any] = {"layout": "queue", "settle_seconds": 0}
    if values.get("directory"):
        settings["base_dir"] = _path(values["directory"])
    if values.get("bucket"):
        settings["bucket"] = values["bucket"]
    others = {name for name in values if name not in _OF_QUEUE}
    if others & _SECRET_NAMES and _SECRETS not in notes:
        notes.append(_SECRETS)
    if values.get("threads", "").isdigit():
        settings["max_concurrency"] = max(1, int(values["threads"]))
    elif "threads" in values:
        others.add("threads")
    if values.get("poll-interval"):
        notes.append(
            f"It polled every {values['poll-interval']} s: start `watch --interval {values['poll-interval']}`."
        )
    if "log-level" in values:
        notes.append("For log-level there are -v and -q on the command line.")
    notes += [*_ignored(others - _SECRET_NAMES), _REPLACED]
    return Older("zc.s3uploadqueue", settings, notes, is_service=True)


def _s3(text: str) -> Older:
    values = {}
    for line in text.splitlines():
        found = re.match(r"""\s*['"]?(\w+)['"]?\s*:\s*(?:"([^"]*)"|'([^']*)'|([^#\s]\S*))""", line)
        if found is not None:
            values[found[1]] = next(value for value in found.groups()[1:] if value is not None)
    notes = []
    if values.keys() & _SECRET_NAMES:
        notes.append(_SECRETS)
    notes += _ignored(values.keys() - _OF_S3 - _SECRET_NAMES)
    notes.append("It was a library and had no spool. `RemoteStore.from_yaml` reads its file unchanged.")
    settings: dict[str, Any] = {}
    bucket = values.get("default_bucket") or values.get("bucket")
    if bucket:
        settings["bucket"] = bucket
    endpoint = values.get("endpoint", "")
    if values.get("region"):
        settings["region"] = values["region"]
    region = _AWS_HOST.fullmatch(endpoint)
    if region is not None:
        settings["region"] = region[1]
    elif endpoint and endpoint != "s3.amazonaws.com":
        is_plain = values.get("tls", "true").lower() in ("false", "no", "off")
        settings["endpoint_url"] = endpoint if "://" in endpoint else f"http{'' if is_plain else 's'}://{endpoint}"
    return Older("s3", settings, notes)


def _jollyae(text: str) -> Older:
    found, flags = _options_of_jollyae(_words_of_command(text))
    notes = []
    settings: dict[str, Any] = {"layout": "tree", "settle_seconds": 0}
    for name, value in list(found.items()):
        if "$" in value or "`" in value:
            notes.append(f"{name} is not known here, because a shell would compute it: {value}. Write its value.")
            del found[name]
            if name == "completed":
                settings["on_success"] = "keep"
    for name in ("bucket", "acl"):
        if name in found:
            settings[name] = found[name]
    for name in ("base_dir", "claim_dir"):
        if name in found:
            settings[name] = _path(found[name])
    if "completed" in found and "-r" not in flags:
        settings["on_success"] = {"move_to": _path(found["completed"])}
    if "-R" in flags:
        settings["on_failure"] = "delete"
        notes.append("on_failure is delete, as with -R. A file that cannot be shipped is deleted and lost.")
    elif "failed" in found and _path(found["failed"]) != settings.get("base_dir"):
        settings["on_failure"] = {"move_to": _path(found["failed"])}
    if "-n" in flags:
        notes.append("For -n there is `run --dry-run`.")
    if "--random-no-upload-fail" in flags:
        notes.append("For --random-no-upload-fail there is `--simulate-failures`.")
    notes += [*_ignored(flags - _FLAGS_OF_JOLLYAE), "It ran for ever: start `watch`.", _REPLACED]
    return Older("jollyae", settings, notes, is_service=True)


def _options_of_jollyae(words: list[str]) -> tuple[dict[str, str], set[str]]:
    """Options with a value, by what they mean here, and flags. Short ones may stand together: ``-vb bucket``."""
    found: dict[str, str] = {}
    flags = set()
    rest = iter(words)
    for word in rest:
        if _ENDS_COMMAND.fullmatch(word):
            break
        if word.startswith("--"):
            flags.add(word.partition("=")[0])
        elif word.startswith("-"):
            for position, letter in enumerate(word[1:], start=1):
                if letter in _OF_JOLLYAE:
                    found[_OF_JOLLYAE[letter]] = word[position + 1 :] or next(rest, "")
                    break
                flags.add(f"-{letter}")
    return {name: value for name, value in found.items() if value}, flags


def _words_of_command(text: str) -> list[str]:
    """The words of the command. Lines that end in a backslash continue; comments may follow the backslash."""
    begin = re.search(r"\bjollyae(\.py)?\b", text)
    assert begin is not None
    command = ""
    for line in text[begin.end() :].splitlines():
        continued = re.match(r"(.*?)\\\s*(#.*)?$", line)
        command += (continued[1] if continued is not None else line) + " "
        if continued is None:
            break
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|<>()")
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:  # a quote that is not closed
        return command.split()


def _ignored(names: Iterable[str]) -> list[str]:
    """A note about what was not taken over, if anything."""
    found = ", ".join(sorted(names))
    return [f"Not taken over, because it has no meaning here: {found}."] if found else []


def _path(text: str) -> str:
    """An absolute path; ``~`` is the home directory, as a shell or a person means it."""
    return os.path.abspath(os.path.expanduser(text))
