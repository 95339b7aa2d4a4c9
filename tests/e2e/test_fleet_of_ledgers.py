"""``report`` and ``audit`` over the ledgers of many uploaders that were copied to one place, without configurations."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, Finished, Site
from tests.servers.fault_server import FaultServer

FILES = {"berlin": 3, "oslo": 2, "quito": 4}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    """The server to which all of them ship."""
    with FaultServer() as running:
        yield running


@pytest.fixture(scope="module")
def uploaders(tmp_path_factory: pytest.TempPathFactory, server: FaultServer) -> Path:
    """Three uploaders with one bucket, one of them with two shares; their state directories in one place."""
    place = tmp_path_factory.mktemp("uploaders")
    for name, count in FILES.items():
        other = Site(tmp_path_factory.mktemp(name))
        other.ship_to(server, state_dir=str(other.place / "state"))
        for number in range(count):
            other.file(f"{name}/2020/11/29/20/{number:02}-topic.dat")
        shares = [("--share", f"{each}/2") for each in range(2)] if name == "oslo" else [()]
        for share in shares:
            assert other.run("run", *share).code == 0
        shutil.copytree(other.place / "state", place / name)
    return place


@pytest.fixture
def collected(site: Site, uploaders: Path, server: FaultServer) -> Path:
    """A copy of the state directories of all of them, and a site with their destination."""
    site.ship_to(server)
    return Path(shutil.copytree(uploaders, site.place / "ledgers"))


def call(site: Site, command: str, place: Path, *arguments: str) -> Finished:
    """A command about the ledgers, with no configuration."""
    return site.start(command=[str(COMMAND), command, "--ledgers", str(place), *arguments]).wait()


def test_one_report_of_all(site: Site, collected: Path) -> None:
    """The numbers of all are added up, and each uploader is named with its own; the page shows both."""
    told = json.loads(call(site, "report", collected, "--json").stdout)
    assert told["summary"]["files"] == 9
    assert told["base_dir"] == "3 uploaders"
    each = {one["name"].split("/")[0]: one["files"] for one in told["instances"]}
    assert each == FILES
    page = call(site, "report", collected, "-o", "-").stdout
    assert 'data-table="instances"' in page
    assert all(name in page for name in FILES)
    alone = json.loads(call(site, "report", collected / "oslo", "--json").stdout)
    assert alone["summary"]["files"] == 2


def test_one_audit_of_all(site: Site, collected: Path, server: FaultServer) -> None:
    """The destination comes from a configuration or from --set; each uploader has its line, and all have one total."""
    site.write_config()
    fine = call(site, "audit", collected, str(site.config_file))
    assert fine.code == 0, fine.stderr
    *lines, summary = fine.stdout.splitlines()
    assert summary.startswith("Nothing is missing or different. 9 files audited at ")
    assert [line.split("/")[0] for line in lines] == sorted(FILES)
    assert all(line.endswith(", nothing missing or different") for line in lines)

    stored = server.store.buckets[server.bucket]
    gone = stored.pop("quito/2020/11/29/20/01-topic.dat")
    settings = [f"--set={key}={value}" for key, value in site.settings.items() if key in ("bucket", "endpoint_url")]
    found = call(site, "audit", collected, *settings, "--json")
    assert found.code == 1, found.stderr
    missing, total = map(json.loads, found.stdout.splitlines())
    assert (missing["kind"], missing["instance"].split("/")[0]) == ("missing", "quito")
    assert {one["name"].split("/")[0]: (one["keys"], one["problems"]) for one in total["instances"]} == {
        "berlin": (3, 0),
        "oslo": (2, 0),
        "quito": (4, 1),
    }
    assert "quito" in call(site, "audit", collected, *settings).stdout.splitlines()[0]
    stored["quito/2020/11/29/20/01-topic.dat"] = gone


def test_what_is_missing_on_the_command_line(site: Site, collected: Path) -> None:
    """Without a destination, without a ledger, or with the spool of a configuration there is a sentence."""
    nowhere = call(site, "audit", collected)
    assert nowhere.code == 2
    assert "bucket" in nowhere.stderr
    (site.place / "empty").mkdir()
    empty = call(site, "report", site.place / "empty", "--json")
    assert empty.code == 2
    assert "is not a ledger and contains none" in json.loads(empty.stdout)["message"]
    spool = call(site, "audit", collected, "--spool", "--set", "bucket=b")
    assert (spool.code, "--spool and --ledgers contradict each other." in spool.stderr) == (2, True)
    for command in ("report", "audit"):
        neither = site.start(command=[str(COMMAND), command]).wait()
        assert (neither.code, "Missing argument 'CONFIG_FILE', or --ledgers." in neither.stderr) == (2, True)


def test_a_copy_that_cannot_be_read(site: Site, collected: Path) -> None:
    """The others are audited and reported; the copy is named, and the exit code tells that it is not all."""
    site.write_config()
    (damaged,) = (collected / "quito").rglob("ledger.sqlite3")
    with closing(sqlite3.connect(damaged)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    told = call(site, "audit", collected, str(site.config_file))
    assert told.code == 1
    assert f"The ledger {damaged} cannot be read: it is damaged" in told.stderr
    assert "copy it once more" in told.stderr
    *lines, summary = told.stdout.splitlines()
    assert [line.partition("/")[0] for line in lines] == sorted(FILES)
    assert lines[-1].endswith("; not all that it has shipped could be read")
    assert summary.startswith("Nothing is missing or different so far. Not everything was audited. 5 files audited at ")
    assert summary.endswith(", 1 ledger not read.")
    page = call(site, "report", collected, "-o", "-")
    assert page.code == 1
    assert "is not included: The ledger " in page.stderr
    assert "1 ledger could not be read" in page.stdout
    damaged.write_bytes(b"")
    numbers = call(site, "report", collected, "--json")
    assert (numbers.code, json.loads(numbers.stdout)["left_out"]) == (1, [str(damaged)])
    machine = call(site, "audit", collected, str(site.config_file), "--json")
    assert machine.code == 1
    assert json.loads(machine.stdout.splitlines()[-1])["unreadable_ledgers"] == [str(damaged)]
