"""The page that leads to the reports of many spools."""

from __future__ import annotations

from s3_uploader.inspection.report.contents import Entry, contents, file_of
from s3_uploader.inspection.report.data import Summary

NOW = 1_700_000_000.0


def test_the_worst_first() -> None:
    """A spool without a report comes first, then troubles, then what waits, then the others by name."""
    entries = [
        Entry(name="well", file="well.html", summary=Summary(files=3, bytes=30, last_run_at=NOW)),
        Entry(name="also well", file="also well.html", summary=Summary(last_run_at=NOW)),
        Entry(name="waits", file="waits.html", summary=Summary(backlog=2, last_run_at=NOW)),
        Entry(name="fails", file="fails.html", summary=Summary(failing_files=1, last_run_at=NOW)),
        Entry(name="broken", why="base_dir is missing"),
    ]
    page = contents(entries, now=NOW)
    order = [page.index(f">{name}<") for name in ("broken", "fails", "waits", "also well", "well")]
    assert order == sorted(order)
    assert "5 spools: 3 files (30 B) arrived; 2 files waiting; 1 failing; 1 spool without a report." in page
    assert 'href="also%20well.html"' in page
    assert "script-src 'none'" in page


def test_names_and_messages_cannot_become_markup() -> None:
    """What a configuration is called, and what is wrong with it, is text."""
    page = contents([Entry(name="<b>", why="<script>alert(1)</script>")], now=NOW)
    assert "<script" not in page
    assert "&lt;b&gt;" in page


def test_no_report_takes_the_name_of_the_page() -> None:
    """A configuration may be called index."""
    assert file_of("attic") == "attic.html"
    assert file_of("index") != "index.html"
