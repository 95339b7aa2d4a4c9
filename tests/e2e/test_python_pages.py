"""The pages for Python programs: what is printed there runs as it is printed, and its types are right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.base import S3Endpoint
from tests.servers.fault_server import FaultServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("reference/python", "how-to/testing")
BUCKET = "my-bucket"


def programs(page: str) -> list[str]:
    """The programs that a page prints, in its order."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Endpoint]:
    """A server with the bucket of the pages."""
    with FaultServer(small_buffers=False) as running:
        running.client().create_bucket(Bucket=BUCKET)
        yield running.endpoint


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the files that the pages name."""
    (tmp_path / "example").write_bytes(b"example")
    spool = tmp_path / "spool"
    spool.mkdir()
    (tmp_path / "config.json").write_text(f'{{"base_dir": "{spool}", "bucket": "{BUCKET}", "settle_seconds": 0}}')
    return tmp_path


def environment(place: Path, server: S3Endpoint) -> dict[str, str]:
    """What the programs need to find the server."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(place),
        "XDG_STATE_HOME": str(place / "state"),
        "AWS_EC2_METADATA_DISABLED": "true",
        **server.environment(),
    }


@pytest.mark.parametrize("number", range(len(programs("reference/python"))))
def test_programs_run_as_printed(place: Path, server: S3Endpoint, number: int) -> None:
    """Each program of the reference ends without an error, given the files and the bucket that it names."""
    program = programs("reference/python")[number]
    # What a page leaves to the reader's own program, and whose spool it is.
    program = program.replace("\n...\n", "\n").replace("/var/spool/sensors", str(place / "spool"))
    (place / "program.py").write_text(program)
    finished = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=place,
        env=environment(place, server),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_tests_run_as_printed(place: Path, server: S3Endpoint) -> None:
    """The tests that the page on testing prints pass."""
    for number, program in enumerate(programs("how-to/testing")):
        (place / f"test_{number}.py").write_text(program)
    variables = {name: value for name, value in environment(place, server).items() if not name.startswith("AWS_")}
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(place)],
        cwd=place,
        env={**variables, "AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stdout
    assert f"{len(programs('how-to/testing'))} passed" in finished.stdout


@pytest.mark.exhaustive  # unit/project/test_typed.py promises the same of what can be seen without a type checker
def test_programs_have_the_right_types(tmp_path: Path) -> None:
    """A type checker at its strictest has nothing to say about any of them: the package brings its types along."""
    for page in PAGES:
        for number, program in enumerate(programs(page)):
            (tmp_path / f"{Path(page).name}_{number}.py").write_text(program)
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert finished.returncode == 0, finished.stdout
