"""Programs that give credentials and do not: a sentence and exit code 3, within the limits of the run."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.site import Site, measured
from tests.servers.fault_server import FaultServer

NONSENSE = {
    "prints no JSON": "/bin/echo hello",
    "prints nothing": "/bin/true",
    "fails": "/bin/false",
    "is not there": "/nowhere/program",
    "never stops printing": "/usr/bin/yes",
    "prints a list": "/bin/echo []",
    "gives no key": '/bin/echo {"Version": 1}',
    "gives numbers": '/bin/echo {"Version":1,"AccessKeyId":1,"SecretAccessKey":2}',
}


def ask(site: Site, fault_server: FaultServer, program: str) -> None:
    """Let a program give the credentials."""
    site.ship_to(fault_server, drain_seconds=1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        site.environment.pop(name, None)
    (site.home / ".aws").mkdir()
    (site.home / ".aws" / "config").write_text(f"[default]\ncredential_process = {program}\n")
    site.files(2)


@pytest.mark.parametrize("what", NONSENSE)
def test_a_program_that_gives_no_credentials(site: Site, fault_server: FaultServer, what: str) -> None:
    """Whatever it does instead, every file is kept and the reason is told."""
    ask(site, fault_server, NONSENSE[what])
    finished, _, peak_memory = measured(site, timeout=30)
    assert finished.code == 3
    assert "credentials" in finished.sentences("ERROR")[0]
    assert all(len(sentence) < 1000 for _, sentence in finished.log)
    assert peak_memory < 150 * 2**20
    assert len(site.left()) == 2


def test_a_program_that_hangs_and_the_budget(site: Site, fault_server: FaultServer) -> None:
    """--max-runtime holds while credentials are waited for."""
    ask(site, fault_server, "/bin/sleep 100")
    finished = site.run("run", "--max-runtime", "2", timeout=30)
    assert finished.code == 0
    assert finished.seconds < 8
    assert len(site.left()) == 2


def test_a_program_that_hangs_and_a_signal(site: Site, fault_server: FaultServer) -> None:
    """So does SIGTERM."""
    ask(site, fault_server, "/bin/sh -c 'touch asked; exec sleep 100'")
    running = site.start()
    running.wait_until((site.home / "asked").exists, "the program")
    running.send(signal.SIGTERM)
    finished = running.wait(10)
    assert finished.code == 143
    assert len(site.left()) == 2
