"""Finds the systemd unit that starts a configuration's runs, whether it is active, and when the next run starts.

Unit files are read, and systemd is asked about the one that names the configuration. In a template, such as those of
the Debian package, the name of the instance stands for a part of the configuration's path. Without such a unit nothing
is known, because cron cannot be asked.
"""

from __future__ import annotations

import calendar
import glob
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from s3_uploader.core.files import open_at_once
from s3_uploader.health.observations import Starter

_PLACES = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_USER_PLACES = ("/etc/systemd/user", "/usr/lib/systemd/user")
_OURS = re.compile(rb"s3-uploader-cli|s3_uploader")
_MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) UTC")
_INSTANCE = "%i"
_INSTANCE_NAME = re.compile(r"[A-Za-z0-9:_.-]+")
"""What needs no escapes in the name of a unit."""
_SPECIFIER = re.compile(r"%%|\$\$|%i")
_MOST_BYTES = 64 * 1024
_MOST_FILES = 2000
_ASK_SECONDS = 2.0


class _Service(msgspec.Struct, frozen=True):
    """A service of this program: its name, its command, and whether it belongs to the user's own service manager."""

    name: str
    words: list[str]
    is_user: bool

    @property
    def is_template(self) -> bool:
        """Whether it can be started only as an instance with a name of its own."""
        return self.name.endswith("@.service")

    def units_for(self, config_file: str) -> Iterator[str]:
        """The units that must be active for a configuration: the service itself if it watches, else its timer."""
        config = os.path.realpath(config_file)
        _, _, own = self.name.removesuffix(".service").partition("@")
        for word in self.words:
            paths = (os.path.abspath(config_file), config, os.path.dirname(config))
            for instance in _instances(word, paths) if self.is_template else (own,):
                if _stands_for(_expanded(word, instance), config):
                    name = self.name.replace("@.", f"@{instance}.")
                    yield name if "watch" in self.words else name.removesuffix(".service") + ".timer"


class Starters:
    """Finds the units that start runs; reads them once, at the first call."""

    def __init__(self, *, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._services: list[_Service] | None = None
        self._known: dict[tuple[str, bool], Starter | None] = {}

    def of(self, config_file: str) -> Starter | None:
        """The unit that starts runs of a configuration, preferably an active one; ``None`` if none is known."""
        if self._services is None:
            self._services = list(_services(self._environ))
        found = []
        for service in self._services:
            for unit in dict.fromkeys(service.units_for(config_file)):
                key = (unit, service.is_user)
                if key not in self._known:
                    self._known[key] = _asked(unit, is_user=service.is_user, is_instance=service.is_template)
                starter = self._known[key]
                found += [starter] if starter is not None else []
        return next((each for each in found if each.is_active), found[0] if found else None)


def _services(environ: Mapping[str, str]) -> Iterator[_Service]:
    own = os.path.join(environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config", "systemd", "user")
    given = [place for place in environ.get("SYSTEMD_UNIT_PATH", "").split(":") if place]
    for is_user, places in ((False, given or _PLACES), (True, (own, *_USER_PLACES))):
        seen: set[str] = set()
        for place in places:
            for path in sorted(glob.glob(f"{glob.escape(place)}/*.service"))[:_MOST_FILES]:
                name = os.path.basename(path)
                # The first place that has it counts.
                words = None if name in seen else _started_by(path, _drop_ins(name, places))
                if words is not None:
                    seen.add(name)
                    yield _Service(name, words, is_user)


def _drop_ins(name: str, places: Sequence[str]) -> list[str]:
    """The files that change a service, as ``systemctl edit`` makes them, in the order in which they apply."""
    found: dict[str, str] = {}
    for place in places:
        for path in glob.glob(f"{glob.escape(place)}/{glob.escape(name)}.d/*.conf")[:_MOST_FILES]:
            found.setdefault(os.path.basename(path), path)
    return [found[each] for each in sorted(found)]


def _started_by(path: str, drop_ins: Sequence[str]) -> list[str] | None:
    """The words of the last ``ExecStart=`` of a service of this program; ``None`` for other services."""
    content = b"\n".join(map(_content_of, (path, *drop_ins)))
    if not _OURS.search(content):
        return None
    lines = [line for line in content.decode("utf-8", "replace").splitlines() if line.startswith("ExecStart=")]
    try:
        return shlex.split(lines[-1].removeprefix("ExecStart=")) if lines else []
    except ValueError:
        return None


def _content_of(path: str) -> bytes:
    """The beginning of a file; empty if it cannot be read."""
    try:
        with open_at_once(path) as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""


def _instances(word: str, paths: Sequence[str]) -> list[str]:
    """The names of instances with which a word of a template becomes one of these paths."""
    if _INSTANCE not in word:
        return []
    before, _, after = word.partition(_INSTANCE)
    start, end = _expanded(before, ""), _expanded(after, "")
    names = [path[len(start) : len(path) - len(end)] for path in paths if path.startswith(start) and path.endswith(end)]
    return [name for name in dict.fromkeys(names) if _INSTANCE_NAME.fullmatch(name)]


def _expanded(word: str, instance: str) -> str:
    """A word of a command as the service gets it, as far as this program's units have specifiers."""
    return _SPECIFIER.sub(lambda found: instance if found[0] == _INSTANCE else found[0][0], word)


def _stands_for(word: str, config: str) -> bool:
    """Whether a word names the configuration or its directory."""
    return word.startswith("/") and os.path.realpath(word) in (config, os.path.dirname(config))


def _asked(unit: str, *, is_user: bool, is_instance: bool) -> Starter | None:
    """Ask systemd about a unit; ``None`` if it does not know it.

    :param is_instance: the unit exists for each name that one asks for, so it counts only if it is in use.
    """
    import subprocess

    wanted = ["-p", "LoadState", "-p", "ActiveState", "-p", "NextElapseUSecRealtime", "-p", "UnitFileState"]
    try:
        answer = subprocess.run(
            ["systemctl", *(["--user"] if is_user else []), "show", *wanted, unit],
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    fields = dict(line.partition("=")[::2] for line in answer.stdout[:4096].decode("utf-8", "replace").splitlines())
    if answer.returncode or fields.get("LoadState") != "loaded" or "ActiveState" not in fields:
        return None
    is_active = fields["ActiveState"] in ("active", "activating", "reloading")
    if is_instance and not is_active and not fields.get("UnitFileState", "").startswith("enabled"):
        return None
    next_at = _moment(fields.get("NextElapseUSecRealtime", "")) if is_active else None
    return Starter(unit=unit, is_active=is_active, next_at=next_at, is_user=is_user)


def _moment(text: str) -> float | None:
    """``Sun 2026-11-29 00:01:35 UTC`` to seconds since the epoch: the format of systemd."""
    found = _MOMENT.search(text)
    return None if found is None else float(calendar.timegm(tuple(map(int, found.groups()))))
