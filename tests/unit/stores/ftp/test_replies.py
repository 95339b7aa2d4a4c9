"""What FTP servers answer, read as values."""

from __future__ import annotations

import pytest

from s3_uploader.stores.ftp.replies import Refused, parse_listed


@pytest.mark.parametrize("size", ["²", "4²", "1" * 5000, "-5", "5.0", ""])
def test_a_size_that_is_no_number_is_not_known(size: str) -> None:
    """A listing with a size that no number can be made of is a listing without that size."""
    listed = parse_listed(f"type=file;size={size}; name".encode("latin-1"))
    assert listed is not None
    assert (listed.name, listed.size) == ("name", None)


def test_a_reply_whose_code_is_no_number_has_none() -> None:
    """Superscripts are digits to Python, and no reply code."""
    assert Refused("22² what").code == 0
    assert Refused("550 No such file.").code == 550
