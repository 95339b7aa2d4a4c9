"""Makes the part of a service that confines it: what it may see, write, reach and ask of the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from s3_uploader.deployment.escaping import bound, word
from s3_uploader.deployment.needs import is_within, outermost
from s3_uploader.deployment.plan import Plan

_ABOVE_HOMES = ("/home", "/run/user")
_HOMES = ("/root", *_ABOVE_HOMES)
_TEMPORARY = ("/tmp", "/var/tmp")
_HIDDEN = ("/boot", "/efi", "/media", "/mnt", "/opt", "/srv", "/var/backups", "/var/log", "/var/mail", "/var/spool")
_ALWAYS = """\
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateMounts=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged"""


def sandbox(plan: Plan, *, reloads: bool) -> list[str]:
    """Make the lines of ``[Service]`` that restrict it.

    :param reloads: the service reads its configuration again while it runs.
    """
    return [*_files(plan, reloads), "", *_capabilities(plan), *_network(plan), *_ALWAYS.splitlines(), *_mask(plan)]


def hides(path: str) -> bool:
    """Whether a path is hidden from the service unless it is listed."""
    return _is_below(path, [*_HOMES, *_TEMPORARY, *_HIDDEN])


def _files(plan: Plan, reloads: bool) -> list[str]:
    written = outermost(map(_place, plan.needs.written))
    source = _place(plan.source)
    read = [_with_siblings(path) if reloads and path == source else path for path in map(_place, _only_read(plan))]
    used = [*written, *outermost(read)]
    bound_ones = [path for path in used if _is_below(path, [*_HOMES, *_TEMPORARY])]
    outside = [path for path in written if path not in bound_ones]
    lines = ["# Everything is read-only but this and the state directory.", "ProtectSystem=strict"]
    if outside:
        lines += ["ReadWritePaths=" + " ".join(map(word, outside))]
    lines += ["PrivateTmp=yes", f"ProtectHome={'tmpfs' if _any_below(bound_ones, _HOMES) else 'yes'}"]
    if bound_ones:
        lines += ["# Home and temporary directories are empty except for these."]
        lines += [f"BindPaths={bound(path)}" for path in bound_ones if path in written]
        only_read = [path for path in bound_ones if not _is_below(path, written)]
        if reloads and any(map(os.path.isfile, only_read)):
            lines += ["# An editor that replaces one of these files is noticed after a restart, not after a reload."]
        lines += [f"BindReadOnlyPaths={bound(path)}" for path in only_read]
    real = [*used, *map(os.path.realpath, used)]
    hidden = [path for path in _HIDDEN if not any(is_within(each, path) for each in real)]
    return [*lines, "InaccessiblePaths=" + " ".join("-" + path for path in hidden)]


def _place(path: str) -> str:
    """The path under which to make a directory visible: if links lead into a home directory, the path in that home."""
    real = os.path.realpath(path)
    emptied = [*_HOMES, *_TEMPORARY]
    return real if _is_below(real, emptied) and not _is_below(path, emptied) else path


def _with_siblings(path: str) -> str:
    """The directory of a hidden configuration file, unless it holds more than what belongs to this program.

    A file is mounted as it is at the start. One that takes its name later, as most editors make it, is not seen.
    """
    directory = os.path.dirname(path)
    emptied = [*_HOMES, *_TEMPORARY]
    is_home = directory in emptied or os.path.dirname(directory) in _ABOVE_HOMES
    is_shared = is_home or os.path.basename(directory) == ".config"
    return directory if _is_below(path, emptied) and os.path.isfile(path) and not is_shared else path


def _only_read(plan: Plan) -> tuple[str, ...]:
    return outermost([*plan.program, plan.source, *plan.needs.read])


def _capabilities(plan: Plan) -> list[str]:
    if plan.account.sees_writers:
        return ["CapabilityBoundingSet=", "PrivateUsers=yes"]
    return [
        "# With this one capability it can ask the kernel about writers of other users' files.",
        "AmbientCapabilities=CAP_LEASE",
        "CapabilityBoundingSet=CAP_LEASE",
    ]


def _network(plan: Plan) -> list[str]:
    needs = plan.needs
    families = "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"
    if plan.listen is not None:
        # Metrics may be read from anywhere.
        return [families]
    if needs.is_local and needs.addresses == ():
        return [
            "# Nothing is sent over a network.",
            "PrivateNetwork=yes",
            "IPAddressDeny=any",
            families.replace("AF_INET AF_INET6 ", ""),
        ]
    if needs.addresses:
        allowed = " ".join(needs.addresses)
        return [
            "# The only addresses in the configuration.",
            f"IPAddressAllow={allowed}",
            "IPAddressDeny=any",
            families,
        ]
    return [families]


def _mask(plan: Plan) -> list[str]:
    if plan.needs.is_local:
        return ["# Other users may read the copies.", "UMask=0022"]
    return ["UMask=0077"]


def _is_below(path: str, directories: Iterable[str]) -> bool:
    return any(is_within(path, directory) for directory in directories)


def _any_below(paths: Iterable[str], directories: Sequence[str]) -> bool:
    return any(_is_below(path, directories) for path in paths)
