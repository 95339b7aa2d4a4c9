"""The table of speed in the README, made from the results of the benchmarks."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.contestants import OURS
from benchmarks.results import CaseResult, Results, load
from benchmarks.summary import Row

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "results.json"
PEERS = ("rclone move", "s5cmd mv", "aws s3 mv", "boto3 loop")
_BLOCK = re.compile(r"(<!-- table of speed -->\n).*?(<!-- end of the table of speed -->\n)", re.DOTALL)


def generated(page: str) -> str:
    """The page with its table written anew; as it is where nothing was measured yet."""
    results = load(RESULTS)
    return _BLOCK.sub(lambda found: f"{found[1]}\n{table(results)}\n{found[2]}", page) if results.cases else page


def table(results: Results) -> str:
    """Our median in each case, and each peer's best as a multiple of it: wall time, and CPU time behind it."""
    lines = [f"| | s3_uploader | {' | '.join(PEERS)} |", f"| --- |{' ---: |' * (1 + len(PEERS))}"]
    for case in results.cases:
        ours = case.ours
        best = {name: _best(case, name) for name in PEERS}
        if ours is None or ours.problem or not any(best.values()):
            continue
        cells = [_cell(row, ours) for row in best.values()]
        lines.append(f"| {case.title} | {_seconds(ours.seconds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\n{_when(results)}\n"


def _when(results: Results) -> str:
    """When it was measured, and with which version: the program may have changed since."""
    days = sorted({case.measured_at[:10] for case in results.cases})
    versions = sorted({case.versions[OURS] for case in results.cases if OURS in case.versions})
    when = f"on {days[0]}" if len(days) == 1 else f"between {days[0]} and {days[-1]}"
    return f"Measured {when} with version {', '.join(versions)}."


def _best(case: CaseResult, name: str) -> Row | None:
    rows = [row for row in case.rows if row.label.startswith(name) and not row.label.startswith(OURS)]
    return min((row for row in rows if not row.problem), key=lambda row: row.seconds, default=None)


def _cell(row: Row | None, ours: Row) -> str:
    return "–" if row is None else f"{row.seconds / ours.seconds:.2f} × ({row.cpu / ours.cpu:.2f} ×)"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
