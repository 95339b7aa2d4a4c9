"""A spool that its layout does not fit is green nowhere, and what to change is said everywhere."""

from __future__ import annotations

import json

import pytest

from tests.e2e.site import Site

DAY = 86400.0


@pytest.fixture
def misread(site: Site) -> Site:
    """A spool of which nothing matches the default layout."""
    site.settings["destination"] = {"type": "local", "path": str(site.place / "archive")}
    (site.place / "archive").mkdir()
    site.file("sensors/2026-11-20.csv")
    site.file("sensors/2026-11-21.csv")
    site.file("a/2020/2020-11/29/20/46-topic.dat")
    return site


def test_check_proposes_what_works(misread: Site) -> None:
    """Check counts files, says why, and with what it proposes the next run ships them all."""
    found = json.loads(misread.run("check", "--json").stdout)
    (finding,) = [each for each in found if each["subject"] == "layout"]
    assert finding["severity"] == "warning"
    assert "None of the 3 files" in finding["fact"]
    assert "month 2020-11" in finding["fact"]
    proposed = finding["meaning"].split("set ")[1].split(" in the configuration")[0]
    misread.settings |= json.loads("{" + proposed + "}")
    assert misread.run().code == 0
    assert not misread.left()


def test_it_is_told_once_and_not_each_minute(misread: Site) -> None:
    """The first run warns with the proposal; the next ones are silent."""
    (warning,) = misread.run().sentences("WARNING")
    assert '"layout": "tree"' in warning
    assert misread.run().stderr == ""
    assert misread.run("run", "--quiet").stderr == ""


def test_it_is_green_nowhere(misread: Site) -> None:
    """status, the plugin, the metrics and the report know of it."""
    misread.settings["metrics_file"] = str(misread.place / "metrics.prom")
    misread.run()
    status = misread.status()
    assert (status["verdict"], status["problems"][0]["cause"]) == ("attention", "unmatched")
    assert status["not_candidates"] == {"unmatched": 3}
    plugin = misread.run("status", "--plugin")
    assert (plugin.code, plugin.stdout[:33]) == (1, "S3_UPLOADER WARNING - unmatched s")
    metrics = (misread.place / "metrics.prom").read_text()
    assert 'cause="unmatched"} 1' in metrics
    assert json.loads(misread.run("report", "--json").stdout)["summary"]["unmatched_files"] == 3
    assert "3 files in the spool do not match its layout" in misread.run("report").stdout


def test_a_spool_that_works_is_told_of_one_old_file(misread: Site) -> None:
    """Among files that are shipped one that never is becomes a problem after a day, and exclude ends it."""
    for path in misread.left():
        (misread.spool / path).unlink()
    misread.file("a/2020/11/29/20/46-topic.dat")
    misread.file("a/2020/11/29/20/readme.txt")
    assert misread.run().code == 0
    assert misread.status()["verdict"] == "ok"
    misread.file("a/2020/11/29/20/readme.txt", age=2 * DAY)
    assert misread.status()["verdict"] == "attention"
    misread.settings["exclude"] = ["readme.txt"]
    assert misread.status()["verdict"] == "ok"
