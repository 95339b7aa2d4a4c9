"""A machine on which nothing may be written but the spool and what the program remembers: the inside of a container."""

from __future__ import annotations

import pytest

from tests.e2e.site import Site
from tests.servers.fault_server import FaultServer
from tests.servers.namespaces import need_namespaces

ONLY_THESE = r"""
set -e
mount --make-rprivate /
for each in "$SPOOL" "$STATE_DIRECTORY"; do mount --bind "$each" "$each"; done
for each in /dev/shm /var/tmp /tmp /; do
    if mountpoint -q "$each"; then mount -o remount,bind,ro "$each"; fi
done
if touch "$HOME/written" /tmp/written 2> /dev/null; then exit 99; fi
exec "$@"
"""
"""Makes every place read-only in which temporary files may lie, and the home directory."""


@pytest.fixture
def locked_in(site: Site, fault_server: FaultServer) -> Site:
    """A spool whose directory, and the one for the state, are all that can be written."""
    need_namespaces()
    site.ship_to(fault_server)
    state = site.place / "state"
    state.mkdir()
    site.environment.update(STATE_DIRECTORY=str(state), SPOOL=str(site.spool))
    return site


def test_all_works_without_a_place_for_temporary_files(locked_in: Site) -> None:
    """`check`, `run` and `status` need neither /tmp nor a home directory that can be written."""
    prefix = ("unshare", "--mount", "sh", "-c", ONLY_THESE, "sh")
    locked_in.files(3)
    check = locked_in.run("check", prefix=prefix)
    assert check.code == 0, check.stdout + check.stderr
    assert "Ready." in check.stdout
    finished = locked_in.run("run", prefix=prefix)
    assert finished.code == 0, finished.stderr
    assert locked_in.left() == {}
    status = locked_in.run("status", prefix=prefix)
    assert status.code == 0, status.stderr
    assert status.stdout.startswith("OK: nothing waits")
