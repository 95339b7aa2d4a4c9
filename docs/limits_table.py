"""The limits in `docs/more-machines.md`: what shares and very large spools take, computed from what was measured."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.results import Results, load

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("more-machines.md")
RESULTS = ROOT / "benchmarks" / "results" / "results.json"
_BLOCK = re.compile(r"(<!-- table of limits -->\n).*?(<!-- end of the table of limits -->\n)", re.DOTALL)

FOREIGN_NAME = 1.5e-6
"""Seconds for which a share reads a name that is not its own."""
BYTES_OF_A_ROW = 200
"""Of the ledger for a shipped file, with the index by time."""
AUDIT, AUDIT_ON_DISK = 24e-6, 360
"""Seconds of processor time, and bytes of temporary files, that an audit takes for a row."""
TOTALS, REPORT, MERGE = 1.2e-6, 2.4e-6, 22e-6
"""Seconds for a row of `history --totals`, of `report` and of `ledger merge`."""

FILES, VOLUME, ENTRIES = 100_000_000, 10e12, 5_000_000
PROCESSES, MACHINES, SHARES = 4, 8, 32


def generated(page: str) -> str:
    """The page with its figures written anew; as it is where nothing was measured yet."""
    results = load(RESULTS)
    if any(_seconds(results, name) is None for name in ("small", "large", "tick-empty", "tick-fresh")):
        return page
    for pattern, figure in _figures_of_shares(_of(results, "small")):
        page, count = re.subn(pattern, rf"\g<1>{figure}\g<2>", page)
        assert count == 1, f"{PAGE} no longer says {pattern}"
    return _BLOCK.sub(lambda found: f"{found[1]}\n{table(results)}\n{found[2]}", page)


def _figures_of_shares(of_a_file: float) -> list[tuple[str, str]]:
    """What stands between two pieces of the text about shares.

    :param of_a_file: the seconds that a file of 4 KiB takes.
    """
    names = SHARES * FOREIGN_NAME / of_a_file
    return [
        (r"(A file of 4 KiB takes ).*?( ms, so with 32 shares)", f"{of_a_file * 1e3:.2g}"),
        (r"(with 32 shares the names take ).*?( % of the time)", f"{100 * names:.0f}"),
        (r"(and with ).*?( shares as much as)", f"{round(SHARES / names, -1):.0f}"),
        (r"(100,000,000 files of 4 KiB take ).*?(, and\n)", duration(FILES * of_a_file / MACHINES)),
        (r"(\n  their names ).*?(\.\n)", duration(FILES * FOREIGN_NAME * (MACHINES - 1) / MACHINES)),
    ]


def table(results: Results) -> str:
    """What a spool of that size takes in one process, and in several if there are as many processors."""
    rows = [
        (f"{FILES:,} files of 4 KiB", FILES * _of(results, "small"), "the answers of the destination"),
        (f"{VOLUME / 1e12:g} TB in files of 64 MiB", VOLUME * _of_a_byte(results), "the network and the disk"),
        (f"{ENTRIES:,} files of 4 KiB in one directory", ENTRIES * _of(results, "small"), ""),
        (
            f"to see that {ENTRIES:,} files are too young",
            ENTRIES * _of_a_fresh_one(results),
            "read once, in one process",
        ),
        (f"to read {ENTRIES:,} names of other shares", ENTRIES * FOREIGN_NAME, "by each share, in each run"),
    ]
    lines = ["| | one process | four processes | beside that |", "| --- | ---: | ---: | --- |"]
    for number, (what, seconds, beside) in enumerate(rows):
        several = duration(seconds / PROCESSES) if number < 3 else "–"
        lines.append(f"| {what} | {duration(seconds)} | {several} | {beside} |")
    lines += ["", "| rows in the ledger | 10,000,000 | 100,000,000 |", "| --- | ---: | ---: |"]
    for what, per_row, form in (
        ("a run, `status`", 0.0, None),
        ("size on the disk", BYTES_OF_A_ROW, size),
        ("`history --totals`", TOTALS, duration),
        ("`report` of all rows", REPORT, duration),
        ("`ledger merge`", MERGE, duration),
        ("`audit`, without the destination's own time", AUDIT, duration),
        ("temporary files of `audit`", AUDIT_ON_DISK, size),
    ):
        cells = ["no more than without" if form is None else form(rows_ * per_row) for rows_ in (10**7, 10**8)]
        lines.append(f"| {what} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Two digits are more than is known of another machine."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def size(value: float) -> str:
    """Bytes, alike."""
    return f"{value / 1e9:.2g} GB"


def _seconds(results: Results, name: str) -> float | None:
    case = results.case(name)
    return None if case is None or case.ours is None or case.ours.problem else case.ours.seconds


def _of(results: Results, name: str) -> float:
    case, seconds = results.case(name), _seconds(results, name)
    assert case is not None
    assert seconds is not None
    return seconds / case.files


def _of_a_byte(results: Results) -> float:
    case, seconds = results.case("large"), _seconds(results, "large")
    assert case is not None
    assert seconds is not None
    return seconds / case.total_bytes


def _of_a_fresh_one(results: Results) -> float:
    case, fresh, empty = results.case("tick-fresh"), _seconds(results, "tick-fresh"), _seconds(results, "tick-empty")
    assert case is not None
    assert fresh is not None
    assert empty is not None
    return (fresh - empty) / case.files
