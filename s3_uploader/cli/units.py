"""The command ``units``: print or install systemd units or a crontab."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from s3_uploader.cli.arguments import UnitOptions
from s3_uploader.cli.directory import Named, files_in, is_directory, refuse_shared
from s3_uploader.cli.frame import load, together
from s3_uploader.cli.output import print_json, print_lines
from s3_uploader.config import Config
from s3_uploader.config.loading import included_files
from s3_uploader.config.overrides import of_environment
from s3_uploader.core.errors import ConfigError, UsageProblem
from s3_uploader.core.shares import INDEXES, chosen
from s3_uploader.core.text import shown_name
from s3_uploader.deployment import account as accounts
from s3_uploader.deployment.account import Account
from s3_uploader.deployment.crontab import crontab
from s3_uploader.deployment.environment import only_here, variables_in
from s3_uploader.deployment.installing import UnitFile, install, sealed
from s3_uploader.deployment.needs import SECRET_FILES, STATE_ROOT, Needs, needs_of
from s3_uploader.deployment.obstacles import obstacles
from s3_uploader.deployment.plan import Plan, minutes_of, name_of, refuse_one_state
from s3_uploader.deployment.sandbox import hides
from s3_uploader.deployment.systemd import run_service, timer, watch_service

_SYSTEMD = "/etc/systemd/system"
_CRON = "/etc/cron.d"


def units(config_file: str, options: UnitOptions) -> int:
    """Print the files, or install them and say what to do next."""
    plans = _plans(config_file, options)
    if len(plans) > 1 and options.kind == "crontab":
        users = ", ".join(shown_name(plan.account.user or accounts.DEFAULT_USER) for plan in plans)
        raise UsageProblem(
            f"These spools are emptied by different users ({users}), and a crontab is one user's.",
            hint="Use --kind cron, whose lines name their users.",
        )
    by_plan = [files_of(plan, kind=options.kind, directory=options.directory) for plan in plans]
    files = [file for each in by_plan for file in each]
    if options.install and options.kind == "crontab":
        raise UsageProblem(
            "A user's crontab cannot be installed.", hint="Use --kind cron, or add the lines with crontab -e."
        )
    outcomes = install(files, force=options.force) if options.install else {}
    warnings = _warnings_of_environment(config_file, options)
    warnings += dict.fromkeys(warning for plan in plans for warning in obstacles(plan, is_cron=_is_cron(options)))
    steps = list(dict.fromkeys(step for plan in plans for step in _next_steps(plan, options)))
    # What is done once comes before what is done for each.
    steps.sort(key=lambda step: not step.startswith(("useradd", "mkdir", "install", "systemctl daemon-reload")))
    if options.as_json:
        described = [
            {
                "name": plan.name,
                "user": plan.account.user,
                "reason": plan.account.reason,
                "files": [
                    {"path": each.path, "content": each.content, "outcome": outcomes.get(each.path, "printed")}
                    for each in its_files
                ],
            }
            for plan, its_files in zip(plans, by_plan, strict=True)
        ]
        # If there is only one, its fields are also at the top level, as they were before there could be several.
        print_json({**described[0], "units": described, "warnings": warnings, "next": steps})
        return 0
    if options.install:
        print_lines(f"{outcome:9}  {shown_name(path)}" for path, outcome in outcomes.items())
    else:
        _print(files, kind=options.kind)
    for warning in warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    if options.install:
        print_lines(["", "Next:", *(f"  {step}" for step in steps)])
    return 0


def files_of(plan: Plan, *, kind: str, directory: str | None = None) -> list[UnitFile]:
    """Make the files of one kind. A user's own crontab has no path."""
    made = f"# Made by: s3-uploader-cli units --kind {kind}{_given(plan)} {shlex.quote(plan.source)}\n"
    if kind == "crontab":
        return [UnitFile("crontab", made + crontab(plan, user=None))]
    if kind == "cron":
        user = accounts.with_name(plan.account.user or accounts.DEFAULT_USER)
        texts = {plan.name: crontab(plan, user=user)}
    elif kind == "watch":
        texts = {f"{plan.name}-watch.service": watch_service(plan)}
    else:
        texts = {f"{plan.name}.service": run_service(plan), f"{plan.name}.timer": timer(plan)}
    place = os.path.abspath(directory or (_CRON if kind == "cron" else _SYSTEMD))
    return [UnitFile(os.path.join(place, name), sealed(made + text)) for name, text in texts.items()]


def _given(plan: Plan) -> str:
    return f" --credentials {shlex.quote(plan.credentials)}" if plan.is_given else ""


def _plans(config_file: str, options: UnitOptions) -> list[Plan]:
    """Plan the units: one for all spools, or one for each user if the spools belong to different users."""
    source = os.path.abspath(config_file)
    paths = files_in(source) if is_directory(source) else [source]
    if options.metrics_listen is not None and (options.kind != "watch" or is_directory(source)):
        raise UsageProblem(
            "--metrics-listen is for --kind watch of one configuration file.", hint="Use metrics_file otherwise."
        )
    if options.user is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?", options.user):
        raise UsageProblem(f"--user {shown_name(options.user)}: this is not a valid user name.")
    shared = together(options, paths)
    loaded = _loaded(source, paths, shared, _service_environment(source, options))
    refuse_shared(loaded)
    groups: dict[tuple[Any, ...], list[Named]] = {}
    for named in loaded:
        account = _account([named.config], options)
        destination = named.config.destination
        secrets = (getattr(destination, key, None) for key in SECRET_FILES)
        groups.setdefault((account.user, account.group, *secrets), []).append(named)
    name = _checked_name(options.name) if options.name else name_of(source)
    if len(groups) == 1:
        return [_plan(source, loaded, options, name=name)]
    names: dict[str, int] = {}
    plans = []
    for (user, group, *_), members in groups.items():
        own = f"{name}-{re.sub(r'[^A-Za-z0-9_-]+', '-', user or group or 'any')}"
        names[own] = names.get(own, 0) + 1
        own += f"-{names[own]}" if names[own] > 1 else ""
        plans.append(_plan(source, members, options, name=own, files=tuple(named.path for named in members)))
    if not _is_cron(options):
        refuse_one_state(plans)
    return plans


def _loaded(
    source: str, paths: Sequence[str], options: UnitOptions, environment: Mapping[str, str] | None
) -> list[Named]:
    """Load every configuration.

    The units of a directory are for all its files, and give the permissions that these need: without one of the files,
    its spool would have no permissions even after it was corrected.

    :param environment: what systemd adds to the environment; ``None`` for cron, which adds nothing.
    :raises ConfigError: with the problems of all files.
    """
    loaded, problems = [], []
    for path in paths:
        try:
            configuration = load(path, options, environ={**os.environ, **(environment or {})})
            _refuse_share_without_number(path, configuration.share, environment, _environment_file(source, options))
            loaded.append(Named(path, configuration, os.path.basename(path)))
        except ConfigError as error:
            if not is_directory(source):
                raise
            problems += [f"{os.path.basename(path)}: {problem}" for problem in error.problems]
    if problems:
        hint = "No unit was made, because a unit gives the permissions that all its spools need. Correct the files "
        raise ConfigError(source, problems, hint=f"{hint}named here, or move them to another directory.")
    return loaded


def _refuse_share_without_number(
    path: str, share: str | None, environment: Mapping[str, str] | None, file: str
) -> None:
    """Refuse a share ``/N``: a scheduler numbers its tasks, but neither systemd nor cron numbers runs.

    :param file: the environment file of a service.
    :raises ConfigError: unless the environment of the service has the number.
    """
    if share is None:
        return
    try:
        chosen(share, environment or {})
    except UsageProblem as error:
        if not share.startswith("/") or any(name in (environment or {}) for name in INDEXES):
            raise ConfigError(path, [f"share: {error.message}"], hint=error.hint) from None
        starter, other = "cron", ""
        if environment is not None:
            starter, other = "systemd", f", or with {INDEXES[-1]}=K in {shown_name(file)}"
        raise ConfigError(
            path,
            [f"share: {share} needs a number K, and {starter} provides none; set it with --set share=K{share}{other}"],
            hint="K counts from 0 and differs on each machine. One machine alone needs no share: a run uses several "
            "processors by itself (processes).",
        ) from None


def _is_cron(options: UnitOptions) -> bool:
    return options.kind in ("cron", "crontab")


def _environment_file(source: str, options: UnitOptions) -> str:
    return os.path.abspath(options.environment or _beside(source, "environment"))


def _beside(source: str, name: str) -> str:
    """The file of that name that belongs to a configuration file, or to a directory of them.

    For a directory it is in it, or beside it: ``/etc/s3-uploader/conf.d`` is a part of ``/etc/s3-uploader``.
    """
    beside = os.path.join(os.path.dirname(source), name)
    if not is_directory(source):
        return beside
    inside = os.path.join(source, name)
    # /etc/environment is the system's.
    is_part = os.path.dirname(source) != "/etc" and (source.endswith(".d") or os.path.isfile(beside))
    return beside if is_part and not os.path.lexists(inside) else inside


def _service_environment(source: str, options: UnitOptions) -> dict[str, str] | None:
    """The variables of the environment file; ``None`` for cron, which reads none."""
    return None if _is_cron(options) else variables_in(_environment_file(source, options))


def _account(configurations: Sequence[Config], options: UnitOptions) -> Account:
    facts = accounts.facts_of([os.path.abspath(each.base_dir) for each in configurations])
    return accounts.choose(
        _needs(configurations, options, facts.owner),
        facts,
        wanted=options.user,
        force=options.force,
        is_confined=not _is_cron(options),
    )


def _needs(
    configurations: Sequence[Config],
    options: UnitOptions,
    owner: str | None,
    *,
    environment: Mapping[str, str] | None = None,
    included: Sequence[str] = (),
) -> Needs:
    home = accounts.home_of(options.user or owner)
    needs = needs_of(configurations, home=home, environment=environment or {}, included=included)
    if _is_cron(options):
        # cron does not know users that exist only temporarily.
        needs = msgspec.structs.replace(needs, leaves=True)
    return needs


def _plan(
    source: str, members: Sequence[Named], options: UnitOptions, *, name: str, files: tuple[str, ...] = ()
) -> Plan:
    configurations = [named.config for named in members]
    account = _account(configurations, options)
    return Plan(
        name=name,
        command=(_command(),),
        program=_program(),
        source=source,
        files=files,
        configurations=tuple(named.path for named in members),
        settings=options.overrides,
        needs=_needs(
            configurations,
            options,
            account.user,
            environment=_service_environment(source, options),
            included=[path for named in members for path in included_files(named.path)],
        ),
        account=account,
        credentials=os.path.abspath(options.credentials or _beside(source, "credentials")),
        is_given=options.credentials is not None,
        environment=_environment_file(source, options),
        listen=options.metrics_listen,
        minutes=minutes_of(options.every),
    )


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UsageProblem(f"--name {shown_name(name)}: takes letters, digits, - and _ only.")
    return name


def _command() -> str:
    """The command as a person would call it: the one on PATH if it is this one or a link to it."""
    started = os.path.abspath(sys.argv[0])
    found = shutil.which("s3-uploader-cli")
    is_own = os.path.basename(started) == "s3-uploader-cli" and os.access(started, os.X_OK)
    if found is not None and (not is_own or os.path.realpath(found) == os.path.realpath(started)):
        return _seen_by_a_service(os.path.abspath(found))
    if is_own:
        return _seen_by_a_service(started)
    raise UsageProblem("The command s3-uploader-cli is not on PATH.", hint="Call it by its path.")


def _seen_by_a_service(command: str) -> str:
    """Follow a link in a home directory, such as those of pipx and uv: the home is hidden from the service."""
    return os.path.realpath(command) if os.path.islink(command) and hides(command) else command


def _program() -> tuple[str, ...]:
    """The directories of the program: its environment, the interpreter, and packages installed elsewhere."""
    base = sys.base_prefix
    places = [
        sys.prefix,
        base,
        os.path.realpath(base),
        *(path for path in sys.path if os.path.isabs(path) and os.path.isdir(path)),
    ]
    return tuple(dict.fromkeys(places))


def _print(files: list[UnitFile], *, kind: str) -> None:
    for number, file in enumerate(files):
        if kind != "crontab":
            print_lines([*([""] if number else []), f"# {shown_name(file.path)}"])
        print_lines(file.content.splitlines())


def _warnings_of_environment(config_file: str, options: UnitOptions) -> list[str]:
    """Warn about keys that only the environment of this shell sets, and about a file of them that cannot be read."""
    source = os.path.abspath(config_file)
    environment = _service_environment(source, options)
    path = _environment_file(source, options)
    if environment is not None and os.path.exists(path) and not os.access(path, os.R_OK):
        sentence = (
            f"{shown_name(path)} cannot be read by this user. The service reads it, and may need other permissions"
        )
        return [f"{sentence} with the values there. Run this as root."]
    names = [override.place for override in of_environment(os.environ)]
    missing = only_here(os.environ, environment or {}, names)
    if not missing:
        return []
    are_set, them = ("is set", "it") if len(missing) == 1 else ("are set", "them")
    instead = "" if environment is None else f", or put {them} into {shown_name(path)}"
    whose = "cron" if environment is None else "the service"
    return [f"{', '.join(missing)} {are_set} here, but not for {whose}. Set {them} with --set{instead}."]


def _next_steps(plan: Plan, options: UnitOptions) -> list[str]:
    """The commands to run next."""
    steps = []
    user = plan.account.user
    is_cron = _is_cron(options)
    if user is not None and not user.isdecimal() and not accounts.exists(user):
        # The ledger of a service has a directory that systemd makes; that of cron's user lies in the home directory.
        home = f"--create-home --home-dir /var/lib/{user}" if is_cron and plan.needs.state == "" else "--no-create-home"
        steps.append(f"useradd --system {home} --shell /usr/sbin/nologin {user}")
    make = "mkdir -p" if user is None else f"install -d -o {user}"
    steps += [f"{make} {shlex.quote(path)}" for path in plan.needs.written if not os.path.isdir(path)]
    if is_cron:
        state = f"{STATE_ROOT}{plan.needs.state}"
        if plan.needs.state and not os.path.isdir(state):
            steps.append(f"{make} -m 700 {shlex.quote(state)}")
        return steps
    unit = f"{plan.name}-watch.service" if options.kind == "watch" else f"{plan.name}.timer"
    steps += ["systemctl daemon-reload", f"systemctl enable --now {unit}"]
    steps += [f"journalctl -u {unit.replace('.timer', '.service')}"]
    if plan.needs.state == "":
        steps += [f"STATE_DIRECTORY=/var/lib/{plan.name} s3-uploader-cli status {shlex.quote(plan.source)}"]
    return steps
