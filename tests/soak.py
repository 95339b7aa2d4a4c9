"""A long `watch` under everything at once: ``python -m tests.soak --minutes 30 --out DIRECTORY``.

Faults of every kind at the server, producers of every kind, disks that fill and empty (as root, on a small tmpfs), and
a clock that jumps (where faketime is installed). At the end every file that a producer finished must be at the server
or still in the spool, no object may have been replaced, and memory and descriptors must be flat. Writes ``soak.csv``
and ``soak.svg``; exits with 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tests.servers import fault_script as faults
from tests.servers.debian import find_file
from tests.servers.fault_server import FaultServer

COMMAND = Path(sys.executable).with_name("s3-uploader-cli")
MEBIBYTE = 2**20
_DISK_MEBIBYTES = 96
_SAMPLE_SECONDS = 5.0
_LONG_SECONDS = 600.0
_CALM_SECONDS = 180.0
"""So long may it take, without faults, until all is shipped."""

FAULTS: tuple[Callable[[], faults.Fault], ...] = (
    lambda: faults.slow_down(0),
    lambda: faults.error("InternalError"),
    lambda: faults.error("ServiceUnavailable"),
    lambda: faults.error("BadDigest"),
    lambda: faults.error("ConditionalRequestConflict"),
    faults.error_after_storing,
    faults.error_in_success,
    faults.wrong_etag,
    faults.wrong_checksum,
    faults.no_proof,
    lambda: faults.hang_up("before_body"),
    lambda: faults.hang_up("before_answer"),
    lambda: faults.hang_up("before_answer", reset=True),
    lambda: faults.hang_up("in_body", after_bytes=1000),
    lambda: faults.cut_answer(20),
    lambda: faults.cut_answer(60),
)


class Sample(msgspec.Struct, frozen=True):
    """What was seen at one moment."""

    seconds: float
    memory_mb: float
    descriptors: int
    threads: int
    waiting: int
    delivered: int
    clock_offset: float


class Producers:
    """Threads that fill a spool, each in a way of its own; what they finished stands in `finished`."""

    def __init__(self, spool: Path, chance: random.Random) -> None:
        self._spool = spool
        self._chance = chance
        self._lock = threading.Lock()
        self._count = 0
        self._stop = threading.Event()
        self.finished: dict[str, bytes] = {}
        ways = (self._in_place, self._slowly, self._by_rename, self._linked, self._large, self._burst)
        self._threads = [threading.Thread(target=self._work, args=(way,), daemon=True) for way in ways]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each finish what it is at."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, way: Callable[[Path, bytes], None]) -> None:
        while not self._stop.is_set():
            for _ in range(20 if way == self._burst else 1):
                self._one(way)
            self._stop.wait(self._chance.uniform(0.2, 3) * (10 if way == self._large else 1))

    def _one(self, way: Callable[[Path, bytes], None]) -> None:
        with self._lock:
            self._count += 1
            number = self._count
        path = self._spool / f"room{number % 4}/2020/11/29/{number // 60 % 24:02d}/{number % 60:02d}-{number}.dat"
        size = 5 * MEBIBYTE + number if way == self._large else self._chance.choice((0, 1, 17, 4096, 70_000))
        content = random.Random(number).randbytes(size)
        key = str(path.relative_to(self._spool))
        while not self._stop.is_set():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                way(path, content)
            except FileNotFoundError:
                continue  # the directory was pruned in between
            except OSError:
                # The disk is full: a producer takes back what it has begun, and tries again.
                with contextlib.suppress(OSError):
                    path.unlink()
                self._stop.wait(1)
                continue
            with self._lock:
                self.finished[key] = content
            return

    def _in_place(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

    def _slowly(self, path: Path, content: bytes) -> None:
        with path.open("wb", buffering=0) as file:
            for begin in range(0, max(len(content), 1), 20_000):
                piece = content[begin : begin + 20_000]
                # A disk that is nearly full takes a part of it, and no error says so.
                if file.write(piece) != len(piece):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._stop.wait(0.5)

    def _by_rename(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(content)
        temporary.rename(path)

    def _linked(self, path: Path, content: bytes) -> None:
        elsewhere = self._spool.parent / "spool-source"
        elsewhere.write_bytes(content)
        os.utime(elsewhere, (1e9, 1e9))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(elsewhere)
        elsewhere.unlink()

    _large = _by_rename

    def _burst(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)


class Soak:
    """The server, the disks, the clock and the command."""

    def __init__(self, place: Path, server: FaultServer, chance: random.Random) -> None:
        self._place, self._server, self._chance = place, server, chance
        self.disk = place / "disk"
        self.spool = self.disk / "spool"
        self._clock_file = place / "clock"
        self._offset = 0.0
        self._began = time.monotonic()
        self._library = find_file("usr/lib/*/faketime/libfaketimeMT.so.1")
        self.samples: list[Sample] = []

    def start(self) -> subprocess.Popen[bytes]:
        """Start `watch`."""
        self.spool.mkdir()
        # Not on the disk that fills: where the ledger cannot be written nothing is deleted, so a spool that filled the
        # ledger's disk with files of its own would stay as it is.
        (self._place / "state").mkdir(mode=0o700)
        config = self._place / "config.json"
        config.write_text(
            json.dumps(
                {
                    "base_dir": str(self.spool),
                    "bucket": self._server.bucket,
                    "state_dir": str(self._place / "state"),
                    "settle_seconds": 1,
                    "multipart_threshold": 5 * MEBIBYTE,
                    "part_size": 5 * MEBIBYTE,
                    "upload_timeout_seconds": 30,
                }
            )
        )
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._place), **self._server.environment()}
        if self._library is not None:
            self.jump(0)
            environment |= {
                "LD_PRELOAD": str(self._library),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock_file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
        with (self._place / "log").open("wb") as log:
            return subprocess.Popen(
                [str(COMMAND), "watch", str(config), "--interval", "1"],
                env=environment,
                cwd=self._place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def jump(self, offset: float) -> None:
        """Put the clock of the command, and that of the server, so far off."""
        if self._library is None:
            return
        self._offset = offset
        fresh = self._clock_file.with_name("clock.new")
        fresh.write_text(f"{offset:+.0f}\n")
        fresh.rename(self._clock_file)
        self._server.clock_offset_seconds = offset

    def disturb(self) -> None:
        """Let one thing go wrong."""
        roll = self._chance.random()
        if roll < 0.7:
            self._server.faults.add(*(self._chance.choice(FAULTS)() for _ in range(self._chance.randrange(1, 4))))
        elif roll < 0.76:
            self._server.go_down()
            time.sleep(self._chance.uniform(0.5, 4))
            self._server.come_up()
        elif roll < 0.82:
            self._server.cut_connections()
        elif roll < 0.88:
            self._server.latency_seconds = self._chance.choice((0.0, 0.0, 0.05, 1.0))
        elif roll < 0.94:
            self.jump(self._chance.choice((-86400.0, -3600.0, -30.0, 0.0, 30.0, 3600.0, 86400.0 * 40)))
        else:
            self._fill()

    def _fill(self) -> None:
        ballast = self.disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.tell() < _DISK_MEBIBYTES * MEBIBYTE:
                file.write(bytes(MEBIBYTE // 4))
        time.sleep(self._chance.uniform(1, 5))
        ballast.unlink(missing_ok=True)

    def calm(self) -> None:
        """No more faults; and by the command's clock every pause is over."""
        self._server.faults.clear()
        self._server.latency_seconds = 0.0
        self.jump(self._offset + 8 * 3600)

    def waiting(self) -> dict[str, bytes]:
        """What is in the spool."""
        found = {}
        for directory, _, names in os.walk(self.spool):
            for name in names:
                path = Path(directory, name)
                # It may be delivered just now.
                with contextlib.suppress(FileNotFoundError):
                    found[str(path.relative_to(self.spool))] = path.read_bytes()
        return found

    def sample(self, pid: int) -> None:
        """Look at the process."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        self.samples.append(
            Sample(
                time.monotonic() - self._began,
                int(status["VmRSS"].split()[0]) / 1024,
                len(os.listdir(f"/proc/{pid}/fd")),
                int(status["Threads"]),
                sum(len(names) for _, _, names in os.walk(self.spool)),
                len(self._server.stored()),
                self._offset,
            )
        )


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A disk of its own where that can be had, so that it can be filled."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={_DISK_MEBIBYTES}m", "soak", str(place)]
    mounted = (
        os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    )
    if not mounted:
        print("no disk of its own: it is not filled")
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=False)


def lost(finished: dict[str, bytes], waiting: dict[str, bytes], delivered: dict[str, bytes]) -> list[str]:
    """The files that are neither at the server nor in the spool."""
    on_disk = set(waiting.values())
    return [
        f"{key}: {len(content)} bytes were made, {len(delivered[key]) if key in delivered else 'none'} delivered"
        for key, content in finished.items()
        if delivered.get(key) != content and content not in on_disk
    ]


def not_flat(name: str, values: list[float], *, most: float, slack: float) -> list[str]:
    """What is wrong with a curve: its top, and how far the last third rises above the second one."""
    third = len(values) // 3
    wrong = [f"{name}: {max(values):.0f}, which is more than {most:.0f}"] * (max(values) > most)
    # In a short time memory grows to what large files in flight take.
    if len(values) * _SAMPLE_SECONDS >= _LONG_SECONDS:
        rise = max(values[2 * third :]) - max(values[third : 2 * third])
        wrong += [f"{name} rose by {rise:.0f} in the last third"] * (rise > slack)
    return wrong


def write_results(samples: list[Sample], out: Path) -> None:
    """Write the table and the chart."""
    names = Sample.__struct_fields__
    with (out / "soak.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([round(getattr(each, name), 2) for name in names] for each in samples)
    width, height = 800, 110
    scale = (width - 80) / (samples[-1].seconds or 1)
    parts = []
    for number, name in enumerate(("memory_mb", "descriptors", "waiting", "delivered")):
        values = [float(getattr(each, name)) for each in samples]
        top = max(*values, 1.0)
        ground = (number + 1) * height - 15
        points = " ".join(
            f"{60 + each.seconds * scale:.1f},{ground - value / top * (height - 40):.1f}"
            for each, value in zip(samples, values, strict=True)
        )
        parts.append(
            f'<text x="60" y="{number * height + 16}">{name.replace("_", " ")}, at most {top:g}</text>'
            f'<polyline fill="none" stroke="#2a6f97" points="{points}"/>'
        )
    (out / "soak.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {4 * height}" font-family="sans-serif" '
        f'font-size="12">{"".join(parts)}</svg>\n'
    )


def soak(minutes: float, out: Path, seed: int) -> list[str]:
    """Run it; returns what did not hold."""
    chance = random.Random(seed)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        stack.enter_context(small_disk(place / "disk"))
        server = stack.enter_context(FaultServer(small_buffers=False))
        run = Soak(place, server, chance)
        process = run.start()
        stack.callback(process.kill)
        producers = Producers(run.spool, chance)
        next_sample, until = 0.0, time.monotonic() + minutes * 60
        while time.monotonic() < until and process.poll() is None:
            run.disturb()
            time.sleep(chance.uniform(0.1, 1.5))
            if time.monotonic() >= next_sample and process.poll() is None:
                run.sample(process.pid)
                next_sample = time.monotonic() + _SAMPLE_SECONDS
        producers.stop()
        run.calm()
        until = time.monotonic() + _CALM_SECONDS
        while run.waiting() and time.monotonic() < until and process.poll() is None:
            time.sleep(1)
        wrong = [] if process.poll() is None else [f"watch ended with {process.returncode}"]
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        log = (place / "log").read_text(errors="replace")
        (out / "soak.log").write_text(log)
        write_results(run.samples, out)
        waiting = run.waiting()
        wrong += [f"lost: {key}" for key in lost(producers.finished, waiting, server.objects())]
        wrong += [f"replaced: {each.key}" for each in server.replacements]
        # What a producer was still writing when it was stopped is nobody's fault.
        wrong += [f"still in the spool: {key}" for key in waiting if key in producers.finished]
        wrong += ["a traceback in the log"] * ("Traceback" in log)
        memory, descriptors = (
            [float(getattr(each, name)) for each in run.samples] for name in ("memory_mb", "descriptors")
        )
        wrong += not_flat("memory in MB", memory, most=150, slack=10)
        wrong += not_flat("descriptors", descriptors, most=600, slack=100)
        requests = server.counts().total()
        print(
            f"{minutes:g} minutes, seed {seed}: {len(producers.finished)} files made, {len(server.stored())} delivered,"
            f" {len(waiting)} wait; {requests} requests, of which {faulty(server)} met a fault;"
            f" memory {memory[len(memory) // 4]:.0f} to {memory[-1]:.0f} MB, descriptors at most {max(descriptors):.0f}"
        )
    return wrong


def faulty(server: FaultServer) -> int:
    """How many requests met a fault."""
    return sum(bool(request.fault) for request in server.requests)


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wrong = soak(arguments.minutes, arguments.out, arguments.seed)
    print(*wrong[:20], sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
