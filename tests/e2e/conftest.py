"""The servers, and machines on which the command is installed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, ENGINES, Site
from tests.e2e.told import FORMS
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import *  # noqa: F403


@pytest.fixture(scope="session", autouse=True)
def installed_command() -> None:
    """Refuse to test anything but an installed command."""
    assert COMMAND.exists(), f"{COMMAND} is missing: pip install -e '.[test]' with the interpreter that runs the tests"


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[], Site]]:
    """Further sites, each in a directory of its own."""
    made: list[Site] = []

    def make() -> Site:
        place = tmp_path / f"site-{len(made)}"
        place.mkdir()
        made.append(Site(place))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def site(make_site: Callable[[], Site]) -> Site:
    """A spool with a configuration that names no destination yet."""
    return make_site()


@pytest.fixture
def chance() -> random.Random:
    """Chance, with its seed where a failure shows it; ``UPLOADER_TEST_SEED`` repeats it."""
    seed = int(os.environ.get("UPLOADER_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"UPLOADER_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    name = request.param
    assert isinstance(name, str)
    return name


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Each form of status beside that for programs."""
    return str(request.param)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, gone after the test."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount anything here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def watched(site: Site, fault_server: FaultServer) -> Site:
    """A spool that goes to the fault server."""
    site.ship_to(fault_server)
    return site
