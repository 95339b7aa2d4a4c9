"""What the quick suite runs of the long one: so much of each test that every value of every parameter is tried.

``pytest`` runs the sample, ``pytest --exhaustive`` everything, ``pytest --unsampled`` what is missing after the sample:
the other combinations, and whatever has a larger budget in the long suite. The sample depends on nothing but the tests'
names: it is the same on every machine and in every process of one run.

* A test with several parameters runs once for each value of each of them, not once for each combination.
* ``@pytest.mark.rotated("dialect", ...)``: these parameters take turns, and `engine` does wherever it is one. Each
  test runs with one of their values (or with more, if other parameters need more runs), and over the tests of a file
  all values occur about equally often, costly ones a fifth as often.
* ``@pytest.mark.exhaustive``: not in the sample at all. Another test there promises the same with a smaller budget.
* The fixture `effort` gives a number: how many instants, faults or inputs a test of chance may try.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

ALWAYS_ROTATED = frozenset(("engine",))
"""All engines keep the same promises; over the tests of a file each of them has its turn."""

COSTLY = "boto3"
"""An engine that takes the processor for longer to be loaded than another does for the whole test."""

_TURNS_OF_A_COSTLY_VALUE = 5

Value = tuple[str, int]
"""A parameter's name and the position of one of its values."""


class Case(msgspec.Struct, frozen=True):
    """One run of one test.

    :param test: the test without its parameters.
    :param file: the file that the test stands in.
    :param values: position of the value of each parameter.
    :param rotated: the parameters that take turns.
    :param costly: the parameters whose value is a costly one.
    :param has_two_budgets: it tries more in the long suite than in the quick one.
    """

    name: str
    test: str
    file: str
    values: Mapping[str, int]
    rotated: frozenset[str] = frozenset()
    costly: frozenset[str] = frozenset()
    only_exhaustive: bool = False
    has_two_budgets: bool = False


def sample(cases: Iterable[Case]) -> set[str]:
    """The names of the cases that the quick suite runs."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if not case.only_exhaustive:
            groups[case.test].append(case)
    used: dict[str, Counter[Value]] = defaultdict(Counter)
    kept: set[str] = set()
    for group in groups.values():
        for case in _covering(group, used[group[0].file]):
            kept.add(case.name)
    return kept


def unsampled(cases: Iterable[Case]) -> set[str]:
    """The names of the cases that the long suite has beside the quick one."""
    everything = list(cases)
    kept = sample(everything)
    return {case.name for case in everything if case.name not in kept or case.has_two_budgets}


def _covering(group: Sequence[Case], used: Counter[Value]) -> list[Case]:
    """Few cases of one test that have every value that does not take turns; `used` counts those that do."""
    wanted = {value for case in group for value in case.values.items() if value[0] not in case.rotated}
    # By lot: of those that are worth as much the first is taken.
    left = sorted(group, key=lambda case: zlib.crc32(case.name.encode()), reverse=True)
    chosen: list[Case] = []
    while left and (wanted or not chosen):
        best = max(left, key=lambda case: _worth(case, wanted, used)) if len(wanted) < len(left) else left[0]
        left.remove(best)
        chosen.append(best)
        wanted.difference_update(best.values.items())
        for value in best.values.items():
            used[value] += _TURNS_OF_A_COSTLY_VALUE if value[0] in best.costly else 1
    return chosen


def _worth(case: Case, wanted: set[Value], used: Counter[Value]) -> tuple[int, int]:
    """The most missing values first, then the values that were used least."""
    fresh = sum(value in wanted for value in case.values.items())
    return fresh, -sum(used[value] for value in case.values.items())
