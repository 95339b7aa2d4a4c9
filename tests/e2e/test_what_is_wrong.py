"""What the commands say of a destination that cannot be used: status, exit code, monitoring plugin, advice.

Each case is one mistake that people make; what is said of it is held together here.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.e2e.mounts import mounting
from tests.e2e.site import Site
from tests.e2e.told import the_problem
from tests.servers.certificates import make_certificates
from tests.servers.fault_script import error
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import MakeFaultServer
from tests.servers.odd_ftp import Oddities, OddSession, odd_ftp_server

_YEAR = rb"/20\d\d(/|$)"
"""In the path of a file. The name of a test may begin with these digits, too."""

pytestmark = pytest.mark.rotated("form")

HOUR = 3600.0
Offset = Callable[[float], dict[str, str]]
Refuse = Callable[..., None]


@pytest.fixture
def spool(site: Site, fault_server: FaultServer, engine: str) -> Site:
    """A spool with one file that waits for the fault server."""
    site.ship_to(fault_server, engine=engine)
    site.files(1)
    return site


@pytest.fixture
def to_ftp(site: Site, tmp_path: Path) -> Iterator[Refuse]:
    """Lets a spool with one file go to an FTP server that refuses some commands."""
    (tmp_path / "ftp").mkdir()
    with contextlib.ExitStack() as servers:

        def ship(refuses: dict[str, str], before: Callable[..., bool] | None = None, **settings: Any) -> None:
            odd = Oddities(refuses=refuses) if before is None else Oddities(refuses=refuses, before=before)
            server = servers.enter_context(odd_ftp_server(tmp_path / "ftp", odd))
            address = {"type": "ftp", "host": "127.0.0.1", "port": server.port, "tls": False}
            site.settings["destination"] = {**address, "user": "u", "password": "p", **settings}
            site.files(1)

        yield ship


class Said(Protocol):
    """Lets a spool run, and sees that each command tells of the one problem that is left then."""

    def __call__(
        self, site: Site, *, run: int, cause: str, severity: str, remedy: str, left: int = 1, **options: Any
    ) -> dict[str, Any]:
        """Return the problem as programs are told of it, and with it the run."""


class Stuck(Protocol):
    """The same of a run that is abandoned, for a reason that does not pass by itself."""

    def __call__(self, site: Site, *, cause: str, remedy: str, left: int = 1, **options: Any) -> dict[str, Any]:
        """Return the problem."""


@pytest.fixture
def said(form: str) -> Said:
    """What is told in one form beside that for programs."""

    def said(
        site: Site, *, run: int, cause: str, severity: str, remedy: str, left: int = 1, **options: Any
    ) -> dict[str, Any]:
        finished = site.run(**options)
        assert finished.code == run, finished.stderr
        assert len(site.left()) == left
        problem = the_problem(site, form, **options)
        assert (problem["cause"], problem["severity"]) == (cause, severity)
        assert remedy in problem["remedy"]
        return problem | {"run": finished}

    return said


@pytest.fixture
def stuck(said: Said) -> Stuck:
    """The same of a run that is abandoned."""

    def stuck(site: Site, **expected: Any) -> dict[str, Any]:
        problem = said(site, run=3, severity="error", **expected)
        (sentence,) = problem["run"].sentences("ERROR")
        assert sentence.startswith("The run was abandoned, all files are kept: ")
        return problem

    return stuck


def test_bucket_missing(spool: Site, stuck: Stuck) -> None:
    """A bucket that does not exist is no matter of the network."""
    spool.settings["bucket"] = "no-such-bucket"
    problem = stuck(spool, cause="destination", remedy="bucket, region or endpoint_url")
    assert "network" not in problem["remedy"]
    assert "(NoSuchBucket)" in problem["sentence"]


@pytest.mark.parametrize(
    ("code", "message", "settings"),
    [
        ("InvalidStorageClass", "The bucket does not allow it", {"storage_class": "GLACIER_OF_OLD"}),
        ("InvalidArgument", "", {"storage_class": "GLACIER_OF_OLD"}),
        ("AccessControlListNotSupported", "The bucket does not allow it", {"acl": "public-read"}),
    ],
    ids=["storage-class", "storage-class-of-ceph", "acl"],
)
def test_wrong_setting(
    spool: Site, fault_server: FaultServer, code: str, message: str, settings: dict[str, str], stuck: Stuck
) -> None:
    """A storage class that there is not, and an ACL where the bucket has none, are settings to correct."""
    fault_server.faults.add(error(code, status=400, message=message).only(times=None))
    spool.settings.update(settings)
    problem = stuck(spool, cause="destination", remedy="Correct the setting that the message names")
    assert next(iter(settings)) in problem["sentence"]


def test_wrong_region(spool: Site, fault_server: FaultServer, stuck: Stuck) -> None:
    """A bucket in another region names it."""
    fault_server.faults.add(error("PermanentRedirect").only(operations=None, times=None))
    problem = stuck(spool, cause="destination", remedy="bucket, region or endpoint_url")
    assert "eu-central-1" in problem["sentence"]


def test_wrong_key(spool: Site, stuck: Stuck) -> None:
    """An access key that does not exist is one to correct."""
    spool.environment["AWS_ACCESS_KEY_ID"] = "AKIDOESNOTEXIST00000"
    problem = stuck(spool, cause="credentials", remedy="Renew or correct the credentials")
    assert "(InvalidAccessKeyId)" in problem["sentence"]
    assert "AWS_ACCESS_KEY_ID" in problem["sentence"]


def test_wrong_secret(spool: Site, fault_server: FaultServer, stuck: Stuck) -> None:
    """So is a secret that does not fit the key."""
    fault_server.faults.add(error("SignatureDoesNotMatch").only(operations=None, times=None))
    problem = stuck(spool, cause="credentials", remedy="Renew or correct the credentials")
    assert "(SignatureDoesNotMatch)" in problem["sentence"]
    assert "secret" in problem["sentence"]


def test_expired_token(spool: Site, fault_server: FaultServer, stuck: Stuck) -> None:
    """Temporary credentials that have expired are to be renewed."""
    fault_server.faults.add(error("ExpiredToken").only(operations=None, times=None))
    spool.environment["AWS_SESSION_TOKEN"] = "expired"
    problem = stuck(spool, cause="credentials", remedy="Renew or correct the credentials")
    assert "(ExpiredToken)" in problem["sentence"]
    assert "credentials" in problem["sentence"]


@pytest.mark.rotated("hours")
@pytest.mark.parametrize("hours", [-5, 5], ids=["behind", "ahead"])
def test_clock_wrong(spool: Site, clock_offset: Offset, hours: int, stuck: Stuck) -> None:
    """A clock that is hours off is to be set."""
    spool.files(1)
    problem = stuck(spool, cause="clock", remedy="Set this machine's clock", environment=clock_offset(hours * HOUR))
    assert ("behind" if hours < 0 else "ahead of") in problem["sentence"]


def test_no_network(spool: Site, clock_offset: Offset, said: Said, stuck: Stuck) -> None:
    """A server that is not there is a warning, since it may be back in a moment; after ten minutes nothing goes."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        spool.settings["endpoint_url"] = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        said(spool, run=3, cause="destination", severity="warning", remedy="Run `check`: it tries each step")
        stuck(
            spool, cause="destination", remedy="Run `check`: it tries each step", environment=clock_offset(0.25 * HOUR)
        )


def test_tls_refused(site: Site, make_fault_server: MakeFaultServer, engine: str, tmp_path: Path, stuck: Stuck) -> None:
    """A certificate that is not trusted does not become so by waiting."""
    server = make_fault_server(tls=True)
    site.ship_to(server, engine=engine)
    site.environment["AWS_CA_BUNDLE"] = str(make_certificates(tmp_path).authority)
    site.files(1)
    stuck(site, cause="destination", remedy="Correct what does not fit: the server's certificate")
    assert not server.counts()


@pytest.mark.rotated("reply")
@pytest.mark.parametrize("reply", ["530 Login incorrect.", "430 Invalid password.", "500 OOPS: no such user."])
def test_ftp_530(site: Site, to_ftp: Refuse, reply: str, stuck: Stuck) -> None:
    """A login that is refused is a matter of user and password, whatever number the server has for it."""
    to_ftp({"PASS": reply})
    problem = stuck(site, cause="credentials", remedy="Renew or correct the credentials")
    assert reply.rstrip(".") in problem["sentence"]


def test_ftp_without_tls(site: Site, to_ftp: Refuse, stuck: Stuck) -> None:
    """A server that does not offer TLS is a setting to correct, and no matter of the network."""
    to_ftp({"AUTH": "500 Unknown command."}, tls=True)
    problem = stuck(site, cause="destination", remedy="Correct the setting that the message names")
    assert "does not offer TLS" in problem["sentence"]


def test_ftp_550_of_the_directory(site: Site, to_ftp: Refuse, stuck: Stuck) -> None:
    """A directory that is not there holds everything up."""
    to_ftp({"CWD": "550 No such directory."}, path="in")
    stuck(site, cause="destination", remedy="Correct path, create the directory it names")


@pytest.mark.rotated("verb", "reply")
@pytest.mark.parametrize("files", [1, 30])
@pytest.mark.parametrize(
    ("verb", "reply"),
    [("STOR", "550 Permission denied."), ("STOR", "553 Can't open that file."), ("MKD", "550 Not enough privileges.")],
)
def test_ftp_550_of_every_file(site: Site, to_ftp: Refuse, verb: str, reply: str, files: int, stuck: Stuck) -> None:
    """A user who may write nothing holds everything up, however many files wait: nothing will be shipped."""
    to_ftp({verb: reply})
    site.files(files)
    problem = stuck(site, cause="destination", remedy="give the user permissions there", left=files)
    assert reply.rstrip(".") in problem["sentence"]
    assert "Nothing can be written in / either. Check the permissions of the FTP user there." in problem["run"].stderr
    assert site.run("check").code == 3


def test_ftp_550_of_a_file(site: Site, to_ftp: Refuse, said: Said) -> None:
    """A file that may not be written where it goes is that file's trouble, and a permission that is missing."""

    def refuse(session: OddSession, verb: str, argument: bytes) -> bool:
        is_refused = verb == "STOR" and bool(re.search(_YEAR, argument))
        if is_refused:
            session.say("550 Permission denied.")
        return is_refused

    to_ftp({}, before=refuse)
    problem = said(site, run=1, cause="credentials", severity="warning", remedy="to store this file")
    assert problem["files"] == 1
    assert problem["path"] is not None


@pytest.mark.parametrize(("verb", "removal"), [("STOR", "DELE"), ("MKD", "RMD")])
def test_ftp_550_of_every_file_but_a_test(site: Site, to_ftp: Refuse, verb: str, removal: str) -> None:
    """What the server accepted as a test, and does not let anybody remove, is tried once and not for each file."""
    tests = []

    def refuse(session: OddSession, said: str, argument: bytes) -> bool:
        is_refused = said == removal or (said == verb and bool(re.search(_YEAR, argument)))
        if is_refused:
            session.say("550 Permission denied.")
        elif said == verb and b".s3-uploader-" in argument:
            tests.append(argument)
        return is_refused

    to_ftp({}, before=refuse)
    site.settings["destination"]["max_concurrency"] = 1
    for number in range(5):
        site.file(f"{number}/2021/11/29/20/46-topic.dat")
    assert site.run().code == 1
    assert len(tests) == 1, tests


def test_ftp_550_of_one_file_of_many(site: Site, to_ftp: Refuse, said: Said) -> None:
    """If others are accepted, they are shipped, whatever else the server refuses."""

    def refuse(session: OddSession, verb: str, argument: bytes) -> bool:
        is_refused = verb == "STOR" and b"/other/" not in argument
        if is_refused:
            session.say("550 Permission denied.")
        return is_refused

    to_ftp({}, before=refuse)
    for number in range(12):
        site.file(f"other/2021/11/29/20/{number}-topic.dat")
    problem = said(site, run=1, cause="credentials", severity="warning", remedy="to store this file")
    assert problem["files"] == 1


def test_a_directory_without_the_right_to_write(site: Site, tmp_path: Path, stuck: Stuck) -> None:
    """A directory of this machine knows no credentials: a permission is missing there."""
    (tmp_path / "archive").mkdir()
    site.settings["destination"] = {"type": "local", "path": str(tmp_path / "archive")}
    site.files(1)
    with mounting() as mounts:
        archive = mounts.bind(tmp_path / "archive", tmp_path / "archive")
        subprocess.run(["mount", "-o", "remount,ro,bind", str(archive)], check=True)
        problem = stuck(site, cause="destination", remedy="give the user permissions there")
    assert "credentials" not in problem["sentence"]
    assert site.run().code == 0
