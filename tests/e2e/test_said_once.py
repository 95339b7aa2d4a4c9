"""What cron mails: a trouble when it begins and then less and less often, and nothing while nobody has to act."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.site import Site
from tests.servers.dialects import WEAK
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import MakeFaultServer


@pytest.fixture
def refused(site: Site, fault_server: FaultServer) -> Site:
    """A spool with files whose destination refuses the credentials."""
    site.ship_to(fault_server)
    site.files(3)
    site.environment["AWS_ACCESS_KEY_ID"] = "AKIDOESNOTEXIST00000"
    return site


def test_a_lasting_trouble_is_mailed_once(refused: Site) -> None:
    """The first quiet run tells what is wrong, the next ones end alike and say nothing."""
    first = refused.run("run", "--quiet")
    assert first.code == 3
    assert "Failed to upload" in first.stderr
    assert "The run was abandoned" in first.stderr
    for _ in range(2):
        again = refused.run("run", "--quiet")
        assert (again.code, again.stderr) == (3, "")
    assert "Failed to upload" in refused.run().stderr, "who does not ask for quiet reads it each time"
    assert refused.status()["verdict"] == "stuck"


@pytest.mark.exhaustive
def test_who_does_not_ask_for_quiet_reads_it_each_time(refused: Site) -> None:
    """The lines that scripts know are in the log of every run."""
    for _ in range(2):
        assert "Failed to upload" in refused.run().stderr


def test_another_trouble_is_news(refused: Site) -> None:
    """Once it is over the next one is told again, however soon it comes."""
    refused.run("run", "--quiet")
    destination = dict(refused.settings)
    archive = refused.place / "archive"
    archive.mkdir()
    for key in ("bucket", "endpoint_url"):
        refused.settings.pop(key, None)
    refused.settings["destination"] = {"type": "local", "path": str(archive)}
    done = refused.run()
    assert done.code == 0
    assert any(told.startswith("Resolved after") for told in done.sentences("INFO"))
    refused.settings = destination
    refused.files(1)
    assert "Failed to upload" in refused.run("run", "--quiet").stderr


def test_a_mistake_after_another_is_news(refused: Site) -> None:
    """Whoever corrects the environment of cron and is still wrong reads why, and is not told that it is resolved."""
    secret = refused.environment.pop("AWS_SECRET_ACCESS_KEY")
    assert "missing: AWS_SECRET_ACCESS_KEY" in refused.run("run", "--quiet").stderr
    assert refused.run("run", "--quiet").stderr == ""
    refused.environment["AWS_SECRET_ACCESS_KEY"] = f"{secret}\n"
    again = refused.run("run", "--quiet")
    assert (again.code, "ends with a space or a line break" in again.stderr) == (3, True)
    by_hand = refused.run()
    assert by_hand.code == 3
    assert not any("Resolved" in told for told in by_hand.sentences("INFO")), "it lasts"
    assert refused.run("run", "--quiet").stderr == ""


def test_what_an_endpoint_cannot_do(site: Site, make_fault_server: MakeFaultServer) -> None:
    """It is in the log of the run that finds it, from then on in status and check; who knows it acknowledges it."""
    site.ship_to(make_fault_server(dialect=WEAK))
    limit = "does not support conditional writes"
    site.files(1)
    assert limit in site.run("run", "--quiet").stderr
    site.files(2)
    assert site.run("run", "--quiet").stderr == ""
    assert limit in site.run("status").stdout
    (known,) = site.status()["endpoint_limits"]
    assert limit in known
    assert '"acknowledged": ["conditional-writes"]' in site.run("check").stdout
    site.settings["acknowledged"] = ["conditional-writes"]
    assert site.status()["endpoint_limits"] == []
    assert "WARNING  conflicts" not in site.run("check").stdout


def test_a_limit_that_is_acknowledged_is_no_news(site: Site, make_fault_server: MakeFaultServer) -> None:
    """The first run says nothing of it either."""
    site.ship_to(make_fault_server(dialect=WEAK), acknowledged=["conditional-writes"])
    site.files(1)
    assert (site.run("run", "--quiet").stderr, site.left()) == ("", {})


def test_a_spool_that_is_not_mounted(site: Site) -> None:
    """That no run can begin is told once too, and again after it was well in between."""
    site.ship_to_directory()
    site.run()
    shutil.rmtree(site.spool)
    first, second = site.run("run", "--quiet"), site.run("run", "--quiet")
    assert (first.code, second.code, second.stderr) == (2, 2, "")
    assert "does not exist" in first.stderr
    os.mkdir(site.spool)
    site.run()
    os.rmdir(site.spool)
    assert "does not exist" in site.run("run", "--quiet").stderr


def test_a_full_disk(site: Site, small_disk: Path) -> None:
    """Where the ledger has no room to remember it, a full disk is told once all the same."""
    site.ship_to_directory()
    site.settings["state_dir"] = str(small_disk)
    site.files(2)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    first = site.run("run", "--quiet")
    assert first.code == 2
    assert "the file system is full" in first.stderr
    for _ in range(2):
        again = site.run("run", "--quiet")
        assert (again.code, again.stderr) == (2, "")
    assert "the file system is full" in site.run().stderr
    assert site.status()["problems"][0]["cause"] == "disk_full"
    (small_disk / "filler").unlink()
    assert site.run("run", "--quiet").code == 0
    assert site.left() == {}


def test_monitoring_that_fails(site: Site) -> None:
    """A health check that is down and metrics that cannot be written are no mail a minute for each spool."""
    site.ship_to_directory()
    site.settings |= {"ping_url": "http://127.0.0.1:9/check", "metrics_file": str(site.place / "gone" / "x.prom")}
    site.file("bedroom/2020/11/29/20/01-a.dat")
    first = site.run("run", "--quiet").stderr
    assert "could not be pinged" in first
    assert "cannot be written" in first
    assert site.run("run", "--quiet").stderr == ""
    assert "could not be pinged" in site.run().stderr, "who does not ask for quiet reads it each time"
    os.utime(next((site.place / "home").rglob("ping")), (0, 0))
    assert "could not be pinged" in site.run("run", "--quiet").stderr, "after a while it is told again"
