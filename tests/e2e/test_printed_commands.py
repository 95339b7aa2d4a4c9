"""Every page, with its commands as printed: each works on a machine as the page has it, or says here why it cannot."""

from __future__ import annotations

import functools
import json
import os
import pty
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import Machine, at, clean_machine, copy_of_the_repository, overlays
from tests.e2e.printed import CRON, PAGES, Command, blocks, commands, in_sentences
from tests.e2e.site import COMMAND
from tests.servers.base import S3Endpoint
from tests.servers.debian import require
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import or_skip
from tests.servers.namespaces import need_namespaces
from tests.servers.systemd import Systemd

TYPED_ELSEWHERE = {
    "docs/quick-start.md": "test_quick_start.py",
    "examples/jollyae/README.md": "test_examples.py",
    "examples/s3-uploader/README.md": "test_examples.py",
    "examples/s3/README.md": "test_examples.py",
    "examples/zc.s3uploadqueue/README.md": "test_examples.py",
    "examples/zeit.cds/README.md": "test_examples.py",
}
"""Pages whose typed commands a test of their own runs, which looks closer at what comes of them."""

SYSTEMD = "docs/how-to/systemd.md"

SHOWN_ELSEWHERE = {
    "docs/ledgers.md": ("test_ledger_commands.py", "test_fleet_of_ledgers.py"),
    "docs/metrics.md": ("test_metrics.py",),
    "docs/more-machines.md": ("test_shares_side_by_side.py",),
    "docs/report.md": ("test_report.py", "test_fleet_of_ledgers.py"),
    "docs/several-spools.md": ("test_several_spools.py",),
}
"""Pages for the long suite: these tests run the same commands, and test_docs.py reads them as they are printed."""

CANNOT_RUN = {
    "make test": "these are the tests",
    "make lint": "it is a gate of its own, and takes a minute",
    "make deb": "it takes minutes; test_debian_package.py builds the package and runs what is in it",
    "apt install": "it changes the machine; test_debian_package.py unpacks the package instead",
    ".venv/bin/pip install pre-commit": "it installs a hook into the repository of whoever runs the tests",
    "radosgw-admin user create": "it takes a cluster of Ceph",
    "podman": "it takes podman, and images from the network",
    "docker": "it takes docker, and images from the network",
    "mc admin": "it takes MinIO's client and server",
    "aws s3 mv": "another program, whose options are translated",
    "aws s3 cp": "another program, and an inventory that Amazon makes",
    "s3-uploader-cli audit /etc/s3-uploader/config.json --inventory": "it takes an inventory that Amazon makes",
    "s5cmd": "another program, whose options are translated",
    "rclone": "another program, whose options are translated",
    "ansible-playbook": "it takes Ansible; test_ansible_role.py plays the role where that is installed",
    "journalctl": "systemd runs without its journal in a namespace",
}
"""How commands begin that no test can run, and why."""

WHOLE = frozenset({"README.md", "docs/quick-start.md", "docs/how-to/cron.md", SYSTEMD})
"""Pages of which the quick suite runs every command, for one leads to the next, or because everybody reads them."""

RUN_ELSEWHERE = {"make demo": "test_commands.py"}
"""How commands begin that are for the long suite, because a test that looks closer runs the same."""

OTHER_SHELLS = frozenset({"zsh", "fish"})
"""Shells that are not on every machine."""
INSTALLED = "/opt/s3-uploader"
"""Commands that name this install the program there, which takes time; the quick suite uses the one that is here."""

EXIT_CODES = {"systemctl status s3-uploader": 3}
"""What else than 0 a command ends with; of systemctl 3 is a service that is not at work."""

CRON_MAILS = {"examples/s3-uploader/README.md"}
"""Pages whose line for cron is that of an older program, which told of each file; of the others cron has no mail."""

SPOOL = "/var/spool/sensors"
BUCKETS = ("my-bucket", "readings", "sensors", "sensors-of-mine")
WHERE = {"docs/reference/ledger.md": '"$(dirname "$(s3-uploader-cli status config.json --json | jq -r .ledger)")"'}
"""Pages whose commands are typed elsewhere than beside the configuration."""

SHIPPED_BEFORE = {
    "docs/audit.md": ("s3-uploader-cli run", "STATE_DIRECTORY=/var/lib/s3-uploader s3-uploader-cli run"),
    "docs/ledgers.md": ("s3-uploader-cli run", "s3-uploader-cli run --share 0/2", "s3-uploader-cli run --share 1/2"),
    "docs/reference/ledger.md": ("s3-uploader-cli run",),
    "docs/report.md": ("s3-uploader-cli run",),
}
"""Pages about what was shipped, and the runs that were there before."""

PREPARED = r"""
mkdir -p /etc/s3-uploader/conf.d /var/www/html /var/lib/prometheus/node-exporter
for each in sensors attic cellar; do mkdir -p "/var/spool/$each"; done
cd /etc/s3-uploader
printf '{"base_dir": "/var/spool/sensors", "bucket": "my-bucket"}' > config.json
for each in attic cellar; do
    printf '{"base_dir": "/var/spool/%s", "bucket": "my-bucket", "key_prefix": "%s/"}' $each $each > conf.d/$each.json
done
ln -s "$PROGRAMS/python3" /usr/local/bin/python3
printf '#!/bin/sh\nexec "$@"\n' > /usr/local/bin/sudo
printf '#!/bin/sh\ntest "$*" = "install python3-venv"\n' > /usr/local/bin/apt
chmod +x /usr/local/bin/sudo /usr/local/bin/apt
"""
COPIED = r"""
test -d /srv/ledgers || mount -t tmpfs tmpfs /srv
for each in retired/host-7 retired/host-8 ledgers/berlin; do
    mkdir -p /srv/$each
    cp -r "$HOME"/.local/state/s3-uploader/* /srv/$each
done
"""
"""Copies of the ledgers of other machines are there."""

FILLED = r"""
mkdir -p /var/spool/{sensors,attic,cellar}/den/2020/11/29/20
for each in sensors attic cellar; do echo "$each" > "/var/spool/$each/den/2020/11/29/20/46-topic.dat"; done
touch -d 2020-11-29T20:46 /var/spool/{sensors,attic,cellar}/den/2020/11/29/20/46-topic.dat
chown -R daemon /var/spool/{sensors,attic,cellar}
"""
"""There is something to ship for each command."""

COMPLETION_SYSTEM = r"""
mkdir -p "$HOME/compsys" && ln -sf ${^fpath}/comp{init,audit,dump,install}(N) "$HOME/compsys" && fpath=("$HOME/compsys")
autoload -Uz compinit; compinit -u; eval "$0"
"""
"""What zsh's own file has before; compinit alone, for to read the completions of all other programs takes long."""


def _reason(command: Command) -> str:
    return next((why for begins, why in CANNOT_RUN.items() if command.text.startswith(begins)), "")


def _commands_to_run(page: str) -> list[Command]:
    found = commands(page)
    if page in TYPED_ELSEWHERE:
        found = [each for each in found if each.shell == CRON]
    return [each for each in (*found, *in_sentences(page)) if not _reason(each)]


def _first_printed() -> dict[str, Command]:
    """Each command where it is printed first; comments do not count."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for command in () if page in SHOWN_ELSEWHERE else _commands_to_run(page):
            found.setdefault(re.sub(r"\s+# .*", "", command.text), command)
    return found


FIRST_PRINTED = frozenset(_first_printed().values())


def _is_for_the_long_suite(command: Command) -> bool:
    """Whether the quick suite runs the same elsewhere; what cron reads belongs to its page."""
    if command.page in WHOLE or command.shell == CRON:
        return command.text.startswith(tuple(RUN_ELSEWHERE))
    return command not in FIRST_PRINTED


def _pages() -> list[Any]:
    """The pages with something to run; those on which everything is for the long suite are for it too."""
    found: list[Any] = []
    for page in PAGES:
        to_run = _commands_to_run(page)
        is_quick = page not in SHOWN_ELSEWHERE and not all(map(_is_for_the_long_suite, to_run))
        if to_run:
            found.append(pytest.param(page, marks=() if is_quick else pytest.mark.exhaustive))
    return found


def test_no_reason_outlives_its_command() -> None:
    """What is said to be run elsewhere, or not at all, is on a page."""
    printed = [command.text for page in PAGES for command in commands(page)]
    for begins in (*CANNOT_RUN, *EXIT_CODES, *RUN_ELSEWHERE):
        assert any(text.startswith(begins) for text in printed), begins
    for page in (*TYPED_ELSEWHERE, *SHOWN_ELSEWHERE):
        assert commands(page)
    for test in (*TYPED_ELSEWHERE.values(), *RUN_ELSEWHERE.values(), *sum(SHOWN_ELSEWHERE.values(), ())):
        assert (Path(__file__).parent / test).exists()


@pytest.fixture(scope="module")
def server() -> Iterator[S3Endpoint]:
    """A server with the buckets of the pages."""
    with FaultServer(small_buffers=False) as running:
        for bucket in BUCKETS:
            running.client().create_bucket(Bucket=bucket)
        yield running.endpoint


class Desk:
    """Where somebody sits who follows a page: a machine, a directory in it, and an environment."""

    def __init__(self, entrance: list[str], place: Path, environment: dict[str, str]) -> None:
        self.entrance = entrance
        self.place = place
        self.environment = environment

    def type(self, script: str, *, shell: str = "bash", timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Type something; returns what came of it."""
        return subprocess.run(
            [*self.entrance, *_interpreter(shell), at(self.place, script)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def answer(self, script: str, answers: str) -> tuple[int, str]:
        """Type something that asks, and answer; returns its exit code and what was on the terminal."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [*self.entrance, "bash", "-c", at(self.place, script)],
            env={**self.environment, "TERM": "dumb"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        os.write(leader, answers.encode())
        shown = b""
        until = time.monotonic() + 60
        try:
            while time.monotonic() < until and select.select([leader], [], [], 60)[0]:
                shown += os.read(leader, 65536)
        except OSError:  # EIO: the program has ended
            pass
        finally:
            os.close(leader)
        return process.wait(20), shown.decode()


def _interpreter(shell: str) -> list[str]:
    """What reads a command; zsh's own file calls compinit before."""
    if shell == CRON:
        return ["sh", "-c"]
    return ["zsh", "-fc", COMPLETION_SYSTEM] if shell == "zsh" else [shell, "-c"]


@pytest.fixture
def desk(page: str, tmp_path: Path, server: S3Endpoint, exhaustive: bool) -> Iterator[Desk]:
    """A desk with everything that the page takes for granted."""
    need_namespaces()
    machine: Machine | Systemd = Machine(tmp_path / "machine")
    if page == SYSTEMD:
        machine = Systemd(tmp_path / "machine", before=overlays(tmp_path / "layers"))
    or_skip(machine.start)
    try:
        yield _furnished(page, machine, tmp_path, server, exhaustive=exhaustive)
    finally:
        machine.stop()


def _furnished(page: str, machine: Machine | Systemd, tmp_path: Path, server: S3Endpoint, *, exhaustive: bool) -> Desk:
    clean = clean_machine(tmp_path)
    place = copy_of_the_repository(tmp_path / "s3_uploader")
    environment = {
        **clean,
        **server.environment(),
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "PROGRAMS": str(tmp_path / "bin"),
        "SLURM_ARRAY_TASK_ID": "0",
    }
    made = Desk(machine.entrance(), place, environment)
    (place / "config.json").write_text(json.dumps(_configuration(page, server)))
    _developers_environment(place)
    here = any(INSTALLED in each.text for each in commands(page)) and exhaustive
    script = PREPARED if here else f"{PREPARED}ln -sf {shlex.quote(str(COMMAND))} /usr/local/bin/s3-uploader-cli\n"
    prepared = made.type(f"set -e\n{script}\n{FILLED}")
    assert prepared.returncode == 0, prepared.stdout
    _credentials(Path(clean["HOME"]), server)
    for run in SHIPPED_BEFORE.get(page, ()):
        shipped = made.type(f"{FILLED}{run} /etc/s3-uploader/config.json")
        assert shipped.returncode == 0, shipped.stdout
        made.type(COPIED)
    return made


def _configuration(page: str, server: S3Endpoint) -> dict[str, Any]:
    """The configuration that the page shows, if it is one for S3, with a server of this machine."""
    for block in blocks(page):
        if block.language == "json" and '"bucket"' in block.text and '"base_dir"' in block.text:
            shown: dict[str, Any] = json.loads(block.text)
            return {
                **shown,
                **({"endpoint_url": server.endpoint_url} if "endpoint_url" in shown else {}),
                "base_dir": SPOOL,
            }
    return {"base_dir": SPOOL, "bucket": "my-bucket"}


def _developers_environment(place: Path) -> None:
    """`make` finds what it would install."""
    (place / ".venv").mkdir()
    (place / "venv").mkdir()
    for name in (".venv", "venv"):
        (place / name / "bin").symlink_to(Path(sys.executable).parent)
    (place / ".venv" / ".demo").touch()


def _credentials(home: Path, server: S3Endpoint) -> None:
    """What cron's environment does not have stands in files."""
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    (home / ".aws" / "config").write_text(
        f"[default]\nregion = {server.region}\nendpoint_url = {server.endpoint_url}\n"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", _pages())
def test_commands_work_as_printed(page: str, desk: Desk, exhaustive: bool) -> None:
    """Whoever types what a page prints, in its order, is never told that it does not work."""
    to_run = [each for each in _commands_to_run(page) if exhaustive or not _is_for_the_long_suite(each)]
    installing = [each for each in to_run if INSTALLED in each.text]
    # Somebody who comes to a page with an installation on it has the program from then on.
    in_order = [*(installing if exhaustive else []), *(each for each in to_run if each not in installing)]
    missing = {each.shell for each in in_order if each.shell in OTHER_SHELLS and shutil.which(each.shell) is None}
    for command in in_order:
        if command.shell not in missing:
            _run(desk, command)
    for shell in sorted(missing):
        or_skip(functools.partial(require, shell))


def _run(desk: Desk, command: Command) -> None:
    desk.type(FILLED)
    where = f"cd {WHERE[command.page]} && " if command.page in WHERE else ""
    if re.search(r"s3-uploader-cli init\b", command.text):
        named = re.findall(r"\S+\.json", command.text)[0]
        desk.type(f"rm -f {named}")
        code, said = desk.answer(command.text, f"{SPOOL}\nmy-bucket\n\ny\nn\n")
        expected = 0
    elif re.search(r"s3-uploader-cli watch\b", command.text):
        port = re.search(r"--metrics-listen (\d+)", command.text)
        if port is not None and _is_taken(int(port[1])):
            return
        stopped = f"timeout --preserve-status --signal TERM 2 bash -c {shlex.quote('exec ' + command.text)}"
        done = desk.type(stopped)
        code, said, expected = done.returncode, done.stdout, 143
    elif command.shell == CRON:
        code, said = _as_cron(desk, command)
        expected = 0
    else:
        done = desk.type(where + command.text, shell=command.shell, timeout=600 if INSTALLED in command.text else 180)
        code, said = done.returncode, done.stdout
        expected = next((code for begins, code in EXIT_CODES.items() if command.text.startswith(begins)), 0)
    assert code == expected, f"{command.place}: {command.text}\nended with {code}:\n{said[-3000:]}"
    assert "Traceback" not in said, f"{command.place}: {command.text}\n{said[-3000:]}"


def _as_cron(desk: Desk, command: Command) -> tuple[int, str]:
    """What cron would mail: it has next to no environment, and reads ``%`` as the end of the command."""
    bare = {"HOME": desk.environment["HOME"], "PATH": "/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED": "true"}
    done = Desk(desk.entrance, Path(bare["HOME"]), bare).type(command.text, shell=CRON)
    if command.page not in CRON_MAILS:
        assert done.stdout == "", f"{command.place}: cron would mail:\n{done.stdout}"
    return done.returncode, done.stdout


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
