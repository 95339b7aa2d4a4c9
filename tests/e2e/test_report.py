"""The command ``report`` as a user meets it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, Site


@pytest.fixture
def site(site: Site) -> Site:
    """A site that has shipped two files, one with a name that is no text, from a directory that is markup."""
    site.ship_to_directory()
    site.file("attic/2020/11/29/20/46-topic.dat", b"one")
    site.file(b"<b>/2020/11/29/20/47-\xe9.dat", b"three")
    assert site.run("run", "--quiet").code == 0
    return site


def test_a_report_is_a_file_that_a_browser_opens(site: Site) -> None:
    """The page is written where -o says, in one step, in UTF-8, and it is the same on standard output."""
    target = site.place / "report.html"
    target.write_text("old")
    written = site.run("report", "-o", str(target))
    assert (written.code, written.stdout, written.stderr) == (0, "", "")
    text = target.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "&lt;b&gt;/2020/11/29/20/47-\\xe9.dat" in text
    assert [path.name for path in site.place.iterdir() if path.name.endswith(".new")] == []
    printed = site.run("report")
    assert printed.code == 0
    assert printed.stdout.startswith("<!doctype html>")
    assert printed.stdout.rstrip().endswith("</html>")


def test_a_report_goes_to_what_the_shell_has_opened(site: Site) -> None:
    """``/dev/stdout`` and ``>(program)`` are written to, whatever they are, and what is in a file stays in it."""
    log = site.place / "log"
    log.write_text("before\n")
    shell = ["bash", "-o", "pipefail", "-c", '"$@" -o /dev/stdout | cat && "$@" -o /dev/stdout >> "$LOG"']
    site.environment["LOG"] = str(log)
    written = site.run(command=[*shell, "bash", str(COMMAND), "report", str(site.config_file)])
    assert (written.code, written.stderr) == (0, "")
    assert written.stdout.startswith("<!doctype html>")
    assert log.read_text().startswith("before\n<!doctype html>")


def test_nobody_else_can_change_a_report(site: Site) -> None:
    """A permissive umask, as some devices have it, opens neither the pages nor their directory."""
    reports = site.place / "reports"
    shell = ["sh", "-c", 'umask 000 && exec "$@"', "sh", str(COMMAND), "report"]
    several = site.place / "conf.d"
    several.mkdir()
    (several / "one.json").write_text(site.config_file.read_text())
    assert site.run(command=[*shell, str(several), "-o", str(reports)]).code == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (reports, *reports.iterdir())}
    assert modes == {"reports": 0o755, "index.html": 0o644, "one.html": 0o644}


def test_the_numbers_are_there_for_machines(site: Site) -> None:
    """--json gives what the page shows, whatever the locale."""
    site.environment["LC_ALL"] = "C"
    site.environment["PYTHONIOENCODING"] = "ascii"
    told = json.loads(site.run("report", "--json", "-o", "-").stdout)
    assert told["summary"]["files"] == 2
    assert told["summary"]["bytes"] == 8
    assert {each["location"]: each["files"] for each in told["locations"]} == {"attic": 1, "<b>": 1}
    assert sum(map(sum, told["levels"][0]["files"])) == 2


def test_a_report_needs_neither_spool_nor_destination(site: Site) -> None:
    """The ledger outlives both."""
    site.spool.rename(site.place / "gone")
    (site.place / "archive").rename(site.place / "away")
    assert json.loads(site.run("report", "--json").stdout)["summary"]["files"] == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-o", "{place}/missing/report.html"], "cannot be written: No such file or directory"),
        (["-o", "/dev/full"], "cannot be written: No space left on device. Free space there"),
        (["--since", "1d", "--until", "2d"], "ends before it begins"),
        (["--since", "yesteryear"], "'yesteryear' is not a time"),
    ],
)
def test_what_cannot_be_is_said(site: Site, options: list[str], sentence: str) -> None:
    """A report that cannot be made ends with a sentence and exit code 2."""
    place = Path(site.place)
    ended = site.run("report", *(option.format(place=place) for option in options))
    assert ended.code == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
