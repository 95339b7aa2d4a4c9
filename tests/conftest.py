"""What holds for every test: no AWS settings, no network for unit tests, which of the tests are run and where."""

from __future__ import annotations

import functools
import gc
import os
import signal
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.outcomes import note_outcome
from tests.sampling import ALWAYS_ROTATED, COSTLY, Case, sample, unsampled
from tests.servers.base import S3Server
from tests.servers.shared import SharedServers, ask

# How long one example takes says more about the machine than about the program.
settings.register_profile("quick", deadline=None, print_blob=True, max_examples=40)
settings.register_profile("long", deadline=None, print_blob=True, max_examples=250)
settings.load_profile("quick")

# Whoever starts the tests with nohup, or a shell that starts them in the background, means the tests: a program that
# they start would keep to that and ignore the signal by which they tell it to reload, or to stop.
for _number, _action in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(_number) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(_number, _action)

UNIT_TESTS = Path(__file__).parent / "unit"

EXHAUSTIVE = "--exhaustive"
UNSAMPLED = "--unsampled"

_TRIED = "tried: "

_SHARED = pytest.StashKey[SharedServers]()

_FOREIGN_SETTINGS = ("AWS_", "BOTO_", "S3_UPLOADER_", "XDG_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that turn the quick suite into the long one, or into what the long one has beside it."""
    parser.addoption(EXHAUSTIVE, action="store_true", help="run every combination of parameters, with the long budgets")
    parser.addoption(
        UNSAMPLED, action="store_true", help="run what the quick suite leaves out: the rest of --exhaustive after it"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests with generated values their budget, before they are read, and the run its shared servers."""
    if config.getoption(EXHAUSTIVE) or config.getoption(UNSAMPLED):
        settings.load_profile("long")
    if not hasattr(config, "workerinput"):
        config.stash[_SHARED] = SharedServers()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of the run where to ask for the shared servers."""
    node.workerinput["shared_servers"] = node.config.stash[_SHARED].address()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the shared servers."""
    if _SHARED in config.stash:
        config.stash[_SHARED].stop()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Spare the collector of garbage what lives as long as the process: all tests, and the modules they are in.

    Among what is read there is next to no garbage, and looking for it takes a quarter of the time.
    """
    gc.disable()
    try:
        _share_the_reading(session)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _share_the_reading(session: pytest.Session) -> None:
    """Let the processes of one run share the work of reading the tests of a directory."""
    process = getattr(session.config, "workerinput", None)
    if process is None:
        return
    from tests.distribution import read_apart

    places = (Path(argument) for argument in session.config.args)
    files = {file.resolve() for place in places if place.is_dir() for file in place.rglob("test_*.py")}
    read_apart(files, session.config.rootpath, int(process["workerid"].removeprefix("gw")), process["workercount"])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Draw the sample, after -k and -m have chosen; a test that is named on the command line is left as it is."""
    if config.getoption(EXHAUSTIVE) or any("::" in argument for argument in config.args):
        return
    ordinals: dict[tuple[str, str], list[int]] = {}
    draw = unsampled if config.getoption(UNSAMPLED) else sample
    kept = draw(_case(item, ordinals) for item in items)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def _case(item: pytest.Item, ordinals: dict[tuple[str, str], list[int]]) -> Case:
    called_with = getattr(item, "callspec", None)
    test = item.nodeid.partition("[")[0]
    values = {}
    costly = set()
    for name, value in called_with.params.items() if called_with is not None else ():
        # All runs of one test are called with the same objects; pytest's own indices count runs, not values.
        known = ordinals.setdefault((test, name), [])
        if id(value) not in known:
            known.append(id(value))
        values[name] = known.index(id(value))
        if value == COSTLY or (isinstance(value, tuple) and COSTLY in value):
            costly.add(name)
    return Case(
        name=item.nodeid,
        test=test,
        file=item.nodeid.partition("::")[0],
        values=values,
        costly=frozenset(costly),
        rotated=ALWAYS_ROTATED.union(*(mark.args for mark in item.iter_markers("rotated"))),
        only_exhaustive=item.get_closest_marker("exhaustive") is not None,
        has_two_budgets=_has_two_budgets(item),
    )


def _has_two_budgets(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and (
        not {"effort", "exhaustive"}.isdisjoint(item.fixturenames)
        or getattr(item.obj, "is_hypothesis_test", False)  # also of a state machine, unlike the attribute `hypothesis`
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let the tests of a file stay together, unless they are shards."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.distribution import ByFile

    return ByFile(config, log)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """Remember what a test came to."""
    note_outcome(item, call)


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
def shared_server(pytestconfig: pytest.Config) -> Callable[[str], S3Server]:
    """A function: name -> a server that runs, of those that all processes of the run share."""
    process = getattr(pytestconfig, "workerinput", None)
    if process is None:
        return pytestconfig.stash[_SHARED].get
    return functools.cache(functools.partial(ask, process["shared_servers"]))


@pytest.fixture(scope="session")
def exhaustive(pytestconfig: pytest.Config) -> bool:
    """Whether the budgets are those of the long suite."""
    return bool(pytestconfig.getoption(EXHAUSTIVE) or pytestconfig.getoption(UNSAMPLED))


@pytest.fixture(scope="session")
def effort(exhaustive: bool) -> Callable[[int, int], int]:
    """Give the budget of a test of chance: the first number in the quick suite, the second in the long one."""
    return lambda quick, long: long if exhaustive else quick


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Count what a test of chance tried, under a name; the summary shows the sum over all tests."""
    return lambda what, count: record_property(_TRIED + what, count)


@pytest.fixture(scope="session", autouse=True)
def models_of_aws_are_read_once() -> Iterator[None]:
    """Let the clients of this process share what botocore reads from its own files: 0.1 s of processor for each."""
    from botocore.loaders import Loader

    caches: defaultdict[tuple[str, ...], dict[Any, Any]] = defaultdict(dict)
    initialise = Loader.__init__

    def share(loader: Any, *arguments: Any, **options: Any) -> None:
        initialise(loader, *arguments, **options)
        loader._cache = caches[tuple(loader.search_paths)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loader, "__init__", share)
        yield


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
