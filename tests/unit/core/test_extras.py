"""How to install what is missing."""

from __future__ import annotations

import sys

import pytest

from s3_uploader.core.extras import installing


def test_it_is_installed_where_the_program_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first `pip` in the path belongs to some other Python."""
    monkeypatch.setattr(sys, "executable", "/opt/my programs/bin/python3")
    assert installing("sftp") == "'/opt/my programs/bin/python3' -m pip install 's3-spool-uploader[sftp]'"
    monkeypatch.setattr(sys, "executable", "")
    assert installing("sftp") == "pip install 's3-spool-uploader[sftp]'"
