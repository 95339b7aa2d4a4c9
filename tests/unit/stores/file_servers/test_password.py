"""Where the password of an FTP user is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.stores.file_servers.password import find_password

VARIABLE = "S3_UPLOADER_FTP_PASSWORD"


def find(user: str = "u", *, file_name: str | None = None, password: str | None = None) -> str:
    """The password with the usual variable."""
    return find_password(user, variable=VARIABLE, file_name=file_name, password=password)


def test_password_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password comes from the configuration, a file or the environment; a missing one is one clear sentence."""
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "password").write_text("from file\n")
    assert find(password="given") == "given"
    assert find(file_name=str(tmp_path / "password")) == "from file"
    assert find("anonymous") == "anonymous@"
    with pytest.raises(StoreError, match=r"no password for the FTP user u\. Put it into .* S3_UPLOADER_FTP_PASSWORD"):
        find()
    monkeypatch.setenv(VARIABLE, "from environment")
    assert find() == "from environment"
    with pytest.raises(StoreError, match="cannot be read: no such file"):
        find(file_name=str(tmp_path / "missing"))


def test_a_file_that_is_no_password(tmp_path: Path) -> None:
    """A file of any length, as a device that never ends, is not read as a whole."""
    for path in (Path("/dev/zero"), tmp_path / "long"):
        (tmp_path / "long").write_text("x" * 5000)
        with pytest.raises(StoreError, match="has more than 4,096 characters") as caught:
            find(file_name=str(path))
        assert caught.value.scope is Scope.DESTINATION
    (tmp_path / "password").write_text("x" * 4096 + "\r\n")
    assert find(file_name=str(tmp_path / "password")) == "x" * 4096
