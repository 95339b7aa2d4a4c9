"""The servers, and a station for S3 uploads."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND
from tests.integration.s3_support import ENGINES, Station
from tests.servers.fixtures import *  # noqa: F403


@pytest.fixture
def station() -> Iterator[Station]:
    """Stores and uploads that are cleaned up when the test ends."""
    with Station() as one:
        yield one


@pytest.fixture
def place_for_all() -> Iterator[Path]:
    """A directory that other users reach. pytest closes its own to them whenever another run of it begins."""
    place = Path(tempfile.mkdtemp(prefix="s3u-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def installed_command() -> None:
    """Refuse to test anything but an installed command."""
    assert COMMAND.exists(), f"{COMMAND} is missing: pip install -e '.[test]' with the interpreter that runs the tests"


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    assert isinstance(request.param, str)
    return request.param
