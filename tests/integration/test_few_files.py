"""What a run with a few files to ship loads: a timer starts one each minute, and most of its time is imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.servers.fault_server import FaultServer

FILES = 6
MOST_MODULES = 145
"""Each module costs such a run about a six-hundredth of its time."""
NOT_NEEDED = {
    *("run.division", "run.workers", "run.worker_pipe", "core.shares", "core.processors", "core.findings"),
    *("stores.s3.multipart", "stores.s3.parts", "stores.s3.check", "stores.s3.engines.boto3", "stores.keys"),
    *("stores.s3.engines.throttle", "stores.local", "stores.file_servers", "stores.wrappers.compressing"),
    *("health.notices", "health.diagnosis", "inspection", "deployment", "remote_store"),
}
NOT_NEEDED_OF_PYTHON = {"random", "secrets", "subprocess", "tempfile", "json", "http.client", "email", "botocore"}
PROGRAM = """\
import sys
from s3_uploader.cli import main
code = main([sys.argv[1]])
print(code, *sys.modules)
"""


def test_a_few_small_files_load_nothing_that_only_many_or_large_ones_need(
    tmp_path: Path, fault_server: FaultServer
) -> None:
    """A run of six small files has neither worker processes nor uploads in parts, and imports nothing for them."""
    spool = tmp_path / "spool"
    spool.mkdir()
    for number in range(FILES):
        path = spool / f"{number}.dat"
        path.write_bytes(b"small")
        os.utime(path, (1_600_000_000, 1_600_000_000))
    settings = {
        "base_dir": str(spool),
        "bucket": fault_server.endpoint.bucket,
        "layout": "tree",
        "state_dir": str(tmp_path / "state"),
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **fault_server.environment()}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "config.json")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    code, *loaded = done.stdout.split()
    assert code == "0", done.stderr
    assert len(fault_server.objects()) == FILES
    assert not ({f"s3_uploader.{name}" for name in NOT_NEEDED} | NOT_NEEDED_OF_PYTHON) & set(loaded)
    ours = [name for name in loaded if name.startswith("s3_uploader")]
    assert len(ours) <= MOST_MODULES, sorted(ours)
