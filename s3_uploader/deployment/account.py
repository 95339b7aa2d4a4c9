"""Chooses the user of a service: one that exists only while it runs, if the spool allows it, else the files' owner."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Sequence

import msgspec

from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.text import shown_name
from s3_uploader.deployment.needs import Needs
from s3_uploader.deployment.permissions import Entry, entries_of, obstacle, user_name

DEFAULT_USER = "s3-uploader"


class SpoolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The observed owners and modes of the spools; of a large spool only the first entries are examined.

    :param owner: user of the topmost directory, as a name or number; ``None`` if a spool does not exist.
    :param owner_owns_all: whether all examined entries belong to that user.
    :param others_read: whether any user may list every directory and read every file.
    :param others_take: whether any user may remove files from every directory.
    :param group: the one group whose members may do that everywhere, also in new directories.
    :param entries: the examined entries.
    """

    owner: str | None
    owner_owns_all: bool = True
    others_read: bool = False
    others_take: bool = False
    group: str | None = None
    entries: tuple[Entry, ...] = ()


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The account of a service.

    :param user: ``None`` for a dynamic user of systemd.
    :param sees_writers: whether it owns all files, and so can ask the kernel about writers without a capability.
    """

    user: str | None
    group: str | None = None
    sees_writers: bool = False
    reason: str


def choose(
    needs: Needs, facts: SpoolFacts, *, wanted: str | None = None, force: bool = False, is_confined: bool = True
) -> Account:
    """Choose the account for a service, and give the reason as a sentence.

    :param force: take the requested user even if its permissions do not seem to suffice.
    :param is_confined: root has no capabilities then, and no more permissions than other users.
    :raises UsageProblem: if no user, or not the requested one, has the permissions that are needed.
    """
    if wanted is not None:
        if not force:
            _insist(needs, facts, wanted, is_confined)
        owns_all = facts.owner == wanted and facts.owner_owns_all
        return Account(user=wanted, sees_writers=owns_all, reason="The requested user.")
    if facts.owner is None:
        reason = "The spool does not exist yet. This user must be able to read its files and write its directories."
        return Account(user=DEFAULT_USER, reason=reason)
    if not needs.leaves:
        if not needs.takes and facts.others_read:
            return Account(user=None, reason="Files are only read, and any user may read them.")
        if facts.others_take and facts.others_read:
            return Account(user=None, reason="Any user may read and remove the files in the spool.")
        if facts.group is not None:
            reason = f"Members of the group {facts.group} may read and remove the files in the spool."
            return Account(user=None, group=facts.group, reason=reason)
    if needs.leaves:
        why = "what it writes outside its state directory must belong to a permanent user"
    else:
        why = "only their owner may read and remove the files in the spool"
    owners = dict.fromkeys([facts.owner, *(user_name(entry.status.st_uid) for entry in facts.entries)])
    able = [owner for owner in owners if not _obstacle(needs, facts, owner, is_confined)]
    if not able:
        _insist(needs, facts, facts.owner, is_confined)
    whose = "The owner of the spool" if able[0] == facts.owner else "The owner of the files in the spool"
    reason = f"{whose}; a user of its own (DynamicUser=yes) cannot be, since {why}."
    return Account(user=able[0], sees_writers=facts.owner_owns_all, reason=reason)


def _obstacle(needs: Needs, facts: SpoolFacts, user: str, is_confined: bool) -> str:
    return obstacle(facts.entries, user, takes=needs.takes) if is_confined or user != "root" else ""


def _insist(needs: Needs, facts: SpoolFacts, user: str, is_confined: bool) -> None:
    found = _obstacle(needs, facts, user, is_confined)
    if found:
        what = "remove" if needs.takes else "read"
        raise UsageProblem(
            f"A service of the user {user} could not {what} all files of {shown_name(needs.spools[0])}: {found}"
            + (", and a service of root has no more permissions than that." if user == "root" else "."),
            hint="Let one user own all of them (chown -R USER), or let a group share them (chgrp -R GROUP and "
            "chmod -R g+rwXs), or name another user with --user; --force takes it as it is.",
        )


def facts_of(spools: Sequence[str]) -> SpoolFacts:
    """Examine the spools, without following links."""
    seen: list[Entry] = []
    tops = []
    for spool in spools:
        try:
            found = entries_of(spool)
        except OSError:
            return SpoolFacts(owner=None)
        tops.append(found[0])
        seen += found
    statuses = [each.status for each in seen]
    directories = [each.status for each in seen if each.is_directory]
    files = [each.status for each in seen if stat.S_ISREG(each.status.st_mode)]
    return SpoolFacts(
        owner=user_name(tops[0].status.st_uid),
        owner_owns_all=len({each.st_uid for each in statuses}) == 1,
        others_read=_all_have(directories, 0o005) and _all_have(files, 0o004),
        # In a sticky directory everybody may write, but remove only files of their own.
        others_take=_all_have(directories, 0o007) and not _any_has(directories, stat.S_ISVTX),
        group=_sharing_group(directories, files),
        entries=tuple(seen),
    )


def home_of(user: str | None) -> str | None:
    """The home directory of a user, ``None`` if there is no such user."""
    try:
        return None if user is None else pwd.getpwnam(user).pw_dir
    except KeyError:
        return None


def with_name(user: str) -> str:
    """Return the user if cron takes it.

    :raises UsageProblem: if it is a number: cron ignores a file with a line for a user without a name.
    """
    if user.isdecimal():
        raise UsageProblem(
            f"The user {user} has no name, and cron takes only names.",
            hint=f"Give it one (useradd --uid {user} NAME), or use systemd (--kind timer).",
        )
    return user


def may_write(user: str, directory: str) -> bool:
    """Whether a user may create files in a directory, by its owner and mode; ``True`` if unknown."""
    return _may(user, directory, 0o3)


def exists(user: str) -> bool:
    """Whether there is a user of that name."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def may_read(user: str | None, path: str, *, by_path: bool) -> bool:
    """Whether a user may read a file or directory, by owners and modes; ``True`` if unknown.

    :param user: ``None`` for a user of systemd's own, who owns nothing.
    :param by_path: the directories above count too; those of a file that is mounted into a service do not.
    """
    above = os.path.dirname(path)
    while by_path and above != os.path.dirname(above):
        if not _may(user, above, 0o1):
            return False
        above = os.path.dirname(above)
    return _may(user, path, 0o5 if os.path.isdir(path) else 0o4)


def _may(user: str | None, path: str, bits: int) -> bool:
    try:
        status = os.stat(path)
        if user is None:
            return status.st_mode & bits == bits
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OSError):
        return True
    if entry.pw_uid == 0:
        return True
    if entry.pw_uid == status.st_uid:
        bits <<= 6
    elif status.st_gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        bits <<= 3
    return status.st_mode & bits == bits


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
