"""Machines that refuse descriptors, threads or room: slower, or an error, and never a file that is blamed for it."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
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


def many_directories(site: Site) -> None:
    """Write 300 files, each in a directory of its own."""
    for number in range(300):
        site.file(f"bedroom/2020/11/{number % 30 + 1:02}/{number // 30:02}/46-topic.dat")


def test_few_descriptors_are_enough_for_claims(site: Site, fault_server: FaultServer, tmp_path: Path) -> None:
    """A run that claims its files has two trees open, and ships everything with few descriptors, too."""
    site.ship_to(fault_server, claim_dir=str(tmp_path / "claims"))
    many_directories(site)
    finished = site.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)))
    assert finished.code == 0
    assert site.left() == {}
    assert finished.sentences("WARNING") == []


def test_few_descriptors_are_enough_to_compress(site: Site, fault_server: FaultServer) -> None:
    """The compressed bytes of each upload in flight have a descriptor, too."""
    site.ship_to(fault_server, compress="gzip")
    fault_server.latency_seconds = 0.1
    many_directories(site)
    finished = site.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90)))
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


MEGABYTE = 1 << 20


def limited(size: int) -> Callable[[], None]:
    """What lets a process have so much address space and no more."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))


@pytest.fixture(scope="module")
def least() -> int:
    """An address space in which the command line itself can be loaded, and hardly more."""
    program = "import re, sys; sys.argv = ['', '--none']; import s3_uploader.cli"  # as the start script does
    for size in range(10 * MEGABYTE, 200 * MEGABYTE, MEGABYTE):
        command = [sys.executable, "-c", program]
        if subprocess.run(command, check=False, capture_output=True, preexec_fn=limited(size)).returncode == 0:
            return size + MEGABYTE
    raise AssertionError("it cannot be loaded at all")


@pytest.mark.parametrize("arguments", [(), ("status",), ("status", "--plugin")])
def test_no_memory_for_the_command_itself(site: Site, least: int, arguments: tuple[str, ...]) -> None:
    """Where a command cannot be loaded, for want of memory, a sentence says so, and nothing happens."""
    site.ship_to_directory()
    site.files(3)
    finished = site.run(*arguments, preexec_fn=limited(least))
    assert "Traceback" not in finished.stderr
    is_plugin = "--plugin" in arguments
    assert finished.code == (3 if is_plugin else 1)
    assert "The system has no memory left." in (finished.stdout if is_plugin else finished.stderr)
    assert finished.stdout.startswith("S3_UPLOADER UNKNOWN - ") == is_plugin
    assert len(site.left()) == 3


NO_LIBRARY = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "s3_uploader.stores.local.store":
            raise ImportError("libcrypto.so.3: failed to map segment from shared object")

sys.meta_path.insert(0, Finder())
"""


def test_no_memory_for_the_store(site: Site, tmp_path: Path) -> None:
    """A run that finds no memory for its store has an end of its own, which the ledger knows."""
    place = tmp_path / "no-library"
    place.mkdir()
    (place / "sitecustomize.py").write_text(NO_LIBRARY)
    site.ship_to_directory()
    site.files(3)
    finished = site.run(environment={"PYTHONPATH": str(place)})
    assert finished.code == 3
    (sentence,) = finished.sentences("ERROR")
    assert "There is no memory left for the libraries that send files to the destination." in sentence
    assert len(site.left()) == 3
    (problem,) = site.status()["problems"]
    assert problem["cause"] == "destination"


PROGRAM = Path(__file__).parents[2] / "s3_uploader"


@pytest.fixture
def installed(site: Site) -> Path:
    """A copy of the program, not compiled, that the site's Python finds before the installed one."""
    place = site.place / "installed"
    shutil.copytree(PROGRAM, place / PROGRAM.name, ignore=shutil.ignore_patterns("__pycache__"))
    site.environment["PYTHONPATH"] = str(place)
    site.ship_to_directory()
    site.files(3)
    return place


@pytest.mark.parametrize("module", ["run/assembly", "cli/run"])
def test_a_compiled_module_without_its_end(site: Site, installed: Path, module: str) -> None:
    """What a full disk has left of a compiled module is named and removed, and the next start works."""
    assert site.run("status").code == site.run("run", "--dry-run").code == 0
    assert site.run().code == 0
    (site.spool / "bedroom").mkdir(exist_ok=True)
    path = installed / PROGRAM.name / module
    (compiled,) = path.parent.glob(f"__pycache__/{path.name}.*.pyc")
    whole = compiled.read_bytes()
    for arguments in ((), ("run",)):
        site.files(3)
        compiled.write_bytes(whole[: len(whole) // 2])
        finished = site.run(*arguments)
        assert finished.code == 1
        assert finished.stderr.strip() == (
            f"The compiled module {compiled} is cut off; perhaps a disk was full when Python wrote it. "
            "It has been removed. Start the command again."
        )
        assert len(site.left()) == 3
        assert site.run(*arguments).code == 0
        assert site.left() == {}


def test_where_files_are_limited_no_module_is_cut_off(site: Site, installed: Path) -> None:
    """A limit of the size of files leaves no compiled module behind that a later start could not load."""
    site.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert len(site.left()) == 3
    for _ in range(2):
        assert site.run().code == 0
        assert site.left() == {}
        site.files(3)


NO_DESCRIPTOR_TO_IMPORT = """
import errno, os, sys

class NoDescriptor:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "s3_uploader.stores.keys":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

sys.meta_path.insert(0, NoDescriptor)
"""


def test_a_module_that_cannot_be_opened_is_no_bug(site: Site, fault_server: FaultServer, tmp_path: Path) -> None:
    """What an upload imports late, and finds no descriptor for, waits for the next run, which tries it at once."""
    place = tmp_path / "no-descriptor"
    place.mkdir()
    (place / "sitecustomize.py").write_text(NO_DESCRIPTOR_TO_IMPORT)
    site.ship_to(fault_server, on_conflict="keep-both")
    first = site.files(300)[0]  # so many that others follow it: they show that the destination works
    fault_server.put(str(first.relative_to(site.spool)), b"other content")
    finished = site.run(environment={"PYTHONPATH": str(place)})
    assert finished.code == 1
    (sentence,) = finished.sentences("WARNING")
    assert "too many open files, by this program or on this machine" in sentence
    assert "ulimit -n" in sentence
    assert set(site.left()) == {str(first.relative_to(site.spool))}
    assert site.status()["failing"] == []
    assert site.run().code == 0
    assert site.left() == {}
