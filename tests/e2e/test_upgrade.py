"""Another version is installed over the program while it runs for long."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.e2e.config_directory import Directory, put
from tests.e2e.site import Running, Site, stop
from tests.servers.fault_server import FaultServer

PROGRAM = Path(__file__).parents[2] / "s3_uploader"
REPLACED = "Another version of s3_uploader has been installed."


class Installed:
    """A copy of the program that a test may replace."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._place = site.place / "installed"
        shutil.copytree(PROGRAM, self._place / PROGRAM.name, ignore=shutil.ignore_patterns("__pycache__"))

    def watch(self, configuration: Path, *, spools: int = 1) -> Running:
        """Start it, and wait until it has looked at each spool once."""
        command = [sys.executable, "-m", "s3_uploader", "watch", "-v", "--interval", "0.5", str(configuration)]
        running = self._site.start(command=command, environment={"PYTHONPATH": str(self._place)})
        running.wait_until(lambda: running.stderr.count("No file shipped") >= spools, "a first pass")
        return running

    def upgrade(self) -> None:
        """Replace all files, as pip does; whatever is loaded from now on is of the other version."""
        for path in (self._place / PROGRAM.name).rglob("*.py"):
            path.unlink()
            path.write_text('raise RuntimeError("a module of another version")\n')


def test_a_watch_goes_on_with_the_version_that_it_has_loaded(site: Site, fault_server: FaultServer) -> None:
    """A watch that has shipped nothing before an upgrade ships after it, tells of an outage, and says what to do."""
    site.ship_to(fault_server, layout="tree", settle_seconds=0, metrics_file=str(site.place / "m.prom"))
    site.write_config()
    installed = Installed(site)
    running = installed.watch(site.config_file)
    installed.upgrade()
    running.wait_until(lambda: REPLACED in running.stderr, "the line")
    site.file("a.dat")
    running.wait_until(lambda: not site.left(), "the first file")
    fault_server.go_down()
    site.file("b.dat")
    running.wait_until(lambda: "The run was abandoned" in running.stderr, "the outage")
    fault_server.come_up()
    running.wait_until(lambda: "The trouble is over" in running.stderr, "the recovery", 60)
    stop(running)
    assert len(fault_server.objects()) == 2
    assert running.stderr.count(REPLACED) == 1
    assert "another version" not in running.stderr


def test_each_process_of_a_watch_goes_on(site: Site) -> None:
    """Where each spool has a process of its own, all of them ship after an upgrade, and one says so."""
    spools = Directory(site)
    for name in ("attic", "kitchen"):
        spools.add(name, settle_seconds=0)
    installed = Installed(site)
    running = installed.watch(spools.path, spools=2)
    installed.upgrade()
    for name in ("attic", "kitchen"):
        put(site.place / name, "a.dat")
        running.wait_until(lambda: spools.archived(name) == ["a.dat"], name)  # noqa: B023
    stop(running)
    assert running.stderr.count(REPLACED) == 1
    assert "another version" not in running.stderr
