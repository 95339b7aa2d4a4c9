"""Observe servers and record what was seen: ``python -m tests.survey [SERVER ...]``, by default all that are installed.

One server at a time. Afterwards ``python docs/generate.py`` writes the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from tests.servers.debian import Unavailable
from tests.survey import record
from tests.survey.observation import Observation
from tests.survey.observe import PARTS
from tests.survey.servers import NAMES, started, survey_of, version_of, ways_of


def observe(name: str, parts: Collection[str]) -> dict[str, Observation]:
    """What a server does, seen through each engine."""
    seen = {}
    known = record.read().get(name) if record.PATH.exists() and parts else None
    with started(name) as server, tempfile.TemporaryDirectory(prefix="s3u-survey-") as directory:
        before = {} if known is None or known.version != version_of(name) else known.engines
        for way in ways_of(name):
            began = time.monotonic()
            survey = survey_of(name, server, way, Path(directory) / way)
            seen[way] = survey.observe(before.get(way), parts)
            print(f"{name}: {way} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return seen


def main() -> int:
    """Observe what is asked for; returns 1 if a server broke a promise or is not there."""
    parser = argparse.ArgumentParser(prog="python -m tests.survey", description="Observe servers.")
    parser.add_argument("servers", nargs="*", metavar="SERVER")
    parser.add_argument(
        "--part", action="append", choices=PARTS, default=[], help="only this, where the record is of this version"
    )
    given = parser.parse_args()
    asked: list[str] = given.servers
    if unknown := sorted(set(asked) - set(NAMES)):
        parser.error(f"there is no server {', '.join(unknown)}; there are {', '.join(NAMES)}")
    failed = False
    for name in asked or NAMES:
        try:
            seen = observe(name, given.part)
        except Unavailable as missing:
            print(f"{name}: {missing}", file=sys.stderr)
            failed = failed or bool(asked)
        except AssertionError as broken:
            print(f"{name}: a promise was broken: {broken}", file=sys.stderr)
            failed = True
        else:
            recorded = record.read() if record.PATH.exists() else {}
            record.write({**recorded, name: record.Recorded(version_of(name), seen)})
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
