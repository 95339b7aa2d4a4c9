"""Finds what configurations need from the machine: directories to write, files to read, the network."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from s3_uploader.config import Config, FtpDestination, LocalDestination, MoveTo, S3Destination, SftpDestination
from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.text import shown_name

STATE_ROOT = "/var/lib/"
"""Where systemd makes state directories."""
SECRET_FILES = ("password_file", "private_key_file", "client_certificate_file")
"""Keys of destinations that name a file which is passed to a service, and so is the same for all of its spools."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of one or more configurations reads and writes.

    :param spools: the directories that are emptied.
    :param written: every directory that is written to, with the spools; one common directory for those between which
        files are renamed.
    :param read: files and directories that are only read.
    :param metrics: the written directories with metrics files.
    :param state: the state directory below ``/var/lib``, ``None`` if it is elsewhere (then it is in ``written``) and
        empty if the configuration names none.
    :param takes: whether files are removed from the spools, or moved.
    :param leaves: whether files of the service's user remain outside its state directory.
    :param asks_for_endpoint: whether the environment says where a bucket is.
    """

    spools: tuple[str, ...]
    written: tuple[str, ...]
    read: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    state: str | None
    takes: bool
    leaves: bool
    uses_aws: bool
    asks_for_endpoint: bool
    password_file: str | None
    private_key_file: str | None
    client_certificate_file: str | None
    is_local: bool
    addresses: tuple[str, ...] | None
    drain_seconds: float
    max_runtime_seconds: float | None
    settle_seconds: float

    @property
    def mounts(self) -> tuple[str, ...]:
        """The paths that must be mounted before the start."""
        return tuple(dict.fromkeys([*self.spools, *self.written]))


def needs_of(
    configurations: Sequence[Config],
    *,
    home: str | None,
    environment: Mapping[str, str] | None = None,
    included: Sequence[str] = (),
) -> Needs:
    """Find the needs of all these configurations together.

    :param home: of the service's user, for a ``state_dir`` that begins with ``~/``.
    :param environment: variables that the service gets from a file.
    :param included: files that the configurations include.
    :raises UsageProblem: if a path is relative, or a service could not work with the paths as they are.
    """
    state_dirs = {_expanded(each.state_dir, home) for each in configurations if each.state_dir is not None}
    state_dirs = {_absolute(path, "state_dir") for path in state_dirs}
    below = {_below_state_root(path) for path in state_dirs}
    state = "" if not state_dirs else next(iter(below)) if len(below) == 1 else None
    destinations = [each.destination for each in configurations]
    return Needs(
        spools=tuple(_absolute(each.base_dir, "base_dir") for each in configurations),
        written=outermost(
            [
                *(path for each in configurations for path in _written(each)),
                *(sorted(state_dirs) if state is None else ()),
            ]
        ),
        read=tuple(dict.fromkeys([*(path for each in configurations for path in _read(each)), *included])),
        metrics=tuple(dict.fromkeys(path for each in configurations for path in _metrics(each))),
        state=state,
        takes=any(_takes(each) for each in configurations),
        leaves=state is None or any(_leaves(each) for each in configurations),
        uses_aws=any(isinstance(each, S3Destination) for each in destinations),
        asks_for_endpoint=any(isinstance(each, S3Destination) and not each.endpoint_url for each in destinations),
        password_file=_secret_file(configurations, "password_file"),
        private_key_file=_secret_file(configurations, "private_key_file"),
        client_certificate_file=_secret_file(configurations, "client_certificate_file"),
        is_local=all(isinstance(each, LocalDestination) for each in destinations),
        addresses=_addresses(configurations, environment or {}),
        drain_seconds=max(each.drain_seconds for each in configurations),
        max_runtime_seconds=_longest([each.max_runtime_seconds for each in configurations]),
        settle_seconds=max(each.settle_seconds for each in configurations),
    )


def _written(config: Config) -> list[str]:
    """The directories that one configuration writes to.

    Every path in ``ReadWritePaths=`` is a mount of its own, and rename(2) does not work between mounts, even on one
    file system. So the spool and the directories that files are renamed into must be under one of them.
    """
    base = _absolute(config.base_dir, "base_dir")
    if not base.strip("/"):
        raise UsageProblem(
            "base_dir / is the root of the file system.", hint="Name the directory that the producer fills."
        )
    renamed = [base]
    apart: list[str] = []
    if config.claim_dir is not None:
        renamed.append(_absolute(config.claim_dir, "claim_dir"))
    for key, policy in (("on_success", config.on_success), ("on_failure", config.on_failure)):
        if isinstance(policy, MoveTo):
            target = _absolute(policy.move_to, f"{key}.move_to")
            is_near = _device(target) == _device(base) and os.path.commonpath([base, target]) != "/"
            (renamed if is_near else apart).append(target)
    common = os.path.commonpath(renamed)
    if common == "/":
        raise UsageProblem(
            f"claim_dir {shown_name(renamed[1])} and the spool {shown_name(base)} have no directory in common, and "
            "files cannot be renamed between two writable places of a service.",
            hint="Put both below one directory.",
        )
    apart += _metrics(config)
    if isinstance(config.destination, LocalDestination):
        apart.append(_absolute(config.destination.path, "destination.path"))
    return [common, *apart]


def _metrics(config: Config) -> list[str]:
    if config.metrics_file is None:
        return []
    return [os.path.dirname(_absolute(config.metrics_file, "metrics_file"))]


def _read(config: Config) -> list[str]:
    destination = config.destination
    if isinstance(destination, FtpDestination) and destination.ca_file is not None:
        return [_absolute(destination.ca_file, "destination.ca_file")]
    if isinstance(destination, SftpDestination):
        file = destination.known_hosts_file
        return [] if file is None else [_absolute(file, "destination.known_hosts_file")]
    return []


def _takes(config: Config) -> bool:
    return config.on_success != "keep" or config.on_failure != "keep" or bool(config.prune_empty_dirs)


def _leaves(config: Config) -> bool:
    moves = any(isinstance(policy, MoveTo) for policy in (config.on_success, config.on_failure))
    is_local = isinstance(config.destination, LocalDestination)
    return moves or is_local or config.claim_dir is not None or config.metrics_file is not None


def _secret_file(configurations: Sequence[Config], key: str) -> str | None:
    """The file that a key of the destination names; ``None`` if there is none, or several."""
    paths = {getattr(each.destination, key, None) for each in configurations}
    files = [_absolute(path, f"destination.{key}") for path in paths if path is not None]
    return files[0] if len(files) == 1 else None


def _addresses(configurations: Sequence[Config], environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The only addresses that are contacted; ``None`` if they are unknown.

    Host names change their addresses, and a proxy is contacted instead of the host.
    """
    hosts = []
    for each in configurations:
        destination = each.destination
        if each.ping_url is not None:
            hosts.append(_host(each.ping_url))
        if isinstance(destination, S3Destination):
            hosts.append(_host(destination.endpoint_url or ""))
        elif isinstance(destination, (FtpDestination, SftpDestination)):
            hosts.append(destination.host)
    if hosts and any(environment.get(name) or environment.get(name.lower()) for name in _PROXIES):
        return None
    found = {_address(host) for host in hosts}
    return None if None in found else tuple(sorted(address for address in found if address))


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # A run will say what is wrong with it.
        return None


def _address(host: str | None) -> str | None:
    if host == "localhost":
        return "localhost"
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return None
    return "localhost" if address.is_loopback else str(address)


def _below_state_root(path: str) -> str | None:
    """The name for ``StateDirectory=``, whose value is split at blanks and colons."""
    below = path.removeprefix(STATE_ROOT)
    return below if below != path and re.fullmatch(r"[A-Za-z0-9._/-]+", below) else None


def _expanded(path: str, home: str | None) -> str:
    if not path.startswith("~/"):
        return path
    if home is None:
        raise UsageProblem(
            f"state_dir {shown_name(path)} lies in the home directory of a user that does not exist yet.",
            hint="Leave it out: the service has a state directory of its own.",
        )
    return os.path.join(home, path[2:])


def _absolute(path: str, key: str) -> str:
    if not os.path.isabs(path):
        raise UsageProblem(
            f"{key} {shown_name(path)} is relative, and a service starts in another directory.",
            hint="Write it as an absolute path.",
        )
    return os.path.normpath(path)


def _device(path: str) -> int:
    """The file system of a path, or of its nearest existing parent."""
    while True:
        try:
            return os.stat(path).st_dev
        except OSError:
            if path == "/":
                return 0
            path = os.path.dirname(path)


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Remove directories that are below others: files cannot be renamed across a nested mount."""
    unique = list(dict.fromkeys(paths))
    return tuple(path for path in unique if not any(path != other and is_within(path, other) for other in unique))


def is_within(path: str, directory: str) -> bool:
    """Whether a path is a directory or is below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _longest(limits: Sequence[float | None]) -> float | None:
    return None if None in limits else max(limit for limit in limits if limit is not None)
