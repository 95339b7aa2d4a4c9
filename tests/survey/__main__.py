"""Observe servers and record what was seen: ``python -m tests.survey [SERVER ...]``, by default all that are installed.

One server at a time. Afterwards ``python docs/generate.py`` writes the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.site import ENGINES
from tests.servers.debian import Unavailable
from tests.survey import record
from tests.survey.observe import Observation
from tests.survey.servers import SERVERS, survey_of, version_of


def observe(name: str) -> dict[str, Observation]:
    """What a server does, seen through each engine."""
    seen = {}
    with SERVERS[name]() as server, tempfile.TemporaryDirectory(prefix="s3u-survey-") as place:
        for engine in ENGINES:
            began = time.monotonic()
            seen[engine] = survey_of(server, engine, Path(place) / engine).observe()
            print(f"{name}: {engine} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return seen


def main() -> int:
    """Observe what is asked for; returns 1 if a server broke a promise or is not there."""
    parser = argparse.ArgumentParser(prog="python -m tests.survey", description="Observe S3 servers.")
    parser.add_argument("servers", nargs="*", metavar="SERVER")
    asked = parser.parse_args().servers
    if unknown := sorted(set(asked) - set(SERVERS)):
        parser.error(f"there is no server {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    failed = False
    for name in asked or SERVERS:
        try:
            seen = observe(name)
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
