"""Errors go from process to process; and the remedies for what the system refuses in the spool."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import resource

import pytest

from s3_uploader.core.errors import (
    FAILING_DISK,
    ConfigError,
    LockHeld,
    Scope,
    StateError,
    StoreError,
    UploaderError,
    remedy_of,
)
from s3_uploader.core.limits import RAISE_SIZE_LIMIT
from s3_uploader.remote_store import ObjectExists, ObjectNotFound, RemoteStoreError
from s3_uploader.remote_store.botocore_errors import NoConnection


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM])
def test_remedy(number: int) -> None:
    """Each error has a remedy of its own: no talk of permissions where the disk is read-only or full."""
    words = remedy_of(OSError(number, os.strerror(number)), denied="permissions")
    assert words
    assert (words == "permissions") is (number in (errno.EACCES, errno.EPERM))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EUCLEAN])
def test_remedy_where_the_disk_does_not_work(number: int) -> None:
    """A disk or share that fails is not mended by permissions."""
    assert remedy_of(OSError(number, os.strerror(number)), denied="permissions") == FAILING_DISK


@pytest.mark.parametrize(("limit", "words"), [(1000, RAISE_SIZE_LIMIT), (resource.RLIM_INFINITY, "")])
def test_remedy_of_a_file_that_is_too_large(limit: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of this process can be raised; that of a file system (FAT: 4 GiB) cannot."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert remedy_of(OSError(errno.EFBIG, "File too large"), denied="permissions") == words


def test_no_remedy_is_made_up() -> None:
    """Where the cause is not known, nothing is advised."""
    assert remedy_of(OSError(errno.ENOSYS, "no such function"), denied="permissions") == ""


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("config.json", ["unknown key colour", "no bucket"], hint="Correct it."),
        LockHeld("Another run has the spool.", holder="process 7", pid=7, held_since=3.0),
        StateError("The disk is full.", hint="Make some room.", code="DiskFull"),
        StoreError("Slow down.", code="SlowDown", retryable=True, scope=Scope.DESTINATION, retry_after=2.0),
        RemoteStoreError("No.", status=403, code="AccessDenied"),
        ObjectNotFound("There is none.", hint="Look elsewhere.", status=404, code="NoSuchKey"),
        ObjectExists("There is one.", status=412),
        NoConnection("Nobody answers.", hint="Wait.", code="Unreachable"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_reach_another_process(error: UploaderError) -> None:
    """An error that a worker of the program's own pool meets is the same in the process that waits for it."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
