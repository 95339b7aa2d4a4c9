"""A real Prometheus scrapes a watch: the dashboard's panels have data, the alerts fire for what is really wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.e2e.site import Site
from tests.e2e.test_metrics import served
from tests.integration.test_prometheus_files import RULES, expressions
from tests.servers.fixtures import or_skip
from tests.servers.prometheus import PrometheusServer

EMPTY_WHILE_ALL_IS_WELL = ("s3_uploader_problem_since_timestamp_seconds",)


def wait_for(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until, f"{what}: not in time"
        time.sleep(0.05)


@pytest.mark.slow
def test_prometheus_understands_a_watch(site: Site) -> None:
    """It scrapes the watch, reads each alert rule, and finds data for each panel of the dashboard."""
    site.ship_to_directory()
    site.file("hall/2020/11/29/20/01-topic.dat")
    waiting = site.file("attic/2020/11/29/20/02-topic.dat")
    with waiting.open("ab"):  # held open by a writer, so that something waits
        running = site.start("watch", "--interval", "0.2", "--metrics-listen", "0")
        target = urlsplit(served(running)).netloc
        server = PrometheusServer(target, RULES)
        or_skip(server.start)
        try:
            wait_for(lambda: server.query("up == 1"), "the scrape")
            wait_for(lambda: server.query("s3_uploader_watch_passes_total > 3"), "passes")
            wait_for(lambda: server.query("s3_uploader_location_backlog_files > 0"), "what waits")
            for expression in expressions():
                if not any(name in expression for name in EMPTY_WHILE_ALL_IS_WELL):
                    wait_for(lambda expression=expression: server.query(expression), expression)  # type: ignore[misc]
            (stuck,) = server.query("s3_uploader_location_oldest_waiting_timestamp_seconds > 0")
            assert stuck["metric"]["location"] == "attic"
            groups = server.ask("rules")["groups"]
            assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
            wait_for(lambda: server.query('ALERTS{alertname="S3UploaderStuck"}'), "the alert")
            assert server.query('ALERTS{alertname="S3UploaderNotRun"}') == []
        finally:
            server.stop()
