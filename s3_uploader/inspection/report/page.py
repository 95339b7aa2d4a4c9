"""The report as one self-contained HTML page that makes no requests.

Text from outside (names of files, codes and messages of servers) is escaped twice: as everywhere in this program, so
that nothing is hidden or reordered, and then for HTML. The policy in the page's head allows only the page's own
scripts, by their hashes, and forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import time
from collections.abc import Iterable
from pathlib import Path
from string import Template

import msgspec

from s3_uploader._version import __version__
from s3_uploader.core.text import counted, shown_duration, shown_name, shown_size
from s3_uploader.inspection.report.data import Report
from s3_uploader.inspection.report.tables import tables

_ASSETS = Path(__file__).parent / "assets"
_TOP = "(top directory)"
_OTHERS = "other locations"

_NOTHING = "'none'"

_CHARTS = (
    ("shipped", "Shipped", "By location and time of arrival at the destination.", "wide"),
    ("delay", "Delay", "From a file's data time to its arrival.", ""),
    ("oldest", "Oldest waiting file", "The greatest age that a run left behind.", ""),
    ("backlog", "Backlog", "The most files that a run left waiting.", ""),
    ("failures", "Failures", "Failed uploads by kind, each try counts; and runs that were abandoned.", ""),
)


def page(report: Report) -> str:
    """Make the page."""
    chart_script, script = asset("uPlot.iife.min.js"), asset("page.js")
    chart_style, style = asset("uPlot.min.css"), asset("page.css")
    name = shown_name(report.base_dir)
    return Template(asset("page.html")).substitute(
        policy=policy(scripts=(chart_script, script), styles=(chart_style, style)),
        title=html.escape(f"{name} – upload report"),
        heading=f"Uploads from <code>{html.escape(name)}</code>",
        span=f"{moment(report.since)} to {moment(report.until)} UTC",
        lead=html.escape(_lead(report)),
        tiles="\n".join(_tiles(report)),
        charts='<div class="grid">\n' + "\n".join(_figure(*chart) for chart in _CHARTS) + "\n</div>",
        tables=tables(report),
        footer=html.escape(f"s3_uploader {__version__}, written {moment(report.generated_at)} UTC. Times are UTC.")
        + " Percentiles are exact to one percent. Charts by uPlot, © Leon Sorokin, MIT licence.",
        data=_chart_data(report),
        chart_style=chart_style,
        style=style,
        chart_script=chart_script,
        script=script,
    )


def asset(name: str) -> str:
    """A file that becomes part of a page."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def policy(*, scripts: Iterable[str], styles: Iterable[str]) -> str:
    """See https://www.w3.org/TR/CSP3/; the empty icon is in the page, so that browsers do not request one."""
    return "; ".join(
        (
            f"default-src {_NOTHING}",
            f"script-src {' '.join(map(_source, scripts)) or _NOTHING}",
            f"style-src {' '.join(map(_source, styles))}",
            "img-src data:",
            f"base-uri {_NOTHING}",
            f"form-action {_NOTHING}",
        )
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _chart_data(report: Report) -> str:
    """The data of the charts as JSON that cannot end the script element around it."""
    labels = [_OTHERS if name is None else shown_name(name) or _TOP for name in report.series]
    data = {
        "since": report.since,
        "until": report.until,
        "series": labels,
        "others": _OTHERS if None in report.series else "",
        "kinds": [shown_name(kind) for kind in report.kinds],
        "levels": report.levels,
    }
    text = msgspec.json.encode(data).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _lead(report: Report) -> str:
    """Summarise the report in a few sentences."""
    number = report.summary.unmatched_files
    if not number:
        return _arrived(report)
    does = "does" if number == 1 else "do"
    return (
        f"{_arrived(report)} {counted(number, 'file')} in the spool {does} not match its layout and {does} not leave."
    )


def _arrived(report: Report) -> str:
    summary = report.summary
    destination = shown_name(report.destination)
    if not summary.files:
        if summary.runs:
            return f"{counted(summary.runs, 'run')}, and nothing was shipped to {destination}."
        return f"Nothing was recorded in this time: no run, and nothing shipped to {destination}."
    places = counted(len(report.locations) + report.other_locations, "location")
    text = f"{counted(summary.files, 'file')} ({shown_size(summary.bytes)}) from {places} arrived at {destination}."
    if summary.delay_median is not None and summary.delay_p95 is not None:
        text += (
            f" Half of them did within {shown_duration(summary.delay_median)} of their data time,"
            f" 95 of 100 within {shown_duration(summary.delay_p95)}."
        )
    if summary.undated == summary.files:
        text += " No path names a data time, so it is the time of a file's last modification."
    elif summary.undated:
        text += f" For {counted(summary.undated, 'file')} without one it is the time of the last modification."
    return text


def _tiles(report: Report) -> Iterable[str]:
    summary = report.summary
    dash = "–"
    delay = dash if summary.delay_median is None else shown_duration(summary.delay_median)
    late = "" if summary.delay_p95 is None else f"95 of 100 within {shown_duration(summary.delay_p95)}"
    waiting = dash if summary.backlog is None else f"{summary.backlog:,}"
    oldest = "after the last run"
    if summary.oldest_waiting is not None:
        oldest = f"the oldest {shown_duration(summary.oldest_waiting)} old"
    good = dash if not summary.runs else _percent(summary.runs - summary.runs_failed, summary.runs)
    last = dash if summary.last_shipped_at is None else f"{shown_duration(report.until - summary.last_shipped_at)} ago"
    yield _tile("files", "Files shipped", f"{summary.files:,}", shown_size(summary.bytes))
    yield _tile("last", "Last one", last, "" if summary.last_shipped_at is None else moment(summary.last_shipped_at))
    yield _tile("delay", "Median delay", delay, late)
    yield _tile("backlog", "Waiting", waiting, oldest)
    yield _tile("runs", "Good runs", good, f"of {summary.runs:,}" if summary.runs else "")
    yield _tile("failed", "Failed uploads", f"{summary.failed_uploads:,}", f"{summary.failing_files:,} still failing")


def _tile(name: str, term: str, value: str, note: str) -> str:
    more = f"<dd>{html.escape(note)}</dd>" if note else ""
    return f'<div data-tile="{name}"><dt>{term}</dt><dd>{html.escape(value)}</dd>{more}</div>'


def _figure(name: str, title: str, text: str, kind: str) -> str:
    units = ""
    if name == "shipped":
        units = (
            '<span class="buttons"><button type="button" data-unit="files" aria-pressed="true">Files</button>'
            '<button type="button" data-unit="bytes" aria-pressed="false">Bytes</button></span>'
        )
    return (
        f'<section class="card {kind}" data-chart="{name}" aria-labelledby="chart-{name}">'
        f'<div class="head"><div><h2 id="chart-{name}">{title}</h2><p>{html.escape(text)}</p></div>{units}</div>'
        f'<div class="plot" tabindex="0" role="group" aria-roledescription="chart" aria-label="{title}: chart, '
        'arrow keys read its values"></div><div class="keys" role="group" aria-label="Series"></div>'
        '<details><summary>Show as a table</summary><div class="scroll" tabindex="0" role="group" '
        f'aria-label="{title}: table"></div></details></section>'
    )


def _percent(part: int, whole: int) -> str:
    """Format a share as a percentage that is 100 % only for all, and 0 % only for none."""
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.1f} %" if share % 1 else f"{share:.0f} %"


def moment(epoch: float) -> str:
    """A time in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(epoch))
