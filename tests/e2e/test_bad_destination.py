"""A destination that cannot be used: exit code 3 within seconds, one clear sentence, every file kept."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.site import ENGINES, Finished, Site
from tests.servers.certificates import make_certificates
from tests.servers.fault_script import error, hang, hang_up, run_before_answer
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import MakeFaultServer
from tests.servers.nginx_sink import NginxSink

BACKLOG = 600
SOON = 25.0
"""Seconds within which a run over any backlog has to give up; on a machine that does nothing else it takes three."""


@pytest.fixture(scope="module")
def backlog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool of 600 files, which no test of this module changes."""
    spool = tmp_path_factory.mktemp("backlog")
    for number in range(BACKLOG):
        path = spool / f"room-{number % 5}/2020/11/29/{number // 300:02d}/{number // 5 % 60:02d}-t.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return spool


@pytest.fixture
def waiting(site: Site, backlog: Path) -> Iterator[Site]:
    """A site with the backlog, which is still there afterwards."""
    site.settings["base_dir"] = str(backlog)
    yield site
    assert sum(name.endswith(".dat") for _, _, names in os.walk(backlog) for name in names) == BACKLOG


def abandoned(finished: Finished, *, within: float = SOON) -> str:
    """The one sentence of a run that was abandoned soon, with few lines."""
    assert finished.code == 3, finished.stderr
    assert finished.seconds < within
    assert "Traceback" not in finished.stderr
    assert len(finished.log) <= 8, finished.stderr
    (sentence,) = finished.sentences("ERROR")
    assert sentence.startswith("The run was abandoned, all files are kept: ")
    assert len(finished.sentences("WARNING")) <= 3
    return sentence


def test_wrong_key_id(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """An access key that does not exist is named as the cause, with where to look."""
    waiting.ship_to(fault_server, engine=engine)
    waiting.environment["AWS_ACCESS_KEY_ID"] = "AKIDOESNOTEXIST00000"
    sentence = abandoned(waiting.run())
    assert "(InvalidAccessKeyId)" in sentence
    assert "AWS_ACCESS_KEY_ID" in sentence
    assert fault_server.objects() == {}


@pytest.mark.exhaustive
def test_wrong_secret(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """A signature that does not match points to the secret key."""
    fault_server.faults.add(error("SignatureDoesNotMatch").only(operations=None, times=None))
    waiting.ship_to(fault_server, engine=engine)
    sentence = abandoned(waiting.run())
    assert "(SignatureDoesNotMatch)" in sentence
    assert "secret" in sentence


def test_missing_bucket(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """A bucket that does not exist is named as the cause, and none is created."""
    waiting.ship_to(fault_server, engine=engine, bucket="no-such-bucket")
    sentence = abandoned(waiting.run())
    assert "(NoSuchBucket)" in sentence
    assert "creates no buckets" in sentence
    assert not fault_server.requests_of("CreateBucket")


@pytest.mark.exhaustive
def test_expired_token(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """Temporary credentials that have expired are named as the cause, with what to do."""
    fault_server.faults.add(error("ExpiredToken").only(operations=None, times=None))
    waiting.ship_to(fault_server, engine=engine)
    waiting.environment["AWS_SESSION_TOKEN"] = "expired"
    sentence = abandoned(waiting.run())
    assert "(ExpiredToken)" in sentence
    assert "credentials" in sentence


def test_access_denied(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """Credentials that may do nothing end the run, and the permission that is missing is named."""
    fault_server.allowed_operations = set()
    waiting.ship_to(fault_server, engine=engine)
    sentence = abandoned(waiting.run())
    assert "(AccessDenied)" in sentence
    assert "s3:PutObject" in sentence


def test_access_denied_in_the_middle(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """A right that is taken away when some files are uploaded costs a few of the others a request, and ends the run."""

    def take_away() -> None:
        fault_server.allowed_operations = set()

    fault_server.faults.add(run_before_answer(lambda: None).repeated(30), run_before_answer(take_away))
    waiting.ship_to(fault_server, engine=engine, on_success="keep")
    finished = waiting.run()
    assert finished.code == 3, finished.stderr
    (sentence,) = finished.sentences("ERROR")
    assert "(AccessDenied)" in sentence
    assert len(fault_server.requests_of("PutObject")) < 300
    assert len(finished.sentences("WARNING")) < 150


@pytest.mark.exhaustive
def test_wrong_region(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """A bucket in another region is an error that names the region."""
    fault_server.faults.add(error("PermanentRedirect").only(operations=None, times=None))
    waiting.ship_to(fault_server, engine=engine)
    assert "eu-central-1" in abandoned(waiting.run())


@pytest.mark.parametrize("engine", ENGINES)
def test_no_dns(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """A name that nobody knows ends the run and is shown."""
    waiting.ship_to(fault_server, engine=engine, endpoint_url="http://name.invalid")
    sentence = abandoned(waiting.run())
    assert "name.invalid" in sentence
    assert "DNS" in sentence or "endpoint_url" in sentence


def test_refused_connection(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """A port where nobody listens ends the run, and the endpoint is shown."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        waiting.ship_to(fault_server, engine=engine, endpoint_url=url)
        sentence = abandoned(waiting.run())
    assert url in sentence
    assert "refused" in sentence.lower() or "connect" in sentence.lower()


def test_untrusted_certificate(waiting: Site, make_fault_server: MakeFaultServer, engine: str, tmp_path: Path) -> None:
    """A certificate of an authority that is not trusted ends the run, and nothing was sent."""
    server = make_fault_server(tls=True)
    waiting.ship_to(server, engine=engine)
    waiting.environment["AWS_CA_BUNDLE"] = str(make_certificates(tmp_path).authority)
    sentence = abandoned(waiting.run())
    assert "certificate" in sentence.lower() or "tls" in sentence.lower()
    assert "AWS_CA_BUNDLE" in sentence
    assert not server.counts()


def test_trusted_certificate(site: Site, make_fault_server: MakeFaultServer, engine: str) -> None:
    """With the right authority the same server takes the files."""
    server = make_fault_server(tls=True)
    site.ship_to(server, engine=engine)
    site.files(5)
    finished = site.run()
    assert finished.code == 0, finished.stderr
    assert len(server.objects()) == 5
    assert site.left() == {}


def test_tls_to_a_server_without(waiting: Site, nginx_sink: NginxSink, engine: str) -> None:
    """TLS to a server that speaks only http is an error of its own, not a wait."""
    url = nginx_sink.endpoint_url.replace("http://", "https://")
    waiting.ship_to(nginx_sink, engine=engine, endpoint_url=url)
    sentence = abandoned(waiting.run())
    assert url in sentence
    assert "TLS" in sentence


@pytest.mark.parametrize("hours", [-5, 5], ids=["behind", "ahead"])
def test_a_wrong_clock(
    waiting: Site, fault_server: FaultServer, engine: str, hours: int, clock_offset: Callable[[float], dict[str, str]]
) -> None:
    """A machine whose clock is hours off is told by how much, in the right direction."""
    waiting.ship_to(fault_server, engine=engine)
    finished = waiting.run(environment=clock_offset(hours * 3600.0))
    sentence = abandoned(finished)
    assert "RequestTimeTooSkewed" in sentence
    assert ("behind" if hours < 0 else "ahead of") in sentence


@pytest.mark.parametrize("where", ["none", "half", "profile"])
def test_no_credentials(waiting: Site, fault_server: FaultServer, where: str) -> None:
    """Without credentials, or with half of them, the run says so and asks nobody."""
    waiting.ship_to(fault_server)
    del waiting.environment["AWS_SECRET_ACCESS_KEY"]
    if where != "half":
        del waiting.environment["AWS_ACCESS_KEY_ID"]
    if where == "profile":
        waiting.settings["profile"] = "no-such-profile"
    sentence = abandoned(waiting.run())
    assert ("no-such-profile" if where == "profile" else "redentials") in sentence
    assert not fault_server.counts()


def test_a_server_that_hangs_up(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """A server that closes every connection is tried for a while, and then it is the destination that is unusable."""
    fault_server.faults.add(hang_up("before_body").only(operations=None, times=None))
    waiting.ship_to(fault_server, engine=engine)
    finished = waiting.run(timeout=90)
    assert finished.code == 3, finished.stderr
    assert len(finished.log) <= 8
    assert finished.seconds < 60


def test_a_server_that_is_no_s3(waiting: Site, fault_server: FaultServer) -> None:
    """An endpoint that answers something else than S3 is not believed."""
    fault_server.faults.add(
        error("NoSuchBucket", status=404, message="<html>nginx</html>").only(operations=None, times=None)
    )
    waiting.ship_to(fault_server)
    assert "<html>" in abandoned(waiting.run())


def test_an_outage_is_no_files_fault(waiting: Site, fault_server: FaultServer) -> None:
    """An outage costs no file its next try: when the cause is gone, the next run ships everything at once."""
    waiting.ship_to(fault_server)
    good, waiting.environment["AWS_ACCESS_KEY_ID"] = waiting.environment["AWS_ACCESS_KEY_ID"], "AKIDOESNOTEXIST00000"
    for _ in range(2):
        abandoned(waiting.run())
    assert waiting.status()["failing_files"] == 0
    waiting.environment["AWS_ACCESS_KEY_ID"] = good
    waiting.settings["on_success"] = "keep"
    waiting.settings["include"] = ["room-0/2020/11/29/00/**"]
    finished = waiting.run()
    assert finished.code == 0
    assert len(fault_server.objects()) == BACKLOG // 10


def test_check_of_a_server_that_hangs(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """``check`` waits for an answer as long as an upload may take, and says so."""
    fault_server.faults.add(hang().only(operations=None, times=None))
    waiting.settings["upload_timeout_seconds"] = 2
    waiting.ship_to(fault_server, engine=engine)
    finished = waiting.run("check")
    assert finished.code == 3, finished.stderr
    assert "The PutObject operation got no answer in 2.0 s." in finished.stdout
    assert finished.seconds < SOON


def test_check_that_is_stopped(waiting: Site, fault_server: FaultServer, engine: str) -> None:
    """A signal ends ``check`` soon, and what it has stored so far is removed."""
    fault_server.faults.add(hang().only(operations=("HeadObject",), times=None))
    waiting.ship_to(fault_server, engine=engine)
    running = waiting.start("check")
    running.wait_until(lambda: fault_server.requests_of("HeadObject"), "the test object is looked at")
    assert fault_server.objects()
    running.send(signal.SIGTERM)
    finished = running.wait(timeout=SOON)
    assert finished.code == 128 + signal.SIGTERM
    assert "Traceback" not in finished.stderr
    assert not fault_server.objects()
