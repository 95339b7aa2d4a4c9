"""Reads the YAML file of s3: the section ``s3``, or the one used instead of it."""

from __future__ import annotations

import re
from typing import Any

from s3_uploader.config.older.found import SECRET_NAMES, SECRETS, Older, ignored

_AWS_HOST = re.compile(r"s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com")
_KNOWN = {"default_bucket", "bucket", "endpoint", "region", "tls"}
_SECTION = "s3"
_LINE = re.compile(r"""(\s*)['"]?(\w+)['"]?\s*:(?:\s+(?:"([^"\\]*)"|'([^']*)'|([^#\s]\S*))|\s*$|\s*#)""")
_BEYOND = tuple("&*!|>[{%@`")
"""How values begin that only a parser of YAML understands."""
_NOTHING = ("null", "Null", "NULL", "~")


def of_library(text: str) -> Older:
    """Translate the file."""
    values, sections = _chosen(_document(text))
    notes = [SECRETS] if values.keys() & SECRET_NAMES else []
    texts = {name: _text(value) for name, value in values.items()}
    odd = {name for name in _KNOWN - {"tls"} if values.get(name) is not None and not texts[name]}
    notes += ignored([*(values.keys() - _KNOWN - SECRET_NAMES), *odd])
    if sections:
        notes.append(f"Other sections were not taken over: {', '.join(sections)}.")
    notes.append("It was a library and had no spool. `RemoteStore.from_yaml` reads its file unchanged.")
    settings: dict[str, Any] = {}
    bucket = texts.get("default_bucket") or texts.get("bucket")
    if bucket:
        settings["bucket"] = bucket
    if texts.get("region"):
        settings["region"] = texts["region"]
    endpoint = texts.get("endpoint", "")
    region = _AWS_HOST.fullmatch(endpoint)
    if region is not None:
        settings["region"] = region[1]
    elif endpoint and endpoint != "s3.amazonaws.com":
        is_plain = str(values.get("tls", True)).lower() in ("false", "no", "off", "0")
        settings["endpoint_url"] = endpoint if "://" in endpoint else f"http{'' if is_plain else 's'}://{endpoint}"
    return Older("s3", settings, notes)


def _text(value: object) -> str:
    """A value as text; empty if it is not text."""
    return value if isinstance(value, str) else ""


def _chosen(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values of a connection, and the names of other sections that hold one."""
    sections = {
        str(name): {str(key): value for key, value in section.items()}
        for name, section in document.items()
        if isinstance(section, dict)
    }
    connections = [name for name, section in sections.items() if section.keys() & ({"default_bucket"} | SECRET_NAMES)]
    if _SECTION in sections:
        chosen = _SECTION
    elif document.keys() & ({"default_bucket"} | SECRET_NAMES) or not connections:
        rest = {str(name): value for name, value in document.items() if not isinstance(value, dict)}
        return rest, connections
    else:
        chosen = connections[0]
    return sections[chosen], [name for name in connections if name != chosen]


def _document(text: str) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        return _by_lines(text)

    class AsTexts(yaml.SafeLoader):
        """Does not convert names to numbers and dates: the bucket 0123 is not 83."""

    AsTexts.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        found = next(iter(yaml.load_all(text, Loader=AsTexts)), None)
    except (yaml.YAMLError, ValueError, RecursionError):
        return _by_lines(text)
    return found if isinstance(found, dict) else _by_lines(text)


def _by_lines(text: str) -> dict[str, Any]:
    """The same for a file with one value on each line. A value that needs a real YAML parser does not count as text."""
    document: dict[str, Any] = {}
    section, depth = document, 0
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        if len(found[1]) <= depth:
            section, depth = document, 0
        value = next((value for value in found.groups()[2:] if value is not None), None)
        if value is None:
            section = document.setdefault(found[2], {})
            if not isinstance(section, dict):
                section = document[found[2]] = {}
            depth = len(found[1])
        elif value not in _NOTHING:
            section[found[2]] = [value] if found[5] and value.startswith(_BEYOND) else value
    return document
