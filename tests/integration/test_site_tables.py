"""The tables of the documentation in a real browser, as wide as a phone, with the site's own style and script."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import pytest

from tests.servers.browser import Browser, browser
from tests.servers.fixtures import or_skip

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
STATIC = DOCS / "_static"
_SHORT = 320  # CSS pixels: the narrowest phone there is (WCAG 2.2, 1.4.10)
_MARGINS = 32
"""Pixels that the theme leaves beside the text of a page."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all of these tests; in the gates it has to be there."""
    with ExitStack() as stack:
        made = or_skip(lambda: stack.enter_context(browser(tmp_path_factory.mktemp("profile"))))
        made.command(
            "Emulation.setDeviceMetricsOverride",
            width=_SHORT - _MARGINS,
            height=640,
            deviceScaleFactor=1,
            mobile=False,
        )
        yield made


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _formatted(cell: str) -> str:
    text = html.escape(re.sub(r"\]\([^)]*\)", "]", re.sub(r"<a id=[^>]*></a>", "", cell)))
    return "<p>" + re.sub(r"`([^`]*)`", r"<code>\1</code>", text) + "</p>"


def _tables(page: str) -> list[str]:
    """The tables of a page as Sphinx writes them."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    found = []
    for is_table, group in groupby(lines, key=lambda line: line.startswith("|")):
        if is_table:
            head, _, *rows = map(_cells, group)
            heads = "".join(f"<th>{_formatted(cell)}</th>" for cell in head)
            body = "".join(f"<tr>{''.join(f'<td>{_formatted(cell)}</td>' for cell in row)}</tr>" for row in rows)
            found.append(
                f'<div class="table-wrapper"><table class="docutils"><thead><tr>{heads}</tr></thead>'
                f"<tbody>{body}</tbody></table></div>"
            )
    return found


def _show(chromium: Browser, path: Path, tables: list[str]) -> None:
    path.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><link rel="stylesheet" href="{STATIC / "site.css"}">'
        f'<script src="{STATIC / "tables.js"}"></script>'
        f"<style>body {{ margin: 0 }} * {{ box-sizing: border-box }}</style><article>{''.join(tables)}</article>",
        encoding="utf-8",
    )
    chromium.driver.get(path.as_uri())


def test_tables_fit_a_phone(chromium: Browser, tmp_path: Path) -> None:
    """The page is never wider than the phone, and no table of two columns, or of four and more, has to be moved."""
    tables = [table for page in PAGES for table in _tables(page)]
    assert len(tables) > 50
    assert {"site.css", "tables.js"} <= set(re.findall(r'"([\w.]+)"', (DOCS / "conf.py").read_text(encoding="utf-8")))
    _show(chromium, tmp_path / "page.html", tables)
    assert chromium.run("return document.documentElement.scrollWidth <= innerWidth")
    moved = """return [...document.querySelectorAll('.table-wrapper')].filter((each) =>
        each.querySelectorAll('th').length !== 3 && each.scrollWidth > each.clientWidth
    ).map((each) => each.textContent.slice(0, 100))"""
    assert chromium.run(moved) == []


def test_stacked_cells_name_their_columns(chromium: Browser, tmp_path: Path) -> None:
    """Where a row is a block, each cell but the first says what it is, and one that is empty is not shown."""
    _show(chromium, tmp_path / "page.html", _tables("configuration.md")[:1])
    cells = """return [...document.querySelector('tbody tr').cells].map((cell) => [
        cell.dataset.column, getComputedStyle(cell, '::before').content !== 'none', cell.getBoundingClientRect().left
    ])"""
    found = chromium.run(cells)
    assert [(column, is_named) for column, is_named, _ in found] == [
        ("key", False), ("takes", True), ("default", True), ("meaning", True)
    ]  # fmt: skip
    assert len({left for *_, left in found}) == 1
    shown = """return [...document.querySelectorAll('td')].filter((cell) =>
        cell.textContent.trim() === '' && cell.getBoundingClientRect().height > 0).length"""
    assert chromium.run(shown) == 0
    assert chromium.run("return [...document.querySelectorAll('td')].some((cell) => cell.textContent.trim() === '')")
