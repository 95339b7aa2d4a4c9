"""In a terminal of 40 columns, too, a person reads everything that matters."""

from __future__ import annotations

import json

import pytest

from docs.terminal import Terminal
from tests.e2e.site import COMMAND, Site, settle

REASON = "the destination cannot be used"


def shown(site: Site, *arguments: str, columns: int, code: int = 0) -> list[str]:
    """The lines of the screen on which a command was run."""
    terminal = Terminal(columns=columns, rows=90)
    terminal.run(
        [str(COMMAND), *arguments],
        shown="",
        environment={**site.environment, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
        directory=site.home,
        instead={},
        expect=code,
    )
    return [line.rstrip() for line in terminal.screen.display]


def read(lines: list[str]) -> str:
    """What somebody reads, without the ends of lines."""
    return " ".join(" ".join(lines).split())


@pytest.fixture
def failing(site: Site) -> Site:
    """A spool that was shipped in part, with a file whose key is taken."""
    archive = site.ship_to_directory()
    site.settings["state_dir"] = str(site.place / "state")
    site.files(2)
    assert site.run().code == 0
    taken = site.file("attic/2020/11/29/10/38-topic.dat")
    other = archive / taken.relative_to(site.spool)
    other.parent.mkdir(parents=True)
    other.write_text("something else")
    assert site.run().code == 1
    return site


def test_help(site: Site) -> None:
    """The forms of the command line stay whole."""
    lines = [line.strip() for line in shown(site, "--help", columns=40)]
    assert {"s3-uploader-cli CONFIG_FILE", "one run, as `run CONFIG_FILE`", "s3-uploader-cli COMMAND --help"} <= set(
        lines
    )


@pytest.mark.parametrize("columns", [40, 80])
def test_status(failing: Site, columns: int) -> None:
    """No figure and no end of a run is cut off."""
    lines = shown(failing, "status", str(failing.config_file), columns=columns)
    assert "…" not in "".join(lines)
    text = read(lines)
    assert "To do: Compare both." in text
    for word in ("files", "ready", "oldest", "shipped", "failed", "exit", "outcome"):
        assert word in text
    assert "done" in text


@pytest.mark.parametrize("columns", [40, 80])
def test_check(failing: Site, columns: int) -> None:
    """Sentences are broken between words, below the mark that they belong to."""
    lines = shown(failing, "check", str(failing.config_file), columns=columns)
    assert "ok writers: a file that is still open for writing is detected." in read(lines)
    sentence = next(number for number, line in enumerate(lines) if line.startswith("ok       writers:"))
    assert columns == 80 or lines[sentence + 1].startswith(" " * 9)
    assert "Ready" in read(lines)


def test_history(failing: Site) -> None:
    """A key has a line of its own where it has no room beside the figures."""
    lines = [line for line in shown(failing, "history", str(failing.config_file), columns=40) if line]
    assert [line for line in lines if line.endswith("checksum")]
    assert "  key" in lines


@pytest.mark.parametrize("columns", [40, 80])
def test_thirty_spools(site: Site, columns: int) -> None:
    """What is wrong with a spool is never cut, and neither is its name."""
    directory, archive = site.place / "conf.d", site.place / "archive"
    directory.mkdir()
    archive.mkdir()
    names = ["a-spool-with-quite-a-long-name", *(f"spool-{number}" for number in range(29))]
    for name in names:
        base = site.place / name
        base.mkdir()
        path = "/nowhere/archive" if name == "spool-7" else str(archive)
        settings = {"base_dir": str(base), "destination": {"type": "local", "path": path}}
        (directory / f"{name}.json").write_text(json.dumps(settings))
    late = site.place / "spool-7" / "den/2020/11/29/20/46-topic.dat"
    late.parent.mkdir(parents=True)
    late.write_text("reading")
    settle(late)
    site.start(command=[str(COMMAND), "run", "--quiet", str(directory)]).wait()
    lines = shown(site, "status", str(directory), columns=columns)
    text = read(lines)
    assert REASON in text
    assert "/nowhere/archive" in text
    assert "…" not in text
    assert not [name for name in names if name not in text]
