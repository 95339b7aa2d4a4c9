"""What the command line says to a misspelling, to a program that reads JSON, and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from tests.e2e.site import COMMAND, Site

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


def on_terminal(site: Site, *arguments: str, columns: int = 80) -> str:
    """What somebody reads who runs the command there, without colours and movements of the cursor."""
    import fcntl
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = site.environment | {"TERM": "xterm", "TZ": "UTC"}
    site.write_config()
    process = subprocess.Popen([str(COMMAND), *arguments], stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    seen = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(leader)
    process.wait(60)
    return ESCAPES.sub("", seen.decode())


@pytest.fixture
def local(site: Site) -> Site:
    """A spool with two files, for a directory."""
    archive = site.place / "archive"
    archive.mkdir()
    site.settings["destination"] = {"type": "local", "path": str(archive)}
    site.file("bedroom/2020/11/29/20/46-topic.dat")
    site.file("kitchen/2020/11/29/20/46-topic.dat")
    return site


@pytest.mark.parametrize("arguments", [["stauts"], ["stauts", "config.json"], ["histroy", "--since", "1d"], ["help"]])
def test_a_misspelt_command(site: Site, arguments: list[str]) -> None:
    """A word that is no file and nearly a command is answered with that command."""
    finished = site.run(command=[str(COMMAND), *arguments])
    assert finished.code == 2
    meant = {"stauts": "status", "histroy": "history", "help": "--help"}[arguments[0]]
    assert f"{arguments[0]} is neither a command nor a configuration file. Did you mean {meant}?" in finished.stderr


def test_a_command_behind_the_configuration(local: Site) -> None:
    """Who asks for the status in the wrong order gets no run, and is told the right one."""
    finished = local.run(command=[str(COMMAND), str(local.config_file), "status", "--json"])
    assert finished.code == 2
    assert f"s3-uploader-cli status {local.config_file}" in finished.stderr
    assert len(local.left()) == 2


def test_a_file_that_is_named_like_a_command(local: Site) -> None:
    """A configuration file of that name is what was meant."""
    local.write_config()
    os.rename(local.config_file, local.home / "stauts")
    finished = local.run(command=[str(COMMAND), "stauts"])
    assert (finished.code, local.left()) == (0, {})


def test_the_help_of_each_command_is_whole(site: Site) -> None:
    """The list of commands says of each what it does in one line that a terminal of 80 columns shows whole."""
    shown = site.run(command=[str(COMMAND), "--help"]).stdout
    lines = shown.split("Commands:\n")[1].splitlines()
    assert len(lines) > 10
    assert [line for line in lines if len(line) > 80 or line.endswith("...")] == []


@pytest.mark.parametrize("command", ["check", "status", "history", "audit", "report", "units"])
def test_configuration_errors_are_json_too(site: Site, command: str) -> None:
    """Who asks for JSON gets the problems of the configuration as JSON, with the exit code of the text."""
    site.settings = {"base_dirr": "/x"}
    finished = site.run(command, "--json")
    answer = json.loads(finished.stdout)
    assert (finished.code, answer["exit_code"], answer["error"], finished.stderr) == (2, 2, "configuration", "")
    assert any("did you mean base_dir" in problem for problem in answer["problems"])


def test_the_json_log_has_them(site: Site) -> None:
    """A run whose log is JSON tells that it could not begin as a line of that log."""
    site.settings = {"base_dirr": "/x"}
    finished = site.run("run", "--log-format", "json")
    (line,) = finished.stderr.splitlines()
    told = json.loads(line)
    assert (finished.code, told["level"], told["event"], told["error"]) == (
        2,
        "error",
        "command_failed",
        "configuration",
    )


def test_status_says_it_with_its_exit_code(local: Site) -> None:
    """With --exit-code 0 is well and 1 attention; without, looking is no failure."""
    assert local.run("status", "--exit-code").code in (0, 1)
    local.run()
    assert local.run("status", "--exit-code").code == 0
    local.file("bedroom/notes.txt", age=2 * 86400)
    assert local.run("status", "--exit-code").code == 1
    assert local.run("status").code == 0


def test_times_name_their_zone(local: Site) -> None:
    """A time is never without the zone that it is in."""
    local.run()
    local.file("bedroom/notes.txt", age=2 * 86400)
    zone = {**local.environment, "TZ": "Europe/Madrid"}
    shown = local.run("status", environment=zone).stdout
    assert re.match(r"ATTENTION since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d CES?T \(", shown)
    assert "started (CET/CEST)" in shown
    assert "shipped (CET/CEST)" in local.run("history", environment=zone).stdout


class TestOnATerminal:
    def test_the_bar_and_a_summary(self, local: Site) -> None:
        """A person who runs it sees what was done in one line, and each file only with -v."""
        shown = on_terminal(local, str(local.config_file))
        assert "2 files (20 B) shipped to" in shown
        assert "has been uploaded" not in shown
        local.file("attic/2020/11/29/20/46-topic.dat")
        assert "has been uploaded" in on_terminal(local, "run", "-v", str(local.config_file))

    def test_cron_reads_each_file(self, local: Site) -> None:
        """Without a terminal the lines are those that scripts know."""
        named = {sentence.split(" has ")[0] for sentence in local.run().sentences("INFO")[:2]}
        assert named == {str(local.spool / f"{room}/2020/11/29/20/46-topic.dat") for room in ("bedroom", "kitchen")}

    def test_nothing_to_do(self, local: Site) -> None:
        """A run that finds nothing says why, shows no bar of nothing, and says it also on a narrow terminal."""
        on_terminal(local, str(local.config_file))
        for columns in (80, 40):
            shown = on_terminal(local, str(local.config_file), columns=columns)
            assert "There is no file in" in shown
            assert "0/0" not in shown
