"""Gives each file its key and upload options, by its location, as the configuration says."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence

import msgspec

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import ALREADY_COMPRESSED, Compress, Config, Location
from s3_uploader.core.model import Candidate, OnConflict, Proof
from s3_uploader.spool.layouts.base import Globs
from s3_uploader.stores.base import Compression, PutOptions

_MOST_LOCATIONS = 10_000
_COMPRESSION_DEFAULTS = {"gzip": (".gz", 6), "zstd": (".zst", 3)}


class Target(msgspec.Struct, frozen=True):
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

    def may_replace(self, candidate: Candidate) -> bool:
        """Whether the upload of a file may replace any object."""
        return self(candidate).options.on_conflict is OnConflict.OVERWRITE

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


def build_routes(config: Config) -> Routes:
    """Build the routes of files: the general one, and those of the configuration's locations."""
    special = [
        (Globs(include=[pattern], exclude=[]), _route(config, location))
        for pattern, location in config.locations.items()
    ]
    return Routes(
        _route(config, Location()),
        [(functools.partial(globs.admits, ()), route) for globs, route in special],
    )


def _route(config: Config, location: Location) -> Route:
    destination = config.destination
    tags = None
    if location.tags and isinstance(destination, S3Destination):
        tags = {**destination.tags, **location.tags}
    options = PutOptions(
        on_conflict=OnConflict(location.on_conflict or destination.on_conflict),
        minimum_proof=Proof.of_label(destination.minimum_proof),
        metadata=location.metadata,
        storage_class=location.storage_class,
        tags=tags,
    )
    prefix = _prefix(config.key_prefix if location.key_prefix is None else location.key_prefix, config.timezone)
    compress = _compress(location.compress or config.compress)
    if compress is None:
        return Route(prefix=prefix, options=options)
    globs = Globs(
        include=compress.include, exclude=list(ALREADY_COMPRESSED) if compress.exclude is None else compress.exclude
    )

    def is_compressed(key: str) -> bool:
        *directories, name = key.split("/")
        return globs.admits(tuple(directories), name)

    suffix, level = _COMPRESSION_DEFAULTS[compress.format]
    compression = Compression(
        compress.format,
        level if compress.level is None else compress.level,
        suffix if compress.key_suffix is None else compress.key_suffix,
    )
    compressed = msgspec.structs.replace(options, compression=compression)
    return Route(prefix=prefix, options=options, compressed=compressed, is_compressed=is_compressed)


def _compress(setting: str | Compress) -> Compress | None:
    if isinstance(setting, Compress):
        return setting
    return Compress(format=setting) if setting in ("gzip", "zstd") else None  # type: ignore[arg-type]


def compression_formats(config: Config) -> set[str]:
    """The compression formats that a configuration uses."""
    settings = [config.compress, *(each.compress for each in config.locations.values() if each.compress is not None)]
    return {compress.format for compress in map(_compress, settings) if compress is not None}


def _prefix(text: str, timezone: str) -> str | Callable[[Candidate], str]:
    if "{" not in text and "}" not in text:
        return text
    from s3_uploader.config import key_prefix

    return key_prefix.prefix_function(
        text, host=os.uname().nodename, time_in=functools.partial(key_prefix.time_in, timezone)
    )


def constant_prefix(config: Config) -> str:
    """The common prefix of all keys of a configuration."""
    return os.path.commonprefix(constant_prefixes(config))  # noqa: RUF071 - a prefix of keys is one of characters


def constant_prefixes(config: Config) -> list[str]:
    """What the keys of a configuration begin with: in general, and at the locations that have a prefix of their own."""
    prefixes = [
        config.key_prefix,
        *(each.key_prefix for each in config.locations.values() if each.key_prefix is not None),
    ]
    if any("{" in prefix or "}" in prefix for prefix in prefixes):
        from s3_uploader.config.key_prefix import constant_part

        prefixes = [constant_part(prefix) for prefix in prefixes]
    return prefixes
