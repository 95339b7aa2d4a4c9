"""State machines: a table of allowed transitions, which each change of state is checked against."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

AnyState = TypeVar("AnyState", bound=enum.Enum)


class IllegalTransition(AssertionError):
    """A bug: a transition that is not in the table."""


def step(table: Mapping[AnyState, frozenset[AnyState]], old: AnyState, new: AnyState) -> AnyState:
    """The new state.

    :raises IllegalTransition: if it may not follow the old one.
    """
    if new not in table[old]:
        raise illegal(old, new)
    return new


def illegal(old: enum.Enum, new: enum.Enum) -> IllegalTransition:
    """The error, for callers that check the table themselves to save a call."""
    return IllegalTransition(f"{type(old).__name__}: {new.name} cannot follow {old.name}")
