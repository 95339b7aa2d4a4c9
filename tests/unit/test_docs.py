"""The documentation says what the program does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from docs import commands, generate, ledger_tables
from s3_uploader import config
from s3_uploader.cli.commands import group
from s3_uploader.ledger.schema import MIGRATIONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


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
    for name, command in group.commands.items():
        assert f"\n## {name}\n" in text
        for parameter in command.params:
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


def test_the_policy_allows_what_the_documentation_says() -> None:
    """The policy for AWS is JSON and holds the actions of the table in the documentation, and no others."""
    policy = json.loads((ROOT / "deploy" / "iam-policy.json").read_text())
    actions = {
        action
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    section = (ROOT / "docs" / "how-to" / "rights.md").read_text().partition("\n## ")[0]
    assert actions == set(re.findall(r"^\| `(s3:\w+)`", section, re.MULTILINE))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
