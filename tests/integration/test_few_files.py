"""What a run with few files to ship loads and runs: a timer starts one each minute, and most of its time is imports."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.fault_server import FaultServer

FILES = 6
MOST_LOADED = 98
"""Each module costs such a run about a six-hundredth of its time."""
MOST_RUN = 49
"""Modules of the package whose functions run for a single file, those of the command line included."""
MOST_FRAMES = 22
"""Frames of the package at the deepest send to the server."""
NOT_NEEDED = {
    *("run.division", "run.workers", "run.worker_pipe", "core.shares", "core.processors", "core.findings"),
    *("stores.s3.multipart", "stores.s3.parts", "stores.s3.check", "stores.s3.engines.boto3", "stores.keys"),
    *("stores.s3.names", "stores.s3.folding", "stores.s3.aws_settings", "stores.s3.helpers"),
    *("stores.s3.engines.throttle", "stores.local", "stores.file_servers", "stores.wrappers.compressing"),
    *("health.notices", "health.diagnosis", "inspection", "deployment", "remote_store"),
    *("ledger.history", "spool.move_target"),
}
NOT_NEEDED_OF_PYTHON = {
    *("random", "secrets", "subprocess", "tempfile", "json", "http.client", "email", "botocore"),
    *("platform", "typing_extensions", "textwrap", "traceback", "ssl", "base64", "weakref"),
    *("msgspec.inspect", "msgspec._json_schema", "concurrent.futures"),
}
"""Of these ``traceback`` comes with ``logging``, and ``ssl`` with an endpoint that has TLS."""
NOT_NEEDED_FOR_NOTHING = {"threading", "heapq", "socket", "s3_uploader.stores", "s3_uploader.ledger.rows"}
LOADED = """\
import sys
from s3_uploader.cli import main
code = main()
print(code, *sys.modules)
"""
RUN = """\
import os, sys, threading
import s3_uploader
package = os.path.dirname(s3_uploader.__file__) + os.sep
is_function = 2  # CO_NEWLOCALS: neither a module nor the body of a class
modules, frames = set(), 0

def count(frame, event, argument):
    global frames
    code = frame.f_code
    if not code.co_filename.startswith(package):
        return
    if event == "call" and code.co_flags & is_function:
        modules.add(code.co_filename.removeprefix(package))
    elif event == "c_call" and argument.__name__ in ("send", "sendall", "sendmsg"):
        depth = 0
        while frame is not None:
            depth += frame.f_code.co_filename.startswith(package)
            frame = frame.f_back
        frames = max(frames, depth)

from s3_uploader.cli import main
threading.setprofile(count)
sys.setprofile(count)
code = main([sys.argv[1]])
sys.setprofile(None)
print(code, frames, *modules)
"""


def printed_by_a_run(program: str, place: Path, server: FaultServer, *, files: int) -> list[str]:
    """The words that a program prints, which ships so many small files."""
    spool = place / "spool"
    spool.mkdir()
    for number in range(files):
        path = spool / f"{number}.dat"
        path.write_bytes(b"small")
        os.utime(path, (1_600_000_000, 1_600_000_000))
    settings = {
        "base_dir": str(spool),
        "bucket": server.endpoint.bucket,
        "layout": "tree",
        "state_dir": str(place / "state"),
    }
    (place / "config.json").write_text(json.dumps(settings))
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), **server.environment()}
    done = subprocess.run(
        [sys.executable, "-c", program, str(place / "config.json")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    code, *words = done.stdout.split()
    assert code == "0", done.stderr
    assert len(server.objects()) == files
    return words


def test_a_few_small_files_load_nothing_that_only_many_or_large_ones_need(
    tmp_path: Path, fault_server: FaultServer
) -> None:
    """A run of six small files has neither worker processes nor uploads in parts, and imports nothing for them."""
    loaded = printed_by_a_run(LOADED, tmp_path, fault_server, files=FILES)
    assert importlib.util.find_spec("typing_extensions"), "else it could not be loaded"
    assert not ({f"s3_uploader.{name}" for name in NOT_NEEDED} | NOT_NEEDED_OF_PYTHON) & set(loaded)
    ours = [name for name in loaded if name.startswith("s3_uploader")]
    assert len(ours) <= MOST_LOADED, sorted(ours)


def test_a_run_with_nothing_to_do_loads_neither_threads_nor_a_store(tmp_path: Path, fault_server: FaultServer) -> None:
    """The most frequent run of all imports nothing for files that may come."""
    loaded = printed_by_a_run(LOADED, tmp_path, fault_server, files=0)
    assert not (NOT_NEEDED_FOR_NOTHING | NOT_NEEDED_OF_PYTHON) & set(loaded)


@pytest.mark.usefixtures("unmeasured")
def test_a_small_file_takes_a_short_way(tmp_path: Path, fault_server: FaultServer) -> None:
    """Nobody adds a module or a frame to the way of a file without seeing it."""
    frames, *modules = printed_by_a_run(RUN, tmp_path, fault_server, files=1)
    assert "run/settlement.py" in modules
    assert len(modules) <= MOST_RUN, sorted(modules)
    assert 0 < int(frames) <= MOST_FRAMES
