"""What ``units --kind cron`` installs, run by the cron daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.site import Site
from tests.servers.cron import Cron
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import or_skip
from tests.servers.namespaces import need_namespaces

_WITHIN_SECONDS = 150.0


@pytest.fixture
def cron(tmp_path: Path) -> Iterator[Cron]:
    """A daemon that is not running yet."""
    need_namespaces()
    daemon = Cron(tmp_path / "cron")
    yield daemon
    daemon.stop()


@pytest.mark.slow
def test_cron_empties_the_spool(site: Site, cron: Cron) -> None:
    """The file for /etc/cron.d is one that cron runs: the spool is emptied within a minute, and nobody gets mail."""
    with FaultServer(small_buffers=False) as server:
        endpoint = server.endpoint
        site.settings.update(
            bucket=endpoint.bucket,
            endpoint_url=endpoint.endpoint_url,
            region=endpoint.region,
            addressing_style="path",
            state_dir=str(site.place / "state"),
        )
        # The percent sign would end the command, the blank the word.
        site.config_file = site.place / "100% my config.json"
        keys = site.place / "my keys"
        keys.write_text(
            f"[default]\naws_access_key_id = {endpoint.access_key}\naws_secret_access_key = {endpoint.secret_key}\n"
        )
        site.files(3)
        finished = site.run(
            "units", "--kind", "cron", "--install", "--directory", str(cron.crontabs), "--credentials", str(keys)
        )
        assert finished.code == 0, finished.stderr
        or_skip(cron.start)
        until = time.monotonic() + _WITHIN_SECONDS
        while site.left():
            assert cron.is_running()
            assert time.monotonic() < until, cron.mail()
            time.sleep(0.2)
        assert len(server.objects()) == 3
        # The run is over once its lock is free; had it said anything, cron would have mailed it right then.
        site.run("run", "--wait-for-lock", "20")
        cron.stop()
        assert cron.mail() == ""
