"""The uploader inside another program: prompt, calm in trouble, and gone when told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.site import Site
from tests.servers.fault_script import hang
from tests.servers.fault_server import FaultServer

PATH = "bedroom/2020/11/29/20/46-topic.dat"


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

    def test_under_another_encoding(self, watched: Site, fault_server: FaultServer) -> None:
        """In a program that reads names in another encoding, no key has other bytes than the name on the disk."""
        watched.files(1)
        watched.file("bedroom/2020/11/29/20/10-größe.dat".encode())
        watched.environment |= {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        body = (
            "logging.basicConfig(level='INFO')\nfrom s3_uploader import upload_once\n"
            "report = upload_once(config)\nprint(report.shipped, report.exit_code)"
        )
        finished = self.script(watched, body)
        assert finished.stdout == "1 1\n", finished.stderr
        assert "PYTHONUTF8=1" in finished.stderr
        assert len(watched.left()) == 1

    def test_its_errors_are_exceptions(self, watched: Site) -> None:
        """A configuration with problems raises ConfigError with all of them."""
        watched.settings |= {"colour": 1, "settle_seconds": -1}
        body = (
            "from s3_uploader import errors, upload_once\n"
            "try: upload_once(config)\n"
            "except errors.ConfigError as error: print(json.dumps(error.problems))"
        )
        assert len(json.loads(self.script(watched, body).stdout)) == 2

    def test_a_time_limit(self, watched: Site, fault_server: FaultServer) -> None:
        """What a signal handler of the program raises ends the pass and reaches the program; the next pass goes on."""
        watched.files(3)
        fault_server.faults.add(*[hang(seconds=20).only(operations="PutObject")] * 10)
        body = """
import signal
from s3_uploader import upload_once
class TimeIsOver(Exception): pass
def limit(*_): raise TimeIsOver
signal.signal(signal.SIGALRM, limit)
signal.setitimer(signal.ITIMER_REAL, 1.0)
began = time.monotonic()
try: print(upload_once(config))
except TimeIsOver: print("over", time.monotonic() - began < 10)
"""
        finished = self.script(watched, body)
        assert (finished.stdout, finished.stderr) == ("over True\n", "")
        fault_server.faults.clear()
        finished = self.script(watched, "from s3_uploader import upload_once\nprint(upload_once(config).failed)")
        assert finished.stdout == "0\n"
        assert len(fault_server.objects()) == 3
        assert watched.left() == {}

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

    @pytest.mark.parametrize("claims", [False, True], ids=["locked", "claimed"])
    def test_a_child_that_it_has_forked(self, watched: Site, fault_server: FaultServer, claims: bool) -> None:
        """What a killed program had in hand is free for the next run, though a child that it has forked lives on."""
        if claims:
            watched.settings["claim_dir"] = str(Path(watched.spool).with_name("claims"))
        watched.files(3)
        fault_server.faults.add(*[hang(seconds=20).only(operations="PutObject")] * 3)
        body = """
import os, signal, threading
from s3_uploader import upload_once
def uploads():
    return any(".dat" in os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
def fork():
    while not uploads():
        time.sleep(0.05)
    child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(100)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=fork).start()
upload_once(config)
"""
        finished = self.script(watched, f"import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 2)\n{body}")
        child = int(finished.stdout)
        try:
            assert finished.returncode == -signal.SIGKILL
            fault_server.faults.clear()
            run = watched.run("run", "--quiet")
            assert (run.code, watched.left()) == (0, {}), run.stderr
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)
