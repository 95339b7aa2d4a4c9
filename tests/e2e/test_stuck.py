"""A spool that is stuck: whatever holds it up, status, metrics, alert rules and log each name the cause."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.disturbed import require_strace
from tests.e2e.site import Finished, Site, contents, settle, without_privileges
from tests.servers import debian
from tests.servers.fault_script import error, hang
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import or_skip

HOUR = 3600.0
RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "s3-uploader.rules.yml"
FILE = "attic/2020/11/29/10/38-topic.dat"
Offset = Callable[[float], dict[str, str]]


@pytest.fixture
def spool(site: Site, fault_server: FaultServer) -> Site:
    """A spool that has run once, with a metrics file."""
    site.ship_to(fault_server, metrics_file=str(site.place / "spool.prom"), state_dir=str(site.place / "state"))
    site.file("attic/2020/11/28/10/38-topic.dat")
    assert site.run().code == 0
    return site


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def epoch(text: str) -> float:
    """Seconds since the epoch of a time as the program writes it for machines."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def measured_causes(site: Site) -> dict[str, float]:
    """The causes that the metrics name, with since when. For each of them there must be an alert."""
    causes, since = {}, {}
    for family in text_string_to_metric_families(Path(site.settings["metrics_file"]).read_text()):
        for sample in family.samples:
            if sample.name == "s3_uploader_problem" and sample.value:
                causes[sample.labels["cause"]] = sample.value
            elif sample.name == "s3_uploader_problem_since_timestamp_seconds":
                since[sample.labels["cause"]] = sample.value
    found = {cause: since[cause] for cause in causes}
    if found and RULES.exists():
        alerts(site, found)
    return found


def alerts(site: Site, causes: dict[str, float]) -> None:
    """Let promtool say that the metrics as they are make an alert fire for each cause, and for no other."""
    or_skip(lambda: debian.require("prometheus"))
    promtool = debian.find_program("promtool")
    assert promtool is not None
    labels = f'spool="{site.spool}",cause='
    test = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {
                        "series": f's3_uploader_problem_since_timestamp_seconds{{{labels}"{cause}"}}',
                        "values": f"{causes.get(cause, 0)}+0x120",
                    }
                    for cause in (*causes, "another")
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count by (cause) (ALERTS{alertstate="firing", cause=~".+"})',
                        "eval_time": "119m",
                        "exp_samples": [{"labels": f'{{cause="{cause}"}}', "value": 1} for cause in causes],
                    }
                ],
            }
        ],
    }
    file = site.place / "alerts.test.yml"
    file.write_text(json.dumps(test))  # JSON is YAML
    checked = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def problem_of(site: Site, cause: str, *, code: int = 0, **options: Any) -> dict[str, Any]:
    """The one problem that status names, to people, to programs and to a monitoring plugin alike."""
    finished = site.run("status", "--json", **options)
    assert finished.code == code, finished.stderr
    status = json.loads(finished.stdout)
    (problem,) = status["problems"]
    assert problem["cause"] == cause
    assert problem["next"]
    assert problem["remedy"]
    assert status["since"] == problem["since"]
    assert status["verdict"] == {"error": "stuck", "warning": "attention"}[problem["severity"]]
    people = site.run("status", **options).stdout
    first, following, to_do = people.splitlines()[:3]
    assert first.startswith({"error": "STUCK", "warning": "ATTENTION"}[problem["severity"]])
    assert problem["sentence"].split(" (")[0][:40] in first
    assert problem["path"] is None or problem["path"] in first
    assert following.strip().startswith("Next:")
    assert to_do.strip().startswith("To do:")
    plugin = site.run("status", "--plugin", **options)
    assert plugin.code == {"error": 2, "warning": 1}[problem["severity"]]
    (line,) = plugin.stdout.splitlines()
    assert f" - {cause}" in line
    assert "| " in line
    assert isinstance(problem, dict)
    return problem


def failing_disk(call: str, path: Path) -> tuple[str, ...]:
    """What starts a command for which a system call on a path fails as on a dying disk."""
    return "strace", "-f", "-qq", "-o", os.devnull, "-P", str(path), "-e", f"inject={call}:error=EIO"


def said(finished: Finished, *words: str) -> bool:
    """Whether a warning or an error of the log has all these words in it."""
    loud = finished.sentences("WARNING") + finished.sentences("ERROR")
    return any(all(word in sentence for word in words) for sentence in loud)


class TestTheCauseIsNamed:
    def test_expired_credentials(self, spool: Site, fault_server: FaultServer) -> None:
        """Credentials that have expired: since the first run that met it, not the last."""
        fault_server.faults.add(error("ExpiredToken").only(operations=None, times=None))
        spool.file(FILE)
        began = time.time()
        assert said(spool.run(), "token has expired", "Get new temporary credentials")
        once = time.time()
        spool.run()
        assert spool.run().code == 3
        problem = problem_of(spool, "credentials")
        assert began - 1 <= epoch(problem["since"]) <= once
        assert "ExpiredToken" in problem["sentence"]
        ((cause, since),) = measured_causes(spool).items()
        assert cause == "credentials"
        assert began - 1 <= since <= once

    def test_an_endpoint_that_is_gone(self, spool: Site) -> None:
        """A destination that nobody answers for; a warning at first, and stuck when it stays away."""
        spool.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        spool.file(FILE)
        assert said(spool.run(), "did not reach http://127.0.0.1:9")
        assert problem_of(spool, "destination")["severity"] == "warning"
        assert list(measured_causes(spool)) == ["destination"]

    def test_a_full_disk_of_the_state_directory(self, spool: Site, small_disk: Path) -> None:
        """No room for the ledger: the run names it before it ships anything, and heals when there is room."""
        spool.settings["state_dir"] = str(small_disk / "state")
        assert spool.run().code == 0
        fill(small_disk)
        spool.file(FILE)
        finished = spool.run()
        assert finished.code in (1, 2)
        assert "full" in finished.stderr
        assert str(small_disk) in finished.stderr
        problem = problem_of(spool, "disk_full")
        assert str(small_disk) in problem["sentence"]
        assert problem["since"] is not None
        assert list(measured_causes(spool)) == ["disk_full"]
        (small_disk / "filler").unlink()
        assert spool.run().code == 0
        assert measured_causes(spool) == {}
        assert spool.status()["verdict"] == "ok"

    def test_a_full_disk_of_the_move_target(self, spool: Site, small_disk: Path) -> None:
        """No room where shipped files are moved: the target is named, and the file stays."""
        spool.settings["on_success"] = {"move_to": str(small_disk / "done")}
        (small_disk / "done").mkdir()
        fill(small_disk)
        spool.file(FILE)
        assert said(spool.run(), FILE, f"cannot be moved to {small_disk}/done", "room there")
        problem = problem_of(spool, "disk_full")
        assert str(small_disk) in problem["sentence"]
        assert problem["since"] is not None
        assert list(measured_causes(spool)) == ["disk_full"]

    @pytest.mark.parametrize("hours", [-5, 5], ids=["behind", "ahead"])
    def test_a_wrong_clock(self, spool: Site, clock_offset: Offset, hours: int) -> None:
        """A clock that the destination does not accept."""
        spool.file(FILE, age=10 * HOUR)
        wrong = clock_offset(hours * HOUR)
        assert said(spool.run(environment=wrong), "Set this machine's clock", "behind" if hours < 0 else "ahead of")
        status = json.loads(spool.run("status", "--json", environment=wrong).stdout)
        assert "clock" in [problem["cause"] for problem in status["problems"]]
        assert "clock" in measured_causes(spool)

    def test_files_from_the_future(self, spool: Site) -> None:
        """A file from the future is shipped; that a clock is wrong is said, and remembered."""
        spool.file(FILE, age=-24 * HOUR)
        finished = spool.run()
        assert finished.code == 0
        assert said(finished, FILE, "in the future", "clock")
        assert not said(spool.run(), "in the future")
        assert problem_of(spool, "clock")["path"] == str(spool.spool / FILE)
        assert list(measured_causes(spool)) == ["clock"]

    def test_a_poison_file(self, spool: Site, fault_server: FaultServer, clock_offset: Offset) -> None:
        """One file that fails again and again while others go: since its first failure, and when it is tried again."""
        fault_server.faults.add(error("InvalidArgument").only(key=FILE, times=None))
        spool.file(FILE)
        began = time.time()
        spool.run()
        once = time.time()
        assert spool.status()["verdict"] == "ok"
        later = clock_offset(300)
        spool.file("attic/2020/11/29/10/39-topic.dat")
        assert said(spool.run(environment=later), FILE, "InvalidArgument")
        problem = problem_of(spool, "failing_file", environment=later)
        assert problem["path"] == str(spool.spool / FILE)
        assert began - 1 <= epoch(problem["since"]) <= once
        assert "tried again in" in problem["next"]
        assert list(measured_causes(spool)) == ["failing_file"]

    def test_a_conflict(self, spool: Site, fault_server: FaultServer) -> None:
        """Other content under the key of a file."""
        fault_server.put(FILE, b"theirs")
        spool.file(FILE)
        assert said(spool.run(), FILE, "other content")
        assert problem_of(spool, "conflict")["path"] == str(spool.spool / FILE)
        assert list(measured_causes(spool)) == ["conflict"]

    def test_a_writer_that_never_closes(self, spool: Site) -> None:
        """A file that is held open for hours: named with the process that has it; said once, not in each run."""
        path = spool.file(FILE, age=0)
        with path.open("ab"):
            settle(path, 3 * HOUR)
            finished = spool.run()
            assert finished.code == 0
            assert said(finished, FILE, "held open for writing for 3 h")
            assert not said(spool.run(), FILE)
            problem = problem_of(spool, "open_writer")
            assert problem["path"] == str(path)
            assert f"process {os.getpid()}" in problem["sentence"]
            assert abs(epoch(problem["since"]) - (time.time() - 3 * HOUR)) < 60
            assert list(measured_causes(spool)) == ["open_writer"]
        spool.run()
        assert spool.left() == {}
        assert measured_causes(spool) == {}
        assert spool.status()["verdict"] == "ok"

    def test_a_writer_that_never_stops(self, spool: Site, clock_offset: Offset) -> None:
        """A file that still grows hours after its minute: since the first run that found it so."""
        path = spool.file(FILE, age=0)
        assert not said(spool.run(), FILE)
        first = time.time()
        later = clock_offset(2 * HOUR)
        settle(path, -2 * HOUR)
        assert said(spool.run(environment=later), FILE, "still changes after 2 h")
        settle(path, -2 * HOUR)
        problem = problem_of(spool, "open_writer", environment=later)
        assert abs(epoch(problem["since"]) - first) < 30
        assert list(measured_causes(spool)) == ["open_writer"]

    def test_another_run_that_hangs(self, site: Site, fault_server: FaultServer, clock_offset: Offset) -> None:
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
        problem = problem_of(site, "hung_run")
        assert abs(epoch(problem["since"]) - began) < 30
        running = site.status()["running"]
        assert running["pid"] == holder.pid
        assert running["alive"] is True
        assert running["open_files"] == [os.path.realpath(path)]
        assert list(measured_causes(site)) == ["hung_run"]
        holder.kill()
        fault_server.clock_offset_seconds = 0
        assert site.run().code == 0
        assert measured_causes(site) == {}

    def test_another_program(self, spool: Site) -> None:
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
            problem = problem_of(spool, "hung_run")
            assert f"locked by process {other.pid} " in problem["sentence"]
            assert "end it" in problem["remedy"]
            other.communicate(b"go\n")
        assert spool.run().code == 0
        assert spool.status()["problems"] == []

    def test_no_run(self, spool: Site, clock_offset: Offset) -> None:
        """Nobody starts a run any more, and files wait."""
        for hour in range(1, 5):
            spool.run(environment=clock_offset(hour * HOUR))
        spool.file(FILE)
        problem = problem_of(spool, "not_run", environment=clock_offset(16 * HOUR))
        assert abs(epoch(problem["since"]) - time.time() - 4 * HOUR) < 60

    def test_unreadable(self, spool: Site) -> None:
        """A file that this user may not read."""
        spool.file(FILE).chmod(0)
        finished = spool.run(prefix=without_privileges())
        assert said(finished, "Could not read", FILE)
        assert problem_of(spool, "unreadable", prefix=without_privileges())["since"] is not None
        assert list(measured_causes(spool)) == ["unreadable"]

    def test_a_disk_that_fails(self, site: Site) -> None:
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
        problem = problem_of(site, "unreadable")
        assert "cannot be shipped" in problem["sentence"]
        assert "dmesg" in problem["remedy"]
        assert list(measured_causes(site)) == ["unreadable"]
        assert site.run("run", "--retry").code == 0
        assert len(contents(archive)) == 2

    def test_a_directory_that_fails(self, site: Site) -> None:
        """A directory that the disk does not give back is no matter of permissions."""
        require_strace()
        site.ship_to_directory()
        site.settings["metrics_file"] = str(site.place / "metrics.prom")
        directory = site.file(FILE).parent
        finished = site.run(prefix=failing_disk("getdents64", directory))
        assert finished.code == 1
        assert said(finished, "Could not read", str(directory), "dmesg")
        problem = problem_of(site, "unreadable")
        assert "input/output error" in problem["sentence"]
        assert problem["path"] == str(directory)
        assert "dmesg" in problem["remedy"]


class TestInBadWeather:
    def test_the_spool_is_gone(self, spool: Site) -> None:
        """Where the spool is not there, as when it is not mounted, the status says so and tells of the runs so far."""
        spool.spool.rename(spool.place / "elsewhere")
        assert spool.run().code == 2
        assert list(measured_causes(spool)) == ["unreadable"]
        problem = problem_of(spool, "unreadable", code=2)
        assert problem["path"] == str(spool.spool)
        assert "Last runs:" in spool.run("status").stdout

    def test_a_damaged_ledger(self, spool: Site) -> None:
        """A damaged ledger is named; what waits is told all the same."""
        (ledger,) = (spool.place / "state").glob("*/ledger.sqlite3")
        for companion in ledger.parent.glob("ledger.sqlite3-*"):
            companion.unlink()
        ledger.write_bytes(b"no database" * 1000)
        spool.file(FILE)
        finished = spool.run("status")
        assert finished.code == 2
        assert finished.stdout.startswith("ATTENTION: The ledger")
        assert "damaged" in finished.stdout
        assert "attic" in finished.stdout
        assert spool.run("status", "--plugin").code == 1

    @pytest.mark.parametrize("mode", [0, 0o500])
    def test_a_state_directory_that_may_not_be_written(self, spool: Site, mode: int) -> None:
        """No run of its owner can begin, and the state says that instead of missing the runs."""
        (state,) = (spool.place / "state").iterdir()
        spool.file(FILE)
        state.chmod(mode)
        try:
            run = spool.run(prefix=without_privileges())
            finished = spool.run("status", prefix=without_privileges())
            plugin = spool.run("status", "--plugin", prefix=without_privileges())
        finally:
            state.chmod(0o700)
        assert run.code == 2
        assert f"because {state} cannot be written: permission denied." in finished.stdout.splitlines()[0]
        assert plugin.code == 2
        assert plugin.stdout.startswith("S3_UPLOADER CRITICAL - unreadable")

    @pytest.mark.parametrize("what", ["ledger", "spool"])
    def test_what_another_user_may_not_read(self, spool: Site, what: str) -> None:
        """Who may not read the ledger or the spool is told that; it says nothing about the runs of its owner."""
        if os.geteuid() != 0:
            pytest.skip("only root can become another user")
        other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        (state,) = (spool.place / "state").iterdir()
        for path in (*spool.place.parents, spool.place, state.parent):
            path.chmod(path.stat().st_mode | 0o011)  # to pass through
        for path in (spool.config_file, *state.iterdir()):
            path.chmod(0o644)
        state.chmod(0o700 if what == "ledger" else 0o755)
        spool.spool.chmod(0o700 if what == "spool" else 0o755)
        finished = spool.run("status", prefix=other)
        plugin = spool.run("status", "--plugin", prefix=other)
        assert finished.code == 2, finished.stderr
        assert finished.stdout.startswith("UNKNOWN: The ledger" if what == "ledger" else "UNKNOWN: base_dir")
        assert "Run this as the user that runs the uploads" in finished.stdout.splitlines()[0]
        assert plugin.code == 3
        assert plugin.stdout.startswith("S3_UPLOADER UNKNOWN - ")

    def test_a_wrong_configuration(self, spool: Site) -> None:
        """A plugin says UNKNOWN in its line and with its code where nothing can be found out."""
        spool.settings["no_such_key"] = 1
        plugin = spool.run("status", "--plugin")
        assert plugin.code == 3
        assert "no_such_key" in plugin.stdout
        assert len(plugin.stdout.splitlines()) == 1

    def test_all_is_well(self, spool: Site) -> None:
        """A spool that is emptied is OK, to everybody."""
        assert spool.run("status").stdout.startswith("OK: nothing waits; the last run was ")
        plugin = spool.run("status", "--plugin")
        assert (plugin.code, plugin.stdout.startswith("S3_UPLOADER OK - ")) == (0, True)
        assert measured_causes(spool) == {}


def test_something_else_with_the_name_of_the_lock_file(spool: Site) -> None:
    """Whoever may write to the spool can keep every run out; then run, check, status and metrics say so."""
    (spool.spool / ".s3-uploader.lock").mkdir()
    spool.file(FILE)
    finished = spool.run()
    assert finished.code == 2
    assert "is not the lock file" in finished.stderr
    checked = spool.run("check")
    assert checked.code == 2
    assert "is not the lock file" in checked.stdout
    told = spool.run("status", "--plugin")
    assert told.code == 2
    assert "is not the lock file" in told.stdout
    assert set(measured_causes(spool)) == {"unreadable"}
