"""Makes the text for cron: a file for ``/etc/cron.d``, or the lines of a user's own crontab."""

from __future__ import annotations

from s3_uploader.deployment.escaping import cron_value, shell_word
from s3_uploader.deployment.plan import Plan
from s3_uploader.deployment.templates import filled

_PATH = "/usr/local/bin:/usr/bin:/bin"


_CRONTAB = """\
# Runs that overlap are no problem: the program has a lock of its own, and the second one steps aside with
# exit code 0. cron mails what is printed; --quiet prints only what somebody should look at.
PATH={path}
{credentials}
{about_user}
{schedule} {user}{command}
"""


def crontab(plan: Plan, *, user: str | None) -> str:
    """Make the text for cron; with ``user`` in the form of ``/etc/cron.d``, whose lines name a user."""
    words = [*plan.command, "run", "--quiet", *plan.subject]
    about_user = "# The sixth column is the user; it must be able to read the spool's files and write its directories."
    return filled(
        _CRONTAB,
        path=_PATH,
        credentials=_credentials(plan),
        about_user=[about_user] if user else [],
        schedule=_schedule(plan.minutes),
        user=f"{user} " if user else "",
        command=" ".join(map(shell_word, words)),
    )


def _credentials(plan: Plan) -> list[str]:
    if not plan.needs.uses_aws:
        return []
    if plan.is_given:
        return [f"AWS_SHARED_CREDENTIALS_FILE={cron_value(plan.credentials)}"]
    return [
        "# Keys: in ~/.aws/credentials of the user, the role of the machine, or a file that it alone can read:",
        "# AWS_SHARED_CREDENTIALS_FILE=/path/to/credentials",
    ]


def _schedule(minutes: int) -> str:
    if minutes == 1:
        return "* * * * *"
    if minutes < 60:
        return f"*/{minutes} * * * *"
    return f"0 */{minutes // 60} * * *" if minutes < 1440 else "0 0 * * *"
