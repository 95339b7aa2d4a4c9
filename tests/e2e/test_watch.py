"""``watch`` from outside: prompt, patient in trouble, told by signals, heard by a service manager."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.gate import Gate
from tests.e2e.site import Running, Site, entries, in_its_directory, settle, stop, take_away
from tests.servers.fault_script import hang, run_after_body, run_before_answer
from tests.servers.fault_server import FaultServer

SECONDS = float(os.environ.get("WATCH_TEST_SECONDS", "0"))
"""How long the test of endurance goes on, if not as long as the suites let it."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """An S3 server."""
    with FaultServer(small_buffers=False) as running:
        yield running


@pytest.fixture
def queue(site: Site, server: FaultServer) -> Site:
    """A spool whose files are complete when they appear."""
    site.ship_to(server, layout="tree", settle_seconds=0)
    return site


def move_in(site: Site, name: str, content: bytes = b"content") -> None:
    """Put a file into the spool by a rename."""
    temporary = site.place / "temporary"
    temporary.write_bytes(content)
    (site.spool / name).parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(site.spool / name)


def watch(site: Site, *arguments: str, **options: object) -> Running:
    """Start it, and wait until it has looked at the spool once."""
    running = site.start("watch", "-v", *arguments, **options)  # type: ignore[arg-type]
    running.wait_until(lambda: "No file shipped" in running.stderr or "shipped to" in running.stderr, "a first pass")
    return running


def resident_memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """What a process has used of processors."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_prompt(queue: Site, server: FaultServer) -> None:
    """A file that is moved in, also into a new directory, is on its way within a fraction of a second."""
    running = watch(queue, "--interval", "600")
    took = []
    for name in ("new/x", "new/y", "newer/x", "newer/y", "newest/x"):
        began = time.monotonic()
        move_in(queue, name)
        running.wait_until(lambda: name in server.objects(), "the upload")  # noqa: B023
        took.append(time.monotonic() - began)
    # The best of them: other programs may take the processors for a while.
    assert min(took) < 1, took
    running.send(signal.SIGTERM)
    assert running.wait().code == 143


def test_idle(queue: Site, server: FaultServer, unmeasured: None) -> None:
    """Without anything to do it uses next to no processor time, whatever half-written files are appended to."""
    running = watch(queue, "--interval", "600")
    before = cpu_seconds(running.pid)
    with (queue.spool / "growing").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x")
            time.sleep(0.02)
        assert cpu_seconds(running.pid) - before < 0.5
    running.wait_until(lambda: server.objects().get("growing") == b"x" * 100, "the upload")


def test_large_upload(queue: Site, server: FaultServer) -> None:
    """An upload that takes long does not hold back the files that are moved in while it is under way."""
    running = watch(queue, "--interval", "600")
    released = threading.Event()
    server.faults.add(run_after_body(lambda: released.wait(60)).only(key="large"))
    move_in(queue, "first")
    running.wait_until(lambda: "first" in server.objects(), "the first upload")
    move_in(queue, "large")
    running.wait_until(lambda: any(request.key == "large" for request in server.requests), "the large upload")
    for name in ("second", "third"):
        move_in(queue, name)
        running.wait_until(lambda: name in server.objects(), "the small upload")  # noqa: B023
    assert "large" not in server.objects()
    released.set()
    running.wait_until(lambda: not queue.left(), "the end")


@pytest.mark.exhaustive  # test_sigterm_drains
def test_stop_drains(queue: Site, server: FaultServer) -> None:
    """SIGTERM lets the upload in flight end, removes its file, takes in no other, and exits with 143."""
    running = watch(queue)
    server.latency_seconds = 1.0
    move_in(queue, "x")
    running.wait_until(lambda: server.counts()["PutObject"], "the upload")
    running.send(signal.SIGTERM)
    finished = running.wait()
    assert finished.code == 143
    assert server.objects() == {"x": b"content"}
    assert queue.left() == {}


def test_reload(queue: Site, server: FaultServer) -> None:
    """SIGHUP makes it read its configuration: a wrong one is refused and the old one stays, a right one is followed."""
    metrics = queue.place / "metrics.prom"
    running = watch(queue, "--interval", "600")
    queue.config_file.write_text('{"base_dir": 1}')
    running.send(signal.SIGHUP)
    running.wait_until(lambda: "was not reloaded" in running.stderr, "the refusal")
    move_in(queue, "x")
    running.wait_until(lambda: "x" in server.objects(), "the upload")
    queue.settings.update(key_prefix="new/", metrics_file=str(metrics))
    queue.write_config()
    running.send(signal.SIGHUP)
    running.wait_until(lambda: "has been reloaded" in running.stderr, "the reload")
    move_in(queue, "y")
    running.wait_until(lambda: "new/y" in server.objects(), "the upload")
    running.wait_until(metrics.exists, "the metrics")
    running.send(signal.SIGINT)
    assert running.wait().code == 130


def test_credentials_come_back(site: Site, server: FaultServer) -> None:
    """Credentials that are refused are said once; after a reload with better ones everything is shipped."""
    site.ship_to(server, layout="tree", settle_seconds=0, profile="uploader")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        site.environment.pop(name)
    credentials = site.home / "credentials"
    site.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(credentials)
    text = "[uploader]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    credentials.write_text(text.format("AKIAWRONG", "wrong"))
    move_in(site, "x")
    running = site.start("watch", "--interval", "0.2")
    running.wait_until(lambda: server.counts()["PutObject"] >= 2, "a second try")
    assert running.stderr.count("InvalidAccessKeyId") <= 2  # the file's line and the run's
    credentials.write_text(text.format(server.access_key, server.secret_key))
    running.wait_until(lambda: "The trouble is over." in running.stderr, "the end of the trouble")
    assert server.objects() == {"x": b"content"}


@pytest.mark.exhaustive  # test_a_spool_that_vanishes_and_comes_back
def test_spool_comes_back(queue: Site, server: FaultServer) -> None:
    """A spool that is gone is said once, and when it is back it is noticed at once, events and all."""
    running = watch(queue, "--interval", "0.5")
    take_away(queue.spool)
    running.wait_until(lambda: "does not exist" in running.stderr, "the trouble")
    time.sleep(2.5)
    assert running.stderr.count("does not exist") == 1
    queue.spool.mkdir()
    running.wait_until(lambda: "The trouble is over." in running.stderr, "the end of the trouble", timeout=10)
    move_in(queue, "x")
    running.wait_until(lambda: "x" in server.objects(), "the upload")


def test_rehearsal(queue: Site, server: FaultServer) -> None:
    """A rehearsal fails at random and loses nothing: a file is in the spool or at the destination."""
    queue.settings["on_failure"] = "delete"
    for number in range(100):
        move_in(queue, f"{number}")
    running = queue.start("watch", "--interval", "0.2", "--simulate-failures", "0.3")
    running.wait_until(lambda: running.stderr.count("(simulated)") >= 10, "failures")
    running.send(signal.SIGTERM)
    running.wait()
    assert "Rehearsal: 30% of the uploads are made to fail." in running.stderr
    assert "on_failure is delete" not in running.stderr
    assert set(queue.left()) | set(server.objects()) == {f"{number}" for number in range(100)}


class TestServiceManager:
    @pytest.fixture
    def manager(self, site: Site) -> Iterator[socket.socket]:
        """What systemd would hear."""
        path = str(site.place / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(path)
            listener.settimeout(20)
            site.environment["NOTIFY_SOCKET"] = path
            site.environment["WATCHDOG_USEC"] = "1500000"
            yield listener

    def hear(self, manager: socket.socket, wanted: str) -> str:
        """Wait for a message that begins so."""
        while True:
            text = manager.recv(65536).decode()
            if text.startswith(wanted):
                return text

    def test_states(self, queue: Site, manager: socket.socket) -> None:
        """It says when it is ready, what it does, that it lives, that it reloads and that it stops."""
        running = queue.start("watch")
        self.hear(manager, "READY=1")
        self.hear(manager, "STATUS=idle, 0 files waiting")
        self.hear(manager, "WATCHDOG=1")
        before = time.monotonic_ns() // 1000
        running.send(signal.SIGHUP)
        reloading = self.hear(manager, "RELOADING=1\n")
        assert before <= int(reloading.partition("MONOTONIC_USEC=")[2]) <= time.monotonic_ns() // 1000
        self.hear(manager, "READY=1")
        running.send(signal.SIGTERM)
        self.hear(manager, "STOPPING=1")
        assert running.wait().code == 143

    def test_long_upload(self, queue: Site, server: FaultServer, manager: socket.socket) -> None:
        """During an upload that takes longer than the watchdog allows, signs of life go on."""
        server.faults.add(run_after_body(lambda: time.sleep(4.0)))
        move_in(queue, "x")
        running = queue.start("watch")
        running.wait_until(lambda: server.counts()["PutObject"], "the upload")
        last, gaps = time.monotonic(), []
        while not server.objects():
            self.hear(manager, "WATCHDOG=1")
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
        # Twice in the time that the watchdog allows, unless other programs take the processors for a while.
        assert len(gaps) > 2, gaps
        assert sorted(gaps)[len(gaps) // 2] < 1.5, gaps

    def test_hangs(self, queue: Site, manager: socket.socket) -> None:
        """A program that hangs gives no sign of life, so that the watchdog can end it."""
        running = queue.start("watch")
        self.hear(manager, "WATCHDOG=1")
        running.send(signal.SIGSTOP)
        manager.settimeout(2)
        with contextlib.suppress(TimeoutError):
            until = time.monotonic() + 10
            while time.monotonic() < until:
                manager.recv(65536)
            pytest.fail("it went on giving signs of life")
        running.send(signal.SIGCONT)
        manager.settimeout(20)
        self.hear(manager, "WATCHDOG=1")


class Producer(threading.Thread):
    """Writes files in all the ways in which producers write, at a steady rate.

    `written` is what each file finally holds.
    """

    def __init__(self, spool: Path, aside: Path, *, seconds: float, files_per_second: int) -> None:
        super().__init__()
        self._spool = spool
        self._aside = aside
        self._seconds = seconds
        self._rate = files_per_second
        self._chance = random.Random(5)
        self._later: list[threading.Timer] = []
        self.written: dict[str, bytes] = {}

    def run(self) -> None:
        """Write until the time is over, then wait for the slow ones."""
        began = time.monotonic()
        ways = (self._rename_in, self._append_slowly, self._append_again_and_again, self._rewrite, self._replace)
        for number in range(int(self._seconds * self._rate)):
            time.sleep(max(0.0, began + number / self._rate - time.monotonic()))
            name = f"{number // 500}/{number % 7}/{number}"
            (self._spool / name).parent.mkdir(parents=True, exist_ok=True)
            content = b"".join(b"%d of %s\n" % (line, name.encode()) for line in range(self._chance.randrange(1, 40)))
            self.written[name] = content
            ways[number % len(ways)](name, content)
        for timer in self._later:
            timer.join()

    def _after(self, seconds: float, work: object, *arguments: object) -> None:
        self._later = [timer for timer in self._later if timer.is_alive()]
        self._later.append(threading.Timer(seconds, work, arguments))  # type: ignore[arg-type]
        self._later[-1].start()

    def _rename_in(self, name: str, content: bytes) -> None:
        (self._aside / "new").write_bytes(content)
        (self._aside / "new").rename(self._spool / name)

    def _append_slowly(self, name: str, content: bytes) -> None:
        file = (self._spool / name).open("wb", buffering=0)
        file.write(content[: len(content) // 2])

        def end() -> None:
            file.write(content[len(content) // 2 :])
            file.close()

        self._after(self._chance.uniform(0.1, 4.0), end)

    def _append_again_and_again(self, name: str, content: bytes) -> None:
        def append(rest: bytes) -> None:
            with (self._spool / name).open("ab") as file:
                file.write(rest[:200])
            if len(rest) > 200:
                self._after(0.1, append, rest[200:])

        append(content)

    def _rewrite(self, name: str, content: bytes) -> None:
        (self._spool / name).write_bytes(content[::-1])
        self._after(self._chance.uniform(0.0, 3.0), (self._spool / name).write_bytes, content)

    def _replace(self, name: str, content: bytes) -> None:
        def replace() -> None:
            temporary = self._aside / f"again-{name.replace('/', '-')}"
            temporary.write_bytes(content)
            temporary.rename(self._spool / name)

        (self._spool / name).write_bytes(content[::-1])
        self._after(self._chance.uniform(0.0, 3.0), replace)


def test_endurance(site: Site, server: FaultServer, unmeasured: None, effort: Callable[[int, int], int]) -> None:
    """A producer writes in all ways while the server is stopped and started: all arrives whole, memory stays flat."""
    gate = Gate(server.port)
    seconds = SECONDS or float(effort(8, 12))
    site.ship_to(
        server.endpoint.replace(endpoint_url=f"http://127.0.0.1:{gate.port}"),
        layout="tree",
        settle_seconds=1,
        on_conflict="overwrite",
    )
    aside = site.place / "aside"
    aside.mkdir()
    running = site.start("watch", "--interval", "1", "--quiet")
    producer = Producer(site.spool, aside, seconds=seconds, files_per_second=effort(15, 50))
    producer.start()
    memory: list[int] = []
    began = time.monotonic()
    while producer.is_alive():
        time.sleep(seconds / 60)
        third = (time.monotonic() - began) / seconds * 3
        if 1 <= third < 1.2:
            gate.shut()
        elif gate._listener is None and third >= 1.4:
            gate.open()
        memory.append(resident_memory(running.pid))
    if gate._listener is None:
        gate.open()
    # A file whose connection broke while others still came through waits up to a minute for its next try.
    running.wait_until(lambda: not site.left(), "the backlog is gone", timeout=120 + seconds)
    memory.append(resident_memory(running.pid))
    used = cpu_seconds(running.pid)
    running.send(signal.SIGTERM)
    finished = running.wait()
    assert finished.code == 143, finished.stderr
    assert server.objects() == producer.written
    assert entries(aside) == []
    settled = memory[len(memory) // 2 :]
    print(
        f"{len(producer.written)} files in {time.monotonic() - began:.0f} s, {used:.1f} s of processor, "
        f"memory {memory[len(memory) // 4] >> 10} kB, {settled[0] >> 10} kB, {settled[-1] >> 10} kB"
    )
    print(finished.stderr)
    assert settled[-1] - settled[0] < 16 * 2**20
    gate.shut()


PATH = "bedroom/2020/11/29/20/46-topic.dat"


def start_watching(site: Site, *arguments: str) -> Running:
    """A watch that has made its first pass."""
    marker = site.file("marker/2020/01/01/00/00-marker.dat", b"marker")
    running = site.start("watch", *arguments)
    running.wait_until(lambda: not marker.exists(), "the first pass")
    return running


def move_file_in(site: Site, path: str, content: bytes = b"content") -> Path:
    """What a careful producer does: write a file elsewhere, then move it in when it is finished."""
    made = site.place / "made"
    made.write_bytes(content)
    settle(made)
    target = site.spool / path
    in_its_directory(target, lambda: made.rename(target))
    return target


@pytest.mark.exhaustive  # test_prompt
def test_a_file_is_on_its_way_at_once(watched: Site, fault_server: FaultServer) -> None:
    """A finished file that is moved in is uploaded within a fraction of a second, long before the interval is over."""
    (watched.spool / PATH).parent.mkdir(parents=True)
    running = start_watching(watched, "--interval", "60")
    took = []
    for number in range(5):
        key = PATH.replace("46", f"4{number}")
        file = move_file_in(watched, key)
        began = time.monotonic()
        running.wait_until(lambda key=key: key in fault_server.objects(), "the upload")  # type: ignore[misc]
        took.append(time.monotonic() - began)
        running.wait_until(lambda file=file: not file.exists(), "the removal")  # type: ignore[misc]
        time.sleep(0.1)
    # The best of them: other programs may take the processors for a while.
    assert min(took) < 1, took
    stop(running)
    assert watched.left() == {}


@pytest.mark.exhaustive  # test_prompt
def test_directories_that_are_made_meanwhile_are_watched(watched: Site, fault_server: FaultServer) -> None:
    """A location that appears while it runs is noticed as well, with everything below it."""
    running = start_watching(watched, "--interval", "60")
    move_file_in(watched, "a-new-location/2020/11/29/20/46-topic.dat")
    running.wait_until(lambda: "a-new-location/2020/11/29/20/46-topic.dat" in fault_server.objects(), "the upload")
    stop(running)


def test_the_interval_finds_what_no_event_told(watched: Site, fault_server: FaultServer) -> None:
    """A file that was too young when it came is shipped once it has settled, without any event."""
    watched.settings["settle_seconds"] = 1
    running = start_watching(watched, "--interval", "0.3")
    file = watched.file(PATH, b"young", age=0)
    running.wait_until(lambda: PATH in fault_server.objects(), "the upload")
    running.wait_until(lambda: not file.exists(), "the removal")
    stop(running)


def test_sigterm_drains(watched: Site, fault_server: FaultServer) -> None:
    """SIGTERM lets an upload that is in flight finish, removes its file, and ends."""
    running = start_watching(watched, "--interval", "0.2")

    def stop_it() -> None:
        running.send(signal.SIGTERM)
        time.sleep(0.5)

    fault_server.faults.add(run_before_answer(stop_it).only(key=PATH))
    move_file_in(watched, PATH)
    finished = running.wait(20)
    assert finished.code == 143
    assert PATH in fault_server.objects()
    assert watched.left() == {}


def test_sigterm_with_uploads_that_hang(watched: Site, fault_server: FaultServer) -> None:
    """Uploads that hang are given up after the drain time; the file is kept."""
    watched.settings["drain_seconds"] = 0.5
    running = start_watching(watched, "--interval", "0.2")
    fault_server.faults.add(hang("after_body").only(key=PATH))
    file = move_file_in(watched, PATH)
    running.wait_until(lambda: fault_server.requests_of("PutObject", PATH), "the upload")
    stop(running, timeout=12)
    assert file.exists()


@pytest.mark.rotated("number")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_idle_watch_stops_at_once(watched: Site, number: int) -> None:
    """While it sleeps, a signal ends it within a second or two."""
    running = start_watching(watched, "--interval", "3600")
    time.sleep(0.3)
    began = time.monotonic()
    stop(running, number)
    assert time.monotonic() - began < 4


@pytest.mark.exhaustive  # test_reload
def test_sighup_reloads(watched: Site, fault_server: FaultServer) -> None:
    """SIGHUP takes the new configuration: from then on another prefix, with a line that says so."""
    running = start_watching(watched, "--interval", "0.3")
    watched.settings["key_prefix"] = "new/"
    watched.write_config()
    running.send(signal.SIGHUP)
    running.wait_until(lambda: "The configuration has been reloaded." in running.stderr, "the reload")
    move_file_in(watched, PATH)
    running.wait_until(lambda: f"new/{PATH}" in fault_server.objects(), "the upload")
    stop(running)


@pytest.mark.exhaustive  # test_reload
def test_sighup_with_a_broken_configuration(watched: Site, fault_server: FaultServer) -> None:
    """A configuration that is broken is not taken: the one before stays, and the problem is named."""
    running = start_watching(watched, "--interval", "0.3")
    watched.config_file.write_text('{"base_dir": 3}')
    running.send(signal.SIGHUP)
    running.wait_until(lambda: "was not reloaded" in running.stderr, "the refusal")
    assert "base_dir" in running.stderr
    move_file_in(watched, PATH)
    running.wait_until(lambda: PATH in fault_server.objects(), "the upload")
    stop(running)


def test_a_server_that_goes_away_and_comes_back(watched: Site, fault_server: FaultServer) -> None:
    """An outage is said once, not at every pass; when the server is back, everything is shipped, and that is said."""
    running = start_watching(watched, "--interval", "0.2")
    fault_server.go_down()
    for minute in range(20):
        move_file_in(watched, f"bedroom/2020/11/29/20/{minute:02d}-topic.dat")
    running.wait_until(lambda: "The run was abandoned" in running.stderr, "the outage", 40)
    time.sleep(1.5)
    lines_then = running.stderr.count("\n")
    assert len(watched.left()) == 20
    fault_server.come_up()
    running.wait_until(lambda: not watched.left(), "the recovery", 60)
    running.wait_until(lambda: "The trouble is over" in running.stderr, "the line")
    assert lines_then < 12, running.stderr
    stop(running)
    assert len(fault_server.objects()) == 21


def test_a_spool_that_vanishes_and_comes_back(watched: Site, fault_server: FaultServer) -> None:
    """A spool that is not there (not mounted, say) is trouble, not the end; when it is back, it is emptied."""
    running = start_watching(watched, "--interval", "0.2")
    take_away(watched.spool)
    running.wait_until(lambda: "does not exist" in running.stderr, "the trouble")
    time.sleep(0.5)
    assert running.stderr.count("does not exist") == 1
    watched.spool.mkdir()
    move_file_in(watched, PATH)
    running.wait_until(lambda: PATH in fault_server.objects(), "the recovery", 30)
    stop(running)


@pytest.mark.exhaustive  # test_credentials_come_back
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
    running = start_watching(watched, "--interval", "0.1")
    watched.files(100)
    for _ in range(3):
        assert watched.run().code == 0
    running.wait_until(lambda: not watched.left(), "the work", 30)
    stop(running)
    assert len(fault_server.objects()) == 101
    assert fault_server.replacements == []


@pytest.mark.exhaustive  # test_states; unit/service/test_sd_notify.py for the address
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
