"""Which tests the quick suite runs of the long one."""

from __future__ import annotations

import itertools

import msgspec

from tests.sampling import Case, sample, unsampled


def cases(test: str, /, rotated: tuple[str, ...] = (), **parameters: int) -> list[Case]:
    """Every combination of so many values of each parameter, as pytest would run them."""
    return [
        Case(
            name=f"file.py::{test}[{'-'.join(map(str, values))}]",
            test=f"file.py::{test}",
            file="file.py",
            values=dict(zip(parameters, values, strict=True)),
            rotated=frozenset(rotated),
        )
        for values in itertools.product(*(range(count) for count in parameters.values()))
    ]


def values_of(all_cases: list[Case], name: str) -> list[int]:
    """The values of one parameter in the sample."""
    kept = sample(all_cases)
    return [case.values[name] for case in all_cases if case.name in kept]


def test_every_value_of_every_parameter_is_tried() -> None:
    """The sample has each value of each parameter, and not many more runs than the longest parameter has values."""
    made = cases("test_fault", fault=16, size=3, server=4)
    assert len(sample(made)) <= 20
    for name, count in (("fault", 16), ("size", 3), ("server", 4)):
        assert set(values_of(made, name)) == set(range(count))


def test_every_test_is_in_the_sample() -> None:
    """No promise is left out: a test without parameters runs, and so does one whose parameters only take turns."""
    made = [*cases("test_plain"), *cases("test_turns", ("engine",), engine=3)]
    assert {name.partition("[")[0] for name in sample(made)} == {"file.py::test_plain", "file.py::test_turns"}
    assert len(sample(made)) == 2


def test_parameters_that_take_turns_are_spread_over_the_tests() -> None:
    """Over the tests of a file every engine has its turn, about equally often."""
    made = [case for number in range(30) for case in cases(f"test_{number}", ("engine",), engine=3, size=2)]
    engines = values_of(made, "engine")
    assert len(engines) == 60
    assert all(15 <= engines.count(engine) <= 25 for engine in range(3))


def test_a_costly_value_has_fewer_turns() -> None:
    """An engine that takes long to load has a fifth of the turns of the others, and one at least in each file."""
    made = [
        msgspec.structs.replace(case, costly=frozenset(("engine",)) if case.values["engine"] == 1 else frozenset())
        for number in range(30)
        for case in cases(f"test_{number}", ("engine",), engine=2)
    ]
    assert 4 <= values_of(made, "engine").count(1) <= 6
    assert 1 in values_of(made[:4], "engine")


def test_the_sample_is_the_same_everywhere() -> None:
    """The processes of one run draw for themselves and have to draw alike."""
    made = [case for number in range(5) for case in cases(f"test_{number}", ("engine",), engine=3, fault=7)]
    assert sample(made) == sample(list(made))


def test_what_is_exhaustive_only_is_left_to_the_long_suite() -> None:
    """A test with the mark `exhaustive` is not in the sample."""
    (case,) = cases("test_long")
    assert sample([case]) == {case.name}
    assert sample([Case(name=case.name, test=case.test, file=case.file, values={}, only_exhaustive=True)]) == set()


def test_what_is_left_out_is_the_rest() -> None:
    """The quick suite and what it leaves out are the long one, and nothing is run twice that does the same in both."""
    made = [*cases("test_fault", fault=16, size=3), *cases("test_turns", ("engine",), engine=3)]
    assert sample(made) | unsampled(made) == {case.name for case in made}
    assert not sample(made) & unsampled(made)


def test_what_has_a_larger_budget_runs_again() -> None:
    """A test of chance is in both: it tries more in the long suite."""
    (case,) = cases("test_chance")
    both = Case(name=case.name, test=case.test, file=case.file, values={}, has_two_budgets=True)
    assert sample([both]) == unsampled([both]) == {case.name}
