"""As which user a service runs: one that exists only while it runs, where the spool lets it; else the files' owner."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections import deque
from collections.abc import Sequence

import msgspec

from s3_uploader.deployment.needs import Needs

DEFAULT_USER = "s3-uploader"
_MOST_ENTRIES = 2000


class SpoolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the spools' owners and rights; of a large spool the first entries stand for all.

    :param owner: user of the topmost directory, as a name or number; ``None`` if a spool is not there.
    :param owner_owns_all: whether everything seen belongs to that user.
    :param others_read: whether any user may list every directory and read every file.
    :param others_take: whether any user may remove files from every directory.
    :param group: the one group whose members may do that everywhere and keep that right in new directories.
    """

    owner: str | None
    owner_owns_all: bool = True
    others_read: bool = False
    others_take: bool = False
    group: str | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """As whom the service runs.

    :param user: ``None`` for one that systemd makes up while the service runs.
    :param sees_writers: whether it owns all files, and so may ask the kernel about writers without a capability.
    """

    user: str | None
    group: str | None = None
    sees_writers: bool = False
    reason: str


def choose(needs: Needs, facts: SpoolFacts, *, wanted: str | None = None) -> Account:
    """The account for a service, with the reason as one sentence."""
    if wanted is not None:
        owns_all = facts.owner == wanted and facts.owner_owns_all
        return Account(user=wanted, sees_writers=owns_all, reason="The user that was asked for.")
    if facts.owner is None:
        reason = "The spool is not there yet; this user must be able to read its files and write its directories."
        return Account(user=DEFAULT_USER, reason=reason)
    if not needs.leaves:
        if not needs.takes and facts.others_read:
            return Account(user=None, reason="Files are only read, and any user may do that.")
        if facts.others_take and facts.others_read:
            return Account(user=None, reason="Any user may read and remove the files in the spool.")
        if facts.group is not None:
            reason = f"Members of the group {facts.group} may read and remove the files in the spool."
            return Account(user=None, group=facts.group, reason=reason)
    if needs.leaves:
        why = "what it writes outside its state directory must belong to somebody who stays"
    else:
        why = "only their owner may read and remove the files in the spool"
    reason = f"The owner of the spool; a user of its own (DynamicUser=yes) cannot be, since {why}."
    return Account(user=facts.owner, sees_writers=facts.owner_owns_all, reason=reason)


def facts_of(spools: Sequence[str]) -> SpoolFacts:
    """Look at the spools, following no links."""
    seen: list[os.stat_result] = []
    tops = []
    for spool in spools:
        try:
            tops.append(os.stat(spool))
            seen += _entries(spool)
        except OSError:
            return SpoolFacts(owner=None)
    owners = {each.st_uid for each in [*tops, *seen]}
    directories = [each for each in [*tops, *seen] if stat.S_ISDIR(each.st_mode)]
    files = [each for each in seen if stat.S_ISREG(each.st_mode)]
    return SpoolFacts(
        owner=user_name(tops[0].st_uid),
        owner_owns_all=len(owners) == 1,
        others_read=_all_have(directories, 0o005) and _all_have(files, 0o004),
        # In a sticky directory everybody may write, but remove only what is his.
        others_take=_all_have(directories, 0o007) and not _any_has(directories, stat.S_ISVTX),
        group=_sharing_group(directories, files),
    )


def home_of(user: str | None) -> str | None:
    """The home directory of a user, ``None`` if there is no such user."""
    try:
        return None if user is None else pwd.getpwnam(user).pw_dir
    except KeyError:
        return None


def user_name(uid: int) -> str:
    """The name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def may_write(user: str, directory: str) -> bool:
    """Whether a user may make files in a directory, as far as its owner and mode tell; yes if there is no telling."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        status = os.stat(directory)
    except (KeyError, OSError):
        return True
    if entry.pw_uid == 0:
        return True
    if entry.pw_uid == status.st_uid:
        wanted = 0o300
    elif status.st_gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        wanted = 0o030
    else:
        wanted = 0o003
    return status.st_mode & wanted == wanted


def _entries(top: str) -> list[os.stat_result]:
    found: list[os.stat_result] = []
    waiting = deque([top])
    while waiting and len(found) < _MOST_ENTRIES:
        with os.scandir(waiting.popleft()) as entries:
            for entry in entries:
                found.append(entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                if len(found) >= _MOST_ENTRIES:
                    break
    return found


def _sharing_group(directories: Sequence[os.stat_result], files: Sequence[os.stat_result]) -> str | None:
    groups = {each.st_gid for each in [*directories, *files]}
    # Without the set-group-id bit the next directory that a producer makes would belong to another group.
    shares = _all_have(directories, 0o070 | stat.S_ISGID) and _all_have(files, 0o040)
    if len(groups) != 1 or not shares or _any_has(directories, stat.S_ISVTX) or groups == {0}:
        return None
    number = groups.pop()
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _all_have(entries: Sequence[os.stat_result], bits: int) -> bool:
    return all(each.st_mode & bits == bits for each in entries)


def _any_has(entries: Sequence[os.stat_result], bits: int) -> bool:
    return any(each.st_mode & bits for each in entries)
