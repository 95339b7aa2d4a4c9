"""The alert rules and the dashboard in `deploy/`: Prometheus accepts them, and what they speak of exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3_uploader.core.events import RunMeasured, Totals
from s3_uploader.core.model import RunReport, Waiting
from s3_uploader.monitoring.metrics.exposition import FAMILIES
from s3_uploader.monitoring.metrics.samples import CAUSES, exposition
from tests.servers.fixtures import or_skip
from tests.servers.prometheus import promtool

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "s3-uploader.rules.yml"
TESTS = DEPLOY / "prometheus" / "s3-uploader.rules.test.yml"
DASHBOARD = DEPLOY / "grafana" / "s3-uploader.json"
FLEET_RULES = DEPLOY / "prometheus" / "s3-uploader-fleet.rules.yml"
FLEET_TESTS = DEPLOY / "prometheus" / "s3-uploader-fleet.rules.test.yml"
FLEET_DAYS = DEPLOY / "prometheus" / "s3-uploader-fleet-days.rules.test.yml"
FLEET_DASHBOARD = DEPLOY / "grafana" / "s3-uploader-fleet.json"
DASHBOARDS = {DASHBOARD: ["instance", "spool", "location"], FLEET_DASHBOARD: ["instance"]}
RECORDED = re.compile(r"\b(?:cause|fleet|instance_spool):s3_uploader_\w+:\w+")
METRIC = re.compile(r"\bs3_uploader_\w+")
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$spool": ".*", "$location": ".*"}


def dashboard(path: Path = DASHBOARD) -> Any:
    """A dashboard's model."""
    return json.loads(path.read_text())


def expressions(path: Path = DASHBOARD) -> Iterator[str]:
    """Every expression of a dashboard's panels, with its variables filled in."""
    for panel in dashboard(path)["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield expression


def test_promtool_finds_nothing_to_complain_about_in_the_metrics() -> None:
    """The text that is written, odd names included, is clean for Prometheus's own linter."""
    report = RunReport(
        base_dir='/spool "one"\n',
        destination="bucket",
        started_at=1_600_000_000.0,
        duration=1,
        exit_code=0,
        waiting={'at"tic\\': Waiting(1, 10, 1_599_999_000.0), "\udcff\n": Waiting(1, 10, 1_599_999_000.0)},
    )
    text = exposition(RunMeasured(report=report, totals=Totals(), failing_files=0, locations=()))
    code, printed = or_skip(lambda: promtool("check", "metrics", text=text))
    assert (code, printed) == (0, "")


def test_the_alert_rules_hold_what_they_promise() -> None:
    """Promtool accepts the rules, and each alert fires when it should and only then."""
    code, printed = or_skip(lambda: promtool("check", "rules", RULES))
    assert code == 0, printed
    code, printed = promtool("test", "rules", TESTS.name, directory=TESTS.parent)
    assert code == 0, printed


def test_the_sums_over_a_fleet_are_what_they_say() -> None:
    """Promtool accepts the rules; devices are silent and behind when they are said to be, and alerts fire for many."""
    code, printed = or_skip(lambda: promtool("check", "rules", FLEET_RULES))
    assert code == 0, printed
    code, printed = promtool("test", "rules", FLEET_TESTS.name, FLEET_DAYS.name, directory=FLEET_TESTS.parent)
    assert code == 0, printed
    rules, tests = FLEET_RULES.read_text(), FLEET_TESTS.read_text()
    assert all(f"alertname: {alert}" in tests for alert in re.findall(r"- alert: (\w+)", rules))


def test_the_dashboard_of_a_fleet_asks_for_what_is_recorded() -> None:
    """Every series that its panels and alerts name is one that a rule records."""
    recorded = set(re.findall(r"- record: (\S+)", FLEET_RULES.read_text()))
    assert set(RECORDED.findall(FLEET_RULES.read_text() + FLEET_DASHBOARD.read_text())) == recorded


def test_each_look_at_a_fleet_costs_the_same() -> None:
    """However many devices there are, no panel asks for the series of each, but for the worst of recorded ones."""
    for expression in expressions(FLEET_DASHBOARD):
        assert METRIC.search(RECORDED.sub("", expression)) is None, expression
    for group in yaml.safe_load(FLEET_RULES.read_text())["groups"]:
        ranges = [each for rule in group["rules"] for each in re.findall(r"s3_uploader_\w+\[(\w+)\]", rule["expr"])]
        # A day of ten thousand devices is millions of samples.
        assert group["interval"] != "1m" or set(ranges) <= {"5m", "6h"}, group["name"]


def test_each_alert_is_tested_and_each_cause_has_one() -> None:
    """No alert is without a test, and there is one for each cause that the metrics know.

    That nothing runs is what no run can tell: its alert looks at the time of the last attempt.
    """
    rules, tests = RULES.read_text(), TESTS.read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(alerts) == len(set(alerts))
    assert re.findall(r"- name: (\w+)", tests) == alerts
    told_by_runs = [cause for cause in CAUSES if cause != "not_run"]
    assert re.findall(r'problem_since_timestamp_seconds\{cause="(\w+)"\}', rules) == told_by_runs
    assert re.findall(r"cause: (\w+)\n", rules) == ["not_run", *told_by_runs]


@pytest.mark.parametrize(
    "path", [RULES, TESTS, DASHBOARD, FLEET_RULES, FLEET_TESTS, FLEET_DAYS, FLEET_DASHBOARD], ids=lambda path: path.name
)
def test_they_speak_of_metrics_that_exist(path: Path) -> None:
    """Every metric that is named is one that the program writes."""
    names = set(METRIC.findall(RECORDED.sub("", path.read_text())))
    assert names
    assert names <= {family.full_name for family in FAMILIES}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_the_expressions_of_the_dashboard(tmp_path: Path, path: Path) -> None:
    """Prometheus can parse every expression of every panel."""
    found = list(expressions(path))
    assert len(found) >= 12
    assert not any("$" in expression for expression in found)
    groups = {"groups": [{"name": "panels", "rules": [{"record": f"p{n}", "expr": e} for n, e in enumerate(found)]}]}
    rules = tmp_path / "panels.json"
    rules.write_text(json.dumps(groups))  # JSON is YAML
    code, printed = or_skip(lambda: promtool("check", "rules", rules))
    assert code == 0, printed


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_the_model_of_the_dashboard(path: Path) -> None:
    """Panels have numbers of their own, do not overlap, fit the grid, and ask the data source that one can choose."""
    model = dashboard(path)
    taken: set[tuple[int, int]] = set()
    for panel in model["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] in ("state-timeline", "table")
        for each in [panel, *panel["targets"]]:
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
    numbers = [panel["id"] for panel in model["panels"]]
    assert len(numbers) == len(set(numbers))
    names = [variable["name"] for variable in model["templating"]["list"]]
    assert names == ["datasource", *DASHBOARDS[path]]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(model))) - {"__rate_interval", "__all"}
    assert used == set(names)
    assert model["id"] is None
