"""An SFTP server's name in messages and the ledger, which tells its directories apart."""

from __future__ import annotations

import pytest

from s3_uploader.stores.sftp.store import SftpStore


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "sftp.example"),
        (".", "sftp.example"),
        ("./", "sftp.example"),
        ("./up", "sftp.example/up"),
        ("up/", "sftp.example/up"),
        ("/srv/up", "sftp.example/srv/up"),
        (".up", "sftp.example/.up"),
        ("up.", "sftp.example/up."),
        ("..", "sftp.example/.."),
    ],
)
def test_the_directory_is_in_the_name(path: str, name: str) -> None:
    """A dot at either end of the path belongs to it: else the ledger would take two directories for one."""
    assert SftpStore(host="sftp.example", user="u", path=path).name == name
