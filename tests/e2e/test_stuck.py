"""A spool that is stuck: whatever holds it up, status, metrics, alert rules and log each name the cause."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.disturbed import require_strace
from tests.e2e.site import Finished, Site, contents, settle, without_privileges
from tests.e2e.told import Alerts, Told
from tests.servers.fault_script import error, hang
from tests.servers.fault_server import FaultServer

HOUR = 3600.0
FILE = "attic/2020/11/29/10/38-topic.dat"
OPTIONS = {"people": (), "plugin": ("--plugin",)}
Offset = Callable[[float], dict[str, str]]

pytestmark = pytest.mark.rotated("form")


@pytest.fixture
def spool(site: Site, fault_server: FaultServer) -> Site:
    """A spool that has not run yet, with a metrics file."""
    site.ship_to(fault_server, metrics_file=str(site.place / "spool.prom"), state_dir=str(site.place / "state"))
    return site


@pytest.fixture
def used(spool: Site) -> Site:
    """A spool that has run once."""
    spool.file("attic/2020/11/28/10/38-topic.dat")
    assert spool.run().code == 0
    return spool


@pytest.fixture(scope="module")
def alerts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerts]:
    """What promtool looks at when all tests of the file have ended."""
    expected = Alerts()
    yield expected
    expected.check(tmp_path_factory.mktemp("alerts"))


@pytest.fixture
def told(form: str, alerts: Alerts) -> Told:
    """How each trouble has to be told."""
    return Told(form, alerts)


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def epoch(text: str) -> float:
    """Seconds since the epoch of a time as the program writes it for machines."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def failing_disk(call: str, path: Path) -> tuple[str, ...]:
    """What starts a command for which a system call on a path fails as on a dying disk."""
    return "strace", "-f", "-qq", "-o", os.devnull, "-P", str(path), "-e", f"inject={call}:error=EIO"


def said(finished: Finished, *words: str) -> bool:
    """Whether a warning or an error of the log has all these words in it."""
    loud = finished.sentences("WARNING") + finished.sentences("ERROR")
    return any(all(word in sentence for word in words) for sentence in loud)


class TestTheCauseIsNamed:
    def test_expired_credentials(self, used: Site, fault_server: FaultServer, told: Told) -> None:
        """Credentials that have expired: since the first run that met it, not the last."""
        fault_server.faults.add(error("ExpiredToken").only(operations=None, times=None))
        used.file(FILE)
        began = time.time()
        assert said(used.run(), "token has expired", "Get new temporary credentials")
        once = time.time()
        assert used.run().code == 3
        problem = told.problem(used, "credentials")
        assert began - 1 <= epoch(problem["since"]) <= once
        assert "ExpiredToken" in problem["sentence"]
        ((cause, since),) = told.causes(used).items()
        assert cause == "credentials"
        assert began - 1 <= since <= once

    def test_an_endpoint_that_is_gone(self, spool: Site, told: Told) -> None:
        """A destination that nobody answers for; a warning at first, and stuck when it stays away."""
        spool.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        spool.file(FILE)
        assert said(spool.run(), "did not reach http://127.0.0.1:9")
        assert told.problem(spool, "destination")["severity"] == "warning"
        assert list(told.causes(spool)) == ["destination"]

    def test_a_full_disk_of_the_state_directory(self, spool: Site, small_disk: Path, told: Told) -> None:
        """No room for the ledger: the run names it before it ships anything, and heals when there is room."""
        spool.settings["state_dir"] = str(small_disk / "state")
        assert spool.run().code == 0
        fill(small_disk)
        spool.file(FILE)
        finished = spool.run()
        assert finished.code in (1, 2)
        assert "full" in finished.stderr
        assert str(small_disk) in finished.stderr
        problem = told.problem(spool, "disk_full")
        assert str(small_disk) in problem["sentence"]
        assert problem["since"] is not None
        assert list(told.causes(spool)) == ["disk_full"]
        (small_disk / "filler").unlink()
        assert spool.run().code == 0
        assert told.causes(spool) == {}
        assert spool.status()["verdict"] == "ok"

    def test_a_full_disk_of_the_move_target(self, spool: Site, small_disk: Path, told: Told) -> None:
        """No room where shipped files are moved: the target is named, and the file stays."""
        spool.settings["on_success"] = {"move_to": str(small_disk / "done")}
        (small_disk / "done").mkdir()
        fill(small_disk)
        spool.file(FILE)
        assert said(spool.run(), FILE, f"cannot be moved to {small_disk}/done", "room there")
        problem = told.problem(spool, "disk_full")
        assert str(small_disk) in problem["sentence"]
        assert problem["since"] is not None
        assert list(told.causes(spool)) == ["disk_full"]

    @pytest.mark.rotated("hours")
    @pytest.mark.parametrize("hours", [-5, 5], ids=["behind", "ahead"])
    def test_a_wrong_clock(self, spool: Site, clock_offset: Offset, hours: int, told: Told) -> None:
        """A clock that the destination does not accept."""
        spool.file(FILE, age=10 * HOUR)
        wrong = clock_offset(hours * HOUR)
        assert said(spool.run(environment=wrong), "Set this machine's clock", "behind" if hours < 0 else "ahead of")
        status = json.loads(spool.run("status", "--json", environment=wrong).stdout)
        assert "clock" in [problem["cause"] for problem in status["problems"]]
        assert "clock" in told.causes(spool)

    def test_files_from_the_future(self, spool: Site, told: Told) -> None:
        """A file from the future is shipped; that a clock is wrong is said, and remembered."""
        spool.file(FILE, age=-24 * HOUR)
        finished = spool.run()
        assert finished.code == 0
        assert said(finished, FILE, "in the future", "clock")
        assert not said(spool.run(), "in the future")
        assert told.problem(spool, "clock")["path"] == str(spool.spool / FILE)
        assert list(told.causes(spool)) == ["clock"]

    def test_a_poison_file(self, used: Site, fault_server: FaultServer, clock_offset: Offset, told: Told) -> None:
        """One file that fails again and again while others go: since its first failure, and when it is tried again."""
        fault_server.faults.add(error("InvalidArgument").only(key=FILE, times=None))
        used.file(FILE)
        began = time.time()
        used.run()
        once = time.time()
        assert used.status()["verdict"] == "ok"
        later = clock_offset(300)
        used.file("attic/2020/11/29/10/39-topic.dat")
        assert said(used.run(environment=later), FILE, "InvalidArgument")
        problem = told.problem(used, "failing_file", environment=later)
        assert problem["path"] == str(used.spool / FILE)
        assert began - 1 <= epoch(problem["since"]) <= once
        assert "tried again in" in problem["next"]
        assert list(told.causes(used)) == ["failing_file"]

    def test_a_conflict(self, spool: Site, fault_server: FaultServer, told: Told) -> None:
        """Other content under the key of a file."""
        fault_server.put(FILE, b"theirs")
        spool.file(FILE)
        assert said(spool.run(), FILE, "other content")
        assert told.problem(spool, "conflict")["path"] == str(spool.spool / FILE)
        assert list(told.causes(spool)) == ["conflict"]

    def test_a_writer_that_never_closes(self, spool: Site, told: Told) -> None:
        """A file that is held open for hours: named with the process that has it; said once, not in each run."""
        path = spool.file(FILE, age=0)
        with path.open("ab"):
            settle(path, 3 * HOUR)
            finished = spool.run()
            assert finished.code == 0
            assert said(finished, FILE, "held open for writing for 3 h")
            assert not said(spool.run(), FILE)
            problem = told.problem(spool, "open_writer")
            assert problem["path"] == str(path)
            assert f"process {os.getpid()}" in problem["sentence"]
            assert abs(epoch(problem["since"]) - (time.time() - 3 * HOUR)) < 60
            assert list(told.causes(spool)) == ["open_writer"]
        spool.run()
        assert spool.left() == {}
        assert told.causes(spool) == {}
        assert spool.status()["verdict"] == "ok"

    def test_a_writer_that_never_stops(self, spool: Site, clock_offset: Offset, told: Told) -> None:
        """A file that still grows hours after its minute: since the first run that found it so."""
        path = spool.file(FILE, age=0)
        assert not said(spool.run(), FILE)
        first = time.time()
        later = clock_offset(2 * HOUR)
        settle(path, -2 * HOUR)
        assert said(spool.run(environment=later), FILE, "still changes after 2 h")
        settle(path, -2 * HOUR)
        problem = told.problem(spool, "open_writer", environment=later)
        assert abs(epoch(problem["since"]) - first) < 30
        assert list(told.causes(spool)) == ["open_writer"]

    def test_another_run_that_hangs(
        self, site: Site, fault_server: FaultServer, clock_offset: Offset, told: Told
    ) -> None:
        """A run that waits for ever has the spool: named with its process, since when, and the file it is at."""
        site.ship_to(fault_server, metrics_file=str(site.place / "spool.prom"))
        fault_server.faults.add(hang())
        path = site.file(FILE, age=10 * HOUR)
        fault_server.clock_offset_seconds = -2 * HOUR
        began = time.time() - 2 * HOUR
        holder = site.start(environment=clock_offset(-2 * HOUR))
        holder.wait_until(lambda: fault_server.requests_of("PutObject", FILE), "the upload has begun")
        (note,) = site.home.rglob("holder.json")
        settle(note, 2 * HOUR)  # the file system's clock was right
        finished = site.run()
        assert finished.code == 0
        assert said(finished, "Another run has had the spool for ", "and ships nothing", f"process {holder.pid} ")
        assert site.run().sentences("WARNING") == []
        problem = told.problem(site, "hung_run")
        assert abs(epoch(problem["since"]) - began) < 30
        running = site.status()["running"]
        assert running["pid"] == holder.pid
        assert running["alive"] is True
        assert running["open_files"] == [os.path.realpath(path)]
        assert list(told.causes(site)) == ["hung_run"]
        holder.kill()
        fault_server.clock_offset_seconds = 0
        assert site.run().code == 0
        assert told.causes(site) == {}

    def test_another_program(self, spool: Site, told: Told) -> None:
        """A program that is no uploader has locked the spool: said at once, with its process and what to do."""
        spool.file(FILE, age=HOUR)
        with subprocess.Popen(
            ["flock", "--no-fork", str(spool.spool), "sh", "-c", "echo held; read word"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            finished = spool.run()
            assert said(finished, "does not look like a run of this program", f"process {other.pid} ")
            problem = told.problem(spool, "hung_run")
            assert f"locked by process {other.pid} " in problem["sentence"]
            assert "end it" in problem["remedy"]
            other.communicate(b"go\n")
        assert spool.run().code == 0
        assert spool.status()["problems"] == []

    def test_no_run(self, used: Site, clock_offset: Offset, told: Told) -> None:
        """Nobody starts a run any more, and files wait."""
        for hour in range(1, 5):
            used.run(environment=clock_offset(hour * HOUR))
        used.file(FILE)
        problem = told.problem(used, "not_run", environment=clock_offset(16 * HOUR))
        assert abs(epoch(problem["since"]) - time.time() - 4 * HOUR) < 60

    def test_unreadable(self, spool: Site, told: Told) -> None:
        """A file that this user may not read."""
        spool.file(FILE).chmod(0)
        finished = spool.run(prefix=without_privileges())
        assert said(finished, "Could not read", FILE)
        assert told.problem(spool, "unreadable", prefix=without_privileges())["since"] is not None
        assert list(told.causes(spool)) == ["unreadable"]

    def test_a_disk_that_fails(self, site: Site, told: Told) -> None:
        """A file that the disk does not give back is a failure with a name, and not one that changes all the time."""
        require_strace()
        archive = site.ship_to_directory()
        site.settings["metrics_file"] = str(site.place / "metrics.prom")
        bad, good = site.file(FILE), site.file("bedroom/2020/11/29/20/47-topic.dat")
        broken = failing_disk("pread64", bad)
        finished = site.run(prefix=broken)
        assert finished.code == 1
        assert said(finished, FILE, "cannot be read at byte 0: input/output error", "dmesg")
        assert bad.exists()
        assert not good.exists()
        problem = told.problem(site, "unreadable")
        assert "cannot be shipped" in problem["sentence"]
        assert "dmesg" in problem["remedy"]
        assert list(told.causes(site)) == ["unreadable"]
        assert site.run("run", "--retry").code == 0
        assert len(contents(archive)) == 2

    def test_a_directory_that_fails(self, site: Site, told: Told) -> None:
        """A directory that the disk does not give back is no matter of permissions."""
        require_strace()
        site.ship_to_directory()
        site.settings["metrics_file"] = str(site.place / "metrics.prom")
        directory = site.file(FILE).parent
        finished = site.run(prefix=failing_disk("getdents64", directory))
        assert finished.code == 1
        assert said(finished, "Could not read", str(directory), "dmesg")
        problem = told.problem(site, "unreadable")
        assert "input/output error" in problem["sentence"]
        assert problem["path"] == str(directory)
        assert "dmesg" in problem["remedy"]


class TestInBadWeather:
    def test_the_spool_is_gone(self, used: Site, told: Told) -> None:
        """Where the spool is not there, as when it is not mounted, the status says so and tells of the runs so far."""
        used.spool.rename(used.place / "elsewhere")
        assert used.run().code == 2
        assert list(told.causes(used)) == ["unreadable"]
        problem = told.problem(used, "unreadable", code=2)
        assert problem["path"] == str(used.spool)
        assert "Last runs:" in used.run("status").stdout

    def test_a_damaged_ledger(self, used: Site) -> None:
        """A damaged ledger is named; what waits is told all the same."""
        (ledger,) = (used.place / "state").glob("*/ledger.sqlite3")
        for companion in ledger.parent.glob("ledger.sqlite3-*"):
            companion.unlink()
        ledger.write_bytes(b"no database" * 1000)
        used.file(FILE)
        finished = used.run("status")
        assert finished.code == 2
        assert finished.stdout.startswith("ATTENTION: The ledger")
        assert "damaged" in finished.stdout
        assert "attic" in finished.stdout
        assert used.run("status", "--plugin").code == 1

    @pytest.mark.parametrize("mode", [0, 0o500])
    def test_a_state_directory_that_may_not_be_written(self, used: Site, mode: int, form: str) -> None:
        """No run of its owner can begin, and the state says that instead of missing the runs."""
        (state,) = (used.place / "state").iterdir()
        used.file(FILE)
        state.chmod(mode)
        try:
            run = used.run(prefix=without_privileges())
            told = used.run("status", *OPTIONS[form], prefix=without_privileges())
        finally:
            state.chmod(0o700)
        assert run.code == 2
        if form == "people":
            assert f"because {state} cannot be written: permission denied." in told.stdout.splitlines()[0]
        else:
            assert told.code == 2
            assert told.stdout.startswith("S3_UPLOADER CRITICAL - unreadable")

    @pytest.mark.parametrize("what", ["ledger", "spool"])
    def test_what_another_user_may_not_read(self, used: Site, what: str, form: str) -> None:
        """Who may not read the ledger or the spool is told that; it says nothing about the runs of its owner."""
        if os.geteuid() != 0:
            pytest.skip("only root can become another user")
        other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        (state,) = (used.place / "state").iterdir()
        for path in (*used.place.parents, used.place, state.parent):
            path.chmod(path.stat().st_mode | 0o011)  # to pass through
        for path in (used.config_file, *state.iterdir()):
            path.chmod(0o644)
        state.chmod(0o700 if what == "ledger" else 0o755)
        used.spool.chmod(0o700 if what == "spool" else 0o755)
        told = used.run("status", *OPTIONS[form], prefix=other)
        assert told.code == {"people": 2, "plugin": 3}[form], told.stderr
        if form == "people":
            assert told.stdout.startswith("UNKNOWN: The ledger" if what == "ledger" else "UNKNOWN: base_dir")
            assert "Run this as the user that runs the uploads" in told.stdout.splitlines()[0]
        else:
            assert told.stdout.startswith("S3_UPLOADER UNKNOWN - ")

    def test_a_wrong_configuration(self, spool: Site) -> None:
        """A plugin says UNKNOWN in its line and with its code where nothing can be found out."""
        spool.settings["no_such_key"] = 1
        plugin = spool.run("status", "--plugin")
        assert plugin.code == 3
        assert "no_such_key" in plugin.stdout
        assert len(plugin.stdout.splitlines()) == 1

    def test_all_is_well(self, used: Site, told: Told) -> None:
        """A spool that is emptied is OK, to everybody."""
        assert used.run("status").stdout.startswith("OK: nothing waits; the last run was ")
        plugin = used.run("status", "--plugin")
        assert (plugin.code, plugin.stdout.startswith("S3_UPLOADER OK - ")) == (0, True)
        assert told.causes(used) == {}


def test_something_else_with_the_name_of_the_lock_file(spool: Site, told: Told) -> None:
    """Whoever may write to the spool can keep every run out; then run, check, status and metrics say so."""
    (spool.spool / ".s3-uploader.lock").mkdir()
    spool.file(FILE)
    finished = spool.run()
    assert finished.code == 2
    assert "is not the lock file" in finished.stderr
    checked = spool.run("check")
    assert checked.code == 2
    assert "is not the lock file" in checked.stdout
    plugin = spool.run("status", "--plugin")
    assert plugin.code == 2
    assert "is not the lock file" in plugin.stdout
    assert set(told.causes(spool)) == {"unreadable"}
