"""Under which key a file is shipped, and with which options: placeholders and locations."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.config import key_prefix
from s3_uploader.core.errors import ConfigError
from s3_uploader.core.model import Candidate, OnConflict
from s3_uploader.run.routing import build_routes, constant_prefix

SHORT = {"base_dir": "/spool", "bucket": "bucket"}
NOON = 1_606_651_560.0  # 2020-11-29 12:06 UTC


def candidate(location: str = "bedroom", *, stamp: float | None = NOON, mtime: float = NOON + 86400 * 40) -> Candidate:
    """A file of a location whose path says one time and whose last change was at another."""
    return Candidate((location,), "x.dat", f"{location}/x.dat", stamp, None, location, int(mtime * 1e9), 1)


def key_of(file: Candidate, **settings: Any) -> str:
    """The key of a file under a configuration."""
    return build_routes(config.from_mapping({**SHORT, **settings}, source="x"))(file).key


def problems_of(raw: dict[str, Any]) -> list[str]:
    """What is wrong with a configuration that must be refused."""
    with pytest.raises(ConfigError) as caught:
        config.from_mapping(raw, source="x")
    return caught.value.problems


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("", "bedroom/x.dat"),
        ("raw/", "raw/bedroom/x.dat"),
        ("{year}/{month}/{day}/{hour}/{minute}/", "2020/11/29/12/06/bedroom/x.dat"),
        ("by-day/{date}/", "by-day/2020-11-29/bedroom/x.dat"),
        ("{location}-{{raw}}/", "bedroom-{raw}/bedroom/x.dat"),
        ("{{date}}/", "{date}/bedroom/x.dat"),
        ("{{{hour}}}/", "{12}/bedroom/x.dat"),
        ("%Y/", "%Y/bedroom/x.dat"),
    ],
)
def test_placeholders_stand_for_facts_of_the_file(prefix: str, key: str) -> None:
    """Times are those of the path, not of the upload; doubled braces are braces."""
    assert key_of(candidate(), key_prefix=prefix) == key


def test_a_file_without_a_time_in_its_path_has_that_of_its_last_change() -> None:
    """A layout that knows no times, or a path that names no real date, leaves the modification time."""
    assert key_of(candidate(stamp=None), key_prefix="{date}/") == "2021-01-08/bedroom/x.dat"


@pytest.mark.parametrize(("timezone", "hour"), [("UTC", "12"), ("Asia/Kolkata", "17"), ("America/New_York", "07")])
def test_times_are_in_the_time_zone_of_the_paths(timezone: str, hour: str) -> None:
    """A prefix names the hour as the path of the file does."""
    assert key_of(candidate(), key_prefix="{hour}/", timezone=timezone) == f"{hour}/bedroom/x.dat"


@pytest.mark.parametrize("timezone", ["Europe/Berlin", "local"])
def test_two_minutes_never_share_a_prefix(timezone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When clocks are set back an hour has the same number twice, and another name the second time."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        moment_of = key_prefix.time_in(timezone)
        template = key_prefix.Template("{date}/{hour}{minute}/")
        first = 1603585800.0  # 2020-10-25 02:30 CEST
        prefixes = [
            template.filled(location="", host="", moment=moment_of(first + hours * 3600)) for hours in (-1, 0, 1, 2)
        ]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert prefixes == ["2020-10-25/0130/", "2020-10-25/0230/", "2020-10-25/02b30/", "2020-10-25/0330/"]


def test_the_first_file_may_be_from_the_minute_before_the_epoch() -> None:
    """No time is taken for that of a file before it, when there is none yet."""
    assert key_of(candidate("", stamp=None, mtime=-30.0), key_prefix="{date}/") == "1969-12-31//x.dat"


@pytest.mark.parametrize("timezone", ["UTC", "local", "Europe/Madrid"])
@pytest.mark.parametrize(("mtime", "year"), [(3e11, "9999"), (2.0**60, "9999"), (-3e11, "0001"), (-(2.0**60), "0001")])
def test_a_time_beyond_the_calendar_is_one_at_its_end(timezone: str, mtime: float, year: str) -> None:
    """A file whose time no calendar knows has a key like every other, and the same one each time."""
    file = candidate(stamp=None, mtime=mtime)
    assert key_of(file, key_prefix="{year}/", timezone=timezone) == f"{year}/bedroom/x.dat"


def test_the_host_is_the_name_of_this_machine() -> None:
    """Machines that ship into one bucket keep apart by their names."""
    assert key_of(candidate(), key_prefix="{host}/") == f"{os.uname().nodename}/bedroom/x.dat"


def test_a_file_without_location_has_no_empty_directory_in_its_key() -> None:
    """A location that is empty takes its slash with it, so that the key stays a path."""
    assert key_of(candidate(""), key_prefix="{location}/{date}/") == "2020-11-29//x.dat"
    template = key_prefix.Template("a/{location}/b/")
    assert template.filled(location="", host="h", moment=(2020, 1, 1, 0, 0)) == "a/b/"


def test_every_file_gets_its_own_prefix_whatever_came_before() -> None:
    """What was made for the last file is used again only for the same minute and location."""
    routes = build_routes(config.from_mapping({**SHORT, "key_prefix": "{location}{minute}/"}, source="x"))
    files = [candidate("a"), candidate("b"), candidate("b", stamp=NOON + 60), candidate("a"), candidate("a")]
    assert [routes(file).key.partition("/")[0] for file in files] == ["a06", "b06", "b07", "a06", "a06"]


@pytest.mark.parametrize(
    ("prefix", "problem"),
    [
        ("{yaer}/", "has the unknown placeholder {yaer}; the known ones are {location}, {host}, {year}"),
        ("{}/", "has the unknown placeholder {}; the known ones are"),
        ("{year/", "has a single {; double it for a literal one"),
        ("year}/", "has a single }; double it for a literal one"),
    ],
)
def test_what_is_no_placeholder_is_refused_with_those_that_are(prefix: str, problem: str) -> None:
    """A misspelt placeholder would become part of every key."""
    (found,) = problems_of({**SHORT, "key_prefix": prefix})
    assert found.startswith(f"key_prefix: {problem}")
    (found,) = problems_of({**SHORT, "locations": {"a*": {"key_prefix": prefix}}})
    assert found.startswith(f"locations.a*.key_prefix: {problem}")


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ({}, ""),
        ({"key_prefix": "raw/"}, "raw/"),
        ({"key_prefix": "raw/{date}/"}, "raw/"),
        ({"key_prefix": "{{raw}}/{date}/"}, "{raw}/"),
        ({"key_prefix": "{date}/raw"}, ""),
        ({"key_prefix": "raw/{date}/", "locations": {"a": {"key_prefix": "raw/a/"}, "b": {}}}, "raw/"),
        ({"key_prefix": "raw/", "locations": {"a": {"key_prefix": ""}}}, ""),
    ],
)
def test_the_constant_part_is_what_all_keys_begin_with(settings: dict[str, Any], prefix: str) -> None:
    """Rights may be limited to a prefix, and a listing begins at one."""
    assert constant_prefix(config.from_mapping({**SHORT, **settings}, source="x")) == prefix


def test_the_first_pattern_that_matches_a_location_counts() -> None:
    """Patterns are tried in their order; what a location does not say is as for all."""
    raw = {
        **SHORT,
        "tags": {"team": "sea"},
        "storage_class": "STANDARD",
        "locations": {
            "bedroom": {"tags": {"room": "bedroom"}, "on_conflict": "keep-both"},
            "bed*": {"key_prefix": "beds/", "storage_class": "GLACIER", "metadata": {"a": "b"}},
        },
    }
    routes = build_routes(config.from_mapping(raw, source="x"))
    bedroom, bedside, kitchen = (routes(candidate(name)) for name in ("bedroom", "bedside", "kitchen"))
    assert bedroom.key == "bedroom/x.dat"
    assert bedroom.options.tags == {"team": "sea", "room": "bedroom"}
    assert bedroom.options.on_conflict is OnConflict.KEEP_BOTH
    assert bedside.key == "beds/bedside/x.dat"
    assert (bedside.options.storage_class, bedside.options.metadata) == ("GLACIER", {"a": "b"})
    assert (kitchen.options.storage_class, kitchen.options.tags) == (None, None)
    assert routes(candidate("bedroom")).options is bedroom.options


def test_everything_that_is_wrong_with_locations_is_said_at_once() -> None:
    """Each problem names the location and the key."""
    locations = {
        "a": {"storage_clas": "x", "tags": {"t": 1}},
        "b": {"metadata": {"ü": "1"}},
        "c": {"storage_class": "\n"},
        "d": {"tags": {str(number): "" for number in range(11)}},
    }
    assert problems_of({**SHORT, "locations": locations}) == [
        "locations.a.storage_clas: is not a known key; did you mean storage_class?",
        'locations.a.tags: must be an object whose values are strings, not {"t": 1}',
        'locations.b.metadata: "\\u00fc" cannot be the name of an HTTP header',
        "locations.c.storage_class: must be printable ASCII, as in every HTTP header",
        "locations.d.tags: an object can have 10 tags, not 11",
    ]
    assert problems_of({**SHORT, "locations": {"a": "GLACIER"}}) == [
        'locations: must be an object whose values are objects, not {"a": "GLACIER"}'
    ]


@pytest.mark.parametrize("layout", ["tree", "queue"])
@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"compress": "gzip", "on_conflict": "overwrite"}, ["compress"]),
        (
            {"compress": {"format": "zstd", "exclude": [], "include": ["*.csv"]}, "on_conflict": "overwrite"},
            ["compress"],
        ),
        ({"compress": "gzip", "locations": {"a": {"on_conflict": "overwrite"}}}, ["locations.a.on_conflict"]),
        ({"on_conflict": "overwrite", "locations": {"a": {"compress": "gzip"}}}, ["locations.a.compress"]),
        ({"compress": "gzip", "on_conflict": "keep-both"}, []),
        ({"compress": {"format": "gzip", "key_suffix": ""}, "on_conflict": "overwrite"}, []),
        ({"compress": {"format": "gzip", "exclude": []}, "on_conflict": "overwrite"}, []),
        ({"compress": "none", "on_conflict": "overwrite", "locations": {"a": {}}}, []),
        ({"compress": "gzip", "locations": {"a": {"on_conflict": "overwrite", "compress": "none"}}}, []),
    ],
)
def test_what_is_compressed_never_replaces_a_file_of_its_new_name(
    layout: str, settings: dict[str, Any], keys: list[str]
) -> None:
    """A compressed x.csv and a file x.csv.gz have one key: with overwrite one would silently be lost."""
    assert config.from_mapping({**SHORT, **settings}, source="x").layout == "dated"
    raw = {**SHORT, **settings, "layout": layout}
    found = problems_of(raw) if keys else []
    assert [problem.partition(":")[0] for problem in found] == keys
    assert keys or config.from_mapping(raw, source="x")


def test_what_only_s3_has_is_refused_elsewhere() -> None:
    """A storage class that would silently be ignored is an error."""
    local = {"base_dir": "/spool", "destination": {"type": "local", "path": "/archive"}}
    locations = {"a": {"storage_class": "GLACIER", "tags": {"a": "b"}, "on_conflict": "overwrite"}}
    assert problems_of({**local, "locations": locations}) == [
        "locations.a.storage_class: needs a destination of type s3",
        "locations.a.tags: needs a destination of type s3",
    ]
