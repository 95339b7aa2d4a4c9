"""Every command, in every surrounding: a pipe that nobody reads, a narrow terminal, a locale without accents."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.site import COMMAND, Finished, Site

KITCHEN = "Küche\u2028☕"
"""A location that neither ASCII nor Latin-1 can name, nor a line hold."""

ENDLESS = {"watch"}
"""Commands that print nothing and do not end by themselves."""

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "completion": ("bash",),
    "demo": (),
    "forget": ("CONFIG_FILE", "by*", "Küche"),
    "init": ("CONFIG_FILE", "--spool", "/nowhere/Küche", "--to", "bucket", "--yes"),
    "report": ("CONFIG_FILE", "-o", "-"),
    "schema": (),
}
"""What a command needs; those that are not named need a configuration file, and nothing else."""

DOCUMENTS = {"completion", "report", "schema"}
"""Commands that print a file, which has an encoding of its own."""

SURROUNDINGS: dict[str, dict[str, str]] = {
    "narrow": {"COLUMNS": "30", "LANG": "C.UTF-8"},
    "ascii": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin": {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"},
}


def _commands() -> list[str]:
    shown = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  ([a-z]+)  ", shown.partition("Commands:")[2], re.MULTILINE)


COMMANDS = [name for name in _commands() if name not in ENDLESS]

TO_BE_TRIED = [
    # In the quick suite test_commands.py runs the demonstration, which takes as long as ten of the others.
    pytest.param(name, marks=pytest.mark.exhaustive if name == "demo" else ())
    for name in COMMANDS
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A spool with a history, a backlog and a file that fails, all with names that are hard to print."""
    made = Site(tmp_path_factory.mktemp("every"))
    archive = made.ship_to_directory()
    made.settings["state_dir"] = str(made.place / "state")
    made.file(f"{KITCHEN}/2020/11/29/20/46-topic.dat")
    made.file(b"by\xffte/2020/11/29/20/46-topic.dat")
    made.file(f"{KITCHEN}/2020/11/29/20/47-topic.dat")
    taken = archive / KITCHEN / "2020" / "11" / "29" / "20"
    taken.mkdir(parents=True)
    (taken / "47-topic.dat").write_text("something else")
    assert made.run().code == 1
    made.file(f"{KITCHEN}/2020/11/29/21/00-topic.dat", age=0)
    yield made
    made.end()


def start(site: Site, name: str, *options: str, **others: object) -> Finished:
    """Run a command with what it needs."""
    arguments = [
        str(site.config_file) if each == "CONFIG_FILE" else each for each in ARGUMENTS.get(name, ("CONFIG_FILE",))
    ]
    return site.start(command=[str(COMMAND), name, *arguments, *options], **others).wait()  # type: ignore[arg-type]


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
@pytest.mark.parametrize("name", TO_BE_TRIED)
def test_in_every_surrounding(site: Site, name: str, surrounding: str) -> None:
    """A command does its work wherever it is, and says nothing that only its authors understand."""
    finished = start(site, name, environment=SURROUNDINGS[surrounding])
    assert "Traceback" not in finished.stderr
    assert finished.code in (0, 1, 2), finished.stderr
    if surrounding == "ascii" and name not in DOCUMENTS:
        assert finished.stdout.isascii()


@pytest.mark.rotated("name")
@pytest.mark.parametrize("name", TO_BE_TRIED)
def test_a_pipe_that_nobody_reads(site: Site, name: str) -> None:
    """Whoever has seen enough (``| head -1``) is not told of a broken pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        finished = start(site, name, stdout=writer)
    finally:
        os.close(writer)
    assert "Traceback" not in finished.stderr
    assert "BrokenPipe" not in finished.stderr
    assert "Broken pipe" not in finished.stderr
    assert finished.code in (0, 1, 2, 3), finished.stderr


WITH_A_VERDICT = [("status", "--exit-code"), ("status", "--plugin"), ("check",), ("audit",)]


@pytest.fixture(scope="module")
def robbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose spool is gone, and what it had shipped too."""
    made = Site(tmp_path_factory.mktemp("robbed"))
    archive = made.ship_to_directory()
    made.file("attic/2020/11/29/10/38-topic.dat")
    assert made.run().code == 0
    shutil.rmtree(archive)
    archive.mkdir()
    shutil.rmtree(made.spool)
    yield made
    made.end()


@pytest.mark.parametrize("arguments", WITH_A_VERDICT, ids=" ".join)
def test_a_reader_that_leaves_changes_no_exit_code(robbed: Site, arguments: tuple[str, ...]) -> None:
    """What is found out is told by the exit code, whether all of the words are read or none."""
    expected = robbed.run(*arguments).code
    assert expected in (1, 2, 3)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert robbed.run(*arguments, stdout=writer).code == expected
    finally:
        os.close(writer)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("schema",), ("init", "--help")], ids=" ".join)
def test_a_reader_that_leaves_is_no_failure(arguments: tuple[str, ...]) -> None:
    """Where there is nothing but the text, a reader that leaves is no failure either."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        finished = subprocess.run([COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (finished.returncode, finished.stderr) == (0, b"")


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
@pytest.mark.parametrize("name", COMMANDS)
def test_json(site: Site, name: str, surrounding: str) -> None:
    """JSON is JSON, one document or one a line, in UTF-8, whatever the terminal can show."""
    finished = start(site, name, "--json", environment=SURROUNDINGS[surrounding])
    if "Error: No such option '--json'" in finished.stderr or "Error: No such command" in finished.stderr:
        pytest.skip(f"{name} prints no data")
    assert finished.code in (0, 1, 2), finished.stderr
    try:
        json.loads(finished.stdout)
    except ValueError:
        for line in finished.stdout.removesuffix("\n").split("\n"):
            json.loads(line)
