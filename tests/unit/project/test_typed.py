"""The package brings its types along, for programs that import it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest

import s3_uploader


def functions(name: str) -> Iterator[Callable[..., Any]]:
    """The functions that a public name stands for: itself, or the public methods of a class."""
    public = getattr(s3_uploader, name)
    if inspect.isclass(public):
        members = ((each, inspect.unwrap(member)) for each, member in vars(public).items() if not each.startswith("_"))
        yield from (member for _, member in members if inspect.isfunction(member))
    elif inspect.isfunction(public):
        yield public


def test_the_package_says_that_it_has_types() -> None:
    """A type checker looks into a package only if that says so with a file `py.typed`."""
    assert (files("s3_uploader") / "py.typed").is_file()


@pytest.mark.parametrize("name", sorted(s3_uploader.__all__))
def test_what_programs_call_is_typed(name: str) -> None:
    """Each parameter and each result has its type, on which the programs of the documentation rely."""
    for function in functions(name):
        signature = inspect.signature(function)
        given = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
        untyped = [each.name for each in given if each.annotation is inspect.Parameter.empty]
        assert not untyped, f"{name}: {function.__qualname__}"
        assert signature.return_annotation is not inspect.Signature.empty, f"{name}: {function.__qualname__}"
