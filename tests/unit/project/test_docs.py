"""The documentation says what the program does."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

import s3_uploader
from docs import commands, generate, ledger_tables, manual_page, site_search
from s3_uploader import config
from s3_uploader.cli import commands as click_commands
from s3_uploader.cli.names import COMMANDS
from s3_uploader.core.findings import Cause
from s3_uploader.ledger.schema import MIGRATIONS
from s3_uploader.monitoring.words import LEFT_WORDS
from tests.e2e import printed

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
COMMAND = "s3-uploader-cli"


def test_the_configuration_reference_is_fresh() -> None:
    """The committed reference page is the one that the types give."""
    assert generate.main(["--check"]) == 0


def test_a_stale_reference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A page whose tables differ from the types fails the check, and is mended by running without it."""
    page = tmp_path / "configuration.md"
    page.write_text(generate.PAGE.read_text().replace("`settle_seconds`", "`settle_minutes`"))
    monkeypatch.setattr(generate, "PAGE", page)
    assert generate.main(["--check"]) == 1
    assert "run: python docs/generate.py" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert page.read_text() == (ROOT / "docs" / "configuration.md").read_text()


def test_a_page_without_a_table_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody loses a table of the reference by removing its markers."""
    page = tmp_path / "configuration.md"
    page.write_text(generate.PAGE.read_text().replace("<!-- keys of ftp -->", ""))
    monkeypatch.setattr(generate, "PAGE", page)
    assert generate.main([]) == 1


def test_a_new_column_of_the_ledger_asks_for_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds a column or a table to the ledger is told that the reference says nothing about it."""
    more = (*MIGRATIONS, ("ALTER TABLE runs ADD COLUMN mood TEXT", "CREATE TABLE moods (name TEXT)"))
    monkeypatch.setattr(ledger_tables, "MIGRATIONS", more)
    page = ledger_tables.generated(ledger_tables.PAGE.read_text())
    assert "| `mood` | text |  |" in page
    assert ledger_tables.problems(page) == ["no place for the table moods", "no meaning for runs.mood"]


def test_every_command_and_option_is_in_the_reference() -> None:
    """The reference of the command line holds each command and each of its options."""
    text = commands.reference()
    for name in COMMANDS:
        assert f"\n## {name}\n" in text
        for parameter in click_commands.command(name).params:
            assert all(f"{option}" in text for option in parameter.opts if option.startswith("-"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link in the documentation leads to a file that exists, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in _anchors(linked), f"{page.name} links to {target}"


def _configurations() -> list[Any]:
    found: list[Any] = []
    for page in PAGES:
        for block in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL):
            if "base_dir" in block:
                found.append(pytest.param(json.loads(block), id=f"{page.name}-{len(found)}"))
    return found


@pytest.mark.parametrize("raw", _configurations())
def test_configurations_in_the_documentation_load(raw: dict[str, Any]) -> None:
    """Whoever copies a configuration from the documentation has a valid one."""
    config.from_mapping(raw, source="documentation")


def test_every_field_of_a_report_is_explained() -> None:
    """Whoever calls the program from Python finds each field of what a run returns on the page."""
    text = (ROOT / "docs" / "reference" / "python.md").read_text()
    told = {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert told == set(s3_uploader.RunReport.__struct_fields__)


def test_each_reason_is_explained() -> None:
    """Whoever reads why a file is left finds these words on the page that has every reason, and in the reference."""
    page = (ROOT / "docs" / "why-a-file-waits.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (ROOT / "docs/reference/log-lines.md").read_text(), re.MULTILINE)
    for left, (words, *_) in LEFT_WORDS.items():
        assert f"`{words}`" in page
        assert (left.value, words) in rows


def test_each_cause_is_explained() -> None:
    """The table of causes has a row for each that `status` knows, and no other."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    table = page.partition("\n## Causes\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {cause.value for cause in Cause}


def test_blocks_say_what_they_are() -> None:
    """Each block of a page is typed, a script, or only shown: so no command is overlooked."""
    for page in printed.PAGES:
        for block in printed.blocks(page):
            known = block.language in {printed.TYPED, *printed.SCRIPTS, *printed.SHOWN} or block.language.startswith(
                "{"
            )
            assert known, (
                f"{page}:{block.line}: begin the block with ```{printed.TYPED}, or with ```text if nothing is typed"
            )
            if block.language == printed.TYPED:
                assert re.search(r"^\$ ", block.text, re.MULTILINE), f"{page}:{block.line}: what is typed begins with $"
            else:
                shown = re.search(r"^(\$ |[\w./-]*s3-uploader-cli )", block.text, re.MULTILINE)
                assert block.language in printed.SCRIPTS or not shown, (
                    f"{page}:{block.line}: begin the block with ```{printed.TYPED}"
                )


def test_every_page_is_on_the_site() -> None:
    """A page that no table of contents names would be found by nobody."""
    listed = {
        (page.parent / entry).resolve()
        for page in PAGES
        for block in _blocks(page, "{toctree}")
        for entry in block.splitlines()
        if entry and not entry.startswith(":")
    }
    pages = {page.with_suffix("") for page in PAGES if page != ROOT / "README.md"} - {ROOT / "docs" / "index"}
    assert not pages - listed, "write it into a toctree of docs/index.md"


SOUGHT = [*site_search.SOUGHT, "container", "debian package"]


@pytest.mark.parametrize("words", SOUGHT)
def test_what_people_look_for_is_found(words: str) -> None:
    """The site's search takes pages that hold all words, and leaves numbers and the smallest words out."""
    sought = {word for word in words.split() if len(word) > 2 and word not in ("not",)}
    found = [page for page in PAGES if sought <= set(re.findall(r"\w+", page.read_text().lower()))]
    assert any("docs" in page.parts for page in found)


def test_each_key_can_be_linked_to() -> None:
    """Every key of the configuration has an anchor of its own on the page."""
    anchors = re.findall(r'<a id="(key-[^"]+)"></a>', generate.PAGE.read_text())
    assert len(anchors) == len(set(anchors))
    names = {field.name for kind in generate.TABLES.values() for field in msgspec.structs.fields(kind)}
    assert {"key-base_dir", "key-s3-bucket", "key-ftp-host"} <= set(anchors)
    assert len(anchors) >= len(names)


def _blocks(page: Path, language: str) -> list[str]:
    """The contents of the fenced blocks of a language, those within lists included."""
    found = re.findall(rf"^( *)```{re.escape(language)}\n(.*?)^\1```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def _command_lines() -> list[Any]:
    """Every invocation of the command, in blocks and in the middle of a sentence, without what stands before it."""
    found: dict[str, Any] = {}
    for page in PAGES:
        text = page.read_text()
        blocks = [line for block in re.findall(r"^ *```.*?^ *```$", text, re.DOTALL | re.MULTILINE) for line in
                  block.splitlines()]  # fmt: skip
        inline = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE))
        for line in [*blocks, *inline]:
            began = re.search(rf"(?:^|[\s/=]){COMMAND} (\S.*)", line)
            if began is not None and "ln -s" not in line and not began[1].startswith(("CONFIG_FILE", "COMMAND")):
                name = f"{page.relative_to(ROOT)}: {began[1]}"
                found[name] = pytest.param(began[1], id=name)
    return list(found.values())


@pytest.mark.parametrize("line", _command_lines())
def test_commands_in_the_documentation_parse(line: str) -> None:
    """Every command that the documentation prints exists, with the options that it is given there."""
    words = shlex.split(re.split(r"  +#|\s\d?[|>]|  +\w", line)[0])
    name, *rest = words if words[0] in COMMANDS else ["run", *words]
    # In a sentence the configuration file may be left out.
    with contextlib.suppress(click.MissingParameter):
        click_commands.command(name).make_context(name, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_samples_in_the_documentation_are_sound(page: Path) -> None:
    """JSON is JSON, Python compiles, and what Python takes from the package is there."""
    for block in _blocks(page, "json"):
        json.loads(block)
    for block in _blocks(page, "python"):
        tree = ast.parse(block)
        names = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "s3_uploader"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
                assert hasattr(s3_uploader, node.attr), f"s3_uploader.{node.attr}"


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda path: path.name)
def test_pictures_are_shown_and_tell_nothing_of_their_maker(picture: Path) -> None:
    """Each picture is well-formed, is on a page, says in words what it shows, and names no directory of a machine."""
    text = picture.read_text()
    root = ElementTree.fromstring(text)
    description = root.findtext("{http://www.w3.org/2000/svg}desc") or ""
    assert "$ s3-uploader-cli" in description
    assert not re.search("/tmp/|/work/|/root/", text)
    assert any(f"images/{picture.name})" in page.read_text() for page in PAGES)


def test_the_policy_allows_what_the_documentation_says() -> None:
    """The policy for AWS is JSON and holds the actions of the table in the documentation, and no others."""
    policy = json.loads((ROOT / "deploy" / "iam-policy.json").read_text())
    actions = {
        action
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    section = (ROOT / "docs" / "how-to" / "permissions.md").read_text().partition("\n## ")[0]
    assert actions == set(re.findall(r"^\| `(s3:\w+)`", section, re.MULTILINE))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    given = set(re.findall(r'<a id="([^"]+)"></a>', page.read_text()))
    return given | {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not here")
def test_the_manual_page_is_clean() -> None:
    """A strict reader of manual pages has nothing to say about ours."""
    linted = subprocess.run(["mandoc", "-Tlint", manual_page.PAGE], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")
