"""Being told to stop, and having only so much time: in good order, soon, and with every file kept or shipped."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.site import COMMAND, Running, Site
from tests.servers.fault_script import hang, run_before_answer
from tests.servers.fault_server import FaultServer

STOPS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


def asked(fault_server: FaultServer, count: int = 1) -> bool:
    """Whether so many uploads are under way."""
    return len(fault_server.requests_of("PutObject")) >= count


def start_with_hanging_uploads(site: Site, fault_server: FaultServer, *, drain_seconds: float = 20.0) -> Running:
    """A run of which every upload hangs, at the moment when the first of them does."""
    site.ship_to(fault_server, drain_seconds=drain_seconds)
    site.files(50)
    fault_server.faults.add(hang("after_body").repeated())
    running = site.start()
    running.wait_until(lambda: asked(fault_server), "the first upload")
    return running


def catches(running: Running, number: int) -> bool:
    """Whether a process has come so far that it handles a signal by itself."""
    (caught,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{running.pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", STOPS, ids=lambda number: signal.Signals(number).name)
def test_a_signal_lets_uploads_in_flight_finish(site: Site, fault_server: FaultServer, number: int) -> None:
    """After a signal what is in flight is finished and removed, nothing new is begun, and the code says why."""
    site.ship_to(fault_server, max_concurrency=2)
    site.files(12)
    running: list[Running] = []

    def interrupt() -> None:
        while not running:
            time.sleep(0.001)
        running[0].send(number)
        time.sleep(0.3)

    fault_server.faults.add(run_before_answer(interrupt))
    running.append(site.start())
    finished = running[0].wait(20)
    assert finished.code == STOPS[signal.Signals(number)]
    shipped, left = fault_server.objects(), site.left()
    assert 1 <= len(shipped) <= 4
    assert len(left) == 12 - len(shipped)
    assert not shipped.keys() & left.keys()
    assert finished.stderr.count(" has been uploaded to ") == len(shipped)
    assert finished.sentences("INFO")[-1].endswith("ended early: signal.")
    assert site.run().code == 0
    assert site.left() == {}
    assert len(fault_server.objects()) == 12
    assert fault_server.replacements == []


def test_uploads_that_hang_are_cancelled_after_the_drain_time(site: Site, fault_server: FaultServer) -> None:
    """When the drain time is over, uploads that hang are given up; the run ends within seconds and keeps every file."""
    running = start_with_hanging_uploads(site, fault_server, drain_seconds=1)
    began = time.monotonic()
    running.send(signal.SIGTERM)
    finished = running.wait(15)
    assert finished.code == 143
    assert 0.9 < time.monotonic() - began < 8
    assert len(site.left()) == 50
    assert "Traceback" not in finished.stderr


@pytest.mark.rotated("number")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_second_signal_cancels_at_once(site: Site, fault_server: FaultServer, engine: str, number: int) -> None:
    """The second Ctrl-C does not wait for the drain time, whatever the engine is doing."""
    site.settings["engine"] = engine
    running = start_with_hanging_uploads(site, fault_server, drain_seconds=60)
    running.send(number)
    time.sleep(0.2)
    assert running.poll() is None
    until = time.monotonic() + 20
    while running.poll() is None and time.monotonic() < until:
        # Those that come before the process has had its turn are one.
        running.send(number)
        time.sleep(1)
    finished = running.wait(0)
    assert finished.code == STOPS[signal.Signals(number)]
    assert len(site.left()) == 50
    assert "Traceback" not in finished.stderr
    assert finished.log


def test_an_impatient_user(site: Site, fault_server: FaultServer) -> None:
    """Ten signals in a row do what two do: no traceback, every file kept."""
    running = start_with_hanging_uploads(site, fault_server, drain_seconds=60)
    for _ in range(10):
        running.send(signal.SIGINT)
        time.sleep(0.01)
    finished = running.wait(15)
    assert finished.code == 130
    assert "Traceback" not in finished.stderr
    assert len(site.left()) == 50


def test_a_signal_during_start_up_is_never_a_traceback(site: Site, effort: Callable[[int, int], int]) -> None:
    """Whenever in its first tenths of a second a run is interrupted, it leaves no traceback and no half-done file."""
    archive = site.ship_to_directory()
    starts = effort(8, 16)
    for number in range(starts):
        file = site.file("bedroom/2020/11/29/20/46-topic.dat", b"content")
        running = site.start()
        time.sleep(number / starts * 0.192)
        running.send(signal.SIGTERM)
        finished = running.wait(15)
        assert finished.code in (0, 143, -signal.SIGTERM), finished.stderr
        assert "Traceback" not in finished.stderr
        arrived = archive / "bedroom/2020/11/29/20/46-topic.dat"
        assert file.exists() or arrived.read_bytes() == b"content"
    assert site.run().code == 0


def test_nohup(site: Site, fault_server: FaultServer) -> None:
    """A run that was started with SIGHUP ignored goes on when the terminal goes."""
    site.ship_to(fault_server)
    site.files(3)
    running: list[Running] = []

    def hang_up() -> None:
        while not running:
            time.sleep(0.001)
        running[0].send(signal.SIGHUP)
        time.sleep(0.3)

    fault_server.faults.add(run_before_answer(hang_up))
    running.append(site.start(prefix=("nohup",)))
    assert running[0].wait().code == 0
    assert site.left() == {}


def test_the_time_budget_ends_a_run_in_good_order(site: Site, fault_server: FaultServer) -> None:
    """--max-runtime ends a run with exit code 0: what was in flight is shipped, the rest is kept for the next run."""
    fault_server.latency_seconds = 0.1
    site.ship_to(fault_server, max_concurrency=2)
    site.files(200)
    finished = site.run("run", "--max-runtime", "2")
    assert finished.code == 0
    assert finished.seconds < 8
    shipped, left = fault_server.objects(), site.left()
    assert 1 <= len(shipped) < 200
    assert len(left) + len(shipped) == 200
    assert finished.sentences("INFO")[-1].endswith("ended early: time budget.")


def test_the_time_budget_of_the_configuration(site: Site, fault_server: FaultServer) -> None:
    """max_runtime_seconds does the same, also when uploads hang: they are given up after the drain time."""
    fault_server.faults.add(hang("after_body").repeated())
    site.ship_to(fault_server, max_runtime_seconds=1.5, drain_seconds=0.5)
    site.files(20)
    finished = site.run(timeout=20)
    assert finished.code == 0
    assert finished.seconds < 9
    assert len(site.left()) == 20


def test_an_upload_has_a_deadline(site: Site, fault_server: FaultServer) -> None:
    """A destination that takes the bytes and never answers does not hold a run for ever."""
    fault_server.faults.add(hang("after_body").repeated())
    site.ship_to(fault_server, upload_timeout_seconds=1)
    site.files(5)
    finished = site.run(timeout=30)
    assert finished.code == 3
    assert finished.seconds < 12
    assert len(site.left()) == 5
    assert "deadline" in finished.sentences("ERROR")[0]


class Occupied(NamedTuple):
    """A spool, the server it goes to, and the run that has it."""

    site: Site
    server: FaultServer
    holder: Running


@pytest.fixture(scope="module")
def occupied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Occupied]:
    """A spool that a run has meanwhile."""
    with FaultServer() as server:
        site = Site(tmp_path_factory.mktemp("occupied"))
        yield Occupied(site, server, start_with_hanging_uploads(site, server))
        site.end()


class TestOneRunPerSpool:
    def test_a_second_start_steps_aside(self, occupied: Occupied) -> None:
        """A second start exits with 0 after one line that names the holder; --quiet leaves that out, too."""
        site, fault_server, _ = occupied
        before = fault_server.counts()
        second = site.run(timeout=15)
        assert second.code == 0
        (sentence,) = second.sentences("INFO")
        assert sentence.startswith(f"Another run has the spool {site.spool}: process ")
        quiet = site.run("run", "--quiet", timeout=15)
        assert (quiet.code, quiet.stdout, quiet.stderr) == (0, "", "")
        assert fault_server.counts() == before
        assert len(site.left()) == 50

    def test_status_names_the_holder(self, occupied: Occupied) -> None:
        """``status`` names the process that has the spool."""
        assert f"process {occupied.holder.pid} " in occupied.site.status()["lock_holder"]

    def test_waiting_for_the_lock_runs_out(self, occupied: Occupied) -> None:
        """--wait-for-lock ends with 75 when its time is over, and says who has the spool."""
        site = occupied.site
        waited = site.run("run", "--wait-for-lock", "0.5", timeout=15)
        assert waited.code == 75
        assert waited.seconds > 0.5
        assert f"Another run has the spool {site.spool}: process " in waited.stderr

    def test_waiting_for_the_lock_succeeds(self, site: Site, fault_server: FaultServer) -> None:
        """--wait-for-lock starts as soon as the other run has ended, however it ended."""
        holder = start_with_hanging_uploads(site, fault_server)
        waiting = site.start("run", "--wait-for-lock", "30")
        time.sleep(0.3)
        assert waiting.poll() is None
        fault_server.faults.clear()
        holder.kill()
        finished = waiting.wait(15)
        assert finished.code == 0, finished.stderr
        assert site.left() == {}

    def test_a_signal_ends_the_waiting(self, occupied: Occupied) -> None:
        """A run that waits for the lock can be told to stop as any other."""
        waiting = occupied.site.start("run", "--wait-for-lock", "60")
        waiting.wait_until(lambda: catches(waiting, signal.SIGTERM), "it heeds the signal")
        time.sleep(0.3)
        waiting.send(signal.SIGTERM)
        finished = waiting.wait(15)
        assert finished.code == 143
        assert "Traceback" not in finished.stderr

    def test_another_state_directory_is_no_way_around(
        self, occupied: Occupied, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lock is the spool's: a configuration with a state directory of its own meets it too."""
        monkeypatch.setitem(occupied.site.settings, "state_dir", str(occupied.site.place / "other-state"))
        second = occupied.site.run(timeout=15)
        assert second.code == 0
        assert "Another run has the spool" in second.stderr

    def test_looking_does_not_disturb(self, occupied: Occupied) -> None:
        """``status``, ``history`` and --dry-run work while a run is at work."""
        site, _, holder = occupied
        assert site.run("status").code == 0
        assert site.run("history").code == 0
        assert site.run("run", "--dry-run").stdout.count("would ship") == 50
        assert holder.poll() is None

    def test_twenty_starts_at_once(
        self, site: Site, fault_server: FaultServer, effort: Callable[[int, int], int]
    ) -> None:
        """Of many starts at once one does the work and the others step aside; every file is stored once."""
        fault_server.latency_seconds = 0.02
        site.ship_to(fault_server, max_concurrency=4)
        site.files(30)
        starts = effort(6, 20)
        site.write_config()  # once: a start must not find it half written by the next one
        started = [site.start(command=[str(COMMAND), str(site.config_file)]) for _ in range(starts)]
        finished = [running.wait(60) for running in started]
        assert [each.code for each in finished] == [0] * starts
        assert sum(each.stderr.count(" has been uploaded to ") for each in finished) == 30
        assert site.left() == {}
        assert len(fault_server.objects()) == 30
        assert fault_server.replacements == []
