"""Programs that give credentials and do not: a sentence and exit code 3, within the limits of the run."""

from __future__ import annotations

import json
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
    "leaves a process that holds its output open": "/bin/sh -c '/bin/sleep 20 & exit 0'",
    "gives numbers": """/bin/echo '{"Version":1,"AccessKeyId":1,"SecretAccessKey":2}'""",
    "gives nothing for a key": """/bin/echo '{"Version":1,"AccessKeyId":null,"SecretAccessKey":null}'""",
}


def ask(site: Site, fault_server: FaultServer, program: str) -> None:
    """Let a program give the credentials."""
    site.ship_to(fault_server, drain_seconds=1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        site.environment.pop(name, None)
    (site.home / ".aws").mkdir()
    (site.home / ".aws" / "config").write_text(f"[default]\ncredential_process = {program}\n")
    site.files(2)


@pytest.mark.rotated("what")
@pytest.mark.parametrize("what", NONSENSE)
def test_a_program_that_gives_no_credentials(site: Site, fault_server: FaultServer, what: str) -> None:
    """Whatever it does instead, every file is kept and the reason is told, by `status` too."""
    ask(site, fault_server, NONSENSE[what])
    finished, _, peak_memory = measured(site, timeout=30)
    assert finished.code == 3
    assert "credentials" in finished.sentences("ERROR")[0]
    assert all(len(sentence) < 1000 for _, sentence in finished.log)
    assert peak_memory < 150 * 2**20
    assert len(site.left()) == 2
    assert [problem["cause"] for problem in site.status()["problems"]] == ["credentials"]


UNUSABLE = {
    "AWS_METADATA_SERVICE_TIMEOUT": "soon",
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "many",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "not a url",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv7",
}


@pytest.mark.rotated("name")
@pytest.mark.parametrize("name", UNUSABLE)
def test_settings_of_a_source_that_cannot_be_used(site: Site, fault_server: FaultServer, name: str) -> None:
    """A misspelt setting of the metadata service ends the run with a sentence that quotes it."""
    ask(site, fault_server, "/bin/true")
    site.environment[name] = UNUSABLE[name]
    finished = site.run()
    assert finished.code == 3
    sentence = finished.sentences("ERROR")[0]
    assert "The AWS configuration cannot be used" in sentence
    assert UNUSABLE[name] in sentence
    assert "Traceback" not in finished.stderr
    assert len(site.left()) == 2


def test_a_program_that_leaves_something_running(site: Site, fault_server: FaultServer) -> None:
    """Credentials are used as soon as the program that gives them has ended, whatever it has started beside."""
    keys = {"Version": 1, "AccessKeyId": fault_server.access_key, "SecretAccessKey": fault_server.secret_key}
    ask(site, fault_server, f"/bin/sh -c '/bin/sleep 40 & cat {site.home}/keys'")
    (site.home / "keys").write_text(json.dumps(keys))
    finished = site.run(timeout=60)
    assert finished.code == 0, finished.stderr
    assert finished.seconds < 30
    assert site.left() == {}


@pytest.mark.exhaustive
def test_a_program_that_hangs(site: Site, fault_server: FaultServer) -> None:
    """After a minute without an answer the run ends with exit code 3; `status` and the metrics say of what."""
    ask(site, fault_server, "/bin/sh -c '/bin/sleep 200; exit'")
    site.settings["metrics_file"] = str(site.place / "metrics.prom")
    finished = site.run(timeout=110)
    assert finished.code == 3
    assert "did not end in 60 s" in finished.sentences("ERROR")[0]
    assert [problem["cause"] for problem in site.status()["problems"]] == ["credentials"]
    assert 'cause="credentials"} 1' in (site.place / "metrics.prom").read_text()
    assert len(site.left()) == 2


def test_a_program_that_hangs_and_the_budget(site: Site, fault_server: FaultServer) -> None:
    """--max-runtime holds while credentials are waited for."""
    ask(site, fault_server, "/bin/sleep 100")
    finished = site.run("run", "--max-runtime", "2", timeout=30)
    assert finished.code == 0
    assert finished.seconds < 8
    assert len(site.left()) == 2


def test_a_program_that_hangs_and_a_check(site: Site, fault_server: FaultServer) -> None:
    """`check` waits for it no longer than max_runtime_seconds, too."""
    ask(site, fault_server, "/bin/sleep 100")
    finished = site.run("check", "--set", "max_runtime_seconds=2", timeout=30)
    assert finished.code == 3
    assert finished.seconds < 8
    assert "before the time of the check was over (max_runtime_seconds)" in finished.stdout


def test_a_program_that_hangs_and_a_signal(site: Site, fault_server: FaultServer) -> None:
    """So does SIGTERM."""
    ask(site, fault_server, "/bin/sh -c 'touch asked; exec sleep 100'")
    running = site.start()
    running.wait_until((site.home / "asked").exists, "the program")
    running.send(signal.SIGTERM)
    finished = running.wait(10)
    assert finished.code == 143
    assert len(site.left()) == 2
