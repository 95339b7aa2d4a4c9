"""The report in a real browser: it draws, asks for nothing, and shows the ledger's numbers."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from s3_uploader.core.text import shown_size
from s3_uploader.inspection.report.data import Report, gather
from s3_uploader.inspection.report.page import page
from s3_uploader.ledger import Ledger
from tests.ledger_of_a_year import make
from tests.ledger_values import NOW, shipped
from tests.servers.browser import Browser, browser
from tests.servers.fixtures import or_skip

_EVIL = "<img src=x onerror=alert(1)>"
_ARROW_RIGHT = "\ue014"  # as WebDriver numbers the keys that are no characters
_SHORT = 320  # CSS pixels: the narrowest phone there is (WCAG 2.2, 1.4.10)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all of these tests; in the gates it has to be there."""
    with ExitStack() as stack:
        yield or_skip(lambda: stack.enter_context(browser(tmp_path_factory.mktemp("profile"))))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three days of three locations with an outage, and a file and a location with strange names."""
    place = str(tmp_path_factory.mktemp("ledger") / "ledger.sqlite3")
    make(place, end=NOW, days=3, locations=3)
    with Ledger.open(place) as ledger:
        ledger.commit_batch(shipped=[shipped(f"{_EVIL}/{_EVIL}", location=_EVIL, shipped_at=NOW + 20, size=10**9)])
    with Ledger.open_readonly(place) as ledger:
        return gather(ledger, base_dir=f"/spool/{_EVIL}", destination="bucket", since=None, until=None, now=NOW + 60)


@pytest.fixture(scope="module")
def report_page(told: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the page."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(told), encoding="utf-8")
    return path


def _texts(chromium: Browser, selector: str) -> list[str]:
    return [
        str(text).strip()
        for text in chromium.run(
            "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector
        )
    ]


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_page_draws_and_asks_for_nothing(chromium: Browser, report_page: Path) -> None:
    """Every chart is drawn, the console is silent, no script of a name runs, and the only request is for the page."""
    chromium.requests()
    chromium.open(report_page)
    assert chromium.run("return document.querySelectorAll('.plot canvas').length") == 5
    painted = """return [...document.querySelectorAll('.plot canvas')].map((canvas) =>
        canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean))"""
    assert chromium.run(painted) == [True] * 5
    assert chromium.console() == []
    assert [url for url in chromium.requests() if url != "data:,"] == [report_page.as_uri()]


def test_the_numbers_are_those_of_the_ledger(chromium: Browser, report_page: Path, told: Report) -> None:
    """Tiles, tables and the table behind the chart say what the ledger says."""
    chromium.open(report_page)
    assert _number(_texts(chromium, "[data-tile=files] dd")[0]) == told.summary.files
    assert _texts(chromium, "[data-tile=files] dd")[1] == shown_size(told.summary.bytes)
    assert _number(_texts(chromium, "[data-tile=failed] dd")[0]) == told.summary.failed_uploads > 0
    rows = dict(
        zip(
            _texts(chromium, "[data-table=locations] tbody th"),
            _texts(chromium, "[data-table=locations] tbody td:nth-child(2)"),
            strict=True,
        )
    )
    assert {name: _number(files) for name, files in rows.items()} == {
        each.location: each.files for each in told.locations
    }
    assert _texts(chromium, "[data-table=largest] tbody th")[0] == f"{_EVIL}/{_EVIL}"
    chromium.run("document.querySelector('[data-chart=shipped] details').open = true")
    chromium.wait("document.querySelector('[data-chart=shipped] td')")
    cells = _texts(chromium, "[data-chart=shipped] td")
    assert sum(map(_number, cells)) == told.summary.files


def test_the_marker_tells_values(chromium: Browser, report_page: Path, told: Report) -> None:
    """Pointing at a chart shows the values of that time; the arrow keys do too, and say them."""
    chromium.open(report_page)
    over = chromium.find("[data-chart=shipped] .u-over")
    chromium.pointer().move_to_element(over).perform()
    chromium.wait("!document.querySelector('[data-chart=shipped] .tip').hidden")
    names = _texts(chromium, "[data-chart=shipped] .tip > span > span")
    values = _texts(chromium, "[data-chart=shipped] .tip em")
    assert names == ["attic", "bedroom", "cellar", "Together"]
    assert sum(map(_number, values[:-1])) == _number(values[-1]) > 0
    plot = chromium.find("[data-chart=delay] .plot")
    plot.send_keys(_ARROW_RIGHT)
    spoken = _texts(chromium, "#spoken")[0]
    assert re.search(r"^20\d\d-.*: Half of the files within .*, 95 of 100 within .*", spoken)


def test_zooming_shows_finer_bins_of_a_shorter_time(chromium: Browser, report_page: Path) -> None:
    """Dragging over one chart zooms all of them, as far as minutes; a double-click or a key shows all again."""
    chromium.open(report_page)
    everything = _texts(chromium, "#range")[0]
    over = chromium.find("[data-chart=shipped] .u-over")
    drag = chromium.pointer(duration=20).move_to_element_with_offset(over, 200, 0).click_and_hold()
    drag.move_by_offset(30, 0).move_by_offset(30, 0).release().perform()
    chromium.wait(f"document.getElementById('range').textContent !== {everything!r}")
    assert _texts(chromium, "#range")[0].endswith("in steps of 60 s")
    chromium.pointer().double_click(over).perform()
    assert _texts(chromium, "#range")[0] == everything
    plot = chromium.find("[data-chart=backlog] .plot")
    plot.send_keys("+")
    assert _texts(chromium, "#range")[0] != everything
    plot.send_keys("0")
    assert _texts(chromium, "#range")[0] == everything
    chromium.find("[data-days='1']").click()
    assert _texts(chromium, "#range")[0] != everything
    assert chromium.console() == []


def test_it_fits_a_phone(chromium: Browser, report_page: Path) -> None:
    """On the narrowest phone nothing reaches beyond the edge."""
    chromium.open(report_page, width=_SHORT, height=640)
    assert chromium.run("return document.documentElement.scrollWidth") <= _SHORT
    beyond = """return [...document.body.querySelectorAll('*')].filter((each) =>
        !each.closest('.unseen, .scroll, thead') && each.getBoundingClientRect().right > innerWidth + 1
    ).map((each) => each.outerHTML.slice(0, 100))"""
    assert chromium.run(beyond) == []


def test_it_is_dark_or_light(chromium: Browser, report_page: Path) -> None:
    """The page follows the system's theme, also while it is open, until somebody chooses; text keeps its contrast."""
    chromium.open(report_page, dark=True)
    assert _contrast(chromium) > 7
    dark = _background(chromium)
    chromium.prefer(dark=False)
    chromium.wait("document.documentElement.dataset.theme === 'light'")
    light = _background(chromium)
    assert _contrast(chromium) > 7
    assert sum(light) > 600 > 200 > sum(dark)
    chromium.find("#theme").click()
    assert _background(chromium) == dark


def test_it_prints_on_a_few_pages(chromium: Browser, report_page: Path) -> None:
    """Printed it is light, its charts fit beside each other, and its tables are tables."""
    chromium.open(report_page, dark=True)
    printed = base64.b64decode(chromium.command("Page.printToPDF")["data"])
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 7
    chromium.wait("document.documentElement.dataset.theme === 'dark'")
    assert chromium.console() == []


def test_an_empty_report_opens(chromium: Browser, tmp_path: Path) -> None:
    """Before the first run there is a page too."""
    with Ledger.open_readonly(str(tmp_path / "none.sqlite3")) as ledger:
        told = gather(ledger, base_dir="/spool", destination="bucket", since=None, until=None, now=NOW)
    path = tmp_path / "report.html"
    path.write_text(page(told), encoding="utf-8")
    chromium.open(path)
    assert chromium.console() == []
    assert _texts(chromium, ".empty") == ["Nothing in this time."] * 5


def _background(chromium: Browser) -> list[int]:
    return _colour(chromium, "backgroundColor")


def _colour(chromium: Browser, name: str) -> list[int]:
    text = chromium.run(f"return getComputedStyle(document.documentElement).{name}")
    return [int(part) for part in re.findall(r"\d+", text)[:3]]


def _contrast(chromium: Browser) -> float:
    """See https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""

    def luminance(colour: list[int]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted([luminance(_colour(chromium, "color")), luminance(_background(chromium))], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
