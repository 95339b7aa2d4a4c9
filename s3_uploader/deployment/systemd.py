"""The text of systemd's units: a service and a timer for runs, a service for ``watch``."""

from __future__ import annotations

import math

from s3_uploader.deployment.escaping import argument, literal, word
from s3_uploader.deployment.plan import Plan
from s3_uploader.deployment.sandbox import sandbox

_WATCHDOG_SECONDS = 120
_STOP_SLACK_SECONDS = 20
_RUN_SLACK_SECONDS = 60
_LONGEST_DELAY_SECONDS = 300


def run_service(plan: Plan) -> str:
    """One run over the spool, started by the timer."""
    drain = plan.needs.drain_seconds
    lines = [f"# One run over the spool; started by {plan.name}.timer.", *_unit(plan), "[Service]", "Type=oneshot"]
    lines += [_start([*plan.command, *(["run"] if plan.settings or plan.files else []), *plan.subject])]
    if plan.needs.max_runtime_seconds is not None:
        longest = math.ceil(plan.needs.max_runtime_seconds + drain) + _RUN_SLACK_SECONDS
        lines += ["# max_runtime_seconds ends a run in good order; one that hangs is ended a little later."]
        lines += [f"TimeoutStartSec={longest}"]
    lines += [*_common(plan), *sandbox(plan)]
    return _text(lines)


def timer(plan: Plan) -> str:
    """What starts the runs."""
    delay = min(plan.minutes * 20, _LONGEST_DELAY_SECONDS)
    return _text(
        [
            "# A run that takes longer than its period is no problem: systemd starts no second one beside it.",
            "[Unit]",
            f"Description=Empty {literal(plan.spools)} {_rhythm(plan.minutes)}",
            "",
            "[Timer]",
            f"# {plan.second} seconds past: files of the minute before have settled by then (settle_seconds).",
            f"OnCalendar={_calendar(plan)}",
            "# Machines that share a destination do not all begin at once; each keeps its own delay.",
            f"RandomizedDelaySec={delay}s",
            "FixedRandomDelay=yes",
            "AccuracySec=1s",
            "# A run that was missed while the machine was off is made up for.",
            "Persistent=true",
            "",
            "[Install]",
            "WantedBy=timers.target",
        ]
    )


def watch_service(plan: Plan) -> str:
    """A service that ships files as they appear."""
    lines = [
        "# Ships files as they appear, instead of once in a while. A reload makes it read its configuration anew.",
        *_unit(plan),
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"WatchdogSec={_WATCHDOG_SECONDS}",
        "Restart=on-failure",
        "RestartSec=10",
        "# A wrong configuration does not get better by trying again.",
        "RestartPreventExitStatus=2",
        _start([*plan.command, "watch", *_listen(plan), *plan.subject]),
        "ExecReload=/bin/kill -HUP $MAINPID",
        *_common(plan),
        *sandbox(plan),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return _text(lines)


def _listen(plan: Plan) -> list[str]:
    return [] if plan.listen is None else ["--metrics-listen", plan.listen]


def _unit(plan: Plan) -> list[str]:
    lines = ["[Unit]", f"Description=Empty {literal(plan.spools)} into {_destination(plan)}"]
    lines += ["RequiresMountsFor=" + " ".join(map(word, plan.needs.mounts))]
    if not plan.needs.is_local:
        lines += ["Wants=network-online.target", "After=network-online.target"]
    return [*lines, ""]


def _destination(plan: Plan) -> str:
    return "object storage" if plan.needs.uses_aws else "a directory" if plan.needs.is_local else "a server"


def _common(plan: Plan) -> list[str]:
    drain = plan.needs.drain_seconds
    return [
        f"# A stop lets uploads finish for {drain:g} seconds (drain_seconds) before it cancels them.",
        f"TimeoutStopSec={math.ceil(drain) + _STOP_SLACK_SECONDS}",
        "# Stopped by systemctl, that is: in good order.",
        "SuccessExitStatus=143",
        "",
        *_account(plan),
        *_state(plan),
        "",
        *_secrets(plan),
        "",
    ]


def _account(plan: Plan) -> list[str]:
    account = plan.account
    lines = [f"# {account.reason}"]
    if account.user is None:
        lines += ["DynamicUser=yes"]
        return [*lines, f"SupplementaryGroups={account.group}"] if account.group else lines
    return [*lines, f"User={account.user}"]


def _state(plan: Plan) -> list[str]:
    if plan.needs.state is None:
        return []
    if plan.needs.state:
        return [f"StateDirectory={plan.needs.state}", "StateDirectoryMode=0700"]
    return [
        f"# Becomes /var/lib/{plan.name}; the program finds it in $STATE_DIRECTORY.",
        f"StateDirectory={plan.name}",
        "StateDirectoryMode=0700",
    ]


def _secrets(plan: Plan) -> list[str]:
    lines = []
    if plan.needs.uses_aws:
        lines += [
            "# Keys, in the form of ~/.aws/credentials: a file that only root can read, handed to this service alone.",
            f"LoadCredential=aws:{literal(plan.credentials)}",
        ]
        if not plan.is_given:
            lines += ["# Without that file: the role of the machine.", "SetCredential=aws:#"]
        lines += ["Environment=AWS_SHARED_CREDENTIALS_FILE=%d/aws"]
    if plan.needs.password_file is not None:
        lines += [
            "# The server's password, from a file that only root need be able to read.",
            f"LoadCredential=ftp:{literal(plan.needs.password_file)}",
            "Environment=S3_UPLOADER_DESTINATION__PASSWORD_FILE=%d/ftp",
        ]
    if plan.needs.private_key_file is not None:
        lines += [
            "# The private key for the server, from a file that only root need be able to read.",
            f"LoadCredential=sftp:{literal(plan.needs.private_key_file)}",
            "Environment=S3_UPLOADER_DESTINATION__PRIVATE_KEY_FILE=%d/sftp",
        ]
    return [
        *lines,
        "# AWS_REGION, AWS_ENDPOINT_URL, proxies and the like; no secrets, unless only root can read it.",
        f"EnvironmentFile=-{literal(plan.environment)}",
    ]


def _start(words: list[str]) -> str:
    return "ExecStart=" + " ".join([word(words[0]), *map(argument, words[1:])])


def _calendar(plan: Plan) -> str:
    if plan.minutes == 1:
        return f"*-*-* *:*:{plan.second:02d}"
    if plan.minutes < 60:
        return f"*-*-* *:0/{plan.minutes}:{plan.second:02d}"
    hours = f"0/{plan.minutes // 60}" if plan.minutes < 1440 else "00"
    return f"*-*-* {hours}:00:{plan.second:02d}"


def _rhythm(minutes: int) -> str:
    if minutes < 60:
        return "every minute" if minutes == 1 else f"every {minutes} minutes"
    return "every hour" if minutes == 60 else f"every {minutes // 60} hours"


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
