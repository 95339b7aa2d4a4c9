"""The results as values, and as the file ``results.json``, which holds every single run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.cases import Goal
from benchmarks.contestants import OURS, Ours, label
from benchmarks.summary import Row, Run, Verdict, judge, of_one_file


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """What one case came to.

    :param skipped: who did not take part, and why.
    :param others: median share of the machine that other programs used during the runs, 0 to 1.
    """

    name: str
    title: str
    files: int
    total_bytes: int
    per_file: bool
    measured_at: str
    machine: dict[str, str]
    versions: dict[str, str]
    others: float
    rows: list[Row]
    goals: list[Goal]
    skipped: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)

    @property
    def ours(self) -> Row | None:
        """Our row, with the default configuration."""
        return next((row for row in self.rows if row.label == label(Ours())), None)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that was measured; cases may be from different days."""

    cases: list[CaseResult]
    note: str = ""

    def case(self, name: str) -> CaseResult | None:
        """The case of that name, if it was measured."""
        return next((case for case in self.cases if case.name == name), None)

    def with_case(self, result: CaseResult, order: list[str]) -> Results:
        """The same with one case replaced or added, in the given order."""
        cases = [case for case in self.cases if case.name != result.name] + [result]
        cases.sort(key=lambda case: order.index(case.name) if case.name in order else len(order))
        return Results(cases=cases, note=self.note)

    def verdicts(self, case: CaseResult) -> list[Verdict]:
        """How ours stands in one case."""
        return [self._verdict(case, goal) for goal in case.goals]

    def _verdict(self, case: CaseResult, goal: Goal) -> Verdict:
        if not goal.per_file_of:
            return judge(goal, case.ours, {row.label: row for row in case.rows if not row.label.startswith(OURS)})
        other = self.case(goal.per_file_of)
        rivals = {other.title: of_one_file(other.ours, other.files)} if other and other.ours else {}
        return judge(goal, case.ours and of_one_file(case.ours, case.files), rivals)


def load(path: Path) -> Results:
    """Read the file; none is no results."""
    if not path.exists():
        return Results(cases=[])
    return msgspec.json.decode(path.read_bytes(), type=Results)


def save(results: Results, path: Path) -> None:
    """Write the file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
