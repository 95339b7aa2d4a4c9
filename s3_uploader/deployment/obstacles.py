"""Finds what would keep the runs of a unit, or of a line for cron, from working now."""

from __future__ import annotations

import os
from collections.abc import Iterator

from s3_uploader.core.text import shown_name
from s3_uploader.deployment import account as accounts
from s3_uploader.deployment.environment import only_here, variables_in
from s3_uploader.deployment.plan import Plan
from s3_uploader.deployment.sandbox import hides


def obstacles(plan: Plan, *, is_cron: bool) -> Iterator[str]:
    """A sentence for each of them, with what to do."""
    missing = [path for path in plan.needs.written if not os.path.isdir(path)]
    what = {path: "is not a directory" if os.path.lexists(path) else "does not exist" for path in missing}
    yield from (f"{shown_name(path)} {what[path]}. No run can begin without it." for path in missing)
    if plan.needs.asks_for_endpoint:
        environment = {} if is_cron else variables_in(plan.environment)
        for name in only_here(os.environ, environment, ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")):
            yield (
                f"{name} is set here, but not for {'cron' if is_cron else 'the service'}, whose runs would ask Amazon. "
                "Set endpoint_url in the configuration."
            )
    user = plan.account.user
    if user is not None and not user.isdecimal() and not accounts.exists(user):
        yield f"There is no user {user}."
    yield from _unreadable(plan, is_cron=is_cron)
    home = accounts.home_of(user)
    if is_cron and plan.needs.state == "" and home is not None and not os.path.isdir(home):
        yield (
            f"The user {user} has no home directory ({shown_name(home)}), and the ledger would lie in it. "
            "Name another place with state_dir."
        )
    for path in plan.needs.metrics:
        if user is not None and os.path.isdir(path) and not accounts.may_write(user, path):
            yield (
                f"The user {user} cannot write {shown_name(path)}, so there will be no metrics; "
                "make it writable, or name another metrics_file."
            )
    if is_cron:
        yield from _unused_by_cron(plan)
    if not plan.needs.uses_aws:
        return
    if plan.is_given and not os.path.isfile(plan.credentials):
        yield f"{shown_name(plan.credentials)} does not exist. Nothing can be uploaded without it."
    elif os.path.isfile(plan.credentials) and os.stat(plan.credentials).st_mode & 0o004:
        yield f"Everybody can read {shown_name(plan.credentials)}. Run chmod 600 on it."


def _unreadable(plan: Plan, *, is_cron: bool) -> Iterator[str]:
    """Files that the user cannot read. systemd reads those with secrets itself, as root; under cron the user does."""
    if plan.account.group is not None:
        return
    own = dict.fromkeys([*(plan.files or (plan.source,)), *plan.configurations])
    needs = plan.needs
    others = [*needs.read]
    if is_cron:
        secrets = (needs.password_file, needs.private_key_file, needs.client_certificate_file)
        others += [path for path in (plan.credentials if plan.is_given else None, *secrets) if path is not None]
    user = plan.account.user
    who = f"The user {user}" if user else "The user of the service"
    for path in dict.fromkeys([*own, *others]):
        if not accounts.may_read(user, path, by_path=is_cron or not hides(path)):
            what = "No run can begin" if path in own else "Nothing can be uploaded"
            yield f"{who} cannot read {shown_name(path)}. {what} until its permissions allow that."


def _unused_by_cron(plan: Plan) -> Iterator[str]:
    """The files beside a configuration that systemd passes to a service."""
    if plan.needs.uses_aws and not plan.is_given and os.path.isfile(plan.credentials):
        yield (
            f"The runs of cron do not use {shown_name(plan.credentials)}. Name it with --credentials, and let the "
            "user that runs them read it."
        )
    path = plan.environment
    if variables_in(path) or (os.path.isfile(path) and not os.access(path, os.R_OK)):
        yield (
            f"The runs of cron do not use {shown_name(path)}. Set what it sets in the configuration, or on lines of "
            "their own above that of the run."
        )
