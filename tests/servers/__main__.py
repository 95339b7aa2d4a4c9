"""The servers by hand: install what they need, or run one until Ctrl-C.

python -m tests.servers install [all | ansible | dask | juicefs | localbucket | localstack | ministack | nanio | ...]
python -m tests.servers run rclone|swift|ceph|moto|nginx|fault|proftpd|juicefs|...
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterable

from tests.servers import debian, environments, unpacked
from tests.servers.base import S3Server, Server
from tests.servers.ceph_rgw import CephServer
from tests.servers.debian import Unavailable
from tests.servers.environments import WHEN_ASKED_FOR
from tests.servers.fault_server import FaultServer
from tests.servers.moto_server import MotoServer
from tests.servers.nginx_sink import NginxSink
from tests.servers.proftpd import ProftpdServer
from tests.servers.rclone_s3 import RcloneServer, find_rclone
from tests.servers.small_s3 import SMALL_SERVERS
from tests.servers.swift_s3 import SwiftServer

_SERVERS: dict[str, type[Server]] = {
    **{
        server.name: server
        for server in (RcloneServer, SwiftServer, CephServer, MotoServer, NginxSink, FaultServer, ProftpdServer)
    },
    **SMALL_SERVERS,
}


def install() -> None:
    """Install the Debian packages and make the cached Python environments.

    Without root the packages are left out, except where CI=true: the tests that need them are skipped then.
    """
    if os.geteuid() == 0 or os.environ.get("CI") == "true":
        packages = debian.install()
        print(f"Debian packages: {' '.join(packages) or 'nothing to do'}")
    else:
        for name in debian.REQUIREMENTS:
            if debian.missing(name):
                wanted = " ".join(debian.REQUIREMENTS[name].packages)
                print(f"{name}: needs the Debian packages {wanted}; its tests are skipped")
    for name in unpacked.UNPACKED:
        try:
            print(f"{name}: {unpacked.unpack(name)}")
        except Unavailable as reason:
            # They show more of what servers and schedulers do; nothing depends on them.
            print(f"{name}: {reason}; its tests are skipped")
    print(f"swift: {environments.programs(environments.SWIFT)}")
    print(f"rclone: {find_rclone()}")


def install_more(names: Iterable[str]) -> bool:
    """Install servers that are there only when asked for; returns whether all of them could be."""
    complete = True
    for name in names:
        try:
            print(f"{name}: {environments.programs(WHEN_ASKED_FOR[name])}")
        except Unavailable as reason:
            print(f"{name}: {reason}; its tests are skipped")
            complete = False
    return complete


def run(name: str) -> None:
    """Run one server until a signal comes; print how to reach it."""
    # Not in the body of a `with`: SIGTERM has to lead to `stop` as well.
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with _SERVERS[name]() as server:
        if isinstance(server, S3Server):
            for variable, value in server.environment().items():
                print(f"export {variable}={shlex.quote(value)}")
            print(f"# bucket: {server.bucket}")
        elif isinstance(server, ProftpdServer):
            print(f"# ftp://{server.username}:{server.password}@{server.host}:{server.port}/")
        sys.stdout.flush()
        ended.wait()


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description="Servers for the tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    install_parser = commands.add_parser("install", help="install what the servers need (as root)")
    install_parser.add_argument(
        "more",
        nargs="*",
        metavar="NAME",
        help=f"only these: {', '.join(WHEN_ASKED_FOR)}; or all, beside the usual ones",
    )
    run_parser = commands.add_parser("run", help="run one server until Ctrl-C")
    run_parser.add_argument("name", choices=sorted(_SERVERS))
    arguments = parser.parse_args()
    try:
        if arguments.command == "install":
            wanted = list(dict.fromkeys(arguments.more))
            if unknown := sorted({*wanted} - {*WHEN_ASKED_FOR, "all"}):
                parser.error(f"there is no {', '.join(unknown)} to install")
            if not wanted or "all" in wanted:
                install()
            if wanted and not install_more(WHEN_ASKED_FOR if "all" in wanted else wanted) and "all" not in wanted:
                return 1
        else:
            run(arguments.name)
    except Unavailable as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
