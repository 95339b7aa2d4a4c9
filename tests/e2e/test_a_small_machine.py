"""Machines that refuse descriptors and threads: slower, or an error at once, and never a file that is blamed for it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.e2e.site import Site
from tests.servers.fault_server import FaultServer

NO_THREADS = """
import threading

def start(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = start
"""


def test_few_descriptors_are_fewer_files_at_once(site: Site, fault_server: FaultServer, engine: str) -> None:
    """With a hard limit of open files far below what a run would like everything is shipped all the same."""
    site.ship_to(fault_server, engine=engine)
    site.files(300)
    finished = site.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)))
    assert finished.code == 0
    assert site.left() == {}
    assert finished.sentences("WARNING") == []


@pytest.mark.parametrize("kind", ["native", "boto3", "local"])
def test_no_threads_are_an_error_at_once(site: Site, fault_server: FaultServer, tmp_path: Path, kind: str) -> None:
    """Where no thread can be started the run ends soon, with one sentence and the files in their places."""
    place = tmp_path / "no-threads"
    place.mkdir()
    (place / "sitecustomize.py").write_text(NO_THREADS)
    if kind == "local":
        site.ship_to_directory()
    else:
        site.ship_to(fault_server, engine=kind)
    site.files(20)
    # An upload that waited for a thread would be given its deadline, ten minutes.
    finished = site.run(timeout=60, environment={"PYTHONPATH": str(place)})
    assert finished.code == 3
    assert any(
        "No thread can be started" in sentence or "no room" in sentence for sentence in finished.sentences("ERROR")
    )
    assert "Traceback" not in finished.stderr
    assert len(site.left()) == 20
