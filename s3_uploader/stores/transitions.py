"""State machines: a table says which state may follow which, and whoever changes state asks it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

AnyState = TypeVar("AnyState", bound=enum.Enum)


class IllegalTransition(AssertionError):
    """A bug: a state was to follow that the table does not let follow."""


def step(table: Mapping[AnyState, frozenset[AnyState]], old: AnyState, new: AnyState) -> AnyState:
    """The new state.

    :raises IllegalTransition: if it may not follow the old one.
    """
    if new not in table[old]:
        raise illegal(old, new)
    return new


def illegal(old: enum.Enum, new: enum.Enum) -> IllegalTransition:
    """The error, for those who ask the table themselves because they have no time for a call."""
    return IllegalTransition(f"{type(old).__name__}: {new.name} cannot follow {old.name}")
