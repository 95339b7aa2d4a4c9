"""The metrics as a machine's owner has them: in the file of a run, and of a watch while it is at work."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.site import Running, Site, settle


def values(text: str, name: str) -> dict[str, float]:
    """The samples of a metric by the value of their own label, if they have one."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"s3_uploader_{name}":
                own = [value for label, value in sample.labels.items() if label != "spool"]
                found[own[0] if own else ""] = sample.value
    return found


@pytest.fixture
def prom(site: Site) -> Path:
    """The metrics file of a spool that goes to a directory."""
    site.ship_to_directory()
    path = site.place / "spool.prom"
    site.settings["metrics_file"] = str(path)
    return path


def test_a_run_and_one_that_cannot_begin(site: Site, prom: Path) -> None:
    """A run measures by location; one that steps aside, and one without its state directory, leave that as it is."""
    site.files(3, location="hall")
    site.files(2, location="attic")
    fresh = site.file("hall/2020/11/29/20/59-new.dat", age=0)
    os.utime(fresh, (fresh.stat().st_mtime + 5, fresh.stat().st_mtime + 5))
    assert site.run().code == 0
    first = prom.read_text()
    assert values(first, "location_shipped_files_total") == {"attic": 2, "hall": 3, "/others": 0}
    assert values(first, "location_backlog_files")["hall"] == 1
    descriptor = os.open(site.spool, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert site.run().code == 0
    finally:
        os.close(descriptor)
    aside = prom.read_text()
    assert values(aside, "last_attempt_outcome")["stepped_aside"] == 1
    assert values(aside, "location_shipped_files_total") == values(first, "location_shipped_files_total")
    assert values(aside, "last_run_timestamp_seconds") == values(first, "last_run_timestamp_seconds")
    (site.place / "no-directory").write_text("")
    site.settings["state_dir"] = str(site.place / "no-directory" / "state")
    assert site.run().code == 2
    assert values(prom.read_text(), "last_attempt_outcome")["could_not_begin"] == 1
    assert values(prom.read_text(), "shipped_files_total") == {"": 5}


def failures_told(site: Site, prom: Path) -> tuple[int, int]:
    """The failed uploads since the beginning, by the metrics and by the history."""
    uploads = [json.loads(line) for line in site.run("history", "--failed", "--json").stdout.splitlines()]
    counted = sum(row["failed_uploads"] for row in uploads if row["kind"] == "uploads")
    return int(values(prom.read_text(), "failed_uploads_total")[""]), counted


def test_failures_are_counted_alike(site: Site, prom: Path) -> None:
    """The log, the history and the metrics count the same failures: of files that stay, and of those moved away.

    A file that only waited beside one that failed, when the destination refused everything, has not failed.
    """
    archive = Path(site.settings["destination"]["path"])
    for name in ("01-a", "02-b", "03-c"):
        site.file(f"hall/2020/11/29/20/{name}.dat", b"ours")
        taken = archive / f"hall/2020/11/29/20/{name}.dat"
        taken.parent.mkdir(parents=True, exist_ok=True)
        taken.write_bytes(b"theirs")
    assert site.run().stderr.count("Failed to upload") == 3
    assert failures_told(site, prom) == (3, 3)
    site.settings["on_failure"] = {"move_to": str(site.place / "failed")}
    assert site.run("run", "--retry").stderr.count("was moved to") == 3
    assert failures_told(site, prom) == (6, 6)
    assert site.left() == {}
    del site.settings["destination"], site.settings["on_failure"]
    site.settings["bucket"] = "readings"
    site.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    site.files(5, location="attic")
    finished = site.run()
    assert finished.code == 3
    failed = 6 + finished.stderr.count("Failed to upload")
    assert failures_told(site, prom) == (failed, failed)


def test_a_watch_writes_while_it_is_at_work(site: Site, prom: Path) -> None:
    """The file of a watch is there at once, follows what is shipped, and counts on where the watch before ended."""
    for expected in (1, 2):
        marker = site.file(f"hall/2020/11/29/20/0{expected}-topic.dat")
        running = site.start("watch")
        running.wait_until(lambda marker=marker: not marker.exists(), "the first pass")  # type: ignore[misc]
        running.wait_until(
            lambda expected=expected: values(prom.read_text(), "shipped_files_total") == {"": expected},  # type: ignore[misc]
            "the metrics",
        )
        running.send(signal.SIGTERM)
        assert running.wait().code == 143
        assert values(prom.read_text(), "watch_pass_running") == {"": 0}


def served(running: Running) -> str:
    """The address that a watch says it serves metrics at."""
    pattern = re.compile(r"Metrics are served at (http://127\.0\.0\.1:\d+/metrics)\.")
    running.wait_until(lambda: pattern.search(running.stderr), "the address")
    found = pattern.search(running.stderr)
    assert found is not None
    return found[1]


def scraped(url: str) -> str:
    """What is served now."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    assert isinstance(text, str)
    return text


def test_a_watch_serves_its_metrics(site: Site) -> None:
    """Numbers are served without a metrics file, follow the pass, survive a reload, and end with the watch.

    None has an empty name of the spool, not even while the watch begins.
    """
    site.ship_to_directory()
    marker = site.file("hall/2020/11/29/20/01-topic.dat")
    running = site.start("watch", "--metrics-listen", "0")
    url = served(running)
    assert 'spool=""' not in scraped(url)
    running.wait_until(lambda: not marker.exists(), "the first pass")
    running.wait_until(lambda: values(scraped(url), "shipped_files_total") == {"": 1}, "the numbers")
    other = site.place / "other"
    (other / "attic/2020/11/29/20").mkdir(parents=True)
    moved = other / "attic/2020/11/29/20/02-topic.dat"
    moved.write_text("a reading\n")
    settle(moved)
    site.settings["base_dir"] = str(other)
    site.write_config()
    running.send(signal.SIGHUP)
    running.wait_until(lambda: not moved.exists(), "the other spool")
    running.wait_until(
        lambda: values(scraped(url), "location_shipped_files_total") == {"attic": 1, "/others": 0}, "its numbers"
    )
    assert f'spool="{site.spool}"' not in scraped(url)
    assert scraped(url.replace("/metrics", "/healthz")) == "ok\n"
    running.send(signal.SIGTERM)
    finished = running.wait()
    assert finished.code == 143
    assert "Traceback" not in finished.stderr


def test_a_port_in_use(site: Site) -> None:
    """A port that another program has ends the watch before it begins: a sentence, and a code to be started again."""
    site.ship_to_directory()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finished = site.run("watch", "--metrics-listen", str(taken.getsockname()[1]))
    assert finished.code == 1
    assert ": address already in use. Name another" in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert site.run("watch", "--metrics-listen", "nine").code == 2
