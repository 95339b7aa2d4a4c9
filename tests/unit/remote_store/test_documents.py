"""XML answers with repeated elements: tags, permissions, parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.remote_store import documents

ACL = b"""<?xml version="1.0"?><AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>me</ID>
<DisplayName>Me</DisplayName></Owner><AccessControlList>
<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>me</ID></Grantee>
<Permission>FULL_CONTROL</Permission></Grant>
<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">
<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>
</AccessControlList></AccessControlPolicy>"""


def test_tags() -> None:
    """Tags are read with what XML makes of their characters."""
    body = (
        b"<Tagging><TagSet><Tag><Key>a&amp;b</Key><Value>1</Value></Tag>"
        b"<Tag><Key>empty</Key><Value></Value></Tag></TagSet></Tagging>"
    )
    assert documents.tags(body) == {"a&b": "1", "empty": ""}
    assert documents.tags(b"") == {}


def test_rights() -> None:
    """An ACL is its owner and the permissions of each grantee."""
    assert documents.owner(ACL) == "me"
    assert documents.grants(ACL) == [
        {"Grantee": {"ID": "me", "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"},
        {
            "Grantee": {"URI": "http://acs.amazonaws.com/groups/global/AllUsers", "Type": "Group"},
            "Permission": "READ",
        },
    ]
    assert documents.owner(b"<nothing/>") == ""


def test_parts() -> None:
    """The sizes of the parts are added up, page by page."""
    page = (
        b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>"
        b"<Part><Size>5</Size></Part><Part><Size>7</Size></Part></ListPartsResult>"
    )
    assert documents.part_sizes(page) == (12, "2")
    assert documents.part_sizes(page.replace(b"true", b"false")) == (12, "")
    assert documents.part_sizes(b"<Part><Size>" + b"9" * 5000 + b"</Size></Part>") == (0, "")


@given(st.binary(max_size=200))
def test_anything_may_come(body: bytes) -> None:
    """No answer of a server breaks the reader."""
    documents.tags(body)
    documents.grants(b"<Grant>" + body + b"</Grant>")
    documents.part_sizes(b"<Part>" + body + b"</Part>")
