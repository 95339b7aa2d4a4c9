"""What holds for every test: no AWS settings, no network for unit tests, which of the tests are run and where."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.sampling import ALWAYS_ROTATED, Case, sample

# How long one example takes says more about the machine than about the program.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")

# Whoever starts the tests with nohup, or a shell that starts them in the background, means the tests: a program that
# they start would keep to that and ignore the signal by which they tell it to reload, or to stop.
for _number, _action in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(_number) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(_number, _action)

UNIT_TESTS = Path(__file__).parent / "unit"

EXHAUSTIVE = "--exhaustive"

_TRIED = "tried: "

_FOREIGN_SETTINGS = ("AWS_", "BOTO_", "S3_UPLOADER_", "XDG_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that turns the quick suite into the long one."""
    parser.addoption(EXHAUSTIVE, action="store_true", help="run every combination of parameters, with the long budgets")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Draw the sample, after -k and -m have chosen; a test that is named on the command line is left as it is."""
    if config.getoption(EXHAUSTIVE) or any("::" in argument for argument in config.args):
        return
    ordinals: dict[tuple[str, str], list[int]] = {}
    kept = sample(_case(item, ordinals) for item in items)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def _case(item: pytest.Item, ordinals: dict[tuple[str, str], list[int]]) -> Case:
    called_with = getattr(item, "callspec", None)
    test = item.nodeid.partition("[")[0]
    values = {}
    for name, value in called_with.params.items() if called_with is not None else ():
        # All runs of one test are called with the same objects; pytest's own indices count runs, not values.
        known = ordinals.setdefault((test, name), [])
        if id(value) not in known:
            known.append(id(value))
        values[name] = known.index(id(value))
    return Case(
        name=item.nodeid,
        test=test,
        file=item.nodeid.partition("::")[0],
        values=values,
        rotated=ALWAYS_ROTATED.union(*(mark.args for mark in item.iter_markers("rotated"))),
        only_exhaustive=item.get_closest_marker("exhaustive") is not None,
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let the tests of a file stay together, unless they are shards."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.distribution import ByFile

    return ByFile(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much the tests of chance tried, all shards together: a test that passes shows nothing else."""
    sums: Counter[str] = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        # What a test records before its end stands in the report of its end too.
        if isinstance(report, pytest.TestReport) and report.when == "call":
            sums.update({name: count for name, count in report.user_properties if name.startswith(_TRIED)})
    if sums:
        terminalreporter.section("tried")
        for name, count in sorted(sums.items()):
            terminalreporter.line(f"{name.removeprefix(_TRIED)}: {count:,}")


@pytest.fixture(scope="session")
def exhaustive(pytestconfig: pytest.Config) -> bool:
    """Whether this is the long suite."""
    return bool(pytestconfig.getoption(EXHAUSTIVE))


@pytest.fixture(scope="session")
def effort(exhaustive: bool) -> Callable[[int, int], int]:
    """Give the budget of a test of chance: the first number in the quick suite, the second in the long one."""
    return lambda quick, long: long if exhaustive else quick


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Count what a test of chance tried, under a name; the summary shows the sum over all tests."""
    return lambda what, count: record_property(_TRIED + what, count)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take away what the machine says about AWS, proxies and state directories, for the test and what it starts."""
    for name in list(os.environ):
        foreign = name.startswith(_FOREIGN_SETTINGS) or name.lower() in _PROXIES or name == "STATE_DIRECTORY"
        if foreign:
            monkeypatch.delenv(name)
    nowhere = tmp_path_factory.getbasetemp() / "no-aws-configuration-here"
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{nowhere}/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{nowhere}/credentials")
    # Without this a test that forgot its credentials waits for a service that only virtual machines have.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # The state directory's default lies below the home directory; a test that forgets to name one finds this.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage out of what the test starts, where its imports, its files or its time would show."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


class _LocalSocket(socket.socket):
    """A socket that refuses to be one of the internet; pairs and Unix sockets stay on this machine."""

    def __init__(self, family: int = -1, *arguments: Any, **options: Any) -> None:
        if family in (-1, socket.AF_INET, socket.AF_INET6) and options.get("fileno") is None:
            pytest.fail("a unit test opened a network socket; it belongs into tests/integration")
        super().__init__(family, *arguments, **options)


@pytest.fixture(autouse=True)
def no_network_in_unit_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a unit test fail that opens a network socket or asks for an address."""
    if UNIT_TESTS not in request.path.parents:
        return

    def refuse(*arguments: Any, **options: Any) -> Any:
        pytest.fail("a unit test looked up a host; it belongs into tests/integration")

    monkeypatch.setattr(socket, "socket", _LocalSocket)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
