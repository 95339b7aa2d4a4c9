"""The Debian packages that some of the servers need: which, whether they are there, and how they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """A server cannot run on this machine; the message says what is missing and how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What one server needs from the distribution.

    `programs` are looked up in PATH and in the sbin directories, `files` are glob patterns below the root directory.
    `services` are the units that the packages would start on a machine with an init system.
    """

    packages: tuple[str, ...]
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


REQUIREMENTS = {
    "ceph": Requirement(
        packages=("ceph-mon", "ceph-osd", "radosgw"),
        programs=("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"),
        services=("ceph.target",),
    ),
    "haproxy": Requirement(packages=("haproxy",), programs=("haproxy",), services=("haproxy.service",)),
    "proftpd": Requirement(
        packages=("proftpd-core", "proftpd-mod-crypto"),
        programs=("proftpd",),
        files=("usr/lib/proftpd/mod_tls.so", "usr/lib/proftpd/mod_digest.so"),
        services=("proftpd.service",),
    ),
    "openssh": Requirement(
        packages=("openssh-server", "openssh-sftp-server", "openssh-client"),
        programs=("sshd", "ssh-keygen"),
        files=("usr/lib/openssh/sftp-server",),
        services=("ssh.service",),
    ),
    "nginx": Requirement(
        packages=("nginx-light", "libnginx-mod-http-lua"),
        programs=("nginx",),
        files=("usr/lib/nginx/modules/ngx_http_lua_module.so",),
        services=("nginx.service",),
    ),
    "systemd": Requirement(packages=("systemd", "util-linux"), programs=("systemd-analyze", "nsenter", "unshare")),
    "debhelper": Requirement(
        packages=("build-essential", "debhelper", "dh-virtualenv", "python3-venv"),
        programs=("dh", "dh_virtualenv", "dpkg-buildpackage"),
    ),
    "cron": Requirement(packages=("cron",), programs=("cron",), services=("cron.service",)),
    "bash": Requirement(packages=("bash",), programs=("bash",)),
    "zsh": Requirement(packages=("zsh",), programs=("zsh",)),
    "fish": Requirement(packages=("fish",), programs=("fish",)),
    "mandoc": Requirement(packages=("mandoc",), programs=("mandoc",)),
    "chromium": Requirement(packages=("chromium", "chromium-driver"), programs=("chromium", "chromedriver")),
    "prometheus": Requirement(
        packages=("prometheus",), programs=("prometheus", "promtool"), services=("prometheus.service",)
    ),
    "bindfs": Requirement(packages=("bindfs",), programs=("bindfs",)),
    "strace": Requirement(packages=("strace",), programs=("strace",)),
    "faketime": Requirement(packages=("faketime",), files=("usr/lib/*/faketime/libfaketimeMT.so.1",)),
}
"""Everything that is installed with apt-get, by the server that needs it. This is the only list."""

_POLICY = Path("/usr/sbin/policy-rc.d")


def find_program(name: str) -> Path | None:
    """Return a program's path; the sbin directories are searched even where an ordinary user's PATH lacks them."""
    found = shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    )
    return Path(found) if found else None


def find_file(pattern: str) -> Path | None:
    """Return the first file that matches a glob pattern below the root directory."""
    return next(iter(sorted(Path("/").glob(pattern))), None)


def missing(name: str) -> list[str]:
    """Return the programs and files of one requirement that this machine does not have."""
    requirement = REQUIREMENTS[name]
    return [program for program in requirement.programs if find_program(program) is None] + [
        "/" + pattern for pattern in requirement.files if find_file(pattern) is None
    ]


def require(name: str) -> None:
    """Raise `Unavailable` unless one requirement is met."""
    if absent := missing(name):
        packages = " ".join(REQUIREMENTS[name].packages)
        raise Unavailable(
            f"{name}: {', '.join(absent)} not found; install the Debian packages {packages}, "
            "or as root: python -m tests.servers install"
        )


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Forbid maintainer scripts to start services (invoke-rc.d(8), policy-rc.d returns 101)."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def install() -> list[str]:
    """Install the packages of every requirement that is not met; return their names.

    Needs root. Services are neither started now nor at the next boot. Raises `Unavailable` when apt-get is not there
    or fails.
    """
    names = [name for name in REQUIREMENTS if missing(name)]
    packages = [package for name in names for package in REQUIREMENTS[name].packages]
    if not packages:
        return []
    if os.geteuid() != 0:
        raise Unavailable(f"root is needed to install {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _services_stay_down():
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            try:
                subprocess.run(
                    ["apt-get", "--quiet=2", *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    check=True,
                )
            except FileNotFoundError:
                raise Unavailable(f"apt-get not found; install {' '.join(packages)} by hand") from None
            except subprocess.CalledProcessError as error:
                tail = "\n".join(error.stdout.splitlines()[-20:])
                raise Unavailable(f"apt-get {arguments[0]} failed with {error.returncode}:\n{tail}") from error
    if Path("/run/systemd/system").is_dir():
        for service in (service for name in names for service in REQUIREMENTS[name].services):
            subprocess.run(["systemctl", "disable", "--now", service], check=False, capture_output=True)
    return packages
