"""Two hosts that share a spool, and perhaps a home directory, over a network file system."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import or_skip
from tests.servers.two_hosts import NAMES, TwoHosts, two_hosts

FILES = 60


@pytest.fixture(params=["bindfs", pytest.param("juicefs", marks=pytest.mark.exhaustive)])
def hosts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    """Two hosts and what they share: a spool, an archive, a home directory."""
    context = two_hosts(tmp_path, request.param)
    made = or_skip(context.__enter__)
    for name in ("spool", "archive", "home"):
        (made.below / name).mkdir()
    yield made
    context.__exit__(None, None, None)


def fill(hosts: TwoHosts, content: str, topic: str = "topic") -> None:
    """Producers write, always the same names for a topic."""
    old = time.time() - 86400
    for number in range(FILES):
        directory = hosts.below / f"spool/location{number % 7}/2026/10/01/00"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{number % 60:02d}-{topic}{number}.dat"
        path.write_text(f"{content} {number}\n" * 200)
        os.utime(path, (old, old))


def configure(hosts: TwoHosts, name: str, **settings: object) -> Path:
    """The configuration of one host, which ships to a directory unless it names a bucket."""
    archive = {"type": "local", "path": str(hosts.seen / "archive")}
    where = {} if "bucket" in settings else {"destination": archive}
    config = {"base_dir": str(hosts.seen / "spool"), **where, **settings}
    path = hosts.mount_of(name).with_name(f"{name}.json")
    path.write_text(json.dumps(config))
    return path


@contextmanager
def held_by_b(hosts: TwoHosts, how: str) -> Iterator[None]:
    """Another program on the second host has the lock of the spool, or of a share, meanwhile."""
    script = (
        "import os, sys, time\n"
        "from s3_uploader.core.shares import parse\n"
        "from s3_uploader.spool.lock_file import Extent\n"
        "from s3_uploader.spool.lock import acquire\n"
        "spool = os.open(sys.argv[1], os.O_RDONLY)\n"
        "lock = acquire(spool, base_dir=sys.argv[1], state_dir=sys.argv[2], wait_seconds=0, clock=time.monotonic,\n"
        f"               sleep=time.sleep, now=time.time, {how})\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holding = hosts.start("b", COMMAND.with_name("python"), "-c", script, hosts.seen / "spool", "/nonexistent")
    try:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        yield
    finally:
        holding.kill()
        holding.communicate()


def archived(hosts: TwoHosts) -> dict[str, str]:
    """What was delivered."""
    archive = hosts.below / "archive"
    return {str(path.relative_to(archive)): path.read_text() for path in archive.rglob("*") if path.is_file()}


def shipped_and_known(hosts: TwoHosts, config: Path, outputs: list[str]) -> None:
    """Everything has arrived, and the ledger that both hosts write knows of each file and is whole."""
    ledgers = list((hosts.below / "home").rglob("ledger*.sqlite3*"))
    assert not [path.name for path in ledgers if "corrupt" in path.name], outputs
    assert len(archived(hosts)) == FILES, outputs
    history = hosts.run("a", COMMAND, "history", "--format", "csv", config, XDG_STATE_HOME=str(hosts.seen / "home"))
    assert len(history.stdout.splitlines()) == FILES + 1, history.stdout[-500:]
    (ledger,) = (path for path in ledgers if path.suffix == ".sqlite3")
    with closing(sqlite3.connect(ledger)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA journal_mode").fetchall() != [("wal",)]


def waiting(hosts: TwoHosts) -> list[Path]:
    """What producers wrote and is not shipped yet."""
    return [path for path in (hosts.below / "spool").rglob("*.dat") if path.is_file()]


def test_one_of_two_hosts_has_the_spool(hosts: TwoHosts) -> None:
    """Runs of two hosts in one spool do not overlap, and no later run replaces what either has delivered."""
    fill(hosts, "first")
    configs = {name: configure(hosts, name, state_dir=f"/var/tmp/{hosts.seen.parent.name}-{name}") for name in NAMES}
    started = [hosts.start(name, COMMAND, "run", configs[name]) for name in NAMES]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    shipped = [output.count("has been uploaded") for output in outputs]
    # One may have begun when the other was through; then it found nothing.
    assert sorted(shipped) == [0, FILES], outputs
    before = archived(hosts)
    fill(hosts, "second")
    for name in NAMES:
        assert hosts.run(name, COMMAND, "run", configs[name]).returncode == 1
    assert archived(hosts) == before
    assert len(waiting(hosts)) == FILES


@pytest.mark.parametrize("older", [False, True])
def test_two_hosts_write_one_ledger(hosts: TwoHosts, older: bool) -> None:
    """Uploaders that claim and share a home directory keep one history, also where an older version began it."""
    fill(hosts, "first")
    (hosts.below / "claims").mkdir()
    home = str(hosts.seen / "home")
    configs = {name: configure(hosts, name, claim_dir=str(hosts.seen / "claims")) for name in NAMES}
    if older:
        begun = hosts.run("a", COMMAND, "run", configs["a"], "--max-runtime", "0.001", XDG_STATE_HOME=home)
        assert begun.returncode == 0
        (ledger,) = (hosts.below / "home").rglob("ledger.sqlite3")
        with closing(sqlite3.connect(ledger)) as connection:
            assert connection.execute("PRAGMA journal_mode = WAL").fetchall() == [("wal",)]
    started = [hosts.start(name, COMMAND, "run", configs[name], XDG_STATE_HOME=home) for name in NAMES]
    looked = [hosts.run(name, COMMAND, "status", "--json", configs[name], XDG_STATE_HOME=home) for name in NAMES]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert [each.returncode for each in looked] == [0, 0], [each.stdout for each in looked]
    shipped_and_known(hosts, configs["a"], outputs)


def test_the_holder_on_another_host_is_named(hosts: TwoHosts) -> None:
    """The second host says at once who has the spool and where; the lock of a killed run is free."""
    config = configure(hosts, "a", state_dir="/var/tmp/does-not-matter")
    with held_by_b(hosts, "command=['s3-uploader-cli', 'theirs.json']"):
        refused = hosts.run("a", COMMAND, "run", "--verbose", config)
        assert refused.returncode == 0
        assert "Another run has the spool" in refused.stdout
        assert "on host-b" in refused.stdout
        assert "theirs.json" in refused.stdout
        assert hosts.run("a", COMMAND, "run", "--wait-for-lock", "0.5", config).returncode == 75
        status = json.loads(hosts.run("a", COMMAND, "status", "--json", config).stdout)
        assert "host-b" in status["lock_holder"]
    fill(hosts, "first")
    # The kernel has to tell the file system of the end of the process.
    assert hosts.run("a", COMMAND, "run", "--wait-for-lock", "10", config).returncode == 0
    assert len(archived(hosts)) == FILES


def test_two_hosts_ship_a_share_each(hosts: TwoHosts) -> None:
    """Shares go side by side on two hosts, ship everything once, and are told of as one."""
    fill(hosts, "first")
    home = str(hosts.seen / "home")
    configs = {name: configure(hosts, name) for name in NAMES}
    started = [
        hosts.start(name, COMMAND, "run", "--share", f"{index}/2", configs[name], XDG_STATE_HOME=home)
        for index, name in enumerate(NAMES)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert all("has been uploaded" in output for output in outputs)
    assert sum(output.count("has been uploaded") for output in outputs) == FILES
    assert len(archived(hosts)) == FILES
    assert waiting(hosts) == []
    history = hosts.run("a", COMMAND, "history", "--format", "csv", configs["a"], XDG_STATE_HOME=home)
    assert len(history.stdout.splitlines()) == FILES + 1
    status = json.loads(hosts.run("b", COMMAND, "status", "--json", configs["b"], XDG_STATE_HOME=home).stdout)
    assert [each["share"] for each in status["shares"]] == ["0/2", "1/2"]
    assert status["totals"]["shipped_files"] == FILES


def test_shares_of_two_hosts_that_meet(hosts: TwoHosts) -> None:
    """What another host ships is left to it, and a share of another division is refused by name."""
    fill(hosts, "first")
    config = configure(hosts, "a", state_dir=f"/var/tmp/{hosts.seen.parent.name}-a")
    with held_by_b(hosts, "extent=Extent(share=parse('0/2'))"):
        refused = hosts.run("a", COMMAND, "run", "--share", "1/3", config)
        assert refused.returncode == 75, refused.stdout
        assert "The share 1/3 of the spool" in refused.stdout
        assert "share 0/2" in refused.stdout
        assert hosts.run("a", COMMAND, "run", "--share", "0/2", config).returncode == 0
        assert hosts.run("a", COMMAND, "run", config).returncode == 0
        assert hosts.run("a", COMMAND, "run", "--wait-for-lock", "0.5", config).returncode == 75
        assert archived(hosts) == {}
        assert hosts.run("a", COMMAND, "run", "--share", "1/2", config).returncode == 0
        assert 0 < len(archived(hosts)) < FILES
    assert hosts.run("a", COMMAND, "run", "--wait-for-lock", "10", config).returncode == 0
    assert len(archived(hosts)) == FILES
    assert waiting(hosts) == []


def test_two_divisions_of_two_hosts(hosts: TwoHosts, fault_server: FaultServer) -> None:
    """Halves on two hosts, then a half beside a third, then a run of all files: all is shipped, and nothing twice."""
    bucket = fault_server.endpoint.bucket
    configs = {name: configure(hosts, name, bucket=bucket, max_concurrency=1) for name in NAMES}
    variables = {**fault_server.environment(), "XDG_STATE_HOME": str(hosts.seen / "home")}
    fill(hosts, "first")
    halves = [
        hosts.start(name, COMMAND, "run", "--quiet", "--share", f"{index}/2", configs[name], **variables)
        for index, name in enumerate(NAMES)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in halves]
    assert [process.returncode for process in halves] == [0, 0], outputs
    assert len(fault_server.objects()) == FILES

    fill(hosts, "second", "more")
    fault_server.latency_seconds = 0.5
    half = hosts.start("a", COMMAND, "run", "--quiet", "--share", "0/2", configs["a"], **variables)
    until = time.monotonic() + 60
    while len(fault_server.objects()) == FILES:
        assert half.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    refused = hosts.run("b", COMMAND, "run", "--share", "1/3", configs["b"], **variables)
    assert refused.returncode == 75, refused.stdout
    assert "share 0/2" in refused.stdout
    aside = hosts.run("b", COMMAND, "run", configs["b"], **variables)
    assert aside.returncode == 0, aside.stdout
    assert "share 0/2" in aside.stdout
    assert half.poll() is None
    whole = hosts.start("b", COMMAND, "run", "--quiet", "--wait-for-lock", "60", configs["b"], **variables)
    fault_server.latency_seconds = 0.0
    outputs = [process.communicate(timeout=120)[0] for process in (half, whole)]
    assert [process.returncode for process in (half, whole)] == [0, 0], outputs

    assert waiting(hosts) == []
    assert len(fault_server.objects()) == 2 * FILES
    assert fault_server.replacements == []
    sent = Counter(request.key for request in fault_server.requests_of("PutObject"))
    # With its first file each division tries whether the server refuses a name that is taken.
    assert len([key for key, count in sent.items() if count > 1]) <= 3, sent
    history = hosts.run("a", COMMAND, "history", "--format", "csv", configs["a"], **variables)
    assert len(history.stdout.splitlines()) == 2 * FILES + 1
    audit = hosts.run("b", COMMAND, "audit", configs["b"], **variables)
    assert audit.returncode == 0, audit.stdout
    assert f"{2 * FILES:,} files audited" in audit.stdout
