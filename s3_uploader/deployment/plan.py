"""Everything that the text of a unit or crontab depends on."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence

import msgspec

from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.text import counted
from s3_uploader.deployment.account import Account
from s3_uploader.deployment.needs import STATE_ROOT, Needs, is_within

_PERIOD = re.compile(r"(\d+)\s*(min|m|h|d)")
_MINUTES = {"m": 1, "min": 1, "h": 60, "d": 1440}
_SETTLE_SLACK = 5
_NAMED_SPOOLS = 3


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is run, as which user, with which files, and how often.

    :param name: of the units without a suffix, and of the state directory.
    :param command: the words that start the program.
    :param program: the directories that contain the program.
    :param source: the given configuration file or directory, absolute.
    :param files: the files of the directory that this plan is for; empty for all.
    :param configurations: every configuration file that is run.
    :param settings: values that override the configuration, each ``key=value``.
    :param credentials: a file of AWS credentials, readable by root alone.
    :param is_given: whether the user named that file; otherwise it is only expected there.
    :param environment: a file of environment variables.
    :param listen: where ``watch`` serves metrics.
    :param minutes: time between two runs; see :func:`minutes_of`.
    """

    name: str
    command: tuple[str, ...]
    program: tuple[str, ...]
    source: str
    files: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    needs: Needs
    account: Account
    credentials: str
    is_given: bool
    environment: str
    listen: str | None = None
    minutes: int = 1

    @property
    def subject(self) -> tuple[str, ...]:
        """The arguments of the command."""
        return (*(word for setting in self.settings for word in ("--set", setting)), *(self.files or (self.source,)))

    @property
    def spools(self) -> str:
        """The spools, for the description of a unit, which is one line of ``systemctl status``."""
        spools = self.needs.spools
        if len(spools) <= _NAMED_SPOOLS:
            return ", ".join(spools)
        return f"{', '.join(spools[:_NAMED_SPOOLS])} and {counted(len(spools) - _NAMED_SPOOLS, 'other spool')}"

    @property
    def second(self) -> int:
        """The second of a minute at which the files of the minute before have settled."""
        return min(int(self.needs.settle_seconds) + _SETTLE_SLACK, 59) if self.needs.settle_seconds < 60 else 0


def refuse_one_state(plans: Sequence[Plan]) -> None:
    """Make sure that services of different users have different state directories.

    systemd gives the whole directory to the user of the service that starts, also while another one is at work.

    :raises UsageProblem: if two of them have one.
    """
    for first, second in itertools.combinations(plans, 2):
        one, other = first.needs.state, second.needs.state
        is_one_user = first.account.user is not None and first.account.user == second.account.user
        if one and other and not is_one_user and (is_within(one, other) or is_within(other, one)):
            raise UsageProblem(
                f"The services {first.name} and {second.name} run as different users and would have one state "
                f"directory, {STATE_ROOT}{min(one, other, key=len)}, which systemd gives to one user.",
                hint="Name another state_dir for the spools of each user, or leave it out: then each service has "
                "its own.",
            )


def minutes_of(text: str) -> int:
    """Parse ``1min``, ``15min``, ``2h``, ``1d`` to minutes.

    The period must divide an hour or a day, so that runs are evenly spaced.

    :raises UsageProblem: if it is something else.
    """
    found = _PERIOD.fullmatch(text.strip())
    minutes = int(found[1]) * _MINUTES[found[2]] if found else 0
    if minutes and (60 % minutes == 0 if minutes < 60 else minutes % 60 == 0 and 1440 % minutes == 0):
        return minutes
    raise UsageProblem(
        f"--every {text}: this period does not divide an hour or a day.",
        hint="Take minutes that divide an hour (1min, 5min, 15min), hours that divide a day (2h), or 1d.",
    )


def name_of(config_file: str) -> str:
    """The name of a configuration's units: ``s3-uploader``, extended by the file's name."""
    stem = os.path.basename(config_file.rstrip("/")).partition(".")[0]
    own = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-").lower()
    return "s3-uploader" if own in ("", "config", "conf", "s3-uploader") else f"s3-uploader-{own}"
