"""Several spools in one configuration directory: one process runs them all, and none depends on another."""

from __future__ import annotations

import csv
import io
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.config_directory import Directory, put
from tests.e2e.site import Site


@pytest.fixture
def directory(site: Site) -> Directory:
    """An empty one."""
    return Directory(site)


def test_all_spools_of_a_directory_are_emptied(directory: Directory) -> None:
    """The short form takes a directory too; lines about a run as a whole say which."""
    for name in ("kitchen", "attic"):
        put(directory.add(name), "a.dat")
    (directory.path / "notes.txt").write_text("no configuration")
    finished = directory.run()
    assert finished.code == 0
    assert directory.archived("kitchen") == directory.archived("attic") == ["a.dat"]
    assert "attic.json: 1 file (10 B) shipped" in finished.stderr
    assert "kitchen.json: 1 file (10 B) shipped" in finished.stderr


def test_what_is_wrong_with_one_does_not_stop_the_others(directory: Directory) -> None:
    """A broken file and a missing spool are told and make the exit code 2; the rest is shipped."""
    put(directory.add("kitchen"), "a.dat")
    directory.add("attic").rmdir()
    (directory.path / "broken.json").write_text("{")
    finished = directory.run("run", "--log-format", "json")
    assert finished.code == 2
    assert directory.archived("kitchen") == ["a.dat"]
    told = [json.loads(line) for line in finished.stderr.splitlines()]
    failed = {line["config"]: line["message"] for line in told if line["event"] == "command_failed"}
    assert set(failed) == {"broken.json", "attic.json"}
    assert "attic does not exist" in failed["attic.json"]
    assert {line.get("config") for line in told if line["event"] == "run_finished"} == {"kitchen.json"}
    assert "1 file (10 B) shipped; 2 spools could not be run" in told[-1]["message"]


def test_a_spool_that_hangs_holds_back_no_other_and_all_end_at_a_signal(directory: Directory) -> None:
    """A destination that never answers costs its own spool; SIGTERM ends the whole in good order."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        destination = {"type": "ftp", "host": "127.0.0.1", "port": silent.getsockname()[1], "timeout_seconds": 3}
        put(directory.add("attic", destination=destination, drain_seconds=0), "a.dat")
        for number in range(10):
            put(directory.add(f"kitchen{number}"), "a.dat")
        running = directory.start("run")
        names = [f"kitchen{number}" for number in range(10)]
        running.wait_until(lambda: all(directory.archived(name) for name in names), "the others are shipped")
        running.send(signal.SIGTERM)
        assert running.wait().code == 143
    assert (directory.site.place / "attic" / "a.dat").exists()


@pytest.mark.parametrize("settings", [{"base_dir": "attic"}, {"metrics_file": "metrics.prom"}])
def test_two_configurations_of_one_spool_are_refused_before_anything_runs(
    directory: Directory, settings: dict[str, str]
) -> None:
    """Two runs of one spool would step aside for each other, and one metrics file would show only one of them."""
    shared = {key: str(directory.site.place / value) for key, value in settings.items()}
    put(directory.add("attic", **shared), "a.dat")
    directory.add("kitchen", **shared)
    put(directory.add("cellar"), "a.dat")
    finished = directory.run()
    assert finished.code == 2
    assert "attic.json and kitchen.json have the same" in finished.stderr
    assert not directory.archived("attic")
    assert directory.archived("cellar") == ["a.dat"]


def test_status_and_check_look_at_each_in_turn(directory: Directory) -> None:
    """An operator asks once about all of them; JSON is one document after the other."""
    put(directory.add("attic"), "a.dat")
    directory.add("kitchen")
    finished = directory.run("status", "--details")
    assert [line for line in finished.stdout.splitlines() if line.endswith(".json:")] == [
        f"{directory.path}/attic.json:",
        f"{directory.path}/kitchen.json:",
    ]
    decoder = json.JSONDecoder()
    text = directory.run("status", "--json").stdout
    first, end = decoder.raw_decode(text)
    second, _ = decoder.raw_decode(text[end:].lstrip())
    assert [Path(each["base_dir"]).name for each in (first, second)] == ["attic", "kitchen"]
    assert directory.run("check").code == 0
    dry = directory.run("run", "--dry-run")
    assert "a.dat" in dry.stdout
    assert not directory.archived("attic")


def test_status_is_one_line_for_each(directory: Directory) -> None:
    """A summary and a line for each spool, the worst first, with what is wrong; no two figures have one name."""
    for name in ("attic", "cellar", "kitchen"):
        put(directory.add(name), "a.dat")
    assert directory.run().code == 0
    (directory.site.place / "kitchen").rmdir()
    (directory.path / "broken.json").write_text("{")
    shown = directory.run("status").stdout.splitlines()
    assert shown[0] == "4 spools: 1 stuck, 1 unknown, 2 ok."
    assert [line.split()[:2] for line in shown[2:]] == [
        ["STUCK", "kitchen"],
        ["unknown", "broken"],
        ["ok", "attic"],
        ["ok", "cellar"],
    ]
    assert "kitchen does not exist" in shown[2]
    assert directory.run("status", "--exit-code").code == 2
    first, *others = directory.run("status", "--plugin").stdout.splitlines()
    text, _, figures = first.partition(" | ")
    assert text == "S3_UPLOADER CRITICAL - 4 spools: 1 stuck, 1 unknown, 2 ok: kitchen, broken"
    assert [line.split(": ")[0] for line in others] == ["kitchen", "broken"]
    labels = [figure.partition("=")[0] for figure in figures.split()]
    assert len(labels) == len(set(labels)) > 8


def test_history_audit_and_report_of_all(directory: Directory) -> None:
    """Each spool in turn, under its name; reports are files in a directory."""
    for name in ("attic", "cellar"):
        put(directory.add(name), "a.dat")
    directory.run()
    history = directory.run("history")
    assert history.stdout.count("a.dat") == 2
    assert f"{directory.path}/cellar.json:" in history.stdout
    assert history.stderr == "attic.json: 1 file, 10 B.\ncellar.json: 1 file, 10 B.\n"
    audit = directory.run("audit")
    assert audit.code == 0
    assert audit.stdout.endswith("\n2 spools: 2 ok.\n")
    assert directory.run("report").code == 2
    reports = directory.site.place / "reports"
    assert directory.run("report", "-o", str(reports)).code == 0
    assert sorted(path.name for path in reports.iterdir()) == ["attic.html", "cellar.html", "index.html"]


def test_what_is_wrong_with_one_of_many_is_told_at_the_end(directory: Directory) -> None:
    """After many blocks the last line names those that did not end well; the page of all reports has a row for each."""
    for name in ("attic", "cellar", "index"):
        put(directory.add(name), "a.dat")
    directory.run()
    (directory.site.place / "cellar-archive" / "a.dat").unlink()
    (directory.path / "broken.json").write_text("{")
    assert directory.run("audit").stdout.splitlines()[-1] == (
        "4 spools: 2 ok; broken.json: exit code 2; cellar.json: exit code 1."
    )
    assert "broken.json: exit code 2" in directory.run("check").stdout.splitlines()[-1]
    reports = directory.site.place / "reports"
    assert directory.run("report", "-o", str(reports)).code == 2
    page = (reports / "index.html").read_text()
    assert page.index("broken") < page.index('href="attic.html"') < page.index('href="cellar.html"')
    assert 'href="index-1.html"' in page
    assert (reports / "index-1.html").exists()


def test_each_row_for_programs_names_its_configuration(directory: Directory) -> None:
    """Rows of many spools in one stream say of which they are; a table of all has one head."""
    for name in ("attic", "cellar"):
        put(directory.add(name), "a.dat")
    (directory.path / "broken.json").write_text("{")
    assert directory.run().code == 2
    both = ["attic.json", "cellar.json"]
    rows = list(csv.DictReader(io.StringIO(directory.run("history", "--format", "csv").stdout)))
    assert [(row["config"], row["path"]) for row in rows] == [(name, "a.dat") for name in both]
    for arguments in (["history", "--json"], ["audit", "--json"], ["status", "--json"], ["report", "--json"]):
        documents = list(documents_of(directory.run(*arguments).stdout))
        assert [each["config"] for each in documents if "error" not in each] == both, arguments
        assert [each["config"] for each in documents if "error" in each] == ["broken.json"], arguments
    findings = next(documents_of(directory.run("check", "--json").stdout))
    assert {each["config"] for each in findings} == {"attic.json"}


def documents_of(text: str) -> Iterator[Any]:
    """The JSON documents that follow one another in a text."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        text = text[end:]
        yield document


def test_units_name_every_file_that_is_no_configuration(directory: Directory) -> None:
    """No unit is made while one of the files is wrong, for its spool would have no permissions; all are named."""
    directory.add("kitchen")
    (directory.path / "broken.json").write_text("{")
    directory.add("attic", settle_seconds="soon")
    refused = directory.run("units")
    assert (refused.code, refused.stdout) == (2, "")
    assert "conf.d: 2 problems" in refused.stderr
    assert "  attic.json: settle_seconds: must be" in refused.stderr
    assert "  broken.json: is not valid JSON" in refused.stderr
    assert "No unit was made" in refused.stderr
    (directory.path / "broken.json").unlink()
    directory.add("attic")
    made = directory.run("units")
    assert made.code == 0, made.stderr
    assert made.stdout.count("ExecStart=") == 1


def test_other_commands_say_that_they_take_one_file(directory: Directory) -> None:
    """A command that is about one spool refuses a directory in words, and so does an empty directory."""
    assert "contains no configuration file" in directory.run("run").stderr
    directory.add("attic")
    finished = directory.run("forget", "--all")
    assert finished.code == 2
    assert "takes one configuration file" in finished.stderr
    assert directory.run("run", "--progress").code == 0
