"""``watch``, and the uploader inside another program: prompt, calm in trouble, and gone when told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.site import Running, Site, in_its_directory, settle
from tests.servers.fault_script import hang, run_before_answer
from tests.servers.fault_server import FaultServer

PATH = "bedroom/2020/11/29/20/46-topic.dat"


def start(site: Site, *arguments: str) -> Running:
    """A watch that has made its first pass."""
    marker = site.file("marker/2020/01/01/00/00-marker.dat", b"marker")
    running = site.start("watch", *arguments)
    running.wait_until(lambda: not marker.exists(), "the first pass")
    return running


def move_in(site: Site, path: str, content: bytes = b"content") -> Path:
    """What a careful producer does: write a file elsewhere, then move it in when it is finished."""
    made = site.place / "made"
    made.write_bytes(content)
    settle(made)
    target = site.spool / path
    in_its_directory(target, lambda: made.rename(target))
    return target


@pytest.fixture
def watched(site: Site, fault_server: FaultServer) -> Site:
    """A spool that goes to the fault server."""
    site.ship_to(fault_server)
    return site


def stop(running: Running, number: int = signal.SIGTERM, timeout: float = 20) -> None:
    """Tell it to stop, and see that it does so in good order."""
    running.send(number)
    finished = running.wait(timeout)
    assert finished.code == 128 + number, finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_file_is_on_its_way_at_once(watched: Site, fault_server: FaultServer) -> None:
    """A finished file that is moved in is uploaded within a fraction of a second, long before the interval is over."""
    (watched.spool / PATH).parent.mkdir(parents=True)
    running = start(watched, "--interval", "60")
    took = []
    for number in range(5):
        key = PATH.replace("46", f"4{number}")
        file = move_in(watched, key)
        began = time.monotonic()
        running.wait_until(lambda key=key: key in fault_server.objects(), "the upload")  # type: ignore[misc]
        took.append(time.monotonic() - began)
        running.wait_until(lambda file=file: not file.exists(), "the removal")  # type: ignore[misc]
        time.sleep(0.1)
    # The median: other programs may take the processors for a while.
    assert sorted(took)[2] < 1.0, took
    stop(running)
    assert watched.left() == {}


def test_directories_that_are_made_meanwhile_are_watched(watched: Site, fault_server: FaultServer) -> None:
    """A location that appears while it runs is noticed as well, with everything below it."""
    running = start(watched, "--interval", "60")
    move_in(watched, "a-new-location/2020/11/29/20/46-topic.dat")
    running.wait_until(lambda: "a-new-location/2020/11/29/20/46-topic.dat" in fault_server.objects(), "the upload", 10)
    stop(running)


def test_the_interval_finds_what_no_event_told(watched: Site, fault_server: FaultServer) -> None:
    """A file that was too young when it came is shipped once it has settled, without any event."""
    watched.settings["settle_seconds"] = 1
    running = start(watched, "--interval", "0.3")
    file = watched.file(PATH, b"young", age=0)
    running.wait_until(lambda: PATH in fault_server.objects(), "the upload")
    running.wait_until(lambda: not file.exists(), "the removal")
    stop(running)


def test_sigterm_drains(watched: Site, fault_server: FaultServer) -> None:
    """SIGTERM lets an upload that is in flight finish, removes its file, and ends."""
    running = start(watched, "--interval", "0.2")

    def stop_it() -> None:
        running.send(signal.SIGTERM)
        time.sleep(0.5)

    fault_server.faults.add(run_before_answer(stop_it).only(key=PATH))
    move_in(watched, PATH)
    finished = running.wait(20)
    assert finished.code == 143
    assert PATH in fault_server.objects()
    assert watched.left() == {}


def test_sigterm_with_uploads_that_hang(watched: Site, fault_server: FaultServer) -> None:
    """Uploads that hang are given up after the drain time; the file is kept."""
    watched.settings["drain_seconds"] = 0.5
    running = start(watched, "--interval", "0.2")
    fault_server.faults.add(hang("after_body").only(key=PATH))
    file = move_in(watched, PATH)
    running.wait_until(lambda: fault_server.requests_of("PutObject", PATH), "the upload")
    stop(running, timeout=12)
    assert file.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_idle_watch_stops_at_once(watched: Site, number: int) -> None:
    """While it sleeps, a signal ends it within a second or two."""
    running = start(watched, "--interval", "3600")
    time.sleep(0.3)
    began = time.monotonic()
    stop(running, number)
    assert time.monotonic() - began < 4


def test_sighup_reloads(watched: Site, fault_server: FaultServer) -> None:
    """SIGHUP takes the new configuration: from then on another prefix, with a line that says so."""
    running = start(watched, "--interval", "0.3")
    watched.settings["key_prefix"] = "new/"
    watched.write_config()
    running.send(signal.SIGHUP)
    running.wait_until(lambda: "The configuration has been reloaded." in running.stderr, "the reload")
    move_in(watched, PATH)
    running.wait_until(lambda: f"new/{PATH}" in fault_server.objects(), "the upload")
    stop(running)


def test_sighup_with_a_broken_configuration(watched: Site, fault_server: FaultServer) -> None:
    """A configuration that is broken is not taken: the one before stays, and the problem is named."""
    running = start(watched, "--interval", "0.3")
    watched.config_file.write_text('{"base_dir": 3}')
    running.send(signal.SIGHUP)
    running.wait_until(lambda: "was not reloaded" in running.stderr, "the refusal")
    assert "base_dir" in running.stderr
    move_in(watched, PATH)
    running.wait_until(lambda: PATH in fault_server.objects(), "the upload")
    stop(running)


def test_a_server_that_goes_away_and_comes_back(watched: Site, fault_server: FaultServer) -> None:
    """An outage is said once, not at every pass; when the server is back, everything is shipped, and that is said."""
    running = start(watched, "--interval", "0.2")
    fault_server.go_down()
    for minute in range(20):
        move_in(watched, f"bedroom/2020/11/29/20/{minute:02d}-topic.dat")
    running.wait_until(lambda: "The run was abandoned" in running.stderr, "the outage", 40)
    time.sleep(1.5)
    lines_then = running.stderr.count("\n")
    assert len(watched.left()) == 20
    fault_server.come_up()
    running.wait_until(lambda: not watched.left(), "the recovery", 60)
    running.wait_until(lambda: "The trouble is over" in running.stderr, "the line", 10)
    assert lines_then < 12, running.stderr
    stop(running)
    assert len(fault_server.objects()) == 21


def test_a_spool_that_vanishes_and_comes_back(watched: Site, fault_server: FaultServer) -> None:
    """A spool that is not there (not mounted, say) is trouble, not the end; when it is back, it is emptied."""
    running = start(watched, "--interval", "0.2")
    shutil.rmtree(watched.spool)
    running.wait_until(lambda: "does not exist" in running.stderr, "the trouble", 10)
    time.sleep(0.5)
    assert running.stderr.count("does not exist") == 1
    watched.spool.mkdir()
    move_in(watched, PATH)
    running.wait_until(lambda: PATH in fault_server.objects(), "the recovery", 30)
    stop(running)


def test_wrong_credentials_do_not_end_it(watched: Site, fault_server: FaultServer) -> None:
    """A watch outlives credentials that do not work (yet), and says it in two lines."""
    watched.environment["AWS_ACCESS_KEY_ID"] = "AKIDOESNOTEXIST00000"
    file = watched.file(PATH)
    running = watched.start("watch", "--interval", "0.2")
    running.wait_until(lambda: "InvalidAccessKeyId" in running.stderr, "the trouble")
    time.sleep(2.5)
    assert running.stderr.count("\n") <= 4, running.stderr
    assert file.exists()
    stop(running)


def test_it_shares_the_lock_with_runs(watched: Site, fault_server: FaultServer) -> None:
    """A run by hand beside a watch steps aside or does the work; nothing is stored twice."""
    fault_server.latency_seconds = 0.01
    running = start(watched, "--interval", "0.1")
    watched.files(200)
    for _ in range(5):
        assert watched.run().code == 0
    running.wait_until(lambda: not watched.left(), "the work", 30)
    stop(running)
    assert len(fault_server.objects()) == 201
    assert fault_server.replacements == []


def test_systemd_is_told(watched: Site, tmp_path: Path) -> None:
    """With NOTIFY_SOCKET the service manager hears READY, the watchdog's beat, and STOPPING."""
    address = f"\0s3-uploader-test-{os.getpid()}-{time.monotonic_ns()}"
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(0.05)

        def listen() -> bytes:
            try:
                while True:
                    heard.append(manager.recv(4096))
            except TimeoutError:
                return b"\n".join(heard)

        watched.environment |= {"NOTIFY_SOCKET": "@" + address[1:], "WATCHDOG_USEC": "1000000"}
        running = watched.start("watch", "--interval", "60")
        running.wait_until(lambda: b"READY=1" in listen(), "READY")
        running.wait_until(lambda: listen().count(b"WATCHDOG=1") >= 3, "the watchdog's beats")
        stop(running)
        assert b"STOPPING=1" in listen()


class TestInsideAnotherProgram:
    """``upload_once`` and ``process``; the program is a script of its own, as a user would write it."""

    def script(self, site: Site, body: str) -> subprocess.CompletedProcess[str]:
        """Run a script that finds the configuration in ``config``."""
        site.write_config()
        text = f"import json, logging, sys, time\nconfig = json.load(open({str(site.config_file)!r}))\n{body}"
        return subprocess.run(
            [sys.executable, "-c", text],
            env=site.environment,
            cwd=site.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_upload_once(self, watched: Site, fault_server: FaultServer) -> None:
        """``upload_once`` makes one pass and returns a report; nothing is printed that nobody asked for."""
        watched.files(3)
        body = (
            "from s3_uploader import upload_once\nreport = upload_once(config)\nprint(report.shipped, report.exit_code)"
        )
        finished = self.script(watched, body)
        assert (finished.stdout, finished.stderr, finished.returncode) == ("3 0\n", "", 0)
        assert len(fault_server.objects()) == 3
        assert watched.left() == {}

    def test_its_events_go_to_logging(self, watched: Site) -> None:
        """Who configures logging gets the lines."""
        watched.files(2)
        body = "logging.basicConfig(level='INFO')\nfrom s3_uploader import upload_once\nupload_once(config)"
        assert self.script(watched, body).stderr.count(" has been uploaded to ") == 2

    def test_its_errors_are_exceptions(self, watched: Site) -> None:
        """A configuration with problems raises ConfigError with all of them."""
        watched.settings |= {"colour": 1, "settle_seconds": -1}
        body = (
            "from s3_uploader import errors, upload_once\n"
            "try: upload_once(config)\n"
            "except errors.ConfigError as error: print(json.dumps(error.problems))"
        )
        assert len(json.loads(self.script(watched, body).stdout)) == 2

    def test_process(self, watched: Site, fault_server: FaultServer) -> None:
        """``process`` ships in the background until it is told to stop, and then everything has ended."""
        file = watched.file(PATH)
        body = """
import os, threading
from s3_uploader import process
stop = process(config, interval=0.2)
until = time.monotonic() + 20
while os.path.exists(FILE) and time.monotonic() < until:
    time.sleep(0.01)
print(stop(timeout=10), stop(), [thread.name for thread in threading.enumerate()])
""".replace("FILE", repr(str(file)))
        finished = self.script(watched, body)
        assert finished.stdout == "True True ['MainThread']\n", finished.stderr
        assert finished.stderr == ""
        assert PATH in fault_server.objects()

    def test_a_program_that_just_ends(self, watched: Site) -> None:
        """A program that ends without stopping it ends at once, without a word."""
        watched.files(2)
        body = "from s3_uploader import process\nprocess(config)\ntime.sleep(0.3)"
        finished = self.script(watched, body)
        assert (finished.returncode, finished.stderr) == (0, "")
