"""``ledger merge`` and ``ledger compact`` from outside: one ledger of several, and a smaller one."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable

import pytest

from tests.e2e.site import COMMAND, Finished, Running, Site
from tests.servers.fault_server import FaultServer

FEW_KILLS, KILLS = 5, 60


@pytest.fixture
def local(site: Site) -> Site:
    """A spool whose files are copied to a directory, with its state beside it."""
    site.ship_to_directory()
    site.settings["state_dir"] = str(site.place / "state")
    return site


def ledger(site: Site, action: str, *arguments: str) -> Finished:
    """Call one of the two."""
    return started(site, action, *arguments).wait()


def started(site: Site, action: str, *arguments: str) -> Running:
    """Begin one of the two."""
    site.write_config()
    return site.start(command=[str(COMMAND), "ledger", action, str(site.config_file), *arguments])


def ledgers(site: Site) -> list[str]:
    """Where there are ledgers, below the state directory of the spool."""
    (place,) = (site.place / "state").iterdir()
    return sorted(str(path.relative_to(place)) for path in place.rglob("*.sqlite3"))


def test_shares_become_one(local: Site) -> None:
    """What three shares have shipped is in one ledger, once; the spool goes on with it, and an audit knows all."""
    made = local.files(40)
    for index in range(3):
        assert local.run("run", "--share", f"{index}/3").code == 0
    before = local.history()
    merged = ledger(local, "merge")
    assert merged.code == 0, merged.stderr
    assert merged.stdout.splitlines()[-1].endswith("has 40 files and 3 runs now; it had 0 files.")
    assert ledgers(local) == ["ledger.sqlite3"]
    assert local.history() == before
    assert len(before) == len(made)
    again = ledger(local, "merge")
    assert (again.code, again.stdout) == (2, "")
    assert "There are no ledgers of shares to merge" in again.stderr
    local.file("attic/2020/11/29/10/38-topic.dat")
    assert local.run().code == 0
    assert local.status()["totals"]["shipped_files"] == 41
    assert "41 files audited" in local.run("audit").stdout


def test_a_ledger_that_was_only_begun(local: Site) -> None:
    """What a run left that was killed in its first moment, or met a full disk, holds up neither command."""
    local.files(20)
    for index in range(2):
        assert local.run("run", "--share", f"{index}/2").code == 0
    (state,) = (local.place / "state").iterdir()
    begun = [path / "ledger.sqlite3" for path in (state, state / "share-2-of-3")]
    begun[1].parent.mkdir()
    for each in begun:
        each.touch()
    compacted = ledger(local, "compact", "--keep-files", "15")
    assert (compacted.code, len(local.history())) == (0, 20), compacted.stderr
    merged = ledger(local, "merge")
    assert merged.code == 0, merged.stderr
    assert merged.stdout.splitlines()[-1].endswith("has 20 files and 2 runs now; it had 0 files.")
    assert ledgers(local) == ["ledger.sqlite3"]
    assert not begun[1].parent.exists()


def test_ledgers_of_retired_machines(local: Site, make_site: Callable[[], Site]) -> None:
    """Ledgers that were copied from elsewhere are only read; to merge them twice changes nothing."""
    local.files(5)
    assert local.run().code == 0
    retired = local.place / "retired"
    for number in range(2):
        other = make_site()
        other.settings |= {"destination": local.settings["destination"], "state_dir": str(other.place / "state")}
        other.file(f"host{number}/2020/11/29/20/46-topic.dat")
        assert other.run().code == 0
        shutil.copytree(other.place / "state", retired / f"host{number}")
    copies = {path: path.read_bytes() for path in retired.rglob("*") if path.is_file()}
    for _ in range(2):
        merged = ledger(local, "merge", "--json", str(retired))
        assert merged.code == 0, merged.stderr
        told = json.loads(merged.stdout)["merged"]
        assert (told["files"], told["runs"]) == (7, 3)
    assert {row["path"].split("/")[0] for row in local.history()} >= {"host0", "host1"}
    assert {path for path in copies if path.name == "ledger.sqlite3"} <= set(retired.rglob("*"))
    assert "7 files audited" in local.run("audit").stdout
    missing = ledger(local, "merge", str(local.spool))
    assert missing.code == 2
    assert "is not a ledger and contains none" in missing.stderr


def test_a_copy_that_failed_is_not_left_out(local: Site, make_site: Callable[[], Site]) -> None:
    """What its uploader has shipped would be missing, although the merge had been called complete."""
    retired = local.place / "retired"
    for number in range(2):
        other = make_site()
        other.settings |= {"destination": local.settings["destination"], "state_dir": str(other.place / "state")}
        for topic in ("door", "light", "motion"):
            other.file(f"host{number}/2020/11/29/20/46-{topic}.dat")
        assert other.run().code == 0
        shutil.copytree(other.place / "state", retired / f"host{number}")
    (damaged, *_) = sorted(retired.rglob("ledger.sqlite3"))
    whole = damaged.read_bytes()
    damaged.write_bytes(b"<html>404 Not Found</html>")
    (retired / "notes.sqlite3").write_bytes(b"SQLite format 3\x00" + bytes(100))
    refused = ledger(local, "merge", str(retired))
    assert refused.code == 2
    assert f"{damaged} cannot be merged, so nothing was." in refused.stderr
    damaged.write_bytes(whole)
    merged = ledger(local, "merge", str(retired))
    assert merged.code == 0, merged.stderr
    assert merged.stdout.splitlines()[-1].endswith("has 6 files and 2 runs now; it had 0 files.")
    assert "notes.sqlite3 is not a ledger and is not included" in merged.stderr


def test_a_run_at_work_keeps_both_out(site: Site, fault_server: FaultServer) -> None:
    """While a run has the spool its ledgers are left alone, and the run ends well."""
    site.ship_to(fault_server, max_concurrency=1, state_dir=str(site.place / "state"))
    site.files(20)
    assert site.run("run", "--share", "0/2").code == 0
    fault_server.latency_seconds = 60.0
    working = site.start("run", "--share", "1/2", "--quiet")
    working.wait_until(lambda: len(ledgers(site)) > 1 and site.status()["shares"][1]["lock_holder"], "the share ships")
    for action in ("merge", "compact"):
        refused = ledger(site, action)
        assert refused.code == 75, refused.stderr
        assert f"process {working.pid}" in refused.stderr
    fault_server.latency_seconds = 0.0
    assert working.wait().code == 0
    assert ledger(site, "merge").code == 0
    assert len(site.history()) == 20


@pytest.mark.slow
def test_killed_anywhere(local: Site, chance: random.Random, effort: Callable[[int, int], int]) -> None:
    """A merge that is killed at any moment has lost no row and doubles none once it is repeated."""
    local.files(200)
    for index in range(2):
        assert local.run("run", "--share", f"{index}/2").code == 0
    (place,) = (local.place / "state").iterdir()
    shutil.copytree(place, local.place / "copy")
    before = local.history()
    began = time.monotonic()
    assert ledger(local, "merge").code == 0
    longest = time.monotonic() - began
    for _ in range(effort(FEW_KILLS, KILLS)):
        shutil.rmtree(place)
        shutil.copytree(local.place / "copy", place)
        running = started(local, "merge")
        time.sleep(chance.uniform(0.2, 1.1) * longest)
        running.kill()
        if "share-0-of-2/ledger.sqlite3" in ledgers(local) or "share-1-of-2/ledger.sqlite3" in ledgers(local):
            repeated = ledger(local, "merge")
            assert repeated.code == 0, repeated.stderr
        assert ledgers(local) == ["ledger.sqlite3"]
        assert local.history() == before
        assert local.status()["totals"]["shipped_files"] == len(before)
        assert [path.name for path in place.iterdir() if path.name.startswith("ledger.")].count("ledger.scratch") == 0


def test_compact_tells_and_does(local: Site) -> None:
    """A dry run says what would go and that no audit has covered it, and changes nothing; an audit covers it."""
    local.files(300)
    assert local.run().code == 0
    dry = ledger(local, "compact", "--keep-days", "0", "--dry-run")
    assert dry.code == 0, dry.stderr
    assert ": 300 of 300 files would be forgotten, about " in dry.stdout
    assert ": 300 files at " in dry.stderr
    assert dry.stderr.endswith(" would be forgotten that no audit has covered.\n")
    assert len(local.history()) == 300
    cut_short = local.run("audit", "--set", "max_runtime_seconds=0.000001")
    assert (cut_short.code, cut_short.stdout[:20]) == (1, "Nothing was audited.")
    assert ledger(local, "compact", "--keep-days", "0", "--dry-run").stderr == dry.stderr
    assert local.run("audit").code == 0
    quiet = ledger(local, "compact", "--keep-files", "100", "--dry-run", "--json")
    assert quiet.stderr == ""
    (told,) = json.loads(quiet.stdout)
    assert (told["files"], told["forgotten"], told["unaudited"]) == (300, 200, {})
    done = ledger(local, "compact", "--keep-files", "100")
    assert (done.code, done.stderr) == (0, "")
    assert ": 200 of 300 files forgotten, " in done.stdout
    assert len(local.history()) == 100
    assert local.status()["totals"]["shipped_files"] == 300
    local.file("attic/2020/11/29/10/38-topic.dat")
    assert local.run().code == 0
    assert len(local.history()) == 101


def test_a_run_warns_once_before_it_forgets(local: Site) -> None:
    """What goes without an audit is told by one run, which forgets nothing, and by none after an audit."""
    local.files(20)
    local.settings["history_max_files"] = 30
    assert local.run().stderr.count("No audit has covered") == 0
    for name, count in (("first", 20), ("second", 1), ("third", 1)):
        for number in range(count):
            local.file(f"{name}/2020/11/29/20/{number:02}-topic.dat")
        finished = local.run()
        assert finished.stderr.count("No audit has covered") == (1 if name == "first" else 0), name
        assert len(local.history()) == (40 if name == "first" else 30), name
    assert local.run("audit").code == 0
    local.file("fourth/2020/11/29/20/46-topic.dat")
    assert "No audit has covered" not in local.run().stderr
    assert len(local.history()) == 30
