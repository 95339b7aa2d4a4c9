"""The remedies for files that cannot be removed."""

from __future__ import annotations

import errno
import os

import pytest

from s3_uploader.core.errors import FAILING_DISK
from s3_uploader.spool.remedies import remedy, remedy_of


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM])
def test_remedy(number: int) -> None:
    """Each error has a remedy of its own: no talk of rights where the disk is read-only or full."""
    words = remedy(OSError(number, os.strerror(number)))
    assert ("user" in words) is (number in (errno.EACCES, errno.EPERM))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EUCLEAN])
def test_remedy_where_the_disk_does_not_work(number: int) -> None:
    """A disk or share that fails is not mended by rights."""
    error = OSError(number, os.strerror(number))
    assert remedy(error) == remedy_of(error, denied="rights") == FAILING_DISK


def test_no_remedy_is_made_up() -> None:
    """Where the cause is not known, nothing is advised."""
    assert remedy(OSError(errno.ENOSYS, "no such function")) == ""
