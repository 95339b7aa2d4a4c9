"""Makes the text of systemd units: a service and a timer for runs, a service for ``watch``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from s3_uploader.deployment.escaping import argument, literal, word
from s3_uploader.deployment.plan import Plan
from s3_uploader.deployment.sandbox import sandbox
from s3_uploader.deployment.templates import filled

_WATCHDOG_SECONDS = 120
_STOP_SLACK_SECONDS = 20
_RUN_SLACK_SECONDS = 60
_LONGEST_DELAY_SECONDS = 300


_RUN_SERVICE = """\
# One run over the spool; started by {name}.timer.
[Unit]
Description=Empty {spools} into {destination}
RequiresMountsFor={mounts}
{network}

[Service]
Type=oneshot
ExecStart={start}
{longest_run}
# A stop lets uploads finish for {drain} seconds (drain_seconds) before it cancels them.
TimeoutStopSec={stop_seconds}
# Stopped by systemctl, that is: in good order.
SuccessExitStatus=143

{account}
{state}

{secrets}

{sandbox}
"""

_TIMER = """\
# A run may take longer than its period: systemd does not start a second one.
[Unit]
Description=Empty {spools} {rhythm}

[Timer]
# {second} seconds past: files of the minute before have settled by then (settle_seconds).
OnCalendar={calendar}
# Machines that share a destination do not start at the same moment. Each keeps its own delay.
RandomizedDelaySec={delay}s
FixedRandomDelay=yes
AccuracySec=1s
# A run that was missed while the machine was off is started at boot.
Persistent=true

[Install]
WantedBy=timers.target
"""

_WATCH_SERVICE = """\
# Ships files as they appear. A reload makes it read its configuration again.
[Unit]
Description=Empty {spools} into {destination}
RequiresMountsFor={mounts}
{network}

[Service]
Type=notify
NotifyAccess=main
WatchdogSec={watchdog_seconds}
Restart=on-failure
RestartSec=10
# Restarting does not help against a wrong configuration.
RestartPreventExitStatus=2
ExecStart={start}
ExecReload=/bin/kill -HUP $MAINPID
# A stop lets uploads finish for {drain} seconds (drain_seconds) before it cancels them.
TimeoutStopSec={stop_seconds}
# Stopped by systemctl, that is: in good order.
SuccessExitStatus=143

{account}
{state}

{secrets}

{sandbox}

[Install]
WantedBy=multi-user.target
"""


def run_service(plan: Plan) -> str:
    """Make the service of one run, started by the timer."""
    words = [*plan.command, *(["run"] if plan.settings or plan.files else []), *plan.subject]
    return filled(_RUN_SERVICE, name=plan.name, start=_start(words), longest_run=_longest_run(plan), **_common(plan))


def timer(plan: Plan) -> str:
    """Make the timer that starts the runs."""
    return filled(
        _TIMER,
        spools=literal(plan.spools),
        rhythm=_rhythm(plan.minutes),
        second=plan.second,
        calendar=_calendar(plan),
        delay=min(plan.minutes * 20, _LONGEST_DELAY_SECONDS),
    )


def watch_service(plan: Plan) -> str:
    """Make the service that ships files as they appear."""
    words = [*plan.command, "watch", *_listen(plan), *plan.subject]
    return filled(
        _WATCH_SERVICE, watchdog_seconds=_WATCHDOG_SECONDS, start=_start(words), **_common(plan, reloads=True)
    )


def _common(plan: Plan, *, reloads: bool = False) -> dict[str, str | int | Sequence[str]]:
    """The lines that both services share."""
    drain = plan.needs.drain_seconds
    is_networked = not plan.needs.is_local
    return {
        "spools": literal(plan.spools),
        "destination": _destination(plan),
        "mounts": " ".join(map(word, plan.needs.mounts)),
        "network": ["Wants=network-online.target", "After=network-online.target"] if is_networked else [],
        "drain": f"{drain:g}",
        "stop_seconds": math.ceil(drain) + _STOP_SLACK_SECONDS,
        "account": _account(plan),
        "state": _state(plan),
        "secrets": _secrets(plan),
        "sandbox": sandbox(plan, reloads=reloads),
    }


def _longest_run(plan: Plan) -> list[str]:
    if plan.needs.max_runtime_seconds is None:
        return []
    longest = math.ceil(plan.needs.max_runtime_seconds + plan.needs.drain_seconds) + _RUN_SLACK_SECONDS
    return [
        "# max_runtime_seconds ends a run in good order. A run that hangs is killed a little later.",
        f"TimeoutStartSec={longest}",
    ]


def _listen(plan: Plan) -> list[str]:
    return [] if plan.listen is None else ["--metrics-listen", plan.listen]


def _destination(plan: Plan) -> str:
    return "object storage" if plan.needs.uses_aws else "a directory" if plan.needs.is_local else "a server"


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
            "# Keys, in the form of ~/.aws/credentials: a file that only root can read, passed to this service alone.",
            f"LoadCredential=aws:{literal(plan.credentials)}",
        ]
        if not plan.is_given:
            lines += ["# Without that file: the role of the machine.", "SetCredential=aws:#"]
        lines += ["Environment=AWS_SHARED_CREDENTIALS_FILE=%d/aws"]
    if plan.needs.password_file is not None:
        lines += [
            "# The server's password, from a file that only root has to be able to read.",
            f"LoadCredential=ftp:{literal(plan.needs.password_file)}",
            "Environment=S3_UPLOADER_DESTINATION__PASSWORD_FILE=%d/ftp",
        ]
    if plan.needs.private_key_file is not None:
        lines += [
            "# The private key for the server, from a file that only root has to be able to read.",
            f"LoadCredential=sftp:{literal(plan.needs.private_key_file)}",
            "Environment=S3_UPLOADER_DESTINATION__PRIVATE_KEY_FILE=%d/sftp",
        ]
    if plan.needs.client_certificate_file is not None:
        lines += [
            "# The client certificate with its private key, from a file that only root has to be able to read.",
            f"LoadCredential=client:{literal(plan.needs.client_certificate_file)}",
            "Environment=S3_UPLOADER_DESTINATION__CLIENT_CERTIFICATE_FILE=%d/client",
        ]
    return [
        *lines,
        "# AWS_REGION, AWS_ENDPOINT_URL, proxies and the like. Put secrets here only if only root can read it.",
        f"EnvironmentFile=-{literal(plan.environment)}",
    ]


def _start(words: list[str]) -> str:
    return " ".join([word(words[0]), *map(argument, words[1:])])


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
