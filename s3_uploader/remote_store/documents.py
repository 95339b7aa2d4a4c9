"""S3's XML documents with repeated elements: tags, grants, parts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from s3_uploader.core.text import is_number
from s3_uploader.stores.s3.engines.base import unescape, xml_leaves

_TYPE = re.compile(rb"<(?:\w+:)?Grantee[^>]*?type=\"(\w{1,40})\"")


def elements(body: bytes, name: str) -> Iterator[bytes]:
    """The content of each element of that name. Such an element contains none of the same name."""
    tag = re.compile(rb"<(/?)(?:\w+:)?" + name.encode() + rb"(?:\s[^>]*)?>")
    begin: re.Match[bytes] | None = None
    for found in tag.finditer(body):
        if not found[1]:
            begin = begin or found
        elif begin is not None:
            yield body[begin.end() : found.start()]
            begin = None


def tags(body: bytes) -> dict[str, str]:
    """The tags in the answer to GetObjectTagging."""
    found = (xml_leaves(element) for element in elements(body, "Tag"))
    return {leaves["Key"]: leaves.get("Value", "") for leaves in found if "Key" in leaves}


def owner(body: bytes) -> str:
    """The owner in the answer to GetObjectAcl."""
    return next((xml_leaves(element).get("ID", "") for element in elements(body, "Owner")), "")


def grants(body: bytes) -> list[dict[str, object]]:
    """The grants in the answer to GetObjectAcl, in botocore's form."""
    found: list[dict[str, object]] = []
    for element in elements(body, "Grant"):
        leaves = xml_leaves(element)
        grantee: dict[str, str] = {name: leaves[name] for name in ("ID", "URI") if name in leaves}
        kind = _TYPE.search(element)
        if kind is not None:
            grantee["Type"] = unescape(kind[1].decode())
        found.append({"Grantee": grantee, "Permission": leaves.get("Permission", "")})
    return found


def part_sizes(body: bytes) -> tuple[int, str]:
    """The total size of the parts on a page of ListParts, and the marker of the next page, empty on the last one."""
    total = 0
    for element in elements(body, "Part"):
        size = xml_leaves(element).get("Size", "")
        total += int(size) if is_number(size) else 0
    leaves = xml_leaves(body)
    more = leaves.get("IsTruncated", "").strip().lower() == "true"
    return total, leaves.get("NextPartNumberMarker", "") if more else ""
