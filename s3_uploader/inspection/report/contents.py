"""The page that leads to the reports of several spools: a table with a row and a link for each, the worst first."""

from __future__ import annotations

import html
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from s3_uploader._version import __version__
from s3_uploader.core.text import counted, shown_duration, shown_name, shown_size, shown_text
from s3_uploader.inspection.report.data import Summary
from s3_uploader.inspection.report.page import asset, moment, policy

_DASH = "–"
_HEADS = ("Files", "Size", "Last arrival", "Waiting", "Oldest", "Failing", "Outside the layout")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One spool.

    :param name: what it is called.
    :param file: the name of its report in the same directory; empty if there is none.
    :param why: why there is none.
    """

    name: str
    file: str = ""
    summary: Summary | None = None
    why: str = ""

    @property
    def troubles(self) -> int:
        """How bad it is, to sort by: no report; failing or strange files, or no run; files that wait."""
        if self.summary is None:
            return 3
        if self.summary.failing_files or self.summary.unmatched_files or self.summary.last_run_at is None:
            return 2
        return 1 if self.summary.backlog else 0


def contents(entries: Sequence[Entry], *, now: float) -> str:
    """Make the page."""
    style = asset("page.css")
    rows = "\n".join(_row(entry) for entry in sorted(entries, key=lambda entry: (-entry.troubles, entry.name)))
    heads = "".join(f'<th scope="col" class="n">{head}</th>' for head in _HEADS)
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(scripts=(), styles=(style,))}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>Upload reports</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<div>
<h1>Upload reports</h1>
<p class="muted">{html.escape(_lead(entries))}</p>
</div>
</header>
<main>
<section class="card">
<table class="rows"><thead><tr><th scope="col">Spool</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table>
</section>
</main>
<footer class="muted"><p>s3_uploader {__version__}, written {moment(now)} UTC. Times are UTC.</p></footer>
</body>
</html>
"""


def file_of(name: str) -> str:
    """The name of the report of a spool, which is never that of the page that leads to it."""
    return f"{name}.html" if name != "index" else "index-1.html"


def _lead(entries: Sequence[Entry]) -> str:
    known = [entry.summary for entry in entries if entry.summary is not None]
    files, size = sum(each.files for each in known), sum(each.bytes for each in known)
    text = f"{counted(len(entries), 'spool')}: {counted(files, 'file')} ({shown_size(size)}) arrived"
    waiting, failing = sum(each.backlog or 0 for each in known), sum(each.failing_files for each in known)
    missing = len(entries) - len(known)
    more = [
        f"{counted(waiting, 'file')} waiting" if waiting else "",
        f"{failing:,} failing" if failing else "",
        f"{counted(missing, 'spool')} without a report" if missing else "",
    ]
    return "; ".join(filter(None, (text, *more))) + "."


def _row(entry: Entry) -> str:
    name = html.escape(shown_name(entry.name))
    if entry.summary is None:
        why = html.escape(shown_text(entry.why))
        told = f'<td data-label="Report" class="bad" colspan="{len(_HEADS)}">{why}</td>'
        return f'<tr><th scope="row">{name}</th>{told}</tr>'
    summary = entry.summary
    cells = (
        f"{summary.files:,}",
        shown_size(summary.bytes),
        _DASH if summary.last_shipped_at is None else moment(summary.last_shipped_at),
        _DASH if summary.backlog is None else f"{summary.backlog:,}",
        _DASH if summary.oldest_waiting is None else shown_duration(summary.oldest_waiting),
        f"{summary.failing_files:,}",
        f"{summary.unmatched_files:,}",
    )
    bad = (False, False, False, False, False, bool(summary.failing_files), bool(summary.unmatched_files))
    columns = "".join(
        f'<td data-label="{head}" class="n{" bad" * is_bad}">{html.escape(cell)}</td>'
        for head, cell, is_bad in zip(_HEADS, cells, bad, strict=True)
    )
    link = f'<a href="{quote(entry.file.encode("utf-8", "surrogateescape"))}">{name}</a>'
    return f'<tr><th scope="row">{link}</th>{columns}</tr>'
