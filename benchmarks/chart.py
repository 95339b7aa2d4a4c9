"""The results as a chart: an SVG with one panel for each case and a bar for each contestant."""

from __future__ import annotations

from xml.sax.saxutils import escape

from benchmarks.contestants import OURS
from benchmarks.results import CaseResult, Results

_WIDTH = 860
_LABEL = 250
_VALUE = 110
_BAR = 16
_STEP = 22
_PANEL_HEAD = 34
_PANEL_FOOT = 18
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #333 }
  .title { font-weight: 600 }
  .ours { fill: #1a7f5a } .other { fill: #9aa7b4 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .ours { fill: #3fbf8f } .other { fill: #5c6b7a } }
"""


def svg(results: Results) -> str:
    """The chart of the wall times; shorter is better."""
    top = 40
    body = [f'<text class="title" x="10" y="24">{"Wall time of the whole job; shorter is better"}</text>']
    for case in results.cases:
        panel, height = _panel(case, top)
        body += panel
        top += height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}">',
            f"<style>{_STYLE}</style>",
            *body,
            "</svg>",
            "",
        ]
    )


def _panel(case: CaseResult, top: int) -> tuple[list[str], int]:
    rows = sorted((row for row in case.rows if not row.problem), key=lambda row: row.seconds)
    longest = max((row.seconds for row in rows), default=1.0)
    room = _WIDTH - _LABEL - _VALUE
    lines = [f'<text class="title" x="10" y="{top + 20}">{escape(case.title)}</text>']
    for index, row in enumerate(rows):
        y = top + _PANEL_HEAD + index * _STEP
        width = max(1.0, room * row.seconds / longest)
        kind = "ours" if row.label.startswith(OURS) else "other"
        lines += [
            f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(row.label)}</text>',
            f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
            f'<text x="{_LABEL + width + 6:.1f}" y="{y + 13}">{_duration(row.seconds)}</text>',
        ]
    return lines, _PANEL_HEAD + len(rows) * _STEP + _PANEL_FOOT


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
