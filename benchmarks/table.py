"""The results as Markdown."""

from __future__ import annotations

from benchmarks.contestants import OURS
from benchmarks.results import CaseResult, Results
from benchmarks.summary import Row, Verdict, ratio

_SHARED_FROM = 0.05
_INTRODUCTION = """\
Made by `make bench`; `results.json` beside this file holds every single run. Each figure is the median of the rounds of
one contestant for its whole job: find the files, upload them, delete them. A run counts only if the destination then
held every file, whole and under its key, and the spool was empty. The sink runs on the same processors and takes its
part of them away from everybody."""


def markdown(results: Results, *, chart: str) -> str:
    """The whole page.

    :param chart: file name of the chart.
    """
    lines = [
        "# Benchmarks",
        "",
        _INTRODUCTION,
        "",
        *([results.note, ""] if results.note else []),
        f"![Wall time]({chart})",
        "",
        "## Goals",
        "",
        *_goals(results),
    ]
    for case in results.cases:
        lines += ["", f"## {case.title[0].upper()}{case.title[1:]}", "", *_case(case)]
    return "\n".join(lines) + "\n"


def _goals(results: Results) -> list[str]:
    lines = ["| case | what | goal | measured | |", "| --- | --- | ---: | ---: | --- |"]
    for case in results.cases:
        for verdict in results.verdicts(case):
            what, limit, measured = _words(verdict)
            mark = "reached" if verdict.reached else "**not reached**" if measured != "-" else "not measured"
            lines.append(f"| {case.title} | {what} | {limit} | {measured} | {mark} |")
    return lines


def _words(verdict: Verdict) -> tuple[str, str, str]:
    goal, measured = verdict.goal, verdict.measured
    noun = {"seconds": "wall time", "cpu": "CPU time", "peak": "peak memory"}[goal.measure]
    if not goal.against and not goal.per_file_of:
        return noun, f"{goal.limit / 1e6:.0f} MB", "-" if measured is None else f"{measured / 1e6:.0f} MB"
    noun += " a file" if goal.per_file_of else ""
    rival = verdict.rival or " or ".join(goal.against) or goal.per_file_of
    return (
        f"{noun} against {rival}",
        f"{goal.limit:g} x",
        "-" if measured is None else f"{measured:.2f} x",
    )


def _case(case: CaseResult) -> list[str]:
    ours = case.ours if case.ours and not case.ours.problem else None
    versions = ", ".join(f"{name} {version}" for name, version in case.versions.items())
    machine = ", ".join(f"{name} {value}" for name, value in case.machine.items())
    lines = [f"{case.measured_at}; {machine}; {versions}."]
    if case.others >= _SHARED_FROM:
        lines.append(f"The machine was shared: other programs used {case.others:.0%} of it meanwhile.")
    head = _columns(case)
    lines += ["", f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 2)} --- |"]
    for row in sorted(case.rows, key=lambda row: (bool(row.problem), row.seconds)):
        lines.append(f"| {' | '.join(_cells(case, row, ours))} |")
    lines += [f"| {name} | {'- | ' * (len(head) - 2)}skipped: {why} |" for name, why in case.skipped.items()]
    return lines


def _columns(case: CaseResult) -> list[str]:
    rates = ["files/s", "MB/s"] if case.per_file else ["MB/s"] if case.total_bytes else []
    cpu = "CPU ms a file" if case.per_file else "CPU s"
    return ["", *rates, "wall s", "x ours", cpu, "x ours", "peak MB", "rounds", "flags"]


def _cells(case: CaseResult, row: Row, ours: Row | None) -> list[str]:
    name = f"**{row.label}**" if row.label.startswith(OURS) else row.label
    if row.problem:
        return [name, *["-"] * (len(_columns(case)) - 2), f"does not count: {row.problem}"]
    rates = [f"{case.total_bytes / row.seconds / 1e6:,.0f}"] if case.total_bytes else []
    if case.per_file:
        rates = [f"{case.files / row.seconds:,.0f}", *rates]
    cpu = f"{row.cpu / case.files * 1e3:.3f}" if case.per_file else f"{row.cpu:.3f}"
    return [
        name,
        *rates,
        f"{row.seconds:.3f}" if row.seconds < 1 else f"{row.seconds:.2f}",
        _times(ratio(row.seconds, ours.seconds) if ours else None),
        cpu,
        _times(ratio(row.cpu, ours.cpu) if ours else None),
        f"{row.peak / 1e6:.0f}",
        str(row.rounds),
        f"`{row.flags}`" if row.flags else "",
    ]


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
