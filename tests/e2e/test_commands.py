"""The commands beside ``run``, and how what is told reaches people and machines."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.e2e.site import COMMAND, Site, contents
from tests.servers.fault_server import FaultServer
from tests.servers.namespaces import need_namespaces

FILES = {
    f"{location}/2020/11/29/20/{minute}-topic.dat": 100 for location in ("bedroom", "kitchen") for minute in (10, 11)
}


@pytest.fixture
def waiting(site: Site, fault_server: FaultServer) -> Site:
    """Four files that are ready, one that is fresh, and one that is outside the layout."""
    return filled(site, fault_server)


@pytest.fixture
def at_home(site: Site) -> Site:
    """The same files, for a directory: where the destination matters little, that takes half the time."""
    return filled(site)


def filled(site: Site, server: FaultServer | None = None) -> Site:
    """Let these six files wait in a spool, for a server or for a directory."""
    if server is None:
        site.ship_to_directory()
    else:
        site.ship_to(server)
    for path, size in FILES.items():
        site.file(path, path.encode().ljust(size))
    # By a clock that is ahead: it stays so, however long a test takes.
    site.file("kitchen/2020/11/29/20/12-topic.dat", age=-200)
    site.file("readme.txt")
    return site


def objects_in(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a text, one on each line."""
    return [json.loads(line) for line in text.splitlines()]


class TestDryRun:
    def test_it_says_what_a_run_would_do_and_does_nothing(self, waiting: Site, fault_server: FaultServer) -> None:
        """--dry-run names each file with where it would go or why it would stay, and touches and asks nothing."""
        before = waiting.left()
        finished = waiting.run("run", "--dry-run")
        assert finished.code == 0
        assert waiting.left() == before
        assert not fault_server.counts()
        assert not (waiting.home / ".local").exists()
        for path in FILES:
            line = f"would ship   {waiting.spool}/{path} to {fault_server.bucket}/{path} (100 B)"
            assert line in finished.stdout.splitlines()
        assert f"would leave  {waiting.spool}/readme.txt (outside the layout" in finished.stdout
        assert f"would leave  {waiting.spool}/kitchen/2020/11/29/20/12-topic.dat (fresh" in finished.stdout
        assert finished.stdout.splitlines()[-1] == (
            "Dry run: 4 files (400 B) would be shipped; left: 1 fresh, 1 outside the layout."
        )

    def test_it_agrees_with_the_run_that_follows(self, waiting: Site, fault_server: FaultServer) -> None:
        """What it said would be shipped is what the next run ships, under the keys that it named."""
        rows = objects_in(waiting.run("run", "--dry-run", "--log-format", "json").stdout)
        promised = {row["address"] for row in rows if row["would_ship"]}
        assert waiting.run().code == 0
        assert promised == {f"{fault_server.bucket}/{key}" for key in fault_server.objects()}
        assert {row["path"] for row in rows if not row["would_ship"]} == {
            f"{waiting.spool}/{path}" for path in waiting.left()
        }


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The four files are shipped, and the server is gone; the tests read, and change nothing."""
    site = Site(tmp_path_factory.mktemp("shipped"))
    with FaultServer() as server:
        assert filled(site, server).run().code == 0
    yield site
    site.end()


class TestHistory:
    def test_as_json(self, shipped: Site) -> None:
        """Every file is listed with its key, size, proof and times, without asking the destination."""
        rows = shipped.history()
        assert {row["key"]: row["size"] for row in rows} == FILES
        for row in rows:
            assert row["destination"] == shipped.settings["bucket"]
            assert row["proof"] == "checksum"
            assert row["data_time"].startswith("2020-11-29T20:1")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["shipped_at"])

    def test_as_csv(self, shipped: Site) -> None:
        """As CSV it has a head, and a row for each file."""
        finished = shipped.run("history", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(finished.stdout)))
        assert {row["key"] for row in rows} == set(FILES)
        assert finished.stderr == ""

    def test_as_a_table(self, shipped: Site) -> None:
        """As a table each file has a line, and the sum is on standard error, out of the way of a pipe."""
        finished = shipped.run("history")
        lines = finished.stdout.splitlines()
        assert len(lines) == 1 + len(FILES)
        assert all(line.split()[-1].startswith(f"{shipped.settings['bucket']}/") for line in lines[1:])
        assert finished.stderr == "4 files, 400 B.\n"

    def test_filters(self, shipped: Site) -> None:
        """--match, --since, --until and --limit narrow it."""

        def count(*arguments: str) -> int:
            finished = shipped.run("history", "--format", "json", *arguments)
            assert finished.code == 0, finished.stderr
            return len(finished.stdout.splitlines())

        assert count("--match", "bedroom/*") == 2
        assert count("--match", "*10-topic.dat", "--since", "1h", "--until", "now") == 2
        assert count("--since", "now") == 0
        assert count("--since", "2020-01-01", "--until", "1h") == 0
        assert count("--since", "2020-01-02T03:04:05Z", "--limit", "3") == 3

    def test_totals(self, shipped: Site) -> None:
        """--totals adds up by day and location, in every form."""
        rows = objects_in(shipped.run("history", "--totals", "day,location", "--json").stdout)
        assert {row["location"]: (row["files"], row["bytes"]) for row in rows} == {
            location: (len(sizes), sum(sizes))
            for location in {key.split("/")[0] for key in FILES}
            if (sizes := [size for key, size in FILES.items() if key.startswith(f"{location}/")])
        }
        (row,) = csv.DictReader(io.StringIO(shipped.run("history", "--totals", "day", "--format", "csv").stdout))
        assert (row["files"], row["bytes"], "location" in row) == ("4", "400", False)
        table = shipped.run("history", "--totals", "location", "--location", "bedroom/")
        assert table.stdout.splitlines()[1].split() == ["2", "200", "B", "bedroom"]
        assert table.stderr == "2 files, 200 B.\n"

    def test_failed(self, waiting: Site) -> None:
        """--failed lists the runs in which files failed and the files that fail now, in every form."""
        waiting.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        assert waiting.run().code == 3
        *uploads, run = objects_in(waiting.run("history", "--failed", "--json").stdout)
        assert {row["code"] for row in uploads} <= {"ConnectionFailed"}
        assert (run["kind"], run["exit_code"]) == ("run", 3)
        assert "127.0.0.1:9" in run["message"]
        finished = waiting.run("history", "--failed")
        assert finished.stdout.splitlines()[-2].split() == ["run", "began", "(UTC)", "failed", "exit", "outcome"]
        assert finished.stderr == "1 run with failures, 0 files failing now.\n"

    def test_failed_files(self, site: Site) -> None:
        """A file that fails is named with its error, and can be selected by its location."""
        archive = site.ship_to_directory()
        for room in ("attic", r"bed\room"):
            path = f"{room}/2020/11/29/20/50-topic.dat"
            site.file(path, b"ours")
            (archive / path).parent.mkdir(parents=True)
            (archive / path).write_bytes(b"theirs")
        assert site.run().code == 1
        *uploads, run, one, other = objects_in(site.run("history", "--failed", "--json").stdout)
        assert [(row["kind"], row["code"], row["location"], row["failed_uploads"]) for row in uploads] == [
            ("uploads", "Conflict", room, 1) for room in ("attic", r"bed\room")
        ]
        files = (one, other)
        assert (run["kind"], run["failed_files"]) == ("run", 2)
        assert [(row["kind"], row["code"]) for row in files] == [("file", "Conflict")] * 2
        finished = site.run("history", "--failed", "--location", "attic", "--format", "csv")
        count, row = csv.DictReader(io.StringIO(finished.stdout))
        assert (count["location"], count["failed_uploads"]) == ("attic", "1")
        assert row["path"] == "attic/2020/11/29/20/50-topic.dat"
        assert site.run("history", "--failed", "--location", "attic/", "--format", "csv").stdout == finished.stdout
        assert site.run("history", "--failed", "--location", "attic/2020", "--json").stdout == ""  # no location
        table = site.run("history", "--failed").stdout
        assert "exists already with other content" in table
        assert r"Conflict, bed\\room" in table  # a name, escaped like the others

    def test_what_contradicts_is_refused(self, shipped: Site) -> None:
        """--failed, --totals and --limit do not go together."""
        for arguments in (("--failed", "--totals", "day"), ("--failed", "--limit", "3")):
            assert shipped.run("history", *arguments).code == 2

    def test_it_outlives_its_spool(self, shipped: Site) -> None:
        """It can be read when the spool is gone. Where there is no ledger, it and a report say that."""
        nowhere = ("--set", f"state_dir={shipped.place / 'nowhere'}")
        for arguments in (("history",), ("history", "--failed"), ("history", "--totals", "day"), ("report", "--json")):
            finished = shipped.run(*arguments, *nowhere)
            assert finished.code == 0
            first = finished.stderr.splitlines()[0]
            assert first.startswith(f"There is no ledger {shipped.place / 'nowhere'}")
            assert "so this knows of no run" in first
        assert "There is no ledger" not in shipped.run("history").stderr

    def test_odd_names(self, site: Site) -> None:
        """A name that is no text comes back byte for byte from the JSON, and the table stays printable."""
        site.ship_to_directory()
        name = b"bedroom/2020/11/29/20/10-\xff\n\x1b[31m.dat"
        site.file(name)
        assert site.run().code == 0
        assert [os.fsencode(row["path"]) for row in site.history()] == [name]
        assert site.run("history").stdout.replace("\n", "").isprintable()


class TestStatus:
    def test_before_and_after(self, at_home: Site) -> None:
        """The backlog by location before the run; what is left, the run and the totals after it."""
        before = at_home.status()
        assert not (at_home.home / ".local").exists()
        assert {row["location"]: (row["files"], row["ready"], row["bytes"]) for row in before["backlog"]} == {
            "bedroom": (2, 2, 200),
            "kitchen": (3, 2, 210),
        }
        assert before["not_candidates"] == {"unmatched": 1}
        assert (before["runs"], before["lock_holder"]) == ([], None)
        at_home.run()
        after = at_home.status()
        assert [(row["location"], row["files"]) for row in after["backlog"]] == [("kitchen", 1)]
        assert after["totals"]["shipped_files"] == 4
        assert (after["runs"][0]["shipped"], after["runs"][0]["exit_code"]) == (4, 0)

    def test_each_field_is_explained(self, site: Site) -> None:
        """Whoever reads the JSON finds each of its fields in the documentation, and no other there."""
        site.ship_to_directory()
        page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
        rows = re.findall(r"^\| (`.*?) \|", page.partition("## For programs")[2], re.MULTILINE)
        assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(site.status())

    def test_for_people(self, at_home: Site) -> None:
        """As text it names the spool, what waits, what fails, the last runs and the ledger."""
        at_home.run()
        finished = at_home.run("status")
        assert finished.code == 0
        for words in (f"Spool {at_home.spool}", "Running: no", "Waiting:", "Failing: none", "Last runs:", "Ledger: "):
            assert words in finished.stdout

    @pytest.mark.exhaustive  # test_before_and_after looks too, before there is a state directory
    def test_it_changes_nothing(self, at_home: Site) -> None:
        """Looking creates no state directory and asks no server."""
        at_home.run("status")
        assert not (at_home.home / ".local").exists()


class TestCheck:
    def test_all_is_in_order(self, waiting: Site, fault_server: FaultServer, engine: str) -> None:
        """With everything in order it exits with 0, says "Ready", and leaves nothing in the bucket."""
        waiting.settings["engine"] = engine
        before = waiting.left()
        finished = waiting.run("check")
        assert finished.code == 0, finished.stdout
        assert finished.stdout.splitlines()[-1].startswith("Ready")
        assert "\x1b" not in finished.stdout
        assert fault_server.objects() == {}
        assert waiting.left() == before

    def test_wrong_credentials(self, waiting: Site) -> None:
        """What is wrong with the destination is an ERROR with exit code 3."""
        waiting.environment["AWS_ACCESS_KEY_ID"] = "AKIDOESNOTEXIST00000"
        finished = waiting.run("check")
        assert finished.code == 3
        assert "InvalidAccessKeyId" in finished.stdout
        assert "Traceback" not in finished.stderr

    def test_what_is_wrong_here(self, waiting: Site) -> None:
        """What is wrong with the spool is an ERROR with exit code 2, and the destination is looked at all the same."""
        waiting.settings["base_dir"] = str(waiting.place / "missing")
        finished = waiting.run("check", "--json")
        assert finished.code == 2
        findings = json.loads(finished.stdout)
        assert [finding["severity"] for finding in findings if "missing" in finding["fact"]] == ["error"]
        assert len(findings) > 2


def test_the_schema_describes_the_configuration(site: Site, fault_server: FaultServer) -> None:
    """``schema`` prints a JSON Schema that accepts what a run accepts and refuses what a run refuses."""
    finished = site.run(command=[str(COMMAND), "schema"])
    assert finished.code == 0
    schema = json.loads(finished.stdout)
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    validate = validator(schema).validate
    site.ship_to(fault_server, engine="native")
    validate(site.settings)
    validate({"base_dir": "/spool", "s3_bucket": "bucket"})
    for wrong in ({"base_dir": "/spool"}, {**site.settings, "settle_seconds": -1}, {**site.settings, "colour": 1}):
        with pytest.raises(jsonschema.ValidationError):
            validate(wrong)


def test_the_demo(site: Site) -> None:
    """``demo`` shows the main job on real files with a server of its own, and leaves nothing behind.

    Wherever it is started: what lies there under the name of a module is not taken for it.
    """
    site.environment["TMPDIR"] = str(site.home)
    (site.home / "typing.py").write_text("raise SystemExit('this is not yours')")
    finished = site.run(command=[str(COMMAND), "demo"])
    assert finished.code == 0, finished.stderr
    for words in ("12-", "What cron starts every minute", "What is in the bucket now", "The history"):
        assert words in finished.stdout or words == "12-"
    assert finished.stderr.count(" has been uploaded to demo-bucket.") == 18
    assert [path for path in site.home.iterdir() if "demo" in path.name] == []


def test_the_demo_touches_nothing_of_its_user(site: Site, tmp_path: Path) -> None:
    """``demo`` ships its own files to its own server, whatever the environment says about real ones."""
    path = site.file("den/2020/11/29/20/46-topic.dat")
    site.environment.update(
        TMPDIR=str(tmp_path),
        S3_UPLOADER_BASE_DIR=str(site.spool),
        AWS_PROFILE="nosuch",
        http_proxy="http://127.0.0.1:9",
    )
    finished = site.run(command=[str(COMMAND), "demo"])
    assert finished.code == 0, finished.stderr
    assert finished.stderr.count(" has been uploaded to demo-bucket.") == 18
    assert finished.stdout.startswith("\nA producer has written a spool")
    assert path.exists()


def test_the_demo_without_room_for_its_output(site: Site) -> None:
    """``demo`` says that its output is what cannot be written, whoever writes to it first."""
    site.environment["PYTHONUNBUFFERED"] = "1"
    with open("/dev/full", "wb") as full:
        finished = site.run(command=[str(COMMAND), "demo"], stdout=full)
    assert (finished.code, finished.stderr) == (1, "Standard output cannot be written: No space left on device.\n")


def test_version(site: Site) -> None:
    """--version prints the version of the package that is installed."""
    installed = importlib.metadata.version("s3-spool-uploader")
    assert site.run(command=[str(COMMAND), "--version"]).stdout == f"s3-uploader-cli, version {installed}\n"


class TestLog:
    def test_quiet(self, at_home: Site) -> None:
        """--quiet says nothing of what went well."""
        finished = at_home.run("run", "--quiet")
        assert (finished.code, finished.stdout, finished.stderr) == (0, "", "")

    def test_verbose(self, at_home: Site) -> None:
        """--verbose also names what was left and why, and each directory that was removed."""
        finished = at_home.run("run", "--verbose")
        debug = "\n".join(finished.sentences("DEBUG"))
        assert "readme.txt was left: outside the layout" in debug
        assert f"Removed the empty directory {at_home.spool}/bedroom/2020/11/29/20." in debug
        assert "\x1b" not in finished.stderr

    def test_json(self, waiting: Site, fault_server: FaultServer) -> None:
        """With --log-format json every line is an object with time, level and event; the last one sums up."""
        finished = waiting.run("run", "--log-format", "json")
        assert finished.stdout == ""
        events = objects_in(finished.stderr)
        assert all({"time", "level", "event"} <= event.keys() for event in events)
        uploaded = [event for event in events if event["event"] == "uploaded"]
        assert {event["address"] for event in uploaded} == {f"{fault_server.bucket}/{path}" for path in FILES}
        assert events[-1]["event"] == "run_finished"
        assert events[-1]["report"]["shipped"] == 4

    def test_json_of_a_failure(self, waiting: Site) -> None:
        """A run that is abandoned tells that in JSON too."""
        waiting.environment["AWS_ACCESS_KEY_ID"] = "AKIDOESNOTEXIST00000"
        finished = waiting.run("run", "--log-format", "json")
        assert finished.code == 3
        events = objects_in(finished.stderr)
        assert [event["code"] for event in events if event["event"] == "upload_failed"] == ["InvalidAccessKeyId"]
        assert events[-1]["report"]["ended_by"] == "destination"

    def test_json_of_an_odd_name(self, site: Site) -> None:
        """A name with newlines, escapes and bytes that are no text stays one line, and says that it is escaped."""
        site.ship_to_directory()
        name = b'bedroom/2020/11/29/20/10-\xff\n\x1b[31m".dat'
        site.file(name)
        (uploaded, finished) = objects_in(site.run("run", "--log-format", "json").stderr)
        assert uploaded["path"] == str(site.spool) + r'/bedroom/2020/11/29/20/10-\xff\n\x1b[31m".dat'
        assert uploaded["escaped"] is True
        assert finished["event"] == "run_finished"

    def test_a_log_that_nobody_reads(self, at_home: Site) -> None:
        """If standard error is a pipe without a reader, the files are shipped all the same, with exit code 0."""
        reading, writing = os.pipe()
        os.close(reading)
        running = at_home.start(stderr=writing)
        os.close(writing)
        assert running.wait().code == 0
        assert sorted(contents(at_home.place / "archive")) == sorted(FILES)

    def test_a_log_on_a_full_disk(self, at_home: Site) -> None:
        """If the log cannot be written, the files are shipped all the same."""
        with open("/dev/full", "wb") as full:
            assert at_home.start(stdout=full, stderr=full).wait().code == 0
        assert sorted(contents(at_home.place / "archive")) == sorted(FILES)

    @pytest.mark.rotated("unbuffered")
    @pytest.mark.parametrize("unbuffered", ["", "1"])
    def test_output_onto_a_full_disk(self, site: Site, unbuffered: str, exhaustive: bool) -> None:
        """What cannot be written to standard output is a sentence on standard error, and exit code 1."""
        site.ship_to_directory()
        site.file("bedroom/2020/11/29/20/10-x.dat")
        assert site.run().code == 0
        config = str(site.config_file)
        # Text, JSON, rows, a document, and what is told before there is a configuration: each is written in its way.
        few = (["check", config], ["status", "--json", "missing"], ["history", "--format", "csv", config], ["--help"])
        others = (
            *(["status", config], ["status", "--json", config], ["report", "-o", "-", config], ["--version"]),
            *(["check", "--json", config], ["run", "--dry-run", config], ["units", config], ["audit", config]),
            *(["audit", "--help"], ["completion", "bash"]),
        )
        for words in (*few, ["schema"], *(others if exhaustive else ())):
            with open("/dev/full", "wb") as full:
                finished = subprocess.run(
                    [str(COMMAND), *words],
                    env={**site.environment, "PYTHONUNBUFFERED": unbuffered},
                    stdout=full,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=60,
                    check=False,
                )
            said = finished.stderr.splitlines()
            assert (finished.returncode, len(said)) == (1, 1), (words, finished.stderr)
            assert said[0] == "Standard output cannot be written: No space left on device.", words

    def test_no_standard_streams_at_all(self, waiting: Site, fault_server: FaultServer) -> None:
        """A run that was started with all its streams closed ships the files, and nothing else is written into them."""
        running = waiting.start(prefix=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
        assert running.wait().code == 0
        assert fault_server.objects() == {path: path.encode().ljust(size) for path, size in FILES.items()}
        assert [row["size"] for row in waiting.history()] == [100] * 4

    def test_no_devices(self, waiting: Site, fault_server: FaultServer) -> None:
        """So does one that has not even /dev/null in their place, as in a chroot; and a reader may leave there, too."""
        need_namespaces()
        hidden = 'mount --make-rprivate /; mount -t tmpfs tmpfs /dev; exec "$@"'
        running = waiting.start(prefix=("unshare", "--mount", "sh", "-c", f"{hidden} <&- >&- 2>&-", "sh"))
        assert running.wait().code == 0
        assert len(fault_server.objects()) == len(FILES)
        finished = waiting.run("history", prefix=("unshare", "--mount", "sh", "-c", f"{hidden} | true", "sh"))
        assert finished.stderr == "4 files, 400 B.\n"

    def test_output_into_head(self, site: Site) -> None:
        """A reader that has seen enough is no error, and gives no traceback."""
        site.ship_to_directory()
        for number in range(300):
            site.file(f"attic/2020/11/{number % 28 + 1:02d}/10/10-{number}-{'long' * 55}.dat", b"")
        site.write_config()
        for arguments in (("run", "--dry-run"), ("run",), ("history",), ("history", "--format", "csv"), ("status",)):
            finished = subprocess.run(
                ["bash", "-c", f'set -o pipefail; "{COMMAND}" {" ".join(arguments)} "{site.config_file}" | head -1'],
                env=site.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert finished.returncode == 0, (arguments, finished.stderr[-2000:])
            assert "Traceback" not in finished.stderr
            assert "Broken" not in finished.stderr

    @pytest.mark.rotated("variables")
    @pytest.mark.parametrize(
        "variables",
        [
            {"LANG": "C"},
            {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
            {"PYTHONIOENCODING": "ascii"},
        ],
        ids=["C", "POSIX", "ascii"],
    )
    def test_a_locale_that_is_not_utf8(
        self, site: Site, fault_server: FaultServer, variables: dict[str, str], exhaustive: bool
    ) -> None:
        """In whatever locale, keys are the bytes of the names, and every command can print them somehow."""
        site.ship_to(fault_server)
        name = "bedroom/2020/11/29/20/10-größe-🌡.dat"
        site.file(name.encode())
        site.environment.update(variables)
        assert site.run("run", "--dry-run").code == 0
        finished = site.run()
        assert finished.code == 0, finished.stderr
        assert list(fault_server.objects()) == [name]
        for arguments in (("history", "--format", "csv"), ("status",)):
            finished = site.run(*arguments)
            assert finished.code == 0, finished.stderr
        assert [row["key"] for row in site.history()] == [name]
        if exhaustive:  # else test_every_command.py calls them where accents cannot be printed
            assert [site.run(command).code for command in ("history", "check")] == [0, 0]

    @pytest.mark.rotated("flags")
    @pytest.mark.parametrize("flags", [["-I"], ["-E"], []], ids=["isolated", "no-environment", "plain"])
    def test_it_is_started_anew_once(self, site: Site, fault_server: FaultServer, flags: list[str]) -> None:
        """Python's flags that switch UTF-8 off, or its environment, neither stop a run nor start it for ever."""
        site.ship_to(fault_server)
        name = "bedroom/2020/11/29/20/10-größe.dat"
        site.file(name.encode())
        site.write_config()
        command = [sys.executable, *flags, "-X", "utf8=0", "-m", "s3_uploader", "run", str(site.config_file)]
        finished = subprocess.run(
            command,
            env=site.environment | {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"},
            cwd=site.home,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        assert list(fault_server.objects()) == [name]
        assert b"gr\\xf6\\xdfe.dat has been uploaded" in finished.stderr
