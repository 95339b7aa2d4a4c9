"""Prometheus itself: scrapes a program under test and answers queries about it; and promtool, which checks files."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.servers import debian
from tests.servers.base import Server
from tests.servers.process import free_ports, wait_until

PROMTOOL_SECONDS = 240.0
"""The tests of the rules compute for seconds, on a machine with other work for more than a minute."""

_CONFIGURATION = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: s3-uploader
    static_configs: [{{targets: [{target}]}}]
"""


class PrometheusServer(Server):
    """Scrapes one target five times a second."""

    name = "prometheus"

    def __init__(self, target: str, rules: Path) -> None:
        super().__init__()
        self._target = target
        self._rules = rules
        self._port = 0

    def _launch(self) -> None:
        debian.require("prometheus")
        program = debian.find_program("prometheus")
        assert program is not None
        (self._port,) = free_ports()
        configuration = self.directory / "prometheus.yml"
        configuration.write_text(
            _CONFIGURATION.format(target=json.dumps(self._target), rules=json.dumps(str(self._rules)))
        )
        process = self._run(
            "prometheus",
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={self.directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--query.lookback-delta=10s",
            ],
        )
        wait_until(self._is_ready, what="Prometheus was ready", processes=[process])

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=10):
                return True
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The answer of its API."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success"
        return found["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        result = self.ask("query", query=expression)["result"]
        assert isinstance(result, list)
        return result


def promtool(*arguments: str | Path, text: str | None = None, directory: Path | None = None) -> tuple[int, str]:
    """Run promtool; returns its exit code and what it printed. Raises `Unavailable` where it is not installed."""
    debian.require("prometheus")
    program = debian.find_program("promtool")
    assert program is not None
    command: Sequence[str] = [str(program), *map(str, arguments)]
    finished = subprocess.run(
        command, input=text, cwd=directory, capture_output=True, text=True, timeout=PROMTOOL_SECONDS, check=False
    )
    return finished.returncode, finished.stdout + finished.stderr
