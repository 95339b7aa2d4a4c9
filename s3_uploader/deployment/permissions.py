"""Finds out what a user may do with the files of a spool, by their owners and modes.

A confined service has no other permissions.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections import deque
from collections.abc import Sequence

import msgspec

from s3_uploader.core.text import shown_name

_MOST_ENTRIES = 2000
_ACL = "system.posix_acl_access"


class Entry(msgspec.Struct, frozen=True):
    """A file or directory of a spool.

    :param sticky_for: the owner of the parent directory if that has the sticky bit.
    """

    path: str
    status: os.stat_result
    sticky_for: int | None = None
    has_acl: bool = False

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)


def entries_of(spool: str) -> list[Entry]:
    """Iterate over the spool's directory and its entries, without following links; of a large spool only the first.

    :raises OSError: if it does not exist or cannot be read.
    """
    found = [Entry(spool, os.stat(spool), has_acl=_has_acl(spool))]
    waiting = deque(found)
    while waiting and len(found) < _MOST_ENTRIES:
        above = waiting.popleft()
        sticky_for = above.status.st_uid if above.status.st_mode & stat.S_ISVTX else None
        with os.scandir(above.path) as scanned:
            for each in scanned:
                if each.is_symlink():
                    continue
                entry = Entry(each.path, each.stat(follow_symlinks=False), sticky_for, _has_acl(each.path))
                found.append(entry)
                if entry.is_directory:
                    waiting.append(entry)
                if len(found) >= _MOST_ENTRIES:
                    break
    return found


def obstacle(entries: Sequence[Entry], user: str, *, takes: bool) -> str:
    """Describe the first entry that a user without capabilities may not handle; empty if there is none.

    root is a user like others here: a confined service lacks the capability to ignore modes.

    :param takes: whether files are removed, and not only read.
    """
    found = _ids(user)
    if found is None:
        return ""  # a user that does not exist yet, whose groups are unknown
    uid, groups = found
    for entry in entries:
        if entry.has_acl:
            continue  # the mode alone does not decide
        wanted = (0o7 if takes else 0o5) if entry.is_directory else 0o4 if stat.S_ISREG(entry.status.st_mode) else 0
        is_his = uid in (entry.status.st_uid, entry.sticky_for)
        if _granted(entry.status, uid, groups) & wanted != wanted or (
            takes and entry.sticky_for is not None and not is_his
        ):
            return (
                f"{shown_name(entry.path)} belongs to {user_name(entry.status.st_uid)}:"
                f"{_group_name(entry.status.st_gid)} with mode {stat.S_IMODE(entry.status.st_mode):o}"
            )
    return ""


def user_name(uid: int) -> str:
    """The name of a user, or the number if there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _ids(user: str) -> tuple[int, frozenset[int]] | None:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        return (int(user), frozenset()) if user.isdecimal() else None
    return entry.pw_uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))


def _granted(status: os.stat_result, uid: int, groups: frozenset[int]) -> int:
    mode = status.st_mode
    return mode >> 6 & 7 if uid == status.st_uid else mode >> 3 & 7 if status.st_gid in groups else mode & 7


def _has_acl(path: str) -> bool:
    try:
        os.getxattr(path, _ACL, follow_symlinks=False)
    except OSError as error:
        return error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOENT)
    except AttributeError:
        return False
    return True
