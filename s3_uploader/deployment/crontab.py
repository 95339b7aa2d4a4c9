"""The text for cron: a file for ``/etc/cron.d``, or the lines for a user's own crontab."""

from __future__ import annotations

from s3_uploader.deployment.escaping import cron_value, shell_word
from s3_uploader.deployment.plan import Plan

_PATH = "/usr/local/bin:/usr/bin:/bin"


def crontab(plan: Plan, *, user: str | None) -> str:
    """What cron reads; with ``user`` the form of ``/etc/cron.d``, which names one in each line."""
    lines = [
        "# Runs that overlap are no problem: the program has a lock of its own, and the second one steps aside with",
        "# exit code 0. cron mails what is printed; --quiet prints only what somebody should look at.",
        f"PATH={_PATH}",
    ]
    if plan.needs.uses_aws and plan.is_given:
        lines += [f"AWS_SHARED_CREDENTIALS_FILE={cron_value(plan.credentials)}"]
    elif plan.needs.uses_aws:
        lines += [
            "# Keys: in ~/.aws/credentials of the user, the role of the machine, or a file that it alone can read:",
            "# AWS_SHARED_CREDENTIALS_FILE=/path/to/credentials",
        ]
    if user is not None:
        lines += [
            "# The sixth column is the user; it must be able to read the spool's files and write its directories."
        ]
    words = [*plan.command, "run", "--quiet", *plan.subject]
    columns = [_schedule(plan.minutes), *([user] if user else []), " ".join(map(shell_word, words))]
    return "\n".join([*lines, " ".join(columns)]) + "\n"


def _schedule(minutes: int) -> str:
    if minutes == 1:
        return "* * * * *"
    if minutes < 60:
        return f"*/{minutes} * * * *"
    return f"0 */{minutes // 60} * * *" if minutes < 1440 else "0 0 * * *"
