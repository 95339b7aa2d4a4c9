"""The report: its numbers are those of the ledger, and its page holds whatever names there are."""

from __future__ import annotations

import functools
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.model import FailureBucket
from s3_uploader.inspection.report import delays
from s3_uploader.inspection.report.data import OTHER_KINDS, UNKNOWN_KIND, Report, gather
from s3_uploader.inspection.report.levels import STEPS, levels
from s3_uploader.inspection.report.page import page
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.schema import APPLICATION_ID, MIGRATIONS
from tests.ledger_of_a_year import make
from tests.ledger_values import DAY, NOW, begin, failing, report, shipped

HOUR = 3600
EVIL = "<script>alert(1)</script>\"'&\x1b[2J\udce9</td>"


def told(path: Path, fill: Callable[[Ledger], object], *, now: float = NOW + 600, since: float | None = None) -> Report:
    """The report of a ledger that was filled."""
    place = str(path / "ledger.sqlite3")
    with Ledger.open(place) as ledger:
        fill(ledger)
    with Ledger.open_readonly(place) as ledger:
        return gather(ledger, base_dir="/spool", destination="bucket", since=since, until=None, now=now)


class _Reader(HTMLParser):
    """What a page shows, and what is in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"]:
            self.scripts.append(data)
        self.text += data


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 1.0]))
def test_quantiles_are_exact_to_one_percent(values: list[float], share: float) -> None:
    """The histogram forgets the values, but not where their quantiles are."""
    counts: dict[int, int] = {}
    for value in values:
        counts[delays.step_of(value)] = counts.get(delays.step_of(value), 0) + 1
    exact = sorted(values)[max(-int(-len(values) * share // 1), 1) - 1]
    assert delays.quantile(counts, share) == pytest.approx(exact, rel=0.01, abs=0.01)


def test_there_is_no_quantile_of_nothing() -> None:
    """Where nothing was measured, nothing is claimed; a time before its data time is no delay."""
    assert delays.quantile({}, 0.5) is None
    assert delays.quantile({delays.step_of(-5): 1}, 0.5) == 0


@given(st.floats(60, 20 * 365 * DAY), st.integers(1, 11))
def test_levels_cover_all_of_the_time_in_bounded_size(span: float, locations: int) -> None:
    """However long the history is, some level shows all of it, the finest shows minutes, and the page stays small."""
    found = levels(NOW - span, NOW, locations=locations, kinds=3)
    assert found[0].step == 60
    assert [level.step for level in found] == sorted({level.step for level in found})
    assert any(level.begin <= NOW - span for level in found)
    assert sum(level.bins for level in found) * locations < 350_000
    for level in found:
        assert level.step in STEPS
        assert 0 <= level.index(NOW - 1) < level.bins
        assert (level.begin - 4 * DAY) % level.step == 0
        assert bool(level.failures) == (level.step >= HOUR)
    assert found[-1].failures


def test_every_level_holds_all_that_was_shipped(tmp_path: Path) -> None:
    """Files and bytes of the bins, of the locations and of the summary are those of the ledger."""
    place = str(tmp_path / "ledger.sqlite3")
    make(place, end=NOW, days=2.5, locations=3)
    with Ledger.open_readonly(place) as ledger:
        found = gather(ledger, base_dir="/spool", destination="bucket", since=None, until=None, now=NOW + 60)
        rows = list(ledger.history())
    assert found.summary.files == len(rows) == ledger_files(found)
    assert found.summary.bytes == sum(row.size for row in rows) == sum(each.bytes for each in found.locations)
    for level in found.levels:
        assert level.begin <= found.since
        for number, name in enumerate(found.series):
            own = [row for row in rows if row.location == name]
            assert sum(level.files[number]) == len(own)
            assert sum(level.bytes[number]) == sum(row.size for row in own)
            for row in own[::500]:
                assert level.files[number][level.index(row.shipped_at)] > 0
        if level.failures:
            assert sum(map(sum, level.failures)) == found.summary.failed_uploads
        assert sum(level.abandoned) == found.summary.runs_failed
        assert max(value or 0 for value in level.backlog) == max(value or 0 for value in found.levels[0].backlog)
    delay = sorted(row.shipped_at - (row.period_begin or 0) for row in rows)
    assert found.summary.delay_median == pytest.approx(delay[len(delay) // 2], rel=0.02)
    assert found.summary.delay_longest == pytest.approx(delay[-1], rel=0.02)
    assert [row.size for row in found.largest] == sorted((row.size for row in rows), reverse=True)[:10]
    assert [row.seconds for row in found.slowest] == sorted((row.seconds for row in rows), reverse=True)[:10]
    assert found.latest[0].shipped_at - (found.latest[0].period_begin or 0) == delay[-1]


def ledger_files(found: Report) -> int:
    """The files of all locations."""
    return sum(each.files for each in found.locations)


def test_only_the_time_that_is_asked_for_is_reported(tmp_path: Path) -> None:
    """What was before --since is in no number."""

    def fill(ledger: Ledger) -> None:
        for at in (NOW - 5 * DAY, NOW):
            ledger.commit_batch(shipped=[shipped(f"{at}", shipped_at=at)])
            failures = {FailureBucket(int(at // HOUR), "SlowDown", "attic"): 1}
            ledger.finish_run(begin(ledger, at=at), report(started_at=at, shipped=1), failures=failures)

    found = told(tmp_path, fill, since=NOW - DAY)
    assert (found.summary.files, found.summary.runs, found.summary.failed_uploads) == (1, 1, 1)
    assert found.since == NOW


def test_the_last_runs_are_those_of_the_time_that_is_asked_for(tmp_path: Path) -> None:
    """A report about the past shows the runs of then, however many came after."""

    def fill(ledger: Ledger) -> None:
        for number in range(60):
            at = NOW + number * 60
            ledger.finish_run(begin(ledger, at=at), report(started_at=at, shipped=1))

    found = told(tmp_path, fill, now=NOW + 600)
    assert [row.started_at for row in found.runs] == [NOW + 60 * number for number in reversed(range(10))]
    assert found.summary.runs == 10


def test_an_idle_day_is_one_row_and_every_bin_of_it_is_known(tmp_path: Path) -> None:
    """Runs without work are one row of the ledger; the backlog is zero all along it, and unknown where none ran."""

    def fill(ledger: Ledger) -> None:
        for minute in range(120):
            at = NOW + minute * 60
            ledger.finish_run(begin(ledger, at=at), report(started_at=at))

    found = told(tmp_path, fill, now=NOW + 5 * HOUR)
    assert (found.summary.runs, len(found.runs)) == (120, 1)
    level = found.levels[0]
    known = [value for value in level.backlog if value is not None]
    assert level.step == 60
    assert known == [0] * 120
    assert level.backlog[-1] is None


def test_runs_that_end_badly_show_backlog_age_and_kind(tmp_path: Path) -> None:
    """The greatest backlog and age of a bin are kept, killed runs are told apart, abandoned ones are counted."""

    def fill(ledger: Ledger) -> None:
        for number, backlog in enumerate((3, 9, 5)):
            outcome = report(
                exit_code=3, ended_by="destination", code="InvalidAccessKeyId",
                backlog=backlog, backlog_bytes=backlog * 10,
                oldest_waiting=NOW - 1000 * backlog,
            )  # fmt: skip
            kind = FailureBucket(int(NOW // HOUR), "InvalidAccessKeyId", f"place-{number % 2}")
            ledger.finish_run(begin(ledger), outcome, failures={kind: 2})
        begin(ledger)
        ledger.commit_batch(failed=[failing()])

    found = told(tmp_path, fill)
    level = found.levels[-1]
    where = level.index(NOW)
    assert (level.backlog[where], level.backlog_bytes[where], level.abandoned[where]) == (9, 90, 3)
    assert level.oldest[where] == pytest.approx(9000, abs=1)
    assert found.kinds == ["InvalidAccessKeyId", OTHER_KINDS, UNKNOWN_KIND]
    assert level.failures[0][where] == 6
    assert [(each.code, each.location, each.uploads) for each in found.failures] == [
        ("InvalidAccessKeyId", "place-0", 4),
        ("InvalidAccessKeyId", "place-1", 2),
    ]
    assert {(each.ended_by, each.code, each.exit_code, each.runs) for each in found.endings} == {
        ("destination", "InvalidAccessKeyId", 3, 3),
        ("", "", None, 1),
    }
    assert (found.summary.backlog, found.summary.failing_files, len(found.failing)) == (5, 1, 1)


def test_failures_of_before_kinds_were_recorded_are_shown_as_such(tmp_path: Path) -> None:
    """An old ledger says how many uploads failed, and that much is shown."""
    found = told(tmp_path, lambda ledger: ledger.finish_run(begin(ledger), report(exit_code=1, failed=3)))
    assert found.summary.failed_uploads == 3
    assert found.kinds == [OTHER_KINDS, UNKNOWN_KIND]
    assert sum(found.levels[-1].failures[1]) == 3


def test_rare_locations_and_kinds_are_added_up(tmp_path: Path) -> None:
    """A chart has so many series as can be told apart; the others are one, and nothing is missing."""

    def fill(ledger: Ledger) -> None:
        names = [f"place-{number:02}" for number in range(15)]
        ledger.commit_batch(shipped=[shipped(name, location=name) for name in names for _ in range(3)])
        ledger.commit_batch(shipped=[shipped("x", location="place-14")])
        kinds = {FailureBucket(int(NOW // HOUR), f"Code{number}", "attic"): 1 + number for number in range(12)}
        ledger.finish_run(begin(ledger), report(failed=78), failures=kinds)

    found = told(tmp_path, fill)
    assert (len(found.series), found.series[-1], "place-14" in found.series) == (11, None, True)
    assert sum(map(sum, found.levels[0].files)) == 46
    assert sum(found.levels[0].files[-1]) == 15
    assert sum(map(sum, found.levels[-1].failures)) == 78
    assert "other locations" in page(found)


def test_files_without_a_data_time_count_from_their_modification(tmp_path: Path) -> None:
    """The layout queue knows no data time; the page says what it took instead."""
    row = shipped("queue-file", period_begin=None, mtime_ns=int((NOW - 30) * 1e9), location="")
    found = told(tmp_path, lambda ledger: ledger.commit_batch(shipped=[row]))
    assert found.summary.delay_median == pytest.approx(30, rel=0.01)
    text = _Reader(page(found)).text
    assert "No path names a data time, so it is the time of a file's last modification." in text
    assert "(top directory)" in text


def test_an_empty_ledger_makes_a_page(tmp_path: Path) -> None:
    """A report on the first day says that there is nothing yet, and does not fail."""
    found = told(tmp_path, lambda ledger: None)
    assert (found.summary.files, found.summary.runs, found.runs, found.series) == (0, 0, [], [None])
    assert "Nothing was recorded in this time" in _Reader(page(found)).text


def test_no_name_gets_out_of_its_place(tmp_path: Path) -> None:
    """Whatever files, locations, codes and messages are called, the page holds the same elements, and shows them."""

    def fill(ledger: Ledger, name: str) -> None:
        ledger.commit_batch(shipped=[shipped(f"{name}/1", location=name)], failed=[failing(name, message=name)])
        kind = FailureBucket(int(NOW // HOUR), name, name)
        outcome = report(exit_code=3, ended_by="done", message=name, failed=1)
        ledger.finish_run(begin(ledger, host=name), outcome, failures={kind: 1})

    pages = {}
    for name in ("harmless", EVIL):
        (tmp_path / str(len(name))).mkdir()
        pages[name] = page(told(tmp_path / str(len(name)), functools.partial(fill, name=name)))
    good, evil = _Reader(pages["harmless"]), _Reader(pages[EVIL])
    assert evil.tags == good.tags
    assert evil.text.count("<script>alert(1)</script>\"'&\\x1b[2J\\xe9</td>") >= 8
    assert pages[EVIL].isprintable() or "\x1b" not in pages[EVIL]
    pages[EVIL].encode()
    data = json.loads(re.search(r'id="data">(.*?)</script>', pages[EVIL], re.DOTALL)[1])  # type: ignore[index]
    assert data["series"] == ["<script>alert(1)</script>\"'&\\x1b[2J\\xe9</td>"]


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    """No element refers to anything outside the page, and its policy forbids all requests."""
    text = page(told(tmp_path, lambda ledger: ledger.commit_batch(shipped=[shipped()])))
    reader = _Reader(text)
    referring = {"src", "srcset", "href", "action", "background", "data", "poster", "style"}
    assert [(name, value) for name, value in reader.attributes if name in referring] == [("href", "data:,")]
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert not re.search(r"url\(|@import", "".join(re.findall("<style>(.*?)</style>", text, re.DOTALL)))


def test_a_ledger_of_an_older_version_shows_what_it_has(tmp_path: Path) -> None:
    """A report needs no run that brings the ledger up to date first."""
    path = str(tmp_path / "old.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("INSERT INTO runs (started_at, finished_at, pid, host, destination, failed, exit_code)"
                           f" VALUES ({NOW}, {NOW + 1}, 1, 'pi', 'bucket', 2, 1)")  # fmt: skip
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    with Ledger.open_readonly(path) as ledger:
        found = gather(ledger, base_dir="/spool", destination="bucket", since=None, until=None, now=NOW + 60)
    assert (found.summary.runs, found.summary.failed_uploads, len(found.runs)) == (1, 2, 1)
