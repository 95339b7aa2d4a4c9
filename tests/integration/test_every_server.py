"""Every server that can be installed: the promises hold there, and it does what the documentation says of it.

The quick suite has the S3 servers that come with the project's own environment, through the program's own engine; that
the other one does the same there is what test_contract_s3.py tries. The exhaustive suite has all servers that
``python -m tests.servers install all`` has installed, in every way. ``python -m tests.survey`` records anew what is
observed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.base import Server
from tests.servers.debian import Unavailable
from tests.servers.shared import SHARED
from tests.survey import record
from tests.survey.names import odd_names
from tests.survey.observation import Names, Observation
from tests.survey.observe import POLICIES, Survey
from tests.survey.servers import ALWAYS_THERE, NAMES, started, survey_of, version_of, ways_of

pytestmark = [pytest.mark.slow, pytest.mark.rotated("case"), pytest.mark.timeout(600)]

KILLS = (3, 12)
"""In the quick suite, and in the long one."""

CASES = [(name, way) for name in NAMES for way in ways_of(name)]
QUICK = [(name, "native") for name in ALWAYS_THERE]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(case, marks=() if case in QUICK else pytest.mark.exhaustive, id="@".join(case)) for case in CASES
    ],
)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A server, and the engine or protocol through which it is seen."""
    name, way = request.param
    return name, way


@pytest.fixture(scope="module")
def server(case: tuple[str, str], shared_server: Callable[[str], Server]) -> Iterator[Server]:
    """The server, running; one that is not installed is skipped in sight, in CI too."""
    if case[0] in SHARED:
        try:
            yield shared_server(case[0])
        except Unavailable as missing:
            pytest.skip(str(missing))
        return
    server = started(case[0])
    try:
        server.start()
    except Unavailable as missing:
        pytest.skip(str(missing))
    yield server
    server.stop()


@pytest.fixture
def survey(server: Server, case: tuple[str, str], tmp_path: Path, installed_command: None) -> Survey:
    """The installed command, before a server."""
    name, way = case
    return survey_of(name, server, way, tmp_path)


AsRecorded = Callable[[Callable[[Observation], object], object], None]


@pytest.fixture
def as_recorded(server: Server, case: tuple[str, str]) -> AsRecorded:
    """Hold what was seen against what the documentation says; of another version it says nothing."""
    name, way = case
    known = record.read()[name]

    def hold(part: Callable[[Observation], object], seen: object) -> None:
        if known.version == version_of(name):
            assert seen == part(known.engines[way])

    return hold


def test_check(survey: Survey, as_recorded: AsRecorded) -> None:
    """`check` says what the documentation shows, and leaves nothing behind."""
    as_recorded(lambda known: (known.ready, known.check), survey.check())


def test_odd_names(survey: Survey, as_recorded: AsRecorded) -> None:
    """Each of three hundred odd names is stored with its own bytes, or its file is kept; plain ones always go."""
    names = survey.names()
    print(names)
    of_two = {kind for kind, refused in names.refused.items() if " exists already, " in refused.said}
    as_recorded(lambda known: taken(known.names, of_two), taken(names, of_two))


def taken(names: Names, of_two: set[str]) -> dict[str, tuple[int, int]]:
    """By kind: how many were stored, and refused. How long rclone knows a name that it changes depends on the load.

    :param of_two: the kinds in which the order of arrival decides which of two similar names is refused, if any.
    """
    numbers = {kind: (stored + renamed, refused) for kind, (stored, renamed, refused) in names.numbers.items()}
    return {kind: (sum(each), 0) if kind in of_two else each for kind, each in numbers.items()}


def test_sizes(survey: Survey, as_recorded: AsRecorded) -> None:
    """Files of every size around the borders arrive, byte for byte, and the audit finds them as they were shipped."""
    as_recorded(lambda known: known.sizes.proofs, survey.sizes().proofs)


def test_second_files(survey: Survey, as_recorded: AsRecorded, exhaustive: bool) -> None:
    """A second file of the same content is recognised, one of other content is treated as `on_conflict` says."""
    policies = POLICIES if exhaustive else POLICIES[-1:]
    seen = survey.second_files(policies)
    as_recorded(lambda known: {policy: known.second[policy] for policy in policies}, seen)


@pytest.mark.exhaustive
def test_compressed(survey: Survey, as_recorded: AsRecorded) -> None:
    """What is shipped compressed is there compressed, and the audit knows it."""
    as_recorded(lambda known: known.compressed, survey.compressed())


def test_killed(survey: Survey, exhaustive: bool) -> None:
    """After SIGKILL in the middle of it each file is here or there, and the next run finishes the work."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    survey.killed(kills=KILLS[exhaustive], chance=random.Random(seed))


def test_three_hundred_names() -> None:
    """The odd names are at least three hundred, of every kind, and no two are the same."""
    names = [name for each in odd_names().values() for name in each]
    assert len(names) == len(set(names)) >= 300
    assert max(len(name.encode()) for name in names) == 1024


def test_the_record_is_whole() -> None:
    """Every server of the survey is in the record, through each engine, with every part, and none other."""
    known = record.read()
    assert set(known) == set(NAMES)
    assert {(name, way) for name, each in known.items() for way in each.engines} == set(CASES)
    assert all(seen.killed for each in known.values() for seen in each.engines.values())
