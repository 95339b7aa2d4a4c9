"""Whether a server keeps the settings of objects: encryption, storage class, metadata, tags, ACL.

Many servers accept the headers and silently ignore them. So a small object is stored with them and read back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.text import quoted
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.engines.base import Answer, Request, xml_leaves

Ask = Callable[[Request], PendingRequest]

_META = "x-amz-meta-"
_CLASS = "x-amz-storage-class"
_SSE = "x-amz-server-side-encryption"
_KMS_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
_ACL = "x-amz-acl"
_TAGGING = "x-amz-tagging"
_PLAIN_HEADERS = {
    _SSE: "sse",
    _KMS_KEY: "sse_kms_key_id",
    _CLASS: "storage_class",
    "content-encoding": "content_encoding",
}
_DEFAULT_CLASS = "STANDARD"
_TAG = re.compile(rb"<(?:\w+:)?Tag>(.*?)</(?:\w+:)?Tag>", re.DOTALL)
_GRANT = re.compile(rb"<(?:\w+:)?Grant>(.*?)</(?:\w+:)?Grant>", re.DOTALL)
_GROUP = re.compile(rb"groups/global/(AllUsers|AuthenticatedUsers)")
_PERMISSION = re.compile(rb"<(?:\w+:)?Permission>(\w+)<")
_GRANTS_OF_ACL = {
    "private": set[tuple[str, str]](),
    "public-read": {("AllUsers", "READ")},
    "public-read-write": {("AllUsers", "READ"), ("AllUsers", "WRITE")},
    "authenticated-read": {("AuthenticatedUsers", "READ")},
}
"""The grants of canned ACLs to groups. The other ACLs grant to the owner of the bucket, who may be the writer."""


def check_kept(key: str, asked: Mapping[str, str], ask: Ask) -> list[Finding]:
    """Findings about an object that was stored with the headers ``asked``.

    :param ask: sends a request and waits until it is finished.
    """
    path = requests.encode_key(key)
    if not any(name in _PLAIN_HEADERS or name.startswith((_META, _TAGGING, _ACL)) for name in asked):
        return []
    looked = ask(requests.head_object(key, path))
    if looked.error is not None or looked.answer is None:
        return [_unknown("the settings of objects", "s3:GetObject")]
    findings = _headers_kept(asked, looked.answer.headers)
    if _TAGGING in asked:
        findings.append(_tags_kept(asked[_TAGGING], ask(_subresource("GetObjectTagging", key, path, "tagging"))))
    if asked.get(_ACL) in _GRANTS_OF_ACL:
        findings.append(_acl_kept(asked[_ACL], ask(_subresource("GetObjectAcl", key, path, "acl"))))
    return findings


def _headers_kept(asked: Mapping[str, str], found: Mapping[str, str]) -> list[Finding]:
    findings = []
    for header, setting in _PLAIN_HEADERS.items():
        wanted = asked.get(header)
        if wanted is None:
            continue
        given = found.get(header, _DEFAULT_CLASS if header == _CLASS else "")
        # For a key that was named by its id or an alias, AWS answers with the ARN.
        is_kept = given == wanted or (header == _KMS_KEY and (given.endswith(f"/{wanted}") or "alias" in wanted))
        findings.append(_kept(setting, wanted) if is_kept else _ignored(setting, wanted, given))
    metadata = {name: value for name, value in asked.items() if name.startswith(_META)}
    lost = [name for name, value in metadata.items() if found.get(name) != value]
    if lost:
        name = lost[0]
        wanted = f"{name.removeprefix(_META)}={metadata[name]}"
        findings.append(_ignored("metadata", wanted, found.get(name, "")))
    elif metadata:
        findings.append(_kept("metadata", ", ".join(name.removeprefix(_META) for name in metadata)))
    return findings


def _tags_kept(asked: str, call: PendingRequest) -> Finding:
    wanted = dict(parse_qsl(asked, keep_blank_values=True))
    answer = _answer(call)
    if answer is None:
        return _unknown("the tags", "s3:GetObjectTagging")
    found = {}
    for element in _TAG.findall(answer.body):
        leaves = xml_leaves(element)
        found[leaves.get("Key", "")] = leaves.get("Value", "")
    text = ", ".join(f"{name}={value}" for name, value in wanted.items())
    if found == wanted:
        return _kept("tags", text)
    return _ignored("tags", text, ", ".join(f"{name}={value}" for name, value in found.items()))


def _acl_kept(asked: str, call: PendingRequest) -> Finding:
    answer = _answer(call)
    if answer is None:
        return _unknown("the ACL", "s3:GetObjectAcl")
    found = set()
    for element in _GRANT.findall(answer.body):
        group, permission = _GROUP.search(element), _PERMISSION.search(element)
        if group and permission:
            found.add((group[1].decode(), permission[1].decode()))
    if found == _GRANTS_OF_ACL[asked]:
        return _kept("acl", asked)
    granted = ", ".join(f"{permission} to {group}" for group, permission in sorted(found))
    return _ignored("acl", asked, f"it grants {granted}" if granted else "it grants nothing to others")


def _subresource(operation: str, key: str, path: str, name: str) -> Request:
    return Request(operation=operation, method="GET", key=key, path=path, query=((name, ""),))


def _answer(call: PendingRequest) -> Answer | None:
    """The answer with a document; ``None`` if the server, a permission or the engine does not provide one."""
    return call.answer if call.error is None and call.answer is not None and call.answer.body else None


def _kept(setting: str, value: str) -> Finding:
    return Finding(Severity.OK, setting, f"{quoted(value)}: the server keeps it")


def _ignored(setting: str, wanted: str, found: str) -> Finding:
    return Finding(
        Severity.WARNING,
        setting,
        f"the server ignored it: {quoted(wanted)} was requested, "
        + (f"and the object has {quoted(found)}" if found else "and the object has none"),
        "Files are shipped, but not as the configuration says. Remove the setting, or configure the server to "
        "support it.",
    )


def _unknown(what: str, permission: str) -> Finding:
    return Finding(
        Severity.NOTE,
        "settings",
        f"{what} cannot be read back, so it is unknown whether the server keeps it",
        f"Uploads do not need this permission ({permission}). Inspect an object yourself.",
    )
