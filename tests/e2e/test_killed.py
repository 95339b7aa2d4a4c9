"""SIGKILL at random instants: nothing is lost, nothing replaced, and nothing has to be repaired by hand.

``UPLOADER_TEST_SEED`` repeats the instants of a run that failed; its number is in the failure's message.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.e2e.site import ENGINES, Site, settle, untraced
from tests.servers.fault_server import FaultServer

FILES = 3000
FEW_FILES = {"native": FILES, "boto3": 800}
"""In the quick suite: several times what runs ship before they are killed."""
KILLS = {"native": 140, "boto3": 60}
"""200 in all."""
FEW_KILLS = {"native": 14, "boto3": 6}
"""In the quick suite."""


@pytest.fixture
def instants(record_property: object) -> random.Random:
    """Chance, with its seed where a failure shows it."""
    seed = int(os.environ.get("UPLOADER_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"UPLOADER_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ENGINES)
def test_killed_at_any_instant(
    site: Site, fault_server: FaultServer, engine: str, instants: random.Random, effort: Callable[[int, int], int]
) -> None:
    """At every instant each file's bytes are on the disk or the object; the last run ends clean with an empty spool."""
    kills, files = effort(FEW_KILLS[engine], KILLS[engine]), effort(FEW_FILES[engine], FILES)
    site.ship_to(fault_server, engine=engine)
    # Nothing of a killed process can be measured, and it would leave its half-written data behind.
    untraced(site)
    made = {str(path.relative_to(site.spool)): path.read_bytes() for path in site.files(files, location="bedroom")}
    fault_server.latency_seconds = 0.002
    start_up = duration_of_an_idle_start(site)
    survivors = 0
    for kill in range(kills):
        running = site.start("run", "--quiet")
        # Most instants are in the work, some in the start; a run takes about as long as there are files left.
        time.sleep(start_up * instants.uniform(0.3, 1.0) + instants.expovariate(1 / 0.05))
        survivors += running.poll() is not None
        running.kill()
        if kill % 10 == 9:
            check_nothing_lost(site, fault_server, made)
            if len(site.left()) < files // 10:
                # The work is nearly done: give it new work under new names.
                made |= more_files(site, kill)
    check_nothing_lost(site, fault_server, made)
    fault_server.latency_seconds = 0.0
    last = site.run(timeout=120)
    assert last.code == 0, last.stderr[-2000:]
    assert "Traceback" not in last.stderr
    assert site.left() == {}
    assert fault_server.objects() == made
    assert fault_server.replacements == []
    assert site.run().stderr == ""
    assert {row["path"] for row in site.history()} == set(made)
    assert survivors < kills / 2, "most runs ended before they were killed: the test proves little"


def test_what_cannot_return_from_a_claim_is_named(site: Site) -> None:
    """A file that a killed run had claimed, and whose directory is a link by now, is not forgotten in silence."""
    archive = site.ship_to_directory()
    claims = site.place / "claims"
    site.settings |= {"claim_dir": str(claims), "layout": "tree"}
    claimed = claims / "host.123.0123abcd/files/hall/x.dat"  # as a version left it that did not name the spool
    claimed.parent.mkdir(parents=True)
    claimed.write_bytes(b"a reading")
    settle(claimed, 3600)
    (claims / "host.123.0123abcd/lock").touch()
    (site.place / "elsewhere").mkdir()
    (site.spool / "hall").symlink_to(site.place / "elsewhere")
    for _ in range(2):
        run = site.run()
        assert run.code == 1
        assert any(sentence.startswith(f"Could not return {claimed}: ") for sentence in run.sentences("WARNING"))
    status = site.run("status")
    assert status.stdout.startswith("ATTENTION")
    assert f"{claimed} cannot be returned to the spool: " in status.stdout
    (site.spool / "hall").unlink()
    run = site.run()
    assert run.code == 0
    assert (archive / "hall/x.dat").read_bytes() == b"a reading"
    assert site.run("status").stdout.startswith("OK: ")


def duration_of_an_idle_start(site: Site) -> float:
    """Seconds until a run of this machine gets to work, now."""
    settings = site.settings
    empty = site.place / "empty"
    empty.mkdir(exist_ok=True)
    site.settings = {**settings, "base_dir": str(empty)}
    try:
        return min(site.run().seconds for _ in range(3))
    finally:
        site.settings = settings


def more_files(site: Site, kill: int) -> dict[str, bytes]:
    """Another 2,000 files, in a location of their own."""
    return {
        str(path.relative_to(site.spool)): path.read_bytes() for path in site.files(2000, location=f"room-{kill:03d}")
    }


def check_nothing_lost(site: Site, server: FaultServer, made: dict[str, bytes]) -> None:
    """Each file is on the disk, under its own name or a private one, or it is the object."""
    objects = server.objects()
    left = site.left()
    lost = []
    for path, content in made.items():
        directory, _, name = path.rpartition("/")
        private = f"{directory}/.{name}.s3u"
        if content not in (objects.get(path), left.get(path), left.get(private)):
            lost.append(path)
    assert not lost, f"{len(lost)} files are lost: {lost[:5]}"
    assert server.replacements == []
