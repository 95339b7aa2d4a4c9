"""The servers, and machines on which the command is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, ENGINES, Site
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


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    name = request.param
    assert isinstance(name, str)
    return name
