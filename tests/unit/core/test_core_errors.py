"""The remedies for what the system refuses in the spool."""

from __future__ import annotations

import errno
import os

import pytest

from s3_uploader.core.errors import FAILING_DISK, remedy_of


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM])
def test_remedy(number: int) -> None:
    """Each error has a remedy of its own: no talk of rights where the disk is read-only or full."""
    words = remedy_of(OSError(number, os.strerror(number)), denied="rights")
    assert words
    assert (words == "rights") is (number in (errno.EACCES, errno.EPERM))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EUCLEAN])
def test_remedy_where_the_disk_does_not_work(number: int) -> None:
    """A disk or share that fails is not mended by rights."""
    assert remedy_of(OSError(number, os.strerror(number)), denied="rights") == FAILING_DISK


def test_no_remedy_is_made_up() -> None:
    """Where the cause is not known, nothing is advised."""
    assert remedy_of(OSError(errno.ENOSYS, "no such function"), denied="rights") == ""
