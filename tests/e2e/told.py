"""How the trouble of a spool is told: by status to programs, people and monitoring plugins, by metrics and alerts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.site import Site
from tests.servers import debian
from tests.servers.fixtures import or_skip

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "s3-uploader.rules.yml"
FORMS = ("people", "plugin")
"""For whom status is, beside programs."""


def to_people(site: Site, problem: dict[str, Any], code: int, **options: Any) -> None:
    """Let the problem come first, with what happens next and what to do; that there is one is no failure to tell it."""
    told = site.run("status", **options)
    assert told.code == code, told.stderr
    first, following, to_do = told.stdout.splitlines()[:3]
    assert first.startswith({"error": "STUCK", "warning": "ATTENTION"}[problem["severity"]])
    assert problem["sentence"].split(" (")[0][:40] in first
    assert problem["path"] is None or problem["path"] in first
    assert following.strip().startswith("Next:")
    assert to_do.strip() == f"To do: {problem['remedy']}"


def to_a_plugin(site: Site, problem: dict[str, Any], **options: Any) -> None:
    """Let a plugin have the cause in its line, and the severity as its exit code."""
    plugin = site.run("status", "--plugin", **options)
    assert plugin.code == {"error": 2, "warning": 1}[problem["severity"]]
    (line,) = plugin.stdout.splitlines()
    assert line.startswith(f"S3_UPLOADER {['OK', 'WARNING', 'CRITICAL'][plugin.code]} - {problem['cause']}")
    assert "| " in line


def the_problem(site: Site, form: str, *, code: int = 0, **options: Any) -> dict[str, Any]:
    """The one problem that status names, to programs and in another form alike.

    :param code: what status ends with, unless it is told that its exit code is to say how things stand.
    """
    finished = site.run("status", "--json", "--exit-code", **options)
    status = json.loads(finished.stdout)
    (problem,) = status["problems"]
    assert isinstance(problem, dict)
    assert finished.code == {"error": 2, "warning": 1}[problem["severity"]], finished.stderr
    assert status["verdict"] == {"error": "stuck", "warning": "attention"}[problem["severity"]]
    assert status["since"] == problem["since"]
    assert problem["next"]
    assert problem["remedy"]
    if form == "people":
        to_people(site, problem, code, **options)
    else:
        to_a_plugin(site, problem, **options)
    return problem


def measured_causes(site: Site) -> dict[str, float]:
    """The causes that the metrics name, with since when."""
    causes, since = {}, {}
    for family in text_string_to_metric_families(Path(site.settings["metrics_file"]).read_text()):
        for sample in family.samples:
            if sample.name == "s3_uploader_problem" and sample.value:
                causes[sample.labels["cause"]] = sample.value
            elif sample.name == "s3_uploader_problem_since_timestamp_seconds":
                since[sample.labels["cause"]] = sample.value
    return {cause: since[cause] for cause in causes}


class Alerts:
    """What metrics there were, of which promtool says in the end, and at once, whether the right alerts fire."""

    def __init__(self) -> None:
        self._causes: dict[str, dict[str, float]] = {}

    def expect(self, site: Site, causes: dict[str, float]) -> None:
        """Metrics as they are have to make an alert fire for each cause, and for no other."""
        assert str(site.spool) not in self._causes, "the metrics of a spool would be two at once"
        self._causes[str(site.spool)] = causes

    def check(self, place: Path) -> None:
        """Ask promtool, with a file in a directory."""
        if not self._causes or not RULES.exists():
            return
        or_skip(lambda: debian.require("prometheus"))
        promtool = debian.find_program("promtool")
        assert promtool is not None
        file = place / "alerts.test.yml"
        file.write_text(
            json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "4m", "tests": [self._test()]})
        )  # JSON is YAML
        checked = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    def _test(self) -> dict[str, Any]:
        return {
            "interval": "4m",
            "input_series": [
                {
                    "series": f's3_uploader_problem_since_timestamp_seconds{{spool="{spool}",cause="{cause}"}}',
                    "values": f"{causes.get(cause, 0)}+0x30",
                }
                for spool, causes in self._causes.items()
                for cause in (*causes, "another")
            ],
            "promql_expr_test": [
                {
                    "expr": 'count by (spool, cause) (ALERTS{alertstate="firing", cause=~".+"})',
                    "eval_time": "116m",
                    "exp_samples": [
                        {"labels": f'{{spool="{spool}",cause="{cause}"}}', "value": 1}
                        for spool, causes in self._causes.items()
                        for cause in causes
                    ],
                }
            ],
        }


class Told:
    """What a test asks of the telling: status in a form beside that for programs, metrics that make an alert fire."""

    def __init__(self, form: str, alerts: Alerts) -> None:
        self._form = form
        self._alerts = alerts

    def problem(self, site: Site, cause: str, **options: Any) -> dict[str, Any]:
        """The one problem that status names, which has this cause."""
        problem = the_problem(site, self._form, **options)
        assert problem["cause"] == cause
        return problem

    def causes(self, site: Site) -> dict[str, float]:
        """The causes that the metrics name, with since when. For each of them there must be an alert."""
        found = measured_causes(site)
        if found:
            self._alerts.expect(site, found)
        return found
