"""What a run costs: processor time for each file, memory that does not grow, next to nothing without work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, Site, measured, untraced
from tests.servers.base import S3Endpoint, random_name
from tests.servers.nginx_sink import NginxSink

MANY_FILES = int(os.environ.get("UPLOADER_TEST_MANY_FILES", "60000"))
"""The promise is about 200,000; making and removing them takes a minute of its own."""
MEGABYTE = 1_000_000

_BOTO3_LOOP = """
import concurrent.futures, json, os, sys, time
import boto3
from botocore.config import Config
bucket, files = sys.argv[1], [line.rstrip("\\n") for line in sys.stdin]
client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, max_pool_connections=8))
def put(path):
    with open(path, "rb") as file:
        client.put_object(Bucket=bucket, Key=path, Body=file)
put(files[0])
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    began = time.process_time()
    list(pool.map(put, files))
    print(json.dumps((time.process_time() - began) / len(files)))
"""


def fresh_bucket(sink: NginxSink) -> S3Endpoint:
    """A bucket that no other test has put anything into: the sink takes any name, and remembers what is there."""
    return sink.endpoint.replace(bucket=random_name("bucket"))


def make_files(site: Site, count: int) -> list[Path]:
    """So many files of 4 KiB in three locations."""
    content = os.urandom(4096)
    made = []
    hours: set[Path] = set()
    for number in range(count):
        hour = site.spool / f"room-{number % 3}/2020/{number // 18_000 % 12 + 1:02d}/{number // 700 % 28 + 1:02d}/10"
        if hour not in hours:
            hour.mkdir(parents=True)
            hours.add(hour)
        path = hour / f"{number % 60:02d}-{number}.dat"
        path.write_bytes(content)
        os.utime(path, (1_600_000_000, 1_600_000_000))
        made.append(path)
    return made


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.timeout(600)
def test_processor_time_a_file(site: Site, nginx_sink: NginxSink, effort: Callable[[int, int], int]) -> None:
    """A file takes at most a quarter of what a plain boto3 loop takes for its upload alone, and thousands 60 MB."""
    # Whatever else the machine does costs processor time too, and never saves any: the best of three rounds counts.
    files = effort(4_000, 20_000)
    ratios: list[float] = []
    while len(ratios) < 3 and min(ratios, default=1.0) > 0.25:
        made = make_files(site, files)
        site.ship_to(fresh_bucket(nginx_sink))
        theirs = boto3_loop(site, nginx_sink, made[: files // 5])
        finished, cpu, peak = measured(site)
        assert finished.code == 0, finished.stderr[-2000:]
        assert site.left() == {}
        assert finished.stderr.count("\n") == files + 1
        assert peak < 60 * MEGABYTE
        ours = cpu / files
        ratios.append(ours / theirs)
        print(
            f"processor time a file: {ours * 1e6:.0f} µs, boto3 with 8 threads {theirs * 1e6:.0f} µs, "
            f"ratio {ratios[-1]:.3f}; {peak / 1e6:.0f} MB"
        )
    assert min(ratios) <= 0.25


def boto3_loop(site: Site, sink: NginxSink, sample: list[Path]) -> float:
    """Processor seconds a file that a plain boto3 loop takes to upload them."""
    loop = subprocess.run(
        [sys.executable, "-c", _BOTO3_LOOP, sink.bucket],
        input="\n".join(str(path) for path in sample),
        env={"PATH": "/usr/bin:/bin", "HOME": str(site.home), **sink.environment()},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    found = json.loads(loop.stdout)
    assert isinstance(found, float)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_number_of_files(
    site: Site, nginx_sink: NginxSink, effort: Callable[[int, int], int]
) -> None:
    """Many times as many files take no more memory."""
    files = effort(5_000, MANY_FILES)
    site.ship_to(fresh_bucket(nginx_sink))
    make_files(site, files)
    finished, _, peak = measured(site, timeout=600)
    assert finished.code == 0, finished.stderr[-2000:]
    assert site.left() == {}
    print(f"{files} files: {peak / 1e6:.0f} MB")
    assert peak < 60 * MEGABYTE


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "boto3"])
def test_memory_does_not_grow_with_their_size(
    site: Site, nginx_sink: NginxSink, engine: str, effort: Callable[[int, int], int]
) -> None:
    """Files of 64 MiB, which go up in parts, all at once, take less than 250 MB together."""
    files = effort(8, 16)
    content = os.urandom(1 << 20) * 64
    for number in range(files):
        site.file(f"bedroom/2020/11/29/20/{number:02d}-topic.dat", content)
    del content
    site.ship_to(fresh_bucket(nginx_sink), engine=engine)
    finished, _, peak = measured(site)
    assert finished.code == 0, finished.stderr[-2000:]
    assert site.left() == {}
    print(f"{files} files of 64 MiB with {engine}: {peak / 1e6:.0f} MB")
    assert peak < 250 * MEGABYTE


@pytest.mark.slow
def test_memory_does_not_grow_with_one_directory(site: Site, effort: Callable[[int, int], int]) -> None:
    """A dry run over a directory of many files takes no more than a run takes."""
    files = effort(8_000, 100_000)
    hour = site.spool / "room/2020/11/29/20"
    hour.mkdir(parents=True)
    for number in range(files):
        (hour / f"{number % 60:02d}-{number}.dat").touch()
    site.ship_to_directory()
    finished, _, peak = measured(site, "run", "--dry-run")
    assert finished.code == 0
    print(f"{files} entries of one directory: {peak / 1e6:.0f} MB")
    assert peak < 60 * MEGABYTE


def imported(site: Site, *arguments: str) -> set[str]:
    """The top-level names of what a run imported."""
    untraced(site)
    finished = site.run(*arguments, environment={"PYTHONPROFILEIMPORTTIME": "1"})
    assert finished.code == 0, finished.stderr
    return {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines() if line.startswith("import time:")}


HEAVY = {"boto3", "botocore", "click", "rich", "urllib3", "logging", "asyncio", "ssl", "http.client"}


def test_a_tick_without_work_imports_nothing_heavy(site: Site, nginx_sink: NginxSink) -> None:
    """A run that finds nothing to ship imports neither boto3 nor the command line's parser."""
    site.ship_to(fresh_bucket(nginx_sink))
    assert not imported(site) & HEAVY
    site.file("bedroom/2020/11/29/20/46-topic.dat", age=0)
    assert not imported(site) & HEAVY


def test_work_needs_no_boto3_either(site: Site, nginx_sink: NginxSink) -> None:
    """With the engine of its own and credentials in the environment, uploads do not import boto3."""
    site.ship_to(fresh_bucket(nginx_sink))
    site.file("bedroom/2020/11/29/20/46-topic.dat")
    assert not imported(site) & {"boto3", "botocore", "click", "rich", "asyncssh", "asyncio", "cryptography", "ftplib"}


@pytest.mark.timing
def test_a_tick_without_work_is_quick(site: Site, nginx_sink: NginxSink) -> None:
    """A run that finds nothing to ship takes little more processor time than the interpreter takes to start."""
    site.ship_to(fresh_bucket(nginx_sink))
    untraced(site)

    def cpu(command: list[str] | None = None) -> float:
        return min(site.run(command=command).cpu_seconds for _ in range(7))

    bare = cpu([str(COMMAND.with_name("python")), "-c", "import json, sqlite3"])
    tick = cpu()
    print(f"a tick without work: {tick * 1e3:.0f} ms of processor time; a bare interpreter {bare * 1e3:.0f} ms")
    assert tick < bare + 0.1
