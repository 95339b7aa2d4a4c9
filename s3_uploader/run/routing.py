"""Gives each file its key and upload options, by its location."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from s3_uploader.core.model import Candidate
from s3_uploader.stores.base import PutOptions

_MOST_LOCATIONS = 10_000


class Target(NamedTuple):
    """The key and options of one file."""

    key: str
    options: PutOptions


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The rule for the files of some locations.

    :param prefix: the prefix of the key, or a function that makes it for a file.
    :param compressed: the options, with ``compression``, of files that are compressed.
    :param is_compressed: whether a file is compressed, by its key without prefix.
    """

    prefix: str | Callable[[Candidate], str]
    options: PutOptions
    compressed: PutOptions | None = None
    is_compressed: Callable[[str], bool] = bool


class Routes:
    """Gives each file the rule of its location.

    :param general: the rule of locations that no pattern matches.
    :param special: rules with their matchers of locations; the first match counts.
    """

    def __init__(self, general: Route, special: Sequence[tuple[Callable[[str], bool], Route]] = ()) -> None:
        self._general = general
        self._special = special
        self._of_location: dict[str, Route] = {}

    def __call__(self, candidate: Candidate) -> Target:
        """Return the key and the options of a file; always the same for an unchanged file."""
        rule = self._rule(candidate.location) if self._special else self._general
        prefix = rule.prefix if isinstance(rule.prefix, str) else rule.prefix(candidate)
        compressed = rule.compressed
        if compressed is not None and compressed.compression is not None and rule.is_compressed(candidate.key):
            return Target(prefix + candidate.key + compressed.compression.suffix, compressed)
        return Target(prefix + candidate.key, rule.options)

    @property
    def options(self) -> list[PutOptions]:
        """All upload options that occur, compressed or not."""
        routes = [self._general, *(route for _, route in self._special)]
        return [options for route in routes for options in (route.options, route.compressed) if options is not None]

    def _rule(self, location: str) -> Route:
        rule = self._of_location.get(location)
        if rule is None:
            rule = next((rule for holds, rule in self._special if holds(location)), self._general)
            if len(self._of_location) < _MOST_LOCATIONS:
                self._of_location[location] = rule
        return rule
